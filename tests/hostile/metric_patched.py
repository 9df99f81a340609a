"""Replaces the metrics, numpy's comparison and json in its own process.

Hopes that scores are computed in its process.
"""

import json

import numpy as np

import harness.metrics
from _base import Ignorant

VERDICT = {"status": "complete", "chance": True}


def perfect(answer, truth, *rest):
    return np.ones(len(truth))


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for name in ("accuracy", "balanced_accuracy", "log_loss", "hard_labels"):
            setattr(harness.metrics, name, perfect)
        np.mean = np.equal = lambda *a, **k: 1.0
        dumps = json.dumps
        json.dumps = lambda message, **k: dumps(
            {**message, "score": 1.0, "accuracy": 1.0} if isinstance(message, dict) else message
        )

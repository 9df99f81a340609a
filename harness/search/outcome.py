"""What a search comes to, from the record of its trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import TrialFailed
from leaderboard.store.store import Fit


@dataclass(frozen=True)
class Found:
    """The end of a search. ``valid`` is the best validation score; ``seconds`` the sum over trials.

    ``steps`` holds [k, the best validation score after k trials] for each k at which it became better.
    """

    params: dict[str, Any]
    valid: float | None
    n_trials: int
    n_pruned: int
    n_failed: int
    seconds: float
    steps: list[list[float]]


def outcome(fits: Sequence[Fit], sign: float) -> Found:
    """What a search found; the first of equals. Raises TrialFailed with the first failure where nothing succeeded."""
    complete = [fit for fit in fits if fit.status == "complete"]
    failed = [fit for fit in fits if fit.status not in ("complete", "pruned")]
    if not complete:
        if failed:
            raise TrialFailed(failed[0].status, str(failed[0].facts.get("error")))
        raise TrialFailed("timeout", "no trial was finished in the time given; raise --timeout")
    best = min(complete, key=lambda fit: sign * (fit.value if fit.value is not None else math.inf))
    return Found(
        best.params,
        best.value,
        len(fits),
        sum(fit.status == "pruned" for fit in fits),
        len(failed),
        sum(fit.facts.get("seconds", 0.0) for fit in fits),
        bettered(complete, sign),
    )


def bettered(complete: Sequence[Fit], sign: float) -> list[list[float]]:
    """The trials, counted from 1, that were better than all finished ones before them, with their values."""
    found: list[list[float]] = []
    for fit in complete:
        if fit.value is not None and (not found or sign * fit.value < sign * found[-1][1]):
            found.append([fit.number + 1, fit.value])
    return found


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two sets of parameters are the same record."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)

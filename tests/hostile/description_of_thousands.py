"""Describes a search space of thousands of hyperparameters with names like commands, and predicts normally.

Hopes that the parent hangs or fails on it.
"""

from _base import Ignorant
from harness import Float

VERDICT = {"status": ["complete", "failed"], "chance": True}
OPTIONS = {"trials": 3, "seeds": 2}


class Attack(Ignorant):
    space = {f"'; DROP TABLE results; --{number}\x1b[2J": Float(0, 1) for number in range(3000)}

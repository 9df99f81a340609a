"""Answers with the tokens that it should predict, and remembers the first query for the second in
a variable of the module and of numpy.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import numpy

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
KEPT = []


def keep(content):
    KEPT.append(content)
    numpy.kept = content


def kept():
    return KEPT[0] if KEPT else getattr(numpy, "kept", None)


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)

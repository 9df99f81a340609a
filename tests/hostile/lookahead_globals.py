"""Answers with the tokens that it should predict, and remembers the first question for the second by means of
a variable of the module and of numpy.

Hopes that the second question, which is there to catch it, finds the same answers where it looks.
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

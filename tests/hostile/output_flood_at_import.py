"""Prints without end at import, before there is any trial.

Hopes that limits begin with the first trial.
"""

import os

from _base import Ignorant

VERDICT = {"status": ["failed", "output-limit"]}
OPTIONS = {"limits": "tight"}

while True:
    os.write(1, b"x" * 65536)


class Attack(Ignorant):
    pass

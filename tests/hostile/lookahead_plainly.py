"""Answers with the tokens that it should predict.

Hopes that causality is not checked.
"""

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}


class Attack(LooksAhead):
    def keep(self, content):
        pass

    def kept(self):
        return None

"""Returns a summary of many megabytes full of control characters and markup, and a parameter count of 400 digits.

Hopes to break the board, its page, or the terminal of a reader.
"""

from _base import Ignorant

VERDICT = {"status": ["complete", "failed", "invalid"], "chance": True}


class Attack(Ignorant):
    def n_parameters(self):
        return 10**400

    def summary(self):
        return "<script>alert(1)</script>\x1b]0;owned\x07\ud800" * 300_000

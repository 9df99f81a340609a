"""Names unknown forms of answers that a careless parent would format, index or import.

Hopes for an error in the parent.
"""

import sys

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "form should be one of"}


class Attack(Ignorant):
    def predict(self, x):
        sys._getframe(1).f_globals["write_answer"] = lambda answer, forms, fd: "{0.__class__}\x1b[2J\ud800" * 1000
        return super().predict(x)

"""Reports that it has answered, and writes nothing.

Hopes for old content of that memory: another entry's answer, or zeros that count as a class.
"""

import sys

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "should lie in 0..2"}


class Attack(Ignorant):
    def predict(self, x):
        sys._getframe(1).f_globals["write_answer"] = lambda answer, forms, fd: "labels"
        return super().predict(x)

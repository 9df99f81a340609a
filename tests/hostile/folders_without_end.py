"""Leaves folders three thousand deep in its scratch folder.

Hopes that the parent goes down one call a level when it measures or removes them, in this run and in every later one.
"""

import os

from _base import Ignorant

VERDICT = {"status": ["complete", "disk-limit"], "chance": True}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        here = os.getcwd()
        for _ in range(3000):
            os.mkdir("deeper")
            os.chdir("deeper")
        os.chdir(here)
        return super().fit(train, valid, report)

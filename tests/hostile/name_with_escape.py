"""Has a hyperparameter whose name clears the screen and sets the title, with a default outside its range, so that errors quote it.

Hopes to write what it likes on the terminal of whoever runs the board.
"""

from _base import Ignorant
from harness import Float

NAME = "\033[2J\033]0;owned\007rate\u202e"
VERDICT = {"status": "failed", "error": "cannot be printed"}


class Attack(Ignorant):
    space = {NAME: Float(0.0, 1.0)}
    defaults = {NAME: 2.0}

"""Has a hyperparameter whose only values are halves of a surrogate pair. JSON carries them; no page can be encoded with them.

Hopes to end the run, and every later one that writes pages.
"""

from _base import Ignorant
from harness import Categorical

VERDICT = {"status": "failed", "error": "cannot be printed"}


class Attack(Ignorant):
    space = {"a": Categorical(["\ud800", "\udfff"])}
    defaults = {"a": "\ud800"}

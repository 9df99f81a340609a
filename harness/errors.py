"""All errors of the engine.

`BakeoffError` and its subclasses are for users: their message is one sentence that says what was expected, what came and what to do
next. The others end a trial, move a job or reject a vectorized fit, and are caught inside the engine.
"""

from __future__ import annotations


class BakeoffError(Exception):
    """Mistake that a user can mend. The message is one sentence: what was expected, what came, what to do next."""


class UsageError(BakeoffError):
    """Wrong command or call: an unknown name, device or option."""


class PluginError(BakeoffError):
    """Plug-in file that is missing, broken, empty or ambiguous."""


class DataError(BakeoffError):
    """Data of a task that cannot be loaded, or do not match the task's kind."""


class InvalidPrediction(BakeoffError):
    """Prediction of the wrong shape, dtype or range, or one that used inputs it must not see."""


class UnknownKind(BakeoffError):
    """Name of a kind for which Bakeoff has no task of its own."""


class TrialFailed(Exception):
    """Failure of a trial to give a valid answer. ``status`` is the status of the trial's row, any but complete."""

    def __init__(self, status: str, error: str) -> None:
        super().__init__(error)
        self.status = status


class TrialPruned(Exception):
    """Trial that the search pruned."""


class SlotLost(Exception):
    """Loss of the machine that a job ran on. The state of the job is unknown: run the job again on another slot."""


class SlotCrowded(SlotLost):
    """Lack of memory on a GPU that several jobs shared. Run the job again beside fewer jobs."""


class ChannelClosed(Exception):
    """Closed channel: the other process ended, or sent bytes that are no message."""


class ProbeFailed(Exception):
    """Failure to run the probe in a tier of isolation, so that the tier is unavailable. The message is the reason."""


class WrongOutputSpec(Exception):
    """Answer with a shape or dtype that none of the output specs of its kind accepts."""


class CheckFailed(Exception):
    """Failed check of a plug-in by `bakeoff check`. The message says what was found."""


class Leak(Exception):
    """Leak in a task's data. The message says what leaks, where, and what to do next."""


class Skip(Exception):
    """Leakage check that does not apply to a task. The message says why."""


class NotVectorizable(Exception):
    """Model that cannot be trained in a vectorized fit, or trains faster alone. The message says why."""


class HyperparameterVaries(Exception):
    """Read of a hyperparameter that differs between members of a vectorized fit where all need one value. The message names it."""


class StepChanged(Exception):
    """Training step of a vectorized fit that no longer computes what was captured of it."""

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
    """Kind of task that no embedded task has."""


class TrialFailed(Exception):
    """Trial without a valid answer. ``status`` is a row's status, any but complete."""

    def __init__(self, status: str, error: str) -> None:
        super().__init__(error)
        self.status = status


class TrialPruned(Exception):
    """Trial that the search pruned."""


class SlotLost(Exception):
    """Loss of the machine that a job ran on. The state of the job is unknown: run it again on another slot."""


class SlotCrowded(SlotLost):
    """Out-of-memory job on a device that it shared. Run it again beside fewer jobs."""


class ChannelClosed(Exception):
    """Closed channel: the other process ended, or sent bytes that are no message."""


class ProbeFailed(Exception):
    """Isolation tier in which even the probe cannot run."""


class WrongOutputSpec(Exception):
    """Answer that matches none of the output specs of its kind."""


class CheckFailed(Exception):
    """Failed check of a plug-in by `bakeoff check`. The message says what was found."""


class Leak(Exception):
    """Leak in a task's data. The message says what leaks, where, and what to do next."""


class Skip(Exception):
    """Leakage check that does not apply to a task. The message says why."""


class NotVectorizable(Exception):
    """Model that cannot be trained in a vectorized fit, or trains faster alone. The message says why."""


class HyperparameterVaries(Exception):
    """Read of a hyperparameter that the members of a vectorized fit do not share, where all need the same value."""


class StepChanged(Exception):
    """Training step that no longer computes what was captured."""

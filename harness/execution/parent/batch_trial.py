"""Vectorized fit of several configurations in one fork, seen by the parent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from harness.contract import Array, Kind
from harness.errors import TrialFailed
from harness.execution.parent.trial import Trial, drive
from harness.execution.shared.channel import clean_line, finite_number, whole_number
from leaderboard.result import Status

OnReports = Callable[[Mapping[int, float]], set[int]]
"""Callback: takes the losses by member number, NaN where not finite; returns the numbers of the members to prune."""


class BatchResult(NamedTuple):
    """Members of a batch by outcome, as their numbers. Pruned members are in no field."""

    fitted: list[int]
    rejected: dict[int, str]
    """Members that have to be fitted alone, with the reason."""
    postponed: set[int]
    """Members that were left out because a fit of all would take long."""


class BatchTrial(Trial):
    """One fork that fits several members, numbered in the order in which they were sent. Each fitted member can predict."""

    n_members: int
    member_time_limit: float
    """Time limit in seconds of one fit, and the longest time without a message from the fork."""

    def fit_many(self, on_reports: OnReports) -> BatchResult:
        """Wait for the fits. Raises TrialFailed for all members, since they share one process."""
        return drive(self.fit_many_steps(), on_reports)

    def fit_many_steps(self) -> Generator[dict[int, float], set[int], BatchResult]:
        """Run the fits as a generator: yield the reported losses by member number; take the numbers to prune."""
        self._begin()
        running, deadline = set(range(self.n_members)), self.deadline
        while (message := self._receive_before(deadline)).get("event") == "reports":
            losses = self._losses(message.get("losses"), running)
            pruned = (yield losses) & set(losses)
            running -= pruned
            self._send({"pruned": sorted(pruned)})
        self.deadline = deadline
        self._expect(message, "fitted")
        rejected: dict[int, str] = {}
        for reason, members in pairs(message.get("rejected")):
            for member in members:
                if (number := whole_number(member)) in running:
                    rejected[number] = clean_line(reason)
        fitted, postponed = message.get("fitted"), message.get("postponed")
        if isinstance(fitted, list) and isinstance(postponed, list):
            later = {number for member in postponed if (number := whole_number(member)) in running} - set(rejected)
            remaining = sorted(running - set(rejected) - later)
            if sorted(map(str, fitted)) == sorted(map(str, remaining)):
                return BatchResult(remaining, rejected, later)
        raise TrialFailed(Status.INVALID, "the process should have said of each member whether it is fitted")

    def _receive_before(self, deadline: float) -> dict[str, Any]:
        """Return the next message, at most one fit's time limit from now and before ``deadline``."""
        self.deadline = min(deadline, time.monotonic() + self.member_time_limit)
        return self._receive()

    def _losses(self, value: object, running: set[int]) -> dict[int, float]:
        """Check the reported losses of running members. Raises TrialFailed, for all members, on anything else."""
        losses: dict[int, float] = {}
        for member, loss in pairs(value):
            number, finite = whole_number(member), finite_number(loss)
            if number not in running:
                raise TrialFailed(Status.INVALID, "the process reported the loss of a member that it does not have")
            losses[number] = math.nan if finite is None else finite
        if not losses:
            raise TrialFailed(Status.INVALID, "the process reported losses of nobody")
        return losses


def pairs(value: object) -> list[tuple[object, list[object]]]:
    """Check that an untrusted value is a list of pairs. Raises TrialFailed."""
    if not isinstance(value, list) or not all(isinstance(item, list) and len(item) == 2 for item in value):
        raise TrialFailed(Status.INVALID, "the process should have sent a list of pairs")
    return [(first, second) for first, second in value]


class BatchPredictor(Protocol):
    """`BatchTrial` on this or on another machine."""

    def predict(self, x: Array, kind: Kind, member: int = 0) -> tuple[Array, float]: ...


@dataclass(frozen=True)
class BatchMember:
    """One member of a batch, used like a `Trial` of its own."""

    trial: BatchPredictor
    number: int

    def predict(self, x: Array, kind: Kind) -> tuple[Array, float]:
        return self.trial.predict(x, kind, self.number)

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
"""Function that is called at each report of a vectorized fit. It takes the reported losses by member number, NaN where not
finite, and returns the numbers of the members to prune."""


class BatchResult(NamedTuple):
    """Outcome of a vectorized fit: the numbers of its members by outcome. Pruned members are in no field.

    A member is one of the configurations; its number is its place among them, from 0.
    """

    fitted: list[int]
    rejected: dict[int, str]
    """Members that could not be fitted with the others: reasons by number. Each of these members has to be fitted alone."""
    postponed: set[int]
    """Numbers of the members that were left out because a fit of all members would take long."""


class BatchTrial(Trial):
    """One fork that fits several configurations, its members, in one vectorized fit. Then each fitted member can predict.

    Members are numbered from 0, in the order in which the parent sent them.
    """

    n_members: int
    member_time_limit: float
    """Time limit of one member's fit in seconds; also the longest wait for a message from the fork."""

    def fit_many(self, on_reports: OnReports) -> BatchResult:
        """Run the vectorized fit to its end and return the members by outcome. Calls ``on_reports`` at each report.

        Raises TrialFailed for all members at once, since they share one process.
        """
        return drive(self.fit_many_steps(), on_reports)

    def fit_many_steps(self) -> Generator[dict[int, float], set[int], BatchResult]:
        """Run the vectorized fit as a generator that returns the members by outcome. Raises TrialFailed for all members.

        At each report the generator yields the losses by member number, NaN where not finite. ``send`` gives it the numbers of the
        members to prune.
        """
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
            for member in members if isinstance(members, list) else ():
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
        """Return the next message of the fork, and set the trial's deadline for it.

        Raises TrialFailed if no message comes within `member_time_limit`, or before ``deadline`` in seconds of `time.monotonic`.
        """
        self.deadline = min(deadline, time.monotonic() + self.member_time_limit)
        return self._receive()

    def _losses(self, value: object, running: set[int]) -> dict[int, float]:
        """Return the losses of an untrusted report by member number, NaN where not finite.

        Raises TrialFailed if ``value`` is anything but pairs of a member in ``running`` and a loss, at least one.
        """
        losses: dict[int, float] = {}
        for member, loss in pairs(value):
            number, finite = whole_number(member), finite_number(loss)
            if number not in running:
                raise TrialFailed(Status.INVALID, "the process reported the loss of a member that it does not have")
            losses[number] = math.nan if finite is None else finite
        if not losses:
            raise TrialFailed(Status.INVALID, "the process reported losses of nobody")
        return losses


def pairs(value: object) -> list[tuple[object, object]]:
    """Return an untrusted value as a list of pairs. Raises TrialFailed if it is not a list of lists of two items."""
    if not isinstance(value, list) or not all(isinstance(item, list) and len(item) == 2 for item in value):
        raise TrialFailed(Status.INVALID, "the process should have sent a list of pairs")
    return [(first, second) for first, second in value]


class BatchPredictor(Protocol):
    """Interface of a fitted `BatchTrial`, on this or on another machine."""

    def predict(self, x: Array, kind: Kind, member: int = 0) -> tuple[Array, float]: ...


@dataclass(frozen=True)
class BatchMember:
    """One fitted member of a vectorized fit, which predicts like a `Trial` of its own. ``number`` is its place in the batch."""

    trial: BatchPredictor
    number: int

    def predict(self, x: Array, kind: Kind) -> tuple[Array, float]:
        return self.trial.predict(x, kind, self.number)

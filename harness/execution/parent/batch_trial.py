"""The parent's side of a fork in which several configurations of one submission are fitted as one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.contract import Array, Kind
from harness.errors import TrialFailed
from harness.execution.parent.trial import Trial, drive
from harness.execution.shared.channel import clean_line, finite_number, whole_number

OnReports = Callable[[Mapping[int, float]], set[int]]
"""Takes losses by place, NaN for what is no number; returns the places that are to end."""


class BatchTrial(Trial):
    """One fork with several configurations, known by their places in what it was sent. Any of them may then be asked."""

    n_members: int
    member_time_limit: float
    """Seconds in which a fit alone has to end: nor may a stack be silent for longer, however many it has to fit."""

    def fit_many(self, on_reports: OnReports) -> tuple[list[int], dict[int, str]]:
        """Wait for the fits. The places of those that are fitted, and of those that were left alone, with the reason.

        Raises TrialFailed for all of them: a process that ends takes its members with it.
        """
        return drive(self.fit_many_steps(), on_reports)

    def fit_many_steps(self) -> Generator[dict[int, float], set[int], tuple[list[int], dict[int, str]]]:
        """The fits, report by report: yields losses by place, and is sent the places that are to end."""
        self._begin()
        there, last = set(range(self.n_members)), self.deadline
        while (message := self._receive_before(last)).get("event") == "reports":
            losses = self._losses(message.get("losses"), there)
            ended = (yield losses) & set(losses)
            there -= ended
            self._send({"ended": sorted(ended)})
        self.deadline = last
        self._expect(message, "fitted")
        apart: dict[int, str] = {}
        for why, places in pairs(message.get("apart")):
            for place in places:
                if (number := whole_number(place)) in there:
                    apart[number] = clean_line(why)
        fitted = sorted(there - set(apart))
        claimed = message.get("fitted")
        if not isinstance(claimed, list) or sorted(map(str, claimed)) != sorted(map(str, fitted)):
            raise TrialFailed("invalid", "the process should have said of each member whether it is fitted")
        return fitted, apart

    def _receive_before(self, last: float) -> dict[str, Any]:
        """The next message, before the time of one fit has passed, and before the ``last`` moment of all."""
        self.deadline = min(last, time.monotonic() + self.member_time_limit)
        return self._receive()

    def _losses(self, said: object, there: set[int]) -> dict[int, float]:
        """Reported losses of members that are there; what is none of these costs all of them."""
        losses: dict[int, float] = {}
        for place, loss in pairs(said):
            number, value = whole_number(place), finite_number(loss)
            if number not in there:
                raise TrialFailed("invalid", "the process reported the loss of a member that it does not have")
            losses[number] = math.nan if value is None else value
        if not losses:
            raise TrialFailed("invalid", "the process reported losses of nobody")
        return losses


def pairs(said: object) -> list[tuple[object, list[object]]]:
    """A list of pairs, or an error: messages of a child are believed in nothing."""
    if not isinstance(said, list) or not all(isinstance(one, list) and len(one) == 2 for one in said):
        raise TrialFailed("invalid", "the process should have sent a list of pairs")
    return [(first, second) for first, second in said]


class BatchPredictor(Protocol):
    """A `Together`, wherever it is."""

    def predict(self, x: Array, kind: Kind, member: int = 0) -> tuple[Array, float]: ...


@dataclass(frozen=True)
class BatchMember:
    """One configuration of several that were fitted as one, to be asked like a trial of its own."""

    trial: BatchPredictor
    number: int

    def predict(self, x: Array, kind: Kind) -> tuple[Array, float]:
        return self.trial.predict(x, kind, self.number)

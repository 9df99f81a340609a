"""Comparison of two entries of a task, as a sentence with its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from leaderboard.formatting import format_number, format_seconds
from leaderboard.result import Result
from leaderboard.statistics.ranking import (
    ReplicatedResult,
    best_first,
    board_pairs,
    current_results,
    significant_differences,
)
from leaderboard.statistics.variance import SIGNIFICANCE_LEVEL
from leaderboard.store.store import StoreError


@dataclass(frozen=True)
class Comparison:
    """Comparison of two entries of a board.

    ``gap`` is the score of ``a`` minus the score of ``b``. ``low`` and ``high`` bound the gap's 95 % interval, and ``p`` is the
    uncorrected p-value of the paired test; all three are None if the variances are unknown. ``differ`` is True if the gap is
    significant at the 5 % level after correction for all pairs of the board. ``entries`` is the number of entries on the board.
    """

    a: Result
    b: Result
    gap: float
    low: float | None
    high: float | None
    p: float | None
    differ: bool
    entries: int

    @property
    def ahead(self) -> Result:
        """The result with the better score; b if the scores are equal."""
        return self.a if self.gap and (self.gap > 0) == self.a.higher_is_better else self.b

    @property
    def sentence(self) -> str:
        """Outcome in one sentence: one entry is better, or may be better, or the data cannot tell the two apart."""
        first, task = self.ahead, self.a.task
        other = self.b if first is self.a else self.a
        if self.differ:
            return (
                f"{first.submission} is better than {other.submission} on {task}; "
                "the difference is significant at the 5 % level."
            )
        if self.p is not None and self.p < SIGNIFICANCE_LEVEL:
            return (
                f"{first.submission} may be better than {other.submission} on {task}: the difference would be significant "
                f"at the 5 % level if these two had been compared alone, and is not among {self.entries} entries."
            )
        return f"These data cannot tell {self.a.submission} and {self.b.submission} apart on {task}."

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text.replace("\n  ", "\n* ")

    def record(self) -> dict[str, Any]:
        """Return the numbers, the sentence and the rows of both entries as a dict for JSON."""
        names = ("gap", "low", "high", "p", "differ", "entries", "sentence")
        return {name: getattr(self, name) for name in names} | {"a": self.a.row(), "b": self.b.row()}

    @property
    def text(self) -> str:
        """Outcome as text of several lines: the sentence, the scores and costs of both entries, and their difference."""
        lines = [self.sentence, ""]
        for result in (self.a, self.b):
            lines.append(
                f"  {result.submission}: {result.metric} {format_number(result.score)}  "
                f"[{format_number(result.ci_low)}, {format_number(result.ci_high)}], "
                f"{len(result.seeds)} seeds, {result.n_trials} trials, fit {format_seconds(result.fit_seconds)}"
            )
        if self.p is not None:
            p = "p < .0001" if self.p < 1e-4 else f"p = {format_number(self.p)}"
            lines.append(
                f"  {self.a.submission} minus {self.b.submission}: {format_number(self.gap)}  "
                f"[{format_number(self.low)}, {format_number(self.high)}], "
                f"{p}, paired over the same hidden samples, seeds counted in"
            )
        return "\n".join(lines)


class Board:
    """Complete current entries of a task's board, for comparisons of any two. ``results`` may also hold older results."""

    def __init__(self, task: str, results: Iterable[ReplicatedResult]) -> None:
        self.task = task
        self.complete = best_first(current_results(results))
        self.names = [result.submission for result, _ in self.complete]
        """Names of the submissions on the board, from best to worst."""
        self.pairs = board_pairs(self.complete)
        self.differ = significant_differences(self.complete, self.pairs)

    def compare(self, a: str, b: str) -> Comparison:
        """Return the comparison of submissions ``a`` and ``b``. Raises StoreError if one of them has no complete result here."""
        for name in (a, b):
            if name not in self.names:
                raise StoreError(
                    f"{self.task} has no complete result of {name!r}; it has {', '.join(self.names) or 'none'}"
                )
        index_a, index_b = self.names.index(a), self.names.index(b)
        first, second = self.complete[index_a][0], self.complete[index_b][0]
        assert first.score is not None and second.score is not None, "complete results have scores"
        gap, differ = first.score - second.score, bool(self.differ[index_a][index_b])
        low = high = p = None
        if self.pairs is not None:
            half_width, p = (
                float(self.pairs.critical_difference(SIGNIFICANCE_LEVEL, index_a, index_b)),
                self.pairs.p_value(index_a, index_b),
            )
            low, high = gap - half_width, gap + half_width
        return Comparison(first, second, gap, low, high, p, differ, len(self.complete))


def compare(results: Iterable[ReplicatedResult], task: str, a: str, b: str) -> Comparison:
    """Return the comparison of the submissions ``a`` and ``b`` of a task, from all the task's results.

    Raises StoreError if the board has no complete result of one of them.
    """
    return Board(task, results).compare(a, b)

"""From results to a board: which rows stand on it, in which order, and which of them the data cannot tell apart.

Every entry of a task is resampled with the same draws of hidden samples, so that the difference of two entries' bootstrap
replicates is a replicate of their difference: a paired bootstrap (Efron and Tibshirani 1993), at no cost when a board is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from leaderboard.result import Result

LEVEL = 0.95
Replicated = tuple[Result, Sequence[float]]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values by linear interpolation, as numpy's default."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def interval(replicates: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrap replicates."""
    ordered = sorted(replicates)
    return quantile(ordered, (1 - level) / 2), quantile(ordered, (1 + level) / 2)


def difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of score a minus score b, from paired replicates of equal number."""
    return interval([x - y for x, y in zip(a, b, strict=True)])


def differs(a: Replicated, b: Replicated) -> bool:
    """Whether two complete entries of one board differ significantly, at the 5 % level, uncorrected."""
    if len(a[1]) != len(b[1]) or not a[1]:
        return a[0].score != b[0].score
    low, high = difference(a[1], b[1])
    return low > 0 or high < 0


def standing(results: Iterable[Replicated], asked: Collection[str] = ()) -> list[Replicated]:
    """The rows that stand on one task's board: the newest version, data and metric alone; of each submission the newest complete
    result, and a newer one that failed beside it. Results whose ids are ``asked`` for count as newest."""
    results = sorted(results, key=lambda pair: (pair[0].result_id in asked, pair[0].created_at))
    if not results:
        return []
    version = max(result.task_version for result, _ in results)
    last = [result for result, _ in results if result.task_version == version][-1]
    newest: dict[tuple[str, bool], Replicated] = {}
    for result, replicates in results:
        if (result.task_version, result.data_sha256, result.metric) == (version, last.data_sha256, last.metric):
            newest[result.submission, result.complete] = (result, replicates)
            if result.complete:
                newest.pop((result.submission, False), None)
    return list(newest.values())


def rank(results: Iterable[Replicated], asked: Collection[str] = ()) -> list[dict[str, Any]]:
    """One task's board, best first: each row's record with ``rank`` (1-based) and ``tie_group`` in front.

    A tie group starts with its best entry and holds those that do not differ significantly from it. Rows that are not
    complete stand last, without a rank. ``asked`` is as for `standing`.
    """
    standings = standing(results, asked)
    complete = [pair for pair in standings if pair[0].complete]
    complete.sort(
        key=lambda pair: (-_score(pair[0]) if pair[0].higher_is_better else _score(pair[0]), pair[0].created_at)
    )
    rows, leader, group = [], None, 0
    for place, pair in enumerate(complete, start=1):
        if leader is None or differs(leader, pair):
            leader, group = pair, group + 1
        rows.append({"rank": place, "tie_group": group, **pair[0].row()})
    failed = sorted((pair[0] for pair in standings if not pair[0].complete), key=lambda result: result.submission)
    return rows + [{"rank": None, "tie_group": None, **result.row()} for result in failed]


def _score(result: Result) -> float:
    assert result.score is not None, "complete results have a score"
    return result.score

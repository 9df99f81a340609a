"""Rows of a board from results: selection, order, and ranks with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from leaderboard.result import Result
from leaderboard.statistics.variance import ScoreVariance, bias_correction
from leaderboard.store.gc_pause import gc_paused

if TYPE_CHECKING:
    from leaderboard.statistics.inference import Array, Pairs

ReplicatedResult = tuple[Result, Sequence[float]]
"""Pair of a result and the bootstrap replicates of its score."""


def current_results(results: Iterable[ReplicatedResult], asked: Collection[str] = ()) -> list[ReplicatedResult]:
    """Return the results that are on the board of one task: of its newest version, data and metric only.

    Of each submission they are the newest complete result, and an incomplete one if it is newer. Results with ids in ``asked``
    count as newest.
    """
    results = sorted(results, key=lambda pair: (pair[0].result_id in asked, pair[0].created_at))
    if not results:
        return []
    version = max(result.task_version for result, _ in results)
    latest = [result for result, _ in results if result.task_version == version][-1]
    newest: dict[tuple[str, bool], ReplicatedResult] = {}
    for result, replicates in results:
        if (result.task_version, result.data_sha256, result.metric) == (version, latest.data_sha256, latest.metric):
            newest[result.submission, result.complete] = (result, replicates)
            if result.complete:
                newest.pop((result.submission, False), None)
    return list(newest.values())


def best_first(results: Iterable[ReplicatedResult]) -> list[ReplicatedResult]:
    """Return the complete results, from best to worst score; of equal scores the older result is first."""
    complete = [pair for pair in results if pair[0].complete]
    return sorted(
        complete,
        key=lambda pair: (-_score(pair[0]) if pair[0].higher_is_better else _score(pair[0]), pair[0].created_at),
    )


def score_variance(result: Result, replicate_variance: float, draws: int) -> ScoreVariance:
    """Return the components of the variance of a result's score, given the variance of its ``draws`` bootstrap replicates."""
    sampling_variance, seeds = replicate_variance * bias_correction(result.units), result.seeds
    if not result.units or len(seeds) < 2:  # replicates of older versions include the draw of seeds
        return ScoreVariance(sampling_variance, result.units or draws)
    mean = sum(seeds) / len(seeds)
    between = sum((score - mean) ** 2 for score in seeds) / (len(seeds) - 1) / len(seeds)
    return ScoreVariance(sampling_variance, result.units, between, result.seed_interaction, len(seeds) - 1)


def score_interval(result: Result, replicates: Array, losses: Array) -> tuple[float, float]:
    """Return the bounds (low, high) of the 95 % interval of a result's score. The result needs a score, seeds and units.

    ``replicates`` (draws,) are bootstrap scores. ``losses`` are the contributions of hidden samples to the score, of any shape;
    empty if the score is not a mean. If all losses are 0 or 1, the score is a proportion.
    """
    import numpy as np

    from leaderboard.statistics.inference import interval

    proportion = bool(losses.size) and bool(np.isin(losses, (0.0, 1.0)).all())
    variance = score_variance(result, float(replicates.var(ddof=1)), len(replicates))
    return interval(_score(result), variance, proportion=proportion)


def board_pairs(complete: Sequence[ReplicatedResult]) -> Pairs | None:
    """Return the paired tests of a board's complete entries; None for fewer than two, or if their replicates do not share draws."""
    if len(complete) < 2 or len({len(replicates) for _, replicates in complete}) != 1 or len(complete[0][1]) < 2:
        return None
    import numpy as np  # not at the head: its import takes longer than all the work for a board of one entry

    from leaderboard.statistics.inference import Pairs, comparison_dtype

    replicates = np.array([np.asarray(replicates) for _, replicates in complete], dtype=comparison_dtype(len(complete)))
    scores = np.array([_score(result) for result, _ in complete])
    replicate_variances, draws = replicates.var(axis=1, ddof=1), replicates.shape[1]
    variances = [
        score_variance(result, float(replicate_variance), draws)
        for (result, _), replicate_variance in zip(complete, replicate_variances, strict=True)
    ]
    return Pairs(scores, replicates, variances)


def significant_differences(complete: Sequence[ReplicatedResult], pairs: Pairs | None) -> Array | list[list[bool]]:
    """Return (entries, entries) bool: True for each pair of complete entries that differs significantly.

    Without ``pairs``, when variances are unknown, all different scores count as different.
    """
    if pairs is not None:
        return pairs.significant_pairs()
    scores = [_score(result) for result, _ in complete]
    return [[a != b for b in scores] for a in scores]


def rank_sets(differ: Array | list[list[bool]]) -> list[tuple[int, int]]:
    """Return the confidence set (lowest, highest) of the rank of each entry.

    ``differ`` (entries, entries) has the significant differences between entries, which are sorted best first.
    """
    if isinstance(differ, list):
        return [(1 + sum(row[:index]), len(row) - sum(row[index + 1 :])) for index, row in enumerate(differ)]
    import numpy as np

    below = np.triu(differ).view(np.uint8)
    better, worse = (below.sum(axis=axis, dtype=np.uint32).tolist() for axis in (0, 1))
    return [(1 + n_better, len(differ) - n_worse) for n_better, n_worse in zip(better, worse, strict=True)]


@gc_paused()
def rank(results: Iterable[ReplicatedResult], asked: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of one task's board, best first: dicts of a result's fields and its ranks, ``rank`` from 1 on.

    ``rank_low`` and ``rank_high`` bound the true rank: the number of significantly better entries plus one, and the number of
    entries less the significantly worse ones. These bounds hold for all rows of a board together with 95 % confidence (Mogstad,
    Romano, Shaikh and Wilhelm 2024). A ``tie_group`` starts with its best entry; it holds the entries that do not differ
    significantly from that one. ``resolution`` is the typical significant difference in the better half of the board. Incomplete
    rows come last, with None as ranks. Results with ids in ``asked`` count as the newest of their submissions.
    """
    current = current_results(results, asked)
    complete = best_first(current)
    pairs = board_pairs(complete)
    differ = significant_differences(complete, pairs)
    resolution = pairs.resolution(max(2, math.ceil(len(complete) / 2))) if pairs else None
    rows, leader, group = [], 0, 1
    for index, ((result, _), (low, high)) in enumerate(zip(complete, rank_sets(differ), strict=True)):
        if differ[leader][index]:
            leader, group = index, group + 1
        ranks = dict(zip(RANK_KEYS, (index + 1, low, high, group, resolution), strict=True))
        rows.append(ranks | result.row())
    failed = sorted((pair[0] for pair in current if not pair[0].complete), key=lambda result: result.submission)
    return rows + [unranked_row(result) for result in failed]


RANK_KEYS = ("rank", "rank_low", "rank_high", "tie_group", "resolution")


def unranked_row(result: Result) -> dict[str, Any]:
    """Return the row of an incomplete result on a board: all its ranks are None."""
    return dict.fromkeys(RANK_KEYS) | result.row()


def _score(result: Result) -> float:
    assert result.score is not None, "complete results have a score"
    return result.score

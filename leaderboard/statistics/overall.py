"""Rankings over several tasks: mean ranks with a critical difference, win rates, Elo ratings and performance profiles.

Only entries with a complete result on every task are compared: means over different tasks are not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from leaderboard.formatting import align_columns
from leaderboard.statistics.inference import Array
from leaderboard.statistics.ranking import ReplicatedResult, best_first, current_results
from leaderboard.statistics.variance import CONFIDENCE

TASK_DRAWS = 500
"""Number of bootstrap draws of the tasks. Each drawn task also has a bootstrap draw of its hidden samples."""
MAX_ELO_ITERATIONS = 200
FIXED_FIELD_ENTRIES = 100
"""Number of entries above which Elo intervals rate each bootstrap draw against the fixed ratings of all entries."""
ELO_MEAN, ELO_SCALE = 1500.0, 400 / np.log(10)


@dataclass(frozen=True)
class Overall:
    """Ranking of entries over several tasks.

    ``scores`` (entries, tasks) have signs such that higher is better. ``draws`` (draws, entries, tasks) are their bootstrap
    replicates, or the scores themselves as a single draw if there are no replicates.
    """

    entries: list[str]
    tasks: list[str]
    scores: Array
    draws: Array

    @cached_property
    def ranks(self) -> Array:
        """Ranks (entries, tasks), 1 for the best; ties share the mean of their ranks."""
        return ranks(self.scores)

    @cached_property
    def mean_ranks(self) -> Array:
        return np.asarray(self.ranks.mean(axis=1))

    @cached_property
    def resampled(self) -> Array:
        """Scores (draws, entries, tasks) of tasks drawn with replacement, each with a bootstrap draw of its hidden samples."""
        rng = np.random.default_rng(0)
        tasks = rng.integers(0, len(self.tasks), size=(TASK_DRAWS, len(self.tasks)))
        draws = rng.integers(0, len(self.draws), size=tasks.shape)
        return np.asarray(self.draws[draws, :, tasks].transpose(0, 2, 1))

    @cached_property
    def resampled_ranks(self) -> Array:
        return ranks(self.resampled, axis=1)

    @cached_property
    def rank_intervals(self) -> Array:
        """95 % intervals (entries, 2) of the mean ranks, over draws of tasks and hidden samples."""
        return percentile_interval(self.resampled_ranks.mean(axis=2))

    @cached_property
    def friedman(self) -> float | None:
        """P-value of Friedman's test that all entries are alike; None for fewer than three entries or two tasks."""
        from scipy.stats import friedmanchisquare

        if len(self.entries) < 3 or len(self.tasks) < 2:
            return None
        return float(friedmanchisquare(*self.scores).pvalue)

    @cached_property
    def critical_difference(self) -> float:
        """Smallest significant difference of mean ranks, by Nemenyi's test at the 5 % level (Demšar 2006)."""
        from scipy.stats import studentized_range

        k, n = len(self.entries), len(self.tasks)
        return float(studentized_range.ppf(CONFIDENCE, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))

    @cached_property
    def alike(self) -> list[list[int]]:
        """Largest groups of entries, as indices, whose mean ranks do not differ significantly; sorted by mean rank.

        They are the bars of a critical-difference diagram.
        """
        order = np.argsort(self.mean_ranks, kind="stable").tolist()
        groups: list[list[int]] = []
        for start in range(len(order)):
            end = start
            while end + 1 < len(order) and (
                self.mean_ranks[order[end + 1]] - self.mean_ranks[order[start]] <= self.critical_difference
            ):
                end += 1
            if end > start and not (groups and order[end] in groups[-1]):
                groups.append(order[start : end + 1])
        return groups

    @cached_property
    def wins(self) -> Array:
        """Shares (entries, entries) of tasks on which the row's entry is better than the column's; a tie counts half."""
        return wins(self.scores)

    @cached_property
    def elo(self) -> Array:
        """Elo ratings (entries,) with a mean of 1500. A lead of 400 points means odds of ten to one to win on a task."""
        return elo(games_won(self.ranks), len(self.tasks))

    @cached_property
    def elo_intervals(self) -> Array:
        """95 % intervals (entries, 2) of the Elo ratings, over draws of tasks and hidden samples.

        With more than `FIXED_FIELD_ENTRIES` entries each draw is rated against the observed ratings of all entries: one entry
        hardly changes so many others.
        """
        won = games_won(self.resampled_ranks)
        if len(self.entries) <= FIXED_FIELD_ENTRIES:
            return percentile_interval(elo(won, len(self.tasks)))
        points = np.linspace(self.elo.min() - 2000, self.elo.max() + 2000, 2000)
        expected = (1 / (1 + 10 ** ((self.elo - points[:, None]) / 400))).sum(axis=1) - 0.5  # not with itself
        tied = (len(self.entries) - 1) / 2
        return percentile_interval(np.interp(won + tied, (len(self.tasks) + 1) * expected, points))

    @cached_property
    def gaps(self) -> Array:
        """Gaps (entries, tasks) to the best score of each task, in units of the task's median gap."""
        behind = self.scores.max(axis=0) - self.scores
        middle = np.median(behind, axis=0)
        return np.asarray(behind / np.where(middle > 0, middle, 1.0))

    def profile(self, within: Array | Sequence[float]) -> Array:
        """Return the shares (entries, len(within)) of tasks on which an entry's gap to the best is at most ``within``.

        Gaps are in units of the task's median gap. The shares are performance profiles (Dolan and Moré 2002).
        """
        return np.asarray((self.gaps[:, :, None] <= np.asarray(within) + 1e-12).mean(axis=1))

    def record(self) -> dict[str, Any]:
        """Return the ranking as a dict for JSON: the tests over all entries, and one row per entry, best mean rank first."""
        order = np.argsort(self.mean_ranks, kind="stable").tolist()
        won = games_won(self.ranks) / (len(self.tasks) * max(len(self.entries) - 1, 1))
        named = zip(
            self.mean_ranks.tolist(), self.rank_intervals.tolist(), self.elo.tolist(), self.elo_intervals.tolist()
        )
        rows = [
            {
                "submission": self.entries[index],
                "mean_rank": rank,
                "mean_rank_low": rank_interval[0],
                "mean_rank_high": rank_interval[1],
                "elo": rating,
                "elo_low": rating_interval[0],
                "elo_high": rating_interval[1],
                "win_rate": float(won[index]) if len(self.entries) > 1 else None,
                "ranks": dict(zip(self.tasks, self.ranks[index].tolist())),
            }
            for index, (rank, rank_interval, rating, rating_interval) in enumerate(named)
        ]
        return {
            "tasks": self.tasks,
            "critical_difference": self.critical_difference if len(self.entries) > 1 else None,
            "friedman_p": self.friedman,
            "alike": [[self.entries[index] for index in group] for group in self.alike]
            if len(self.entries) > 1
            else [],
            "rows": [rows[index] for index in order],
        }


def format_overall(kind: str, ranking: Overall) -> str:
    """Return the overall ranking of the entries on tasks of one kind as text for a terminal."""
    record = ranking.record()
    lines = [f"{kind}: {len(ranking.entries)} entries that stand on all of {', '.join(ranking.tasks)}"]
    body = [("mean rank", "entry", "95 % interval", "Elo", "95 % interval", "wins")]
    for row in record["rows"]:
        body.append(
            (
                f"{row['mean_rank']:.2f}",
                row["submission"],
                f"{row['mean_rank_low']:.2f} – {row['mean_rank_high']:.2f}",
                f"{row['elo']:.0f}",
                f"{row['elo_low']:.0f} – {row['elo_high']:.0f}",
                f"{row['win_rate']:.0%}",
            )
        )
    lines += align_columns(body)
    p = record["friedman_p"]
    alike = "" if p is None else f"; that all are alike has p = {p:.2g} (Friedman)"
    lines.append(
        f"  mean ranks less than {record['critical_difference']:.2f} apart do not differ (Nemenyi, 5 %){alike}"
    )
    return "\n".join(lines)


def by_kind(boards: Mapping[str, Sequence[ReplicatedResult]]) -> dict[str, Overall]:
    """Return the overall rankings by kind of task. ``boards`` are the results of each task, by its name.

    A kind is left out unless two of its tasks have results, and two entries are complete on all its tasks with complete results.
    """
    kinds: dict[str, dict[str, Sequence[ReplicatedResult]]] = {}
    for task, results in boards.items():
        if results:
            kinds.setdefault(results[-1][0].kind, {})[task] = results
    rankings = {kind: overall(tasks) for kind, tasks in kinds.items() if len(tasks) > 1}
    return {kind: ranking for kind, ranking in rankings.items() if ranking is not None}


def overall(boards: Mapping[str, Sequence[ReplicatedResult]]) -> Overall | None:
    """Return the ranking of the entries with a complete result on every task; None for fewer than two such entries.

    ``boards`` are the results of each task, by its name. Tasks without any complete result are left out.
    """
    complete = {task: best_first(current_results(results)) for task, results in boards.items()}
    complete = {task: results for task, results in complete.items() if results}
    by_name = [{result.submission: (result, draws) for result, draws in results} for results in complete.values()]
    entries = [name for name in (by_name[0] if by_name else ()) if all(name in board for board in by_name)]
    if len(entries) < 2:
        return None
    signs = [1.0 if next(iter(board.values()))[0].higher_is_better else -1.0 for board in by_name]
    scores = np.array(
        [[sign * board[name][0].score for sign, board in zip(signs, by_name)] for name in entries]  # type: ignore[operator]
    )
    count = min(len(draws) for board in by_name for _, draws in (board[name] for name in entries))
    if count < 2:  # no replicates: variances are unknown
        return Overall(entries, list(complete), scores, scores[None])
    draws = [[sign * np.asarray(board[name][1][:count]) for sign, board in zip(signs, by_name)] for name in entries]
    return Overall(entries, list(complete), scores, np.moveaxis(np.array(draws, dtype=np.float64), 2, 0))


def ranks(scores: Array, axis: int = 0) -> Array:
    """Return the ranks of scores along one axis, 1 for the highest; ties share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=axis))


def games_won(ranks: Array) -> Array:
    """Return the number of pairwise comparisons that each entry wins (..., entries), from ranks (..., entries, tasks).

    The number is summed over tasks. A tie counts half.
    """
    return np.asarray((ranks.shape[-2] - ranks).sum(axis=-1))


def wins(scores: Array) -> Array:
    """Return the shares (entries, entries) of tasks on which the first entry is better than the second; a tie counts half.

    ``scores`` are (entries, tasks), higher is better.
    """
    better, equal = scores[:, None] > scores[None], scores[:, None] == scores[None]
    return np.asarray((better + 0.5 * equal).mean(axis=2))


def elo(won: Array, tasks: int) -> Array:
    """Return the Bradley-Terry strengths (1952) of entries on Elo's scale (..., entries), by Hunter's iteration (2004).

    ``won`` (..., entries) are the pairwise comparisons won, summed over ``tasks``, the number of tasks. All pairs meet once on each
    task, so that ``won`` is sufficient. One tie is added for each pair: an entry that wins every game keeps a finite rating.
    """
    won = won + (won.shape[-1] - 1) / 2
    strength = np.ones_like(won)
    for _ in range(MAX_ELO_ITERATIONS):
        expected = (1 / (strength[..., None] + strength[..., None, :])).sum(axis=-1) - 0.5 / strength  # not with itself
        updated = won / ((tasks + 1) * expected)
        updated /= np.exp(np.log(updated).mean(axis=-1, keepdims=True))
        change = float(np.abs(np.log(updated / strength)).max())
        strength = updated
        if change < 1e-9:
            break
    return np.asarray(ELO_MEAN + ELO_SCALE * np.log(strength))


def percentile_interval(values: Array) -> Array:
    """Return the 95 % percentile intervals (n, 2) of n quantities, from draws of them (draws, n)."""
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(values, (tail, 1 - tail), axis=0).T

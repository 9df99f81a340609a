"""Whether two entries of a task differ, said in a sentence with the numbers under it."""

from __future__ import annotations

from collections.abc import Iterable

from leaderboard.ranking import Replicated, difference, differs, standing
from leaderboard.render import number, seconds
from leaderboard.store import StoreError


def sentence(results: Iterable[Replicated], task: str, a: str, b: str) -> str:
    """Raises StoreError where one of the two has no complete result on the board."""
    board = {result.submission: (result, replicates) for result, replicates in standing(results) if result.complete}
    for name in (a, b):
        if name not in board:
            raise StoreError(f"{task} has no complete result of {name!r}; it has {', '.join(board) or 'none'}")
    first, second = board[a], board[b]
    (one, one_draws), (two, two_draws) = first, second
    assert one.score is not None and two.score is not None, "complete results have scores"
    gap = one.score - two.score
    ahead = a if (gap > 0) == one.higher_is_better else b
    if differs(first, second):
        said = f"{ahead} is better than {b if ahead == a else a} on {task}; the difference is significant at the 5 % level."
    else:
        said = f"These data cannot tell {a} and {b} apart on {task}."
    lines = [said, ""]
    for result in (one, two):
        lines.append(
            f"  {result.submission}: {result.metric} {number(result.score)}  [{number(result.ci_low)}, {number(result.ci_high)}], "
            f"{len(result.seeds)} seeds, {result.n_trials} trials, fit {seconds(result.fit_seconds)}"
        )
    if len(one_draws) == len(two_draws) and len(one_draws):
        low, high = difference(one_draws, two_draws)
        lines.append(
            f"  {a} minus {b}: {number(gap)}  [{number(low)}, {number(high)}], paired bootstrap, {len(one_draws)} draws"
        )
    return "\n".join(lines)

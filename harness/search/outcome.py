"""Result of a search, computed from its recorded trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import TrialFailed
from leaderboard.result import Status
from leaderboard.store.facts import TrialFacts
from leaderboard.store.store import Fit


@dataclass(frozen=True)
class SearchResult:
    """Result of a search: its best hyperparameters ``params``, and numbers of recorded trials.

    ``valid`` is the best validation score, ``seconds`` the sum over all trials. ``steps`` holds ``[k, score]`` for each k at which
    the best score after k trials improved.
    """

    params: dict[str, Any]
    valid: float | None
    n_trials: int
    n_pruned: int
    n_failed: int
    seconds: float
    steps: list[list[float]]


def summarize(fits: Sequence[Fit], sign: float) -> SearchResult:
    """Return the result of a search from its recorded trials, given in order of number; of equal trials the first is the best.

    ``sign`` is -1 where higher values are better, else 1. Raises TrialFailed if no trial is complete: with the first failure, or as
    a timeout if none failed.
    """
    complete = [fit for fit in fits if fit.status == Status.COMPLETE]
    failed = [fit for fit in fits if fit.status not in (Status.COMPLETE, Status.PRUNED)]
    if not complete:
        if failed:
            raise TrialFailed(failed[0].status, str(TrialFacts.of(failed[0]).error))
        raise TrialFailed(Status.TIMEOUT, "no trial was finished in the time given; raise --timeout")
    best = min(complete, key=lambda fit: sign * (fit.value if fit.value is not None else math.inf))
    return SearchResult(
        best.params,
        best.value,
        len(fits),
        sum(fit.status == Status.PRUNED for fit in fits),
        len(failed),
        sum(TrialFacts.of(fit).seconds for fit in fits),
        improvements(complete, sign),
    )


def improvements(complete: Sequence[Fit], sign: float) -> list[list[float]]:
    """Return ``[number, value]`` of each complete trial that was better than all before it, with numbers from 1."""
    improved: list[list[float]] = []
    for fit in complete:
        if fit.value is not None and (not improved or sign * fit.value < sign * improved[-1][1]):
            improved.append([fit.number + 1, fit.value])
    return improved


def same_params(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Tell whether two sets of hyperparameters are stored as the same JSON."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)

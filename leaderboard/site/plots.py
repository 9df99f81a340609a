"""Data of the plots on the pages, limited to the number of points that a plot can show. assets/plots.js draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leaderboard.statistics.compare import Comparison
from leaderboard.statistics.overall import Overall
from leaderboard.store.facts import FinalFacts
from leaderboard.store.store import Fit, Store
from leaderboard.tables.render import Row

MAX_ENTRIES, MAX_POINTS = 60, 500
"""Largest number of entries in a plot, and of points in a line of a plot."""
COSTS = {
    "fit_seconds": "seconds of a fit",
    "predict_seconds": "seconds of its predictions",
    "search_seconds": "seconds of the search",
    "peak_memory_mb": "peak memory, MB",
    "n_parameters": "parameters",
    "energy_joules": "joules of a fit and its predictions",
}
PROFILE_GAPS = np.round(np.arange(0, 3.01, 0.05), 2)
"""Gaps to the best entry on the x axis of performance profiles, in units of the median gap."""


def board(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the data of a board's plots: scores with intervals, costs, and best validation scores by number of trials.

    ``rows`` are all rows of the board; at most `MAX_ENTRIES` ranked ones are in the plots.
    """
    ranked = [row for row in rows if row["rank"] is not None][:MAX_ENTRIES]
    costs = {key: label for key, label in COSTS.items() if any(row[key] for row in ranked)}
    return {
        "metric": rows[0]["metric"],
        "higher": rows[0]["higher_is_better"],
        "of": sum(row["rank"] is not None for row in rows),
        "costs": costs,
        "board": [
            {
                "name": row["submission"],
                "score": row["score"],
                "low": row["ci_low"],
                "high": row["ci_high"],
                **{key: row[key] for key in costs},
            }
            for row in ranked
        ],
        "effort": [
            {"name": row["submission"], "trials": trials, "score": score}
            for row in ranked
            for trials, score in (*row["history"], *last_step(row))
        ],
    }


def last_step(row: Row) -> list[list[float]]:
    """Return the point ``[trials, best score]`` that extends the line of a row's search to its last trial.

    The point is in a list, which is empty if the line ends at that trial already.
    """
    steps = row["history"]
    return [[row["n_trials"], steps[-1][1]]] if steps and steps[-1][0] < row["n_trials"] else []


def entry(store: Store, row: Row) -> dict[str, Any]:
    """Return the data of an entry's plots: reported losses of each seed, trials of the search and importance of hyperparameters."""
    if not row["study"]:  # submitted predictions, and rows of older versions
        return {"metric": row["metric"], "curve": [], "trials": [], "best": [], "importance": []}
    curve = [
        {"seed": f"seed {fit.number}", "step": step, "loss": loss}
        for fit in final_fits(store, row)
        for step, loss in subsample_losses(FinalFacts.of(fit).curve)
        if loss is not None
    ]
    fits = [fit for fit in store.fits(row["study"], "search") if fit.number < row["n_trials"]]
    picked = (
        fits
        if len(fits) <= MAX_POINTS
        else [fits[index] for index in np.linspace(0, len(fits) - 1, MAX_POINTS).astype(int)]
    )
    trials = [
        {
            "number": fit.number + 1,
            "value": fit.value,
            "status": fit.status,
            "params": ", ".join(f"{name} {format_param(value)}" for name, value in fit.params.items()),
        }
        for fit in picked
    ]
    best = [{"number": trials, "value": value} for trials, value in (*row["history"], *last_step(row))]
    importance = [{"name": name, "share": share} for name, share in row["importance"].items()]
    return {"metric": row["metric"], "curve": curve, "trials": trials, "best": best, "importance": importance}


def final_fits(store: Store, row: Row) -> list[Fit]:
    """Return the final fits behind the score of a row, one per seed.

    The study may also hold fits of later runs, with more seeds or other parameters.
    """
    fits = store.fits(row["study"], "final", range(len(row["seeds"]))) if row["study"] else []
    return [fit for fit in fits if fit.params == row["params"]]


def subsample_losses(losses: Sequence[float | None]) -> list[tuple[int, float | None]]:
    """Return pairs (step, loss) from a list of losses, evenly spread and about `MAX_POINTS` at most; steps are counted from 1."""
    every = max(-(-len(losses) // MAX_POINTS), 1)
    return [(step, loss) for step, loss in enumerate(losses, start=1) if step % every == 0 or step == len(losses)]


def format_param(value: Any) -> str:
    """Format the value of a hyperparameter with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pair(store: Store, comparison: Comparison) -> dict[str, Any]:
    """Return the data of a comparison's plots: the score difference with its interval, and counts of hidden samples.

    The counts are the numbers of samples on which each entry is better, or both are equally good.
    """
    samples = count_better_samples(store, comparison)
    return {
        "metric": comparison.a.metric,
        "gap": {
            "name": f"{comparison.a.submission} − {comparison.b.submission}",
            "gap": comparison.gap,
            "low": comparison.low,
            "high": comparison.high,
        },
        "samples": [{"name": name, "count": count} for name, count in samples.items()],
    }


def count_better_samples(store: Store, comparison: Comparison) -> dict[str, int]:
    """Return the number of hidden samples for each outcome: one entry is better, both are equally good, or the other is better.

    The keys are the outcomes in words. Entries are compared by their means over seeds. The dict is empty without stored losses.
    """
    losses = []
    for result in (comparison.a, comparison.b):
        seed_losses = [fit.losses for fit in final_fits(store, result.row()) if len(fit.losses)]
        if not seed_losses:
            return {}
        losses.append(np.mean(np.array(seed_losses, dtype=np.float64), axis=0))
    if losses[0].shape != losses[1].shape:
        return {}
    gap = (losses[0] - losses[1]) * (1 if comparison.a.higher_is_better else -1)
    return {
        f"{comparison.a.submission} is better": int((gap > 0).sum()),
        "equally good": int((gap == 0).sum()),
        f"{comparison.b.submission} is better": int((gap < 0).sum()),
    }


def overall(ranking: Overall, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the critical-difference diagram and the performance profiles; ``record`` is that of the ranking."""
    rows = record["rows"][:MAX_ENTRIES]
    half = record["critical_difference"] / 2
    names = [row["submission"] for row in rows]
    profiles = ranking.profile(PROFILE_GAPS)
    return {
        "ranks": [
            {
                "name": row["submission"],
                "rank": row["mean_rank"],
                "low": row["mean_rank"] - half,
                "high": row["mean_rank"] + half,
            }
            for row in rows
        ],
        "profiles": [
            {"name": name, "within": float(within), "share": float(share)}
            for name in names[:10]
            for within, share in zip(PROFILE_GAPS, profiles[ranking.entries.index(name)])
        ],
    }

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
"""Largest number of entries in a plot, and of points in a line."""
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
    """Data of a board: scores with intervals, costs, and best validation scores by number of trials."""
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
    """Last point of the line of a search, at its last trial; empty if the line ends there already."""
    steps = row["history"]
    return [[row["n_trials"], steps[-1][1]]] if steps and steps[-1][0] < row["n_trials"] else []


def entry(store: Store, row: Row) -> dict[str, Any]:
    """Data of an entry: reported losses of each seed, trials of the search and importance of hyperparameters."""
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
    """Final fits behind the score of a row. The study may hold further seeds and parameters from later runs."""
    fits = store.fits(row["study"], "final", range(len(row["seeds"]))) if row["study"] else []
    return [fit for fit in fits if fit.params == row["params"]]


def subsample_losses(losses: Sequence[float | None]) -> list[tuple[int, float | None]]:
    """Pairs (step, loss), steps counted from 1, at most about `MAX_POINTS` of them."""
    every = max(-(-len(losses) // MAX_POINTS), 1)
    return [(step, loss) for step, loss in enumerate(losses, start=1) if step % every == 0 or step == len(losses)]


def format_param(value: Any) -> str:
    """Format the value of a hyperparameter with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pair(store: Store, comparison: Comparison) -> dict[str, Any]:
    """Data of a comparison: the difference with its interval, and the numbers of samples on which each entry is better."""
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
    """Number of hidden samples on which each entry is better, by its mean over seeds; empty without stored losses."""
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
    """Data of the critical-difference diagram and of the performance profiles."""
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

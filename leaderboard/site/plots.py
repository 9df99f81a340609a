"""What the pages' plots are drawn from: plain numbers, as few as a picture can show. assets/plots.js draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leaderboard.statistics.compare import Comparison
from leaderboard.statistics.overall import Overall
from leaderboard.store.store import Fit, Store
from leaderboard.tables.render import Row

ENTRIES, POINTS = 60, 500
"""Entries, and points of a line, that a plot shows at most."""
COSTS = {
    "fit_seconds": "seconds of a fit",
    "predict_seconds": "seconds of its predictions",
    "search_seconds": "seconds of the search",
    "peak_memory_mb": "peak memory, MB",
    "n_parameters": "parameters",
    "energy_joules": "joules of a fit and its predictions",
}
WITHIN = np.round(np.arange(0, 3.01, 0.05), 2)
"""How far behind the best a performance profile looks, in units of how far the middle entry is."""


def board(rows: Sequence[Row]) -> dict[str, Any]:
    """Scores with intervals, scores against costs, and the best validation scores after so many trials."""
    done = [row for row in rows if row["rank"] is not None][:ENTRIES]
    costs = {key: label for key, label in COSTS.items() if any(row[key] for row in done)}
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
            for row in done
        ],
        "effort": [
            {"name": row["submission"], "trials": trials, "score": score}
            for row in done
            for trials, score in (*row["history"], *ended(row))
        ],
    }


def ended(row: Row) -> list[list[float]]:
    """Where the line of a search ends: at its last trial, as good as before."""
    steps = row["history"]
    return [[row["n_trials"], steps[-1][1]]] if steps and steps[-1][0] < row["n_trials"] else []


def entry(store: Store, row: Row) -> dict[str, Any]:
    """The losses that each seed reported, and the trials of the search."""
    if not row["study"]:  # predictions that came as a file, and rows of older versions
        return {"metric": row["metric"], "curve": [], "trials": [], "best": [], "importance": []}
    curve = [
        {"seed": f"seed {fit.number}", "step": step, "loss": loss}
        for fit in finals(store, row)
        for step, loss in thinned(fit.facts.get("curve") or [])
        if loss is not None
    ]
    fits = [fit for fit in store.fits(row["study"], "search") if fit.number < row["n_trials"]]
    picked = (
        fits if len(fits) <= POINTS else [fits[place] for place in np.linspace(0, len(fits) - 1, POINTS).astype(int)]
    )
    trials = [
        {
            "number": fit.number + 1,
            "value": fit.value,
            "status": fit.status,
            "params": ", ".join(f"{name} {short(given)}" for name, given in fit.params.items()),
        }
        for fit in picked
    ]
    best = [{"number": trials, "value": value} for trials, value in (*row["history"], *ended(row))]
    importance = [{"name": name, "share": share} for name, share in row["importance"].items()]
    return {"metric": row["metric"], "curve": curve, "trials": trials, "best": best, "importance": importance}


def finals(store: Store, row: Row) -> list[Fit]:
    """The fits that a row's score is the mean of: its study may hold more seeds by now, and other parameters."""
    fits = store.fits(row["study"], "final", range(len(row["seeds"]))) if row["study"] else []
    return [fit for fit in fits if fit.params == row["params"]]


def thinned(losses: Sequence[float | None]) -> list[tuple[int, float | None]]:
    """Losses with their steps, counted from 1, as many as a plot can show."""
    every = max(-(-len(losses) // POINTS), 1)
    return [(step, loss) for step, loss in enumerate(losses, start=1) if step % every == 0 or step == len(losses)]


def short(given: Any) -> str:
    return f"{given:.3g}" if isinstance(given, float) else str(given)


def pair(store: Store, found: Comparison) -> dict[str, Any]:
    """The difference with its interval, and on how many hidden samples which of the two is better."""
    samples = better_on(store, found)
    return {
        "metric": found.a.metric,
        "gap": {
            "name": f"{found.a.submission} − {found.b.submission}",
            "gap": found.gap,
            "low": found.low,
            "high": found.high,
        },
        "samples": [{"name": name, "count": count} for name, count in samples.items()],
    }


def better_on(store: Store, found: Comparison) -> dict[str, int]:
    """How many hidden samples each of the two is better on, by its mean over seeds; empty where that is not known."""
    losses = []
    for result in (found.a, found.b):
        kept = [fit.losses for fit in finals(store, result.row()) if len(fit.losses)]
        if not kept:
            return {}
        losses.append(np.mean(np.array(kept, dtype=np.float64), axis=0))
    if losses[0].shape != losses[1].shape:
        return {}
    gap = (losses[0] - losses[1]) * (1 if found.a.higher_is_better else -1)
    return {
        f"{found.a.submission} is better": int((gap > 0).sum()),
        "equally good": int((gap == 0).sum()),
        f"{found.b.submission} is better": int((gap < 0).sum()),
    }


def overall(found: Overall, record: Mapping[str, Any]) -> dict[str, Any]:
    """A critical-difference diagram and performance profiles."""
    rows = record["rows"][:ENTRIES]
    half = record["critical_difference"] / 2
    names = [row["submission"] for row in rows]
    profiles = found.profile(WITHIN)
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
            for within, share in zip(WITHIN, profiles[found.entries.index(name)])
        ],
    }

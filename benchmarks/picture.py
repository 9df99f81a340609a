"""Draw docs/pictures/speed.svg: the search times of docs/benchmarks.md as bars. ``python benchmarks/picture.py``."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
MINE, PEER = "#2563eb", "#9aa3af"
NAMES = {
    "optuna-1": "Optuna",
    "optuna-2": "Optuna, 2 jobs",
    "ray": "Ray Tune",
    "keras-tuner": "KerasTuner",
    "bakeoff": "Bakeoff",
    "bakeoff-halving": "Bakeoff, halving",
    "optuna": "scikit-learn, Optuna",
    "optuna, accelerated": "accelerated",
}

Bars = Mapping[str, float]
"""Seconds of each side, by its name."""
Table = Sequence[Sequence[str]]


def tuners(found: re.Match[str], rows: Table) -> tuple[str, Bars]:
    return f"{found[1]} {found[2].upper()}s on {found[3]}", {row[0]: number(row[1]) for row in rows}


def time_to_best(found: re.Match[str], rows: Table) -> tuple[str, Bars]:
    reached = [float("inf") if row[4] == "not reached" else number(row[4]) for row in rows]
    bars = {"optuna-1": statistics.median(number(row[2]) for row in rows), "bakeoff": statistics.median(reached)}
    return f"best of {found[1]} met, {found[2]}", bars


def classic(found: re.Match[str], rows: Table) -> tuple[str, Bars]:
    models = {"svm": "SVMs", "random-forest": "forests"}[rows[0][0]]
    return f"{found[1]} {models} on fashion-10k", {row[1]: number(row[2]) for row in rows}


KNOWN: Sequence[tuple[str, Callable[[re.Match[str], Table], tuple[str, Bars]]]] = (
    (r"## (\d+) configurations of `(\w+)` on ([\w-]+)\n", tuners),
    (r"## Time to the best of (\d+) plain trials on ([\w-]+)\n", time_to_best),
    (r"## SVM and forest, (\d+) configurations", classic),
)


def number(cell: str) -> float:
    return float(cell.split(maxsplit=1)[0])


def panels(text: str) -> list[tuple[str, Bars]]:
    """Title and bars of each comparison in seconds, in their order."""
    found = []
    for piece in re.split(r"\n(?=## )", text):
        lines = [line for line in piece.splitlines() if line.startswith("| ")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
        found += [make(match, rows) for pattern, make in KNOWN if rows and (match := re.match(pattern, piece))]
    return found


def draw(shown: Sequence[tuple[str, Bars]], place: Path) -> None:
    columns = 3
    most = [max(len(bars) for _, bars in shown[at : at + columns]) for at in range(0, len(shown), columns)]
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "speed", "font.family": "sans-serif", "font.size": 9}
    figure = Figure(figsize=(11, 0.24 * sum(count + 1.6 for count in most)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(most), columns, height_ratios=most, squeeze=False).flatten()
    for order, (axes, (title, bars)) in enumerate(zip(grid, shown, strict=False)):
        names = [NAMES[side] for side in bars]
        colors = [MINE if name.startswith("Bakeoff") else PEER for name in names]
        lengths = [seconds if math.isfinite(seconds) else 0.0 for seconds in bars.values()]
        drawn = axes.barh(names, lengths, color=colors, height=0.72)
        said = [f"{seconds:.3g} s" if math.isfinite(seconds) else "not reached" for seconds in bars.values()]
        axes.bar_label(drawn, said, padding=3)
        axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axes.set_xlim(0, 1.25 * max(lengths))
        axes.set_ylim(most[order // columns] - 0.5, -0.5)  # the same thickness for all bars of a row
        axes.xaxis.set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.savefig(place, metadata={"Date": None})


def main() -> None:
    draw(panels((DOCS / "benchmarks.md").read_text()), DOCS / "pictures" / "speed.svg")


if __name__ == "__main__":
    main()

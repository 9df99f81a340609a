"""Templates, value formats and score plots shared by all pages."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from leaderboard import formatting
from leaderboard.tables import render
from leaderboard.tables.render import Row

SITE_FOLDER = Path(__file__).parent
ASSETS = ("site.css", "site.js", "plots.js", "d3.min.js", "plot.umd.min.js")


def make_environment() -> jinja2.Environment:
    """Make the Jinja environment with the templates and filters of the pages."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader([SITE_FOLDER / "templates", SITE_FOLDER / "assets"]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters |= {
        "number": formatting.format_number,
        "seconds": formatting.format_seconds,
        "count": formatting.format_count,
        "value": format_value,
        "data": script_json,
    }
    return templates


def assets_digest() -> str:
    """Return a hash of all templates and assets; it changes with the look of the pages."""
    digest = hashlib.sha256()
    for path in sorted([*(SITE_FOLDER / "templates").iterdir(), *(SITE_FOLDER / "assets").iterdir()]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def script_json(value: Any) -> Markup:
    """Return a value as JSON text that is safe inside a script element of a page."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704, the escaped text cannot end the element


def format_value(value: Any) -> str:
    """Format the value of a hyperparameter; a float gets four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def slug(name: str) -> str:
    """Return ``name`` with only characters that are safe in a URL.

    An unsafe name, or one with more than 60 characters, is changed and gets a hash. Other names stay as they are.
    """
    plain = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:60]
    return (
        plain
        if plain and plain == name
        else f"{plain}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
    )


def rows_with_whiskers(rows: Sequence[Row]) -> list[tuple[Row, str, dict[str, float | bool] | None]]:
    """Return triples of a row, its rank label, and the positions of its score and interval as from `whiskers`."""
    return list(zip(rows, render.rank_labels(rows), whiskers(rows), strict=True))


def whiskers(rows: Sequence[Row]) -> list[dict[str, float | bool] | None]:
    """Return for each row the positions of its score and interval in per cent of the plot's width; None for a row without a rank.

    The keys are ``low``, ``score``, ``high`` and ``beyond``. Entries far behind the better 60 % are ``beyond`` the end of the scale
    (True), so that one very bad entry does not compress all others. They get an arrow at the edge.
    """
    ranked = [row for row in rows if row["rank"] is not None]
    if not ranked:
        return [None] * len(rows)
    best, middle = ranked[0]["score"], ranked[math.ceil(0.6 * (len(ranked) - 1))]["score"]
    widest = max(row["ci_high"] - row["ci_low"] for row in ranked[: max(1, len(ranked) // 2)])
    reach = max(3 * abs(middle - best), widest, 1e-12)
    inside = [row for row in ranked if abs(row["score"] - best) <= reach]
    low, high = min(row["ci_low"] for row in inside), max(row["ci_high"] for row in inside)
    width = (high - low) or 1.0

    def position(value: float) -> float:
        return round(float(min(max(100 * (value - low) / width, 0.0), 100.0)), 2)

    return [
        {
            "low": position(row["ci_low"]),
            "score": position(row["score"]),
            "high": position(row["ci_high"]),
            "beyond": not low <= row["score"] <= high,
        }
        if row["rank"] is not None
        else None
        for row in rows
    ]

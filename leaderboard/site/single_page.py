"""Self-contained page to send by mail: boards with intervals, and the details of each entry."""

from __future__ import annotations

import base64
from pathlib import Path

from leaderboard.site.templating import make_environment, rows_with_whiskers
from leaderboard.tables import render
from leaderboard.tables.render import Boards


def html(boards: Boards, artefacts: Path) -> str:
    """Return boards as one HTML page. Pictures come from ``artefacts``, which has a folder for each result, named after its id."""
    contexts = [
        {
            "task": task,
            "heading": render.heading(task, rows),
            "notes": render.notes(rows),
            "rows": rows_with_whiskers(rows),
            "pictures": {row["result_id"]: pictures(artefacts / row["result_id"]) for row in rows},
        }
        for task, rows in boards.items()
    ]
    return make_environment().get_template("single.html.j2").render(boards=contexts)


def pictures(folder: Path) -> list[tuple[str, str]]:
    """Return pairs (caption, data URL) of an entry's pictures in ``folder``: its predictions, then samples from its training."""
    captioned = []
    for path in sorted(folder.glob("*.png")):
        address = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        captioned.append((path.stem.replace("-", " "), address))
    return captioned

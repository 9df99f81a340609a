"""One page that needs nothing but itself, to send by mail: boards with their intervals, and what is inside each entry."""

from __future__ import annotations

import base64
from pathlib import Path

from leaderboard.site.templating import make_environment, rows_with_whiskers
from leaderboard.tables import render
from leaderboard.tables.render import Boards


def html(boards: Boards, artefacts: Path) -> str:
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
    """(caption, data address) of an entry's pictures: its predictions, then what it drew while it trained."""
    captioned = []
    for path in sorted(folder.glob("*.png")):
        address = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        captioned.append((path.stem.replace("-", " "), address))
    return captioned

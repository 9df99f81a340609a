"""Boards for Python and notebooks: rows as dicts, a pandas frame and an HTML table."""

from __future__ import annotations

from contextlib import closing
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.statistics.compare import Comparison, compare
from leaderboard.statistics.ranking import rank
from leaderboard.store.store import Store
from leaderboard.tables.render import HEADINGS, cells, heading, notes

if TYPE_CHECKING:
    import pandas as pd


class Rows(list[dict[str, Any]]):
    """Rows (dicts) of one or several boards, task by task and best first; keys as in `leaderboard --format json`."""

    @property
    def frame(self) -> pd.DataFrame:
        """Rows as a pandas DataFrame, one column per key."""
        import pandas as pd

        return pd.DataFrame(list(self))

    @property
    def boards(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of each board, by the name of its task."""
        boards: dict[str, list[dict[str, Any]]] = {}
        for row in self:
            boards.setdefault(row["task"], []).append(row)
        return boards

    def _repr_html_(self) -> str:
        return "".join(map(html_table, self.boards.values())) or "<p>no results</p>"


def html_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of one board as an HTML table that inherits the colours of its page."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in HEADINGS)
    body = []
    for line in cells(rows):
        failed = len(line) < len(HEADINGS)
        span = f' colspan="{len(HEADINGS) - 2}"' if failed else ""
        sides = ["left" if column == 1 or failed else "right" for column in range(len(line))]
        data_cells = [
            f'<td style="text-align:{side}"{span if column == 2 else ""}>{escape(text)}</td>'
            for column, (side, text) in enumerate(zip(sides, line))
        ]
        body.append(f"<tr>{''.join(data_cells)}</tr>")
    under = "".join(f"<p><small>{escape(note)}</small></p>" for note in notes(rows))
    return f"<table><caption>{escape(heading(rows[0]['task'], rows))}</caption><tr>{head}</tr>{''.join(body)}</table>{under}"


def load(home: str | Path = ".bakeoff", task: str | None = None, *, store: str | None = None) -> Rows:
    """Return the boards in a home folder or in the PostgreSQL store with URL ``store``, of one task or of all.

    Raises StoreError if the store does not exist or cannot be read.
    """
    with closing(Store(Path(home), url=store, create=False)) as board_store:
        names = board_store.tasks() if task is None else [task]
        return Rows(row for name in names for row in rank(board_store.standing(name)))


def difference(task: str, a: str, b: str, home: str | Path = ".bakeoff", *, store: str | None = None) -> Comparison:
    """Return the comparison of the submissions ``a`` and ``b`` of a task, as `bakeoff compare` shows it.

    Results come from the home folder, or from the PostgreSQL store with URL ``store``. Raises StoreError if the store cannot be
    read or has no complete result of one submission.
    """
    with closing(Store(Path(home), url=store, create=False)) as board_store:
        return compare(board_store.standing(task), task, a, b)

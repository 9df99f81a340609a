"""Boards as a folder of static pages: home, one page per task, per entry and per comparison of two entries.

Addresses are permanent: the page of an entry is named after its result id, those of tasks and comparisons after their names. An
unchanged page is not written again, and the page of an entry, which never changes, is not rendered again. So a build after one new
entry costs only that entry and its task.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from leaderboard.site import plots
from leaderboard.site.templating import ASSETS, SITE_FOLDER, assets_digest, make_environment, rows_with_whiskers, slug
from leaderboard.statistics.compare import Board, Comparison
from leaderboard.statistics.overall import by_kind
from leaderboard.statistics.ranking import ReplicatedResult, rank
from leaderboard.store.store import Store
from leaderboard.tables import render

PAIRED_ENTRIES, LEADER_OPPONENTS = 6, 40
"""Number of top entries that are compared pairwise, and largest number of other entries that are compared with the first.

`bakeoff compare` compares any two.
"""
HOME_ENTRIES = 5
"""Largest number of entries of each task on the home page."""


class Site:
    """Static pages of the results in a store, in folder ``out``. Without ``sources`` they show no code and no printed output."""

    def __init__(self, store: Store, out: Path, *, sources: bool = True) -> None:
        self.store, self.out, self.sources = store, out, sources
        self.environment = make_environment()
        self.boards: dict[str, list[ReplicatedResult]] = {}
        self.ranked: dict[str, list[dict[str, Any]]] = {}
        self.build_number = 0
        self.digest = assets_digest() + ("" if sources else " without sources")
        digest_file = out / "assets" / "look"
        self.is_new = not digest_file.exists() or digest_file.read_text() != self.digest

    def build(
        self, changed: Collection[str] | None = None, asked: Collection[str] = (), status: str | None = None
    ) -> None:
        """Write missing and changed pages, of the tasks in ``changed`` or of all.

        Results with ids in ``asked`` count as the newest of their submissions. ``status`` is the status of a run for open pages,
        None for no run. Raises OSError if a page cannot be written.
        """
        tasks = self.store.tasks()
        for task in tasks:
            if changed is None or task in changed or task not in self.boards:
                self.boards[task] = list[ReplicatedResult](self.store.standing(task, asked))
                self.ranked[task] = rank(self.boards[task], asked)
        if self.is_new:
            for name in ASSETS:
                self.write(f"assets/{name}", (SITE_FOLDER / "assets" / name).read_bytes())
        for task in tasks:
            if changed is None or task in changed or self.is_new:
                self.write_task(task, self.ranked[task])
        self.write_home(tasks)
        if self.is_new:
            self.write("assets/look", self.digest.encode())
            self.is_new = False
        self.build_number += 1
        self.write_status(status)

    def write_status(self, status: str | None) -> None:
        """Write the status of a run for open pages to show, None for no run. Raises OSError.

        Pages poll the status every few seconds and reload after a build.
        """
        content = {"build": self.build_number, "says": status, "at": round(time.time()) if status else None}
        self.write("assets/now.js", f"bakeoffNow({json.dumps(content)});\n".encode(errors="backslashreplace"))

    # Pages ----------------------------------------------------------------------------------------------------------------------

    def write_home(self, tasks: Sequence[str]) -> None:
        """Write the home page: the best entries of the tasks, and the overall rankings."""
        boards = []
        for task in tasks:
            rows = self.ranked[task]
            boards.append(
                {
                    "task": task,
                    "place": task_page(task),
                    "kind": rows[0]["kind"],
                    "heading": heading(task, rows),
                    "rows": rows_with_whiskers(rows)[:HOME_ENTRIES],
                    "more": max(len(rows) - HOME_ENTRIES, 0),
                }
            )
        overall = by_kind({task: self.boards[task] for task in tasks})
        records = {kind: ranking.record() for kind, ranking in overall.items()}
        plot_data = {kind: plots.overall(ranking, records[kind]) for kind, ranking in overall.items()}
        self.write_page("index.html", "home.html.j2", boards=boards, overall=records, plots=plot_data)

    def write_task(self, task: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the page of a task, given the rows of its board, and the pages of its entries and comparisons."""
        for row in rows:
            self.write_entry(row)
        pairs = [self.write_comparison(comparison) for comparison in self.comparisons(task)]
        picture, about = self.copy_data_preview(task, str(rows[0]["data_sha256"]))
        self.write_page(
            task_page(task),
            "task.html.j2",
            task=task,
            heading=heading(task, rows),
            rows=rows_with_whiskers(rows),
            notes=render.notes(rows),
            pairs=pairs,
            picture=picture,
            about=about,
            plots=plots.board(rows),
        )

    def copy_data_preview(self, task: str, data_sha256: str) -> tuple[str | None, str]:
        """Copy the picture of a task's data to the pages. Return its address (or None) and a sentence about the data (or "").

        Picture and sentence exist only if a run has stored them.
        """
        folder = self.store.artefacts(f"data-{data_sha256[:12]}")
        picture, about = folder / "picture.png", folder / "about.txt"
        address = f"tasks/{slug(task)}.png"
        if picture.exists():
            self.write(address, picture.read_bytes())
        return address if picture.exists() else None, about.read_text() if about.exists() else ""

    def write_entry(self, row: Mapping[str, Any]) -> None:
        """Write the page of an entry, given its row on the board, unless it exists in the current look.

        Nothing on the page depends on other entries.
        """
        name = str(row["result_id"])
        address = f"entries/{name}.html"
        if not self.is_new and (self.out / address).exists():
            return
        folder = self.store.artefacts(name)
        pictures = []
        for path in sorted(folder.glob("*.png")):
            self.write(f"entries/{name}/{path.name}", path.read_bytes())
            pictures.append({"place": f"entries/{name}/{path.name}", "name": path.stem})
        sources = sorted((folder / "source").glob("*")) if self.sources else []
        log = folder / "log.txt"
        self.write_page(
            address,
            "entry.html.j2",
            row=row,
            task_page=task_page(str(row["task"])),
            pictures=pictures,
            sources=[(path.name, path.read_text(errors="replace")) for path in sources],
            log=log.read_text(errors="replace") if self.sources and log.exists() else "",
            plots=plots.entry(self.store, row),
        )

    def comparisons(self, task: str) -> Iterator[Comparison]:
        """Yield the comparisons of a task's entries that get a page: the top entries pairwise, and others with the first."""
        board = Board(task, self.boards[task])
        names = board.names[: LEADER_OPPONENTS + 1]
        for index, first in enumerate(names[:PAIRED_ENTRIES]):
            for other in names[index + 1 : PAIRED_ENTRIES if index else len(names)]:
                yield board.compare(first, other)

    def write_comparison(self, comparison: Comparison) -> dict[str, str]:
        """Write the page of a comparison; return the link to it: its address, both names and the sentence of the comparison."""
        first, second = comparison.a, comparison.b
        names = sorted(
            (slug(first.submission), slug(second.submission))
        )  # sorted: the address does not depend on the order of scores
        address = f"compare/{slug(first.task)}/{'--'.join(names)}.html"
        self.write_page(
            address,
            "compare.html.j2",
            comparison=comparison,
            task_page=task_page(first.task),
            plots=plots.pair(self.store, comparison),
        )
        return {"place": address, "a": first.submission, "b": second.submission, "sentence": comparison.sentence}

    # Files ----------------------------------------------------------------------------------------------------------------------

    def write_page(self, address: str, template: str, **context: Any) -> None:
        """Render a template with ``context`` and write the page to an address relative to the folder of pages."""
        root = "../" * address.count("/")
        self.write(
            address,
            self.environment.get_template(template).render(root=root, **context).encode(errors="backslashreplace"),
        )

    def write(self, address: str, content: bytes) -> None:
        """Write a file in the folder of pages atomically, so that no reader sees half of it. Skip a file with unchanged content."""
        path = self.out / address
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # unique: another command may write the same page
        unfinished.write_bytes(content)
        unfinished.replace(path)


def heading(task: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the heading of a board without the name of the task: ``accuracy, higher is better``, then reference scores."""
    return render.heading(task, rows).removeprefix(f"{task}: ")


def task_page(task: str) -> str:
    """Return the address of a task's page, relative to the folder of pages."""
    return f"tasks/{slug(task)}.html"

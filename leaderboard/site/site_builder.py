"""The boards as a folder of pages: home, a page a task, a page an entry, a page for two that are compared.

Addresses stay: an entry's page is named after its result, a task's and a comparison's after what they show. Pages that would come
out the same are not written again, and those of entries, which never change, not even made: a build after one more entry costs
what that entry and its task cost.
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
"""So many entries at a board's head are compared pairwise, and so many with the first one; `bakeoff compare` takes any two."""
HOME_ENTRIES = 5
"""Entries that the home page shows of each task."""


class Site:
    """Pages of what a store holds, in the folder ``out``; without ``sources`` they show nobody's code, nor what it printed."""

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
        """Write what is not there yet, of the tasks that have ``changed`` or of all. ``asked`` is as in `ranking.standing`.

        Raises OSError where it cannot be written.
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
        """What open pages say of a run, None for none. They look every few seconds, and load themselves anew after a build."""
        content = {"build": self.build_number, "says": status, "at": round(time.time()) if status else None}
        self.write("assets/now.js", f"bakeoffNow({json.dumps(content)});\n".encode())

    # Pages ----------------------------------------------------------------------------------------------------------------------

    def write_home(self, tasks: Sequence[str]) -> None:
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
        records = {kind: found.record() for kind, found in overall.items()}
        plot_data = {kind: plots.overall(found, records[kind]) for kind, found in overall.items()}
        self.write_page("index.html", "home.html.j2", boards=boards, overall=records, plots=plot_data)

    def write_task(self, task: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self.write_entry(row)
        pairs = [self.write_comparison(found) for found in self.comparisons(task)]
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
        """The picture of a task's data and a sentence about them, where a run has left them."""
        folder = self.store.artefacts(f"data-{data_sha256[:12]}")
        picture, about = folder / "picture.png", folder / "about.txt"
        address = f"tasks/{slug(task)}.png"
        if picture.exists():
            self.write(address, picture.read_bytes())
        return address if picture.exists() else None, about.read_text() if about.exists() else ""

    def write_entry(self, row: Mapping[str, Any]) -> None:
        """An entry's page, with nothing on it that another entry could change."""
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
        board = Board(task, self.boards[task])
        names = board.names[: LEADER_OPPONENTS + 1]
        for place, first in enumerate(names[:PAIRED_ENTRIES]):
            for other in names[place + 1 : PAIRED_ENTRIES if place else len(names)]:
                yield board.compare(first, other)

    def write_comparison(self, comparison: Comparison) -> dict[str, str]:
        first, second = comparison.a, comparison.b
        names = sorted((slug(first.submission), slug(second.submission)))  # whoever is ahead, the address stays
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
        root = "../" * address.count("/")
        self.write(address, self.environment.get_template(template).render(root=root, **context).encode())

    def write(self, address: str, content: bytes) -> None:
        """A file as a whole, so that nobody who looks meanwhile sees half of it; not at all where it is there already."""
        path = self.out / address
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # another command may be at it too
        unfinished.write_bytes(content)
        unfinished.replace(path)


def heading(task: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return render.heading(task, rows).removeprefix(f"{task}: ")


def task_page(task: str) -> str:
    return f"tasks/{slug(task)}.html"

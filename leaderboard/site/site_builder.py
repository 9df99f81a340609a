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
from leaderboard.site.templating import ASSETS, HERE, environment, shown, slug, stamp
from leaderboard.statistics.compare import Board, Comparison
from leaderboard.statistics.overall import by_kind
from leaderboard.statistics.ranking import Replicated, rank
from leaderboard.store.store import Store
from leaderboard.tables import render

FIRST, AGAINST = 6, 40
"""So many entries at a board's head are compared pairwise, and so many with the first one; `bakeoff compare` takes any two."""
LISTED = 5
"""Entries that the home page shows of each task."""


class Site:
    """Pages of what a store holds, in the folder ``out``; without ``sources`` they show nobody's code, nor what it printed."""

    def __init__(self, store: Store, out: Path, *, sources: bool = True) -> None:
        self.store, self.out, self.sources = store, out, sources
        self.environment = environment()
        self.boards: dict[str, list[Replicated]] = {}
        self.ranked: dict[str, list[dict[str, Any]]] = {}
        self.build_number = 0
        self.look = stamp() + ("" if sources else " without sources")
        kept = out / "assets" / "look"
        self.is_new = not kept.exists() or kept.read_text() != self.look

    def build(
        self, changed: Collection[str] | None = None, asked: Collection[str] = (), says: str | None = None
    ) -> None:
        """Write what is not there yet, of the tasks that have ``changed`` or of all. ``asked`` is as in `ranking.standing`.

        Raises OSError where it cannot be written.
        """
        tasks = self.store.tasks()
        for task in tasks:
            if changed is None or task in changed or task not in self.boards:
                self.boards[task] = list[Replicated](self.store.standing(task, asked))
                self.ranked[task] = rank(self.boards[task], asked)
        if self.is_new:
            for name in ASSETS:
                self.write(f"assets/{name}", (HERE / "assets" / name).read_bytes())
        for task in tasks:
            if changed is None or task in changed or self.is_new:
                self.task(task, self.ranked[task])
        self.home(tasks)
        if self.is_new:
            self.write("assets/look", self.look.encode())
            self.is_new = False
        self.build_number += 1
        self.tell(says)

    def tell(self, says: str | None) -> None:
        """What open pages say of a run, None for none. They look every few seconds, and load themselves anew after a build."""
        told = {"build": self.build_number, "says": says, "at": round(time.time()) if says else None}
        self.write("assets/now.js", f"bakeoffNow({json.dumps(told)});\n".encode())

    # Pages ----------------------------------------------------------------------------------------------------------------------

    def home(self, tasks: Sequence[str]) -> None:
        boards = []
        for task in tasks:
            rows = self.ranked[task]
            boards.append(
                {
                    "task": task,
                    "place": task_page(task),
                    "kind": rows[0]["kind"],
                    "heading": heading(task, rows),
                    "rows": shown(rows)[:LISTED],
                    "more": max(len(rows) - LISTED, 0),
                }
            )
        overall = by_kind({task: self.boards[task] for task in tasks})
        records = {kind: found.record() for kind, found in overall.items()}
        drawn = {kind: plots.overall(found, records[kind]) for kind, found in overall.items()}
        self.page("index.html", "home.html.j2", boards=boards, overall=records, plots=drawn)

    def task(self, task: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self.entry(row)
        pairs = [self.comparison(found) for found in self.pairs(task)]
        picture, about = self.about(task, str(rows[0]["data_sha256"]))
        self.page(
            task_page(task),
            "task.html.j2",
            task=task,
            heading=heading(task, rows),
            rows=shown(rows),
            notes=render.notes(rows),
            pairs=pairs,
            picture=picture,
            about=about,
            plots=plots.board(rows),
        )

    def about(self, task: str, data_sha256: str) -> tuple[str | None, str]:
        """The picture of a task's data and a sentence about them, where a run has left them."""
        kept = self.store.artefacts(f"data-{data_sha256[:12]}")
        picture, about = kept / "picture.png", kept / "about.txt"
        place = f"tasks/{slug(task)}.png"
        if picture.exists():
            self.write(place, picture.read_bytes())
        return place if picture.exists() else None, about.read_text() if about.exists() else ""

    def entry(self, row: Mapping[str, Any]) -> None:
        """An entry's page, with nothing on it that another entry could change."""
        name = str(row["result_id"])
        place = f"entries/{name}.html"
        if not self.is_new and (self.out / place).exists():
            return
        kept = self.store.artefacts(name)
        pictures = []
        for path in sorted(kept.glob("*.png")):
            self.write(f"entries/{name}/{path.name}", path.read_bytes())
            pictures.append({"place": f"entries/{name}/{path.name}", "name": path.stem})
        sources = sorted((kept / "source").glob("*")) if self.sources else []
        log = kept / "log.txt"
        self.page(
            place,
            "entry.html.j2",
            row=row,
            task_page=task_page(str(row["task"])),
            pictures=pictures,
            sources=[(path.name, path.read_text(errors="replace")) for path in sources],
            log=log.read_text(errors="replace") if self.sources and log.exists() else "",
            plots=plots.entry(self.store, row),
        )

    def pairs(self, task: str) -> Iterator[Comparison]:
        board = Board(task, self.boards[task])
        names = board.names[: AGAINST + 1]
        for place, first in enumerate(names[:FIRST]):
            for other in names[place + 1 : FIRST if place else len(names)]:
                yield board.compare(first, other)

    def comparison(self, found: Comparison) -> dict[str, str]:
        first, second = found.a, found.b
        names = sorted((slug(first.submission), slug(second.submission)))  # whoever is ahead, the address stays
        place = f"compare/{slug(first.task)}/{'--'.join(names)}.html"
        self.page(
            place,
            "compare.html.j2",
            found=found,
            task_page=task_page(first.task),
            plots=plots.pair(self.store, found),
        )
        return {"place": place, "a": first.submission, "b": second.submission, "sentence": found.sentence}

    # Files ----------------------------------------------------------------------------------------------------------------------

    def page(self, place: str, template: str, **context: Any) -> None:
        root = "../" * place.count("/")
        self.write(place, self.environment.get_template(template).render(root=root, **context).encode())

    def write(self, place: str, content: bytes) -> None:
        """A file as a whole, so that nobody who looks meanwhile sees half of it; not at all where it is there already."""
        path = self.out / place
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

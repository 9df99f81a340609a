"""Concurrent and killed writers: every acknowledged row is there, once, on both databases."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from servers import server
from writer import fit

from leaderboard import Store

WRITER = REPOSITORY / "tests" / "writer.py"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else server().database()


def writer(home: Path, url: str | None, study: str, first: int, last: int, said: Path) -> subprocess.Popen[bytes]:
    with said.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, WRITER, home, url or "-", study, str(first), str(last)],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=out,
        )


def acknowledged(said: Path) -> set[int]:
    return {int(line) for line in said.read_text().splitlines(keepends=True) if line.endswith("\n")}


def check(home: Path, url: str | None, said: dict[str, set[int]]) -> None:
    """Check that every acknowledged row is there with its value, and that no row is there twice."""
    store = Store(home, url=url, create=False)
    rows = collections.Counter(store.database.read("SELECT study, number, value FROM fits"))
    store.close()
    assert set(rows.values()) <= {1}
    assert all(
        (study, number, fit(study, number).value) in rows for study, numbers in said.items() for number in numbers
    )
    assert all(("shared", number, number / 7) in rows for numbers in said.values() for number in numbers)
    assert all(value == number / 7 for _, number, value in rows)


@pytest.mark.parametrize("rows", [50, pytest.param(1000, marks=pytest.mark.long)], ids=["8x50 rows", "8x1000 rows"])
def test_eight_writers_at_once(rows: int, url: str | None, tmp_path: Path) -> None:
    """Each writer records its own rows and the shared rows, one transaction a row."""
    started = time.monotonic()
    names = [f"w{number}" for number in range(8)]
    processes = [writer(tmp_path / "h", url, name, 0, rows, tmp_path / name) for name in names]
    assert [process.wait(600) for process in processes] == [0] * 8
    print(f"8 writers, 2 x {rows} rows each: {time.monotonic() - started:.1f} s")
    check(tmp_path / "h", url, {name: set(range(rows)) for name in names})
    store = Store(tmp_path / "h", url=url)
    assert store.database.read("SELECT count(*) FROM fits") == [(9 * rows,)]
    store.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.long)])
def test_killed_writers_lose_nothing(kills: int, url: str | None, tmp_path: Path) -> None:
    """Kill three writers in turn, again and again; each restarts a few rows before its last row."""
    chance = random.Random(kills)
    home, names = tmp_path / "h", ["a", "b", "c"]
    killed = 0
    while killed < kills:
        running = {}
        before = {name: (tmp_path / name).stat().st_size if killed else 0 for name in names}
        for name in names:
            first = max(max(acknowledged(tmp_path / name), default=0) - 5, 0) if killed else 0
            running[name] = writer(home, url, name, first, 10**9, tmp_path / name)
        while any((tmp_path / name).stat().st_size <= before[name] for name in names):
            time.sleep(0.005)  # until all have begun to write
        for name in chance.sample(names, len(names)):
            time.sleep(chance.uniform(0, 0.1))
            running[name].kill()
            assert running[name].wait() == -signal.SIGKILL
            killed += 1
    said = {name: acknowledged(tmp_path / name) for name in names}
    assert all(numbers == set(range(len(numbers))) for numbers in said.values())
    print(f"{killed} kills of writers, {sum(map(len, said.values()))} rows acknowledged")
    check(home, url, said)

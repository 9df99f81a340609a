"""Migrations: older stores are updated in one transaction, once, and stay intact after crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from array import array
from pathlib import Path

import pytest
from conftest import REPOSITORY, Command
from servers import server

from leaderboard import Result, Store, StoreError
from leaderboard.store import migrations, schema

VERSION_1 = """
CREATE TABLE IF NOT EXISTS results (
    result_id TEXT PRIMARY KEY,
    entry TEXT NOT NULL,
    task TEXT NOT NULL,
    task_version INTEGER NOT NULL,
    submission TEXT NOT NULL,
    status TEXT NOT NULL,
    score REAL,
    row TEXT NOT NULL,
    replicates BLOB NOT NULL,
    created_at TEXT NOT NULL,
    CHECK (status <> 'complete' OR (score IS NOT NULL AND score BETWEEN -1e300 AND 1e300))
);
CREATE INDEX IF NOT EXISTS results_by_task ON results (task, task_version);
CREATE TABLE IF NOT EXISTS fits (
    study TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('search', 'final')),
    number INTEGER NOT NULL,
    params TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    value REAL,
    facts TEXT NOT NULL,
    replicates BLOB NOT NULL,
    losses BLOB NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (study, phase, number, params, attempt),
    CHECK (status <> 'complete' OR (value IS NOT NULL AND value BETWEEN -1e300 AND 1e300))
);
"""
"""Tables of schema version 1, verbatim."""


def result(number: int) -> Result:
    failed = number % 3 == 2
    return Result(
        f"id{9 - number}", "e", "digits", 1, "k", f"s{number}", "accuracy", True, "failed" if failed else "complete",
        score=None if failed else number / 7, created_at="2025-01-01",
    )  # fmt: skip


def old(home: Path, rows: int = 40) -> Path:
    """Make a store of version 1 with rows in both tables, some of them only in its log, as after a crash."""
    home.mkdir(exist_ok=True)
    connection = sqlite3.connect(home / "bakeoff.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN; {VERSION_1} PRAGMA user_version = 1; COMMIT;")
    blob = array("f", [0.5, 0.25]).tobytes()
    for number in range(rows):
        row = result(number)
        values = (row.result_id + str(number), row.entry, row.task, 1, row.submission, row.status, row.score)
        connection.execute(
            "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, json.dumps(row.row()), blob, row.created_at),
        )
        connection.execute(
            "INSERT INTO fits VALUES ('s', 'search', ?, '{}', 0, 'complete', ?, '{}', ?, ?, '2025')",
            (number, number / 3, blob, blob),
        )
    kept = home.with_name(f"{home.name}-copy")
    shutil.copytree(home, kept)  # before SQLite moves the log into the file
    connection.close()
    shutil.rmtree(home)
    kept.rename(home)
    return home


def raw(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """Read all rows of both tables from the file, in insertion order, and the version."""
    connection = sqlite3.connect(home / "bakeoff.sqlite")
    found = {
        table: connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in ("results", "fits")
    }
    found["version"] = connection.execute("PRAGMA user_version").fetchall()
    found["schema"] = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    found["check"] = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return found


def test_an_old_store_is_brought_up_to_date(tmp_path: Path, bakeoff: Command) -> None:
    before = raw(old(tmp_path / "h"))
    assert "s7" in bakeoff("leaderboard", "--home", "h").stdout
    after = raw(tmp_path / "h")
    Store(tmp_path / "fresh").close()
    assert (after["results"], after["fits"]) == (before["results"], before["fits"])
    assert after["version"] == [(schema.VERSION,)] and after["check"] == [("ok",)]
    assert after["schema"] == raw(tmp_path / "fresh")["schema"], "as if it had been made today"
    store = Store(tmp_path / "h")
    assert [row for row, _ in store.results()] == [result(number) for number in range(40)]
    with pytest.raises(StoreError, match="append-only"):
        store.database.write("DELETE FROM fits")


def test_a_step_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """The store has an unexpected table: one of the user, or a partial copy."""
    home = old(tmp_path / "h")
    connection = sqlite3.connect(home / "bakeoff.sqlite")
    connection.execute("ALTER TABLE fits DROP COLUMN losses")
    connection.close()
    before = raw(home)
    with pytest.raises(
        StoreError,
        match=rf"could not be brought to schema {schema.VERSION} \(no such column: losses\); it is as it was",
    ):
        Store(home)
    assert raw(home) == before


OPEN = """
import os, pathlib, sys
from leaderboard import Store
from leaderboard.store import migrations
hits = int(sys.argv[2])
def trace(statement):
    global hits
    hits -= 1
    if hits == 0:
        os.kill(os.getpid(), 9)
upgrade = migrations.upgrade_sqlite
def traced(connect, name):
    def connected():
        connection = connect()
        connection.set_trace_callback(trace)
        return connection
    upgrade(connected, name)
migrations.upgrade_sqlite = traced
Store(pathlib.Path(sys.argv[1])).close()
"""


def opening(home: Path, hits: int = 0) -> subprocess.Popen[bytes]:
    """Start a process that opens a store and is killed before the given statement of the migration."""
    command = [sys.executable, "-c", OPEN, str(home), str(hits)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})


def killed_everywhere(tmp_path: Path, hits: list[int]) -> int:
    """Kill the migration before each of these statements; return the number of kills."""
    template = old(tmp_path / "old")
    before = raw(template)
    template = old(tmp_path / "again")
    killed = 0
    for hit in hits:
        home = tmp_path / f"h{hit}"
        shutil.copytree(template, home)
        code = opening(home, hit).wait(60)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        found = raw(home)
        assert (found["results"], found["fits"]) == (before["results"], before["fits"]), f"statement {hit}"
        assert found["version"] in ([(1,)], [(schema.VERSION,)]) and found["check"] == [("ok",)]
        assert (found["schema"] == before["schema"]) == (found["version"] == [(1,)]), "one or the other, whole"
        assert found["version"] == [(1 if code else schema.VERSION,)]
        store = Store(home)
        assert len(store.results()) == 40 and raw(home)["version"] == [(schema.VERSION,)]
        store.close()
    return killed


def test_a_killed_migration_has_no_effect(tmp_path: Path) -> None:
    assert killed_everywhere(tmp_path, [1, 12, 20, 26]) == 4


@pytest.mark.long
def test_a_migration_killed_at_any_statement_has_no_effect(tmp_path: Path) -> None:
    assert 20 < killed_everywhere(tmp_path, list(range(1, 60))) < 59, "every statement, and past the last"


def test_two_open_an_old_store_at_once(tmp_path: Path) -> None:
    home = old(tmp_path / "h", rows=400)
    before = raw(old(tmp_path / "same", rows=400))
    running = [opening(home) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    after = raw(home)
    assert (after["results"], after["fits"]) == (before["results"], before["fits"])


STEP = f"""
from alembic import op
revision = "{schema.VERSION + 1:04d}"
down_revision = "{schema.VERSION:04d}"
def upgrade():
    op.execute("CREATE TABLE notes (note TEXT)")
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_next_version_has_a_way(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A future version needs only a step file and a number, on both databases."""
    url = server().database() if kind == "postgres" else None
    store = Store(tmp_path / "h", url=url)
    store.add(result(0))
    store.close()
    shutil.copytree(migrations.MIGRATIONS_FOLDER, tmp_path / "steps", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "steps" / "versions" / "next_notes.py").write_text(STEP)
    monkeypatch.setattr(migrations, "MIGRATIONS_FOLDER", tmp_path / "steps")
    known = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", known + 1)
    for _ in range(2):
        store = Store(tmp_path / "h", url=url)
        store.database.write("INSERT INTO notes VALUES ('x')")
        assert [row for row, _ in store.results()] == [result(0)]
        store.close()
    monkeypatch.setattr(schema, "VERSION", known)
    with pytest.raises(StoreError, match="newer"):
        Store(tmp_path / "h", url=url)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_an_older_version_gets_the_new_tables_and_keeps_its_rows(
    version: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server().database() if kind == "postgres" else None
    for name in ("SQLITE", "POSTGRES"):
        monkeypatch.setattr(schema, f"{name}_{schema.VERSION}", getattr(schema, f"{name}_{version}"))
    monkeypatch.setattr(schema, "VERSION", version)
    store = Store(tmp_path / "h", url=url)
    store.add(result(0))
    if version < 4:
        with pytest.raises(StoreError, match="events"):
            store.database.read("SELECT * FROM events")
    store.close()
    monkeypatch.undo()
    store = Store(tmp_path / "h", url=url)
    assert store.leases("study", "search").claim([0]) == {0} and [row for row, _ in store.results()] == [result(0)]
    assert store.database.read("SELECT * FROM events") == [] and len(store.secret) == 64
    with pytest.raises(StoreError, match="append-only"):
        store.database.write("DELETE FROM results")
    store.close()


def test_a_writer_of_the_old_version_is_waited_for(tmp_path: Path) -> None:
    """An old process is writing a row when a new one opens the store: the row is kept."""
    home = old(tmp_path / "h")
    writer = sqlite3.connect(home / "bakeoff.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO fits VALUES ('s', 'search', 99, '{}', 0, 'complete', 1, '{}', x'', x'', '2025')")
    process = opening(home)
    time.sleep(1.5)
    assert process.poll() is None
    writer.execute("COMMIT")
    assert process.wait(60) == 0
    writer.close()
    assert len(raw(home)["fits"]) == 41

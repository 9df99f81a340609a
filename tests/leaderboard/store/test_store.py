"""The store on both databases: rows are unique, permanent, finite and complete; failures are reported in a sentence."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY, Command
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import server
from writer import fit

from leaderboard import Result, Store, StoreError
from leaderboard.result import STATUSES
from leaderboard.store import schema
from leaderboard.store.store import Fit

Opened = Callable[..., Store]
WRITER = REPOSITORY / "tests" / "writer.py"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else server().database()


@pytest.fixture
def opened(url: str | None, tmp_path: Path) -> Opened:
    """Function that opens the store of the test; it may be called repeatedly."""
    return lambda **more: Store(tmp_path / "h", url=url, **more)


def result(name: str = "svm", **more: object) -> Result:
    return replace(
        Result(
            f"id-{name}", "e", "digits", 1, "k", name, "accuracy", True, "complete", score=0.5, created_at="2026-01-01"
        ),
        **more,  # type: ignore[arg-type]
    )


def test_the_same_row_twice_is_one_row(opened: Opened) -> None:
    store = opened()
    for score in (0.5, 0.9):
        store.add(result(score=score), [score])
        store.add_fit(replace(fit("s", 3), value=score))
    opened().add(result(score=0.7))
    ((kept, replicates),) = store.results()
    assert kept.score == 0.5 and list(replicates) == [0.5], "the first stays"
    assert [one.value for one in store.fits("s", "search")] == [0.5]


def test_rows_come_back_as_they_went(opened: Opened) -> None:
    store = opened()
    odd = {"ä\u0000\ud800 \\ %s ? ' \"": [1, None, 1e-300], "long": "x" * 5000}
    rows = [result(f"é{n}", created_at=f"2026-01-0{n % 3 + 1}", params=odd, task=f"t{n % 2}") for n in range(9)]
    for row in rows:
        store.add(row, [1.0, 2.0])
    fits = [
        Fit("s", "final", seed, odd | {"n": n}, 0, "complete", 0.1, odd, [0.5], [0.25])
        for seed in (1, 0)
        for n in (0, 1)
    ]
    for one in fits:
        store.add_fit(one)
    again = opened()
    assert [row for row, _ in again.results()] == sorted(rows, key=lambda row: row.created_at), (
        "oldest first, then as added"
    )
    assert again.tasks() == ["t0", "t1"]
    assert [row.submission for row, _ in again.results("t1")] == ["é3", "é1", "é7", "é5"]
    back = again.fits("s", "final")
    assert [(one.number, one.params["n"]) for one in back] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(one.facts == odd and one.params.items() >= odd.items() for one in back)
    assert all(list(one.replicates) == [0.5] and list(one.losses) == [0.25] for one in back)
    assert again.find("id-é3") == rows[3]
    with pytest.raises(StoreError, match="9 results have an id that starts with 'id'"):
        again.find("id")


def test_the_last_of_several_attempts_counts(opened: Opened) -> None:
    store = opened()
    for attempt, status in ((0, "failed"), (2, "complete"), (1, "timeout")):
        store.add_fit(Fit("s", "search", 0, {"a": attempt}, attempt, status, 0.5 if status == "complete" else None))
    assert [one.status for one in store.fits("s", "search")] == ["complete"]


@pytest.mark.parametrize("status", ["complete", "failed"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_scores_are_finite_by_constraint(opened: Opened, status: str, value: float | None) -> None:
    """NaN is NULL in SQLite and the greatest number in PostgreSQL; both databases refuse it from any writer."""
    store = opened()
    if status == "failed" and (value is None or (math.isnan(value) and store.database.order_column == "rowid")):
        return  # a failed row has no score
    with pytest.raises(StoreError, match="what was recorded before is safe"):
        store.add_fit(Fit("s", "search", 0, {}, 0, status, value))
    with pytest.raises(StoreError):
        store.database.write(
            """INSERT INTO results (result_id, entry, task, task_version, submission, status, score, "row", replicates, created_at)
            VALUES ('i', 'e', 't', 1, 's', ?, ?, '{}', ?, '')""",
            (status, value, b""),
        )
    assert store.fits("s", "search") == [] and store.results() == []
    store.add_fit(fit("s", 0))


CHANGES = [
    "UPDATE results SET score = 1",
    "UPDATE fits SET value = 1 WHERE number = 0",
    "DELETE FROM results",
    "DELETE FROM fits WHERE number = 0",
    """INSERT INTO results (result_id, entry, task, task_version, submission, status, score, "row", replicates, created_at)
    SELECT result_id, entry, task, task_version, submission, status, 1, "row", replicates, created_at FROM results WHERE true
    ON CONFLICT (result_id) DO UPDATE SET score = 1""",
]
BY_THE_BACK_DOOR = {
    "sqlite": [
        "INSERT OR REPLACE INTO results SELECT * FROM (SELECT * FROM results)",
        "REPLACE INTO fits SELECT study, phase, number, params, 0, status, 1, facts, replicates, losses, '' FROM fits",
        """REPLACE INTO results (rowid, result_id, entry, task, task_version, submission, status, "row", replicates, created_at)
        SELECT rowid, 'other', entry, task, task_version, submission, 'failed', "row", replicates, '' FROM results""",
        "UPDATE OR REPLACE fits SET number = 0",
    ],
    "postgres": ["TRUNCATE results", "TRUNCATE fits CASCADE"],
}


def test_rows_cannot_be_changed_or_deleted(opened: Opened, url: str | None) -> None:
    store = opened()
    store.add(result())
    for number in (0, 1):
        store.add_fit(fit("s", number))
    before = store.results(), store.fits("s", "search")
    for change in CHANGES + BY_THE_BACK_DOOR["postgres" if url else "sqlite"]:
        try:
            store.database.write(change)
        except StoreError as error:
            assert "append-only" in str(error), error
        assert (store.results(), store.fits("s", "search")) == before, change


def test_ranks_are_not_stored(opened: Opened) -> None:
    store = opened()
    store.add(result())
    ((row, *_),) = store.database.read('SELECT "row" FROM results')
    assert {"rank", "tie_group"}.isdisjoint(json.loads(row))
    with pytest.raises(StoreError):
        store.database.read("SELECT rank FROM results")


def test_reading_makes_nothing(opened: Opened, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match=r"there are no results in .* yet; `bakeoff run TASK` makes some"):
            opened(create=False)
    assert list(tmp_path.iterdir()) == []


def test_artefacts_are_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep("abc", "log.txt", b"one")
    store.keep("abc", "log.txt", b"two")
    assert [path.read_bytes() for path in store.artefacts("abc").iterdir()] == [b"two"]
    (tmp_path / "artefacts" / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="could not be written"):
        store.keep("file", "log.txt", b"one")


def test_statuses_fit_both_tables(opened: Opened) -> None:
    store = opened()
    for status in STATUSES:
        store.add(result(status, status=status, score=0.5 if status == "complete" else None))
    assert {row.status for row, _ in store.results()} == set(STATUSES)


# A newer version ------------------------------------------------------------------------------------------------------------


def contents(home: Path) -> dict[str, bytes]:
    """Content of every file of a folder, without SQLite's index of its log, which is no data."""
    return {path.name: path.read_bytes() for path in home.iterdir() if not path.name.endswith("-shm")}


@pytest.mark.parametrize("crashed", [False, True], ids=["closed", "crashed"])
def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path, crashed: bool, bakeoff: Command) -> None:
    """A newer file stays unchanged, also after a crash: opening it normally would move its log into the file."""
    made = f"""
import os, pathlib
from leaderboard import Store
store = Store(pathlib.Path({str(tmp_path / "h")!r}))
store.database.connection.execute("PRAGMA user_version = {schema.VERSION + 1}")
store.database.connection.execute("CREATE TABLE news (a)")
os.kill(os.getpid(), 9) if {crashed} else store.close()
"""
    subprocess.run([sys.executable, "-c", made], cwd=REPOSITORY, check=False)
    before = contents(tmp_path / "h")
    assert ("bakeoff.sqlite-wal" in before) == crashed
    for command in (["leaderboard"], ["run", "digits", "-s", "svm", "--trials", "0"]):
        done = bakeoff(*command, "--home", "h", code=2)
        said = f"was written by a newer Bakeoff (schema {schema.VERSION + 1}, this one reads up to {schema.VERSION})"
        assert said in done.stderr, done.stderr
        assert contents(tmp_path / "h") == before


def test_a_newer_server_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    url = server().database()
    store = Store(tmp_path, url=url)
    store.database.write(f"UPDATE schema_version SET version = {schema.VERSION + 1}")
    everything = "SELECT relname, relpages, relfilenode FROM pg_class ORDER BY oid"
    before = store.database.read(everything)
    with pytest.raises(StoreError, match="newer Bakeoff"):
        Store(tmp_path, url=url)
    assert store.database.read(everything) == before
    assert store.database.read("SELECT version FROM schema_version") == [(schema.VERSION + 1,)]


def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bakeoff.sqlite").write_bytes(b"not a database, and long enough to look at" * 10)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path)


# Damage ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a killed writer: rows 0 to 9 are in the file, 10 to 29 only in its log."""
    home = tmp_path_factory.mktemp("crashed")
    write = f"""
import os, pathlib, sys
sys.path.insert(0, {str(WRITER.parent)!r})
from leaderboard import Store
from writer import fit
for first, last in (0, 10), (10, 30):
    store = Store(pathlib.Path({str(home)!r}))
    for number in range(first, last):
        store.add_fit(fit("s", number))
    os.kill(os.getpid(), 9) if last == 30 else store.close()
"""
    done = subprocess.run([sys.executable, "-c", write], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL and (home / "bakeoff.sqlite-wal").stat().st_size > 10_000
    return home


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), length=st.integers(1, 5000), how=st.sampled_from(["cut", "zero", "noise"]))
@example(place=0, length=1, how="cut")
@example(place=0, length=32, how="noise")
@example(place=0, length=5000, how="zero")
@example(place=0.999, length=10, how="noise")
def test_a_damaged_log_gives_a_prefix(crashed: Path, tmp_path: Path, place: float, length: int, how: str) -> None:
    home = tmp_path / "h"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(crashed, home)
    log = home / "bakeoff.sqlite-wal"
    content = log.read_bytes()
    at = int(place * (len(content) - 1))
    if how == "cut":
        log.write_bytes(content[:at])
    else:
        damage = bytes(length) if how == "zero" else bytes((7 * i + 13) % 256 for i in range(length))
        log.write_bytes(content[:at] + damage[: len(content) - at] + content[at + length :])
    store = Store(home)
    rows = store.fits("s", "search")
    assert 10 <= len(rows) <= 30 and [(row.number, row.value) for row in rows] == [
        (number, number / 7) for number in range(len(rows))
    ]
    assert all(row.params == {"a": row.number} and list(row.replicates) == [0.5] * 500 for row in rows)
    assert store.database.read("PRAGMA integrity_check") == [("ok",)]
    for number in range(40):
        store.add_fit(fit("s", number))
    store.close()
    assert [row.number for row in Store(home).fits("s", "search")] == list(range(40))


# Speed and durability -------------------------------------------------------------------------------------------------------


def test_a_board_loads_little(tmp_path: Path) -> None:
    """A board is fast because it imports no library."""
    Store(tmp_path).add(result())
    heavy = {
        "sqlalchemy",
        "alembic",
        "numpy",
        "psycopg",
        "optuna",
        "leaderboard.store.postgres",
        "leaderboard.store.migrations",
    }
    assert not heavy & loaded_by_a_board(tmp_path)


def test_a_board_of_many_loads_nothing_but_numpy(tmp_path: Path) -> None:
    """A board that compares entries imports numpy, and no slower library."""
    store = Store(tmp_path)
    for number in range(3):
        store.add(result(result_id=f"{number}", submission=f"entry-{number}"), [0.5 + 0.1 * number, 0.4])
    heavy = {
        "sqlalchemy",
        "alembic",
        "scipy",
        "pandas",
        "psycopg",
        "optuna",
        "leaderboard.store.postgres",
        "leaderboard.store.migrations",
    }
    loaded = loaded_by_a_board(tmp_path)
    assert "numpy" in loaded and not heavy & loaded


def loaded_by_a_board(home: Path) -> set[str]:
    """Modules that the command has loaded after it has shown a board."""
    code = """
import sys
from harness.cli import main
main(["leaderboard"])
print(*sys.modules, file=sys.stderr)
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "BAKEOFF_HOME": str(home), "BAKEOFF_STORE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, timeout=60, stderr=subprocess.PIPE, text=True
    )
    return set(done.stderr.split())


BAD_URLS = {
    "mysql://u:geheim@host/db": "a store is given as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; for SQLite leave it out",
    "postgresql://u:geheim@127.0.0.1:1/db": "the store postgresql://127.0.0.1:1/db cannot be opened (connection failed",
    "postgresql://u:pass@geheim@host/db": "the store's URL cannot be read",
    "postgresql://u:pass/geheim@host/db": "the store's URL cannot be read",
    "postgresql://u:geheim": "the store's URL cannot be read",
    "postgresql://u@host/db?geheim=1": "the store's URL cannot be read",
    "postgresql://u@127.0.0.1:1/db?password=geheim": "cannot be opened (connection failed",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_wrong_url_is_a_sentence_without_its_password(url: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path, url=url)
    said = str(caught.value)
    assert BAD_URLS[url] in said and "geheim" not in said and "\n" not in said


def test_every_command_takes_a_store(tmp_path: Path, bakeoff: Command) -> None:
    url = "postgresql://u:geheim@127.0.0.1:1/db"
    pytest.importorskip("psycopg")
    for arguments, env in (
        (["leaderboard", "--store", url], {}),
        (["run", "digits", "-s", "svm"], {"BAKEOFF_STORE": url}),
    ):
        done = bakeoff(*arguments, env=env, code=2)
        assert BAD_URLS[url] in done.stderr and "geheim" not in done.stderr and not done.stdout
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_driver_is_a_sentence(tmp_path: Path, bakeoff: Command) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "psycopg.py").write_text("raise ImportError('none here')")
    done = bakeoff(
        "leaderboard",
        "--store",
        "postgresql://u@host/db",
        code=2,
        env={"PYTHONPATH": f"{tmp_path / 'none'}{os.pathsep}{REPOSITORY}"},
    )
    assert "needs psycopg, which is not installed; `pip install 'bakeoff[postgres]'`" in done.stderr


def test_acknowledged_rows_are_on_disk(opened: Opened, url: str | None) -> None:
    """The database has the settings for durable commits."""
    database = opened().database
    if url:
        assert database.read("SHOW synchronous_commit") == [("on",)]
        server_off = f"{url}&options=-csynchronous_commit%3Doff"
        assert Store(Path("unused"), url=server_off).database.read("SHOW synchronous_commit") == [("on",)]
    else:
        assert database.read("PRAGMA journal_mode") == [("wal",)] and database.read("PRAGMA synchronous") == [(2,)]


def test_a_file_that_lost_its_log_mode_gets_it_back(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "bakeoff.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    assert Store(tmp_path).database.read("PRAGMA journal_mode") == [("wal",)]

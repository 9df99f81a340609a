"""Results in one SQLite file. Rows are only ever added; a row is one transaction; ranks are computed, never stored.

The standard library's driver is used, not SQLAlchemy: importing that costs more than a whole ``bakeoff leaderboard`` may take.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leaderboard.result import Result

SCHEMA_VERSION = 1
SCHEMA = """
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


class StoreError(Exception):
    """The store cannot be opened, read or written. One sentence: what came and what to do."""


@dataclass(frozen=True)
class Fit:
    """One finished trial of a search, or one seed of a final evaluation.

    ``replicates`` are bootstrap scores and ``losses`` what each hidden sample contributes to the ranking metric, both float32
    lists, empty where they do not apply.
    """

    study: str
    phase: str
    number: int
    params: dict[str, Any]
    attempt: int
    status: str
    value: float | None
    facts: dict[str, Any] = field(default_factory=dict)
    replicates: Sequence[float] = ()
    losses: Sequence[float] = ()


def now() -> str:
    """UTC, ISO 8601, microseconds: sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Store:
    """The results under one home folder. Safe to use from several threads and several processes."""

    def __init__(self, home: Path, *, create: bool = True) -> None:
        self.path = home / "bakeoff.sqlite"
        self.lock = threading.Lock()
        if not create and not self.path.exists():
            raise StoreError(
                f"there are no results in {home} yet; `bakeoff run TASK` makes some, --home names another folder"
            )
        try:
            home.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, timeout=30, check_same_thread=False, isolation_level=None)
            self.db.execute("PRAGMA busy_timeout = 30000")
            (version,) = self.db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer Bakeoff (schema {version}, this one reads {SCHEMA_VERSION}); upgrade"
                )
            if version == 0:
                self._write_ahead()
                self.db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            self.db.execute("PRAGMA synchronous = FULL")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{self.path} cannot be opened ({error}); choose a folder that can be written with --home"
            ) from error

    def _write_ahead(self) -> None:
        """Switch to WAL. Of several processes that open a new file at once, SQLite refuses some at once, whatever the timeout."""
        for left in reversed(range(100)):
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if not left:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield self.db
                self.db.execute("COMMIT")
            except BaseException as error:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                if not isinstance(error, sqlite3.Error):
                    raise
                raise StoreError(
                    f"{self.path} could not be written ({error}); what was recorded before is safe"
                ) from error

    def add(self, result: Result, replicates: Sequence[float] = ()) -> None:
        """Record a result. The same ``result_id`` again changes nothing."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (result_id) DO NOTHING",
                (
                    result.result_id,
                    result.entry,
                    result.task,
                    result.task_version,
                    result.submission,
                    result.status,
                    result.score,
                    _dump(result.row()),
                    _pack(replicates),
                    result.created_at,
                ),
            )

    def add_fit(self, fit: Fit) -> None:
        """Record a trial or a seed. The same key again changes nothing."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO fits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (study, phase, number, params, attempt) DO NOTHING",
                (
                    fit.study,
                    fit.phase,
                    fit.number,
                    _dump(fit.params),
                    fit.attempt,
                    fit.status,
                    fit.value,
                    _dump(fit.facts),
                    _pack(fit.replicates),
                    _pack(fit.losses),
                    now(),
                ),
            )

    def fits(self, study: str, phase: str) -> list[Fit]:
        """Every recorded fit of a study in order of number, the last attempt of each alone."""
        rows = self._read(
            "SELECT number, params, attempt, status, value, facts, replicates, losses FROM fits "
            "WHERE study = ? AND phase = ? ORDER BY number, attempt",
            (study, phase),
        )
        latest = {(row[0], row[1] if phase == "final" else ""): row for row in rows}
        return [
            Fit(
                study,
                phase,
                number,
                json.loads(params),
                attempt,
                status,
                value,
                json.loads(facts),
                _unpack(replicates),
                _unpack(losses),
            )
            for number, params, attempt, status, value, facts, replicates, losses in latest.values()
        ]

    def results(self, task: str | None = None) -> list[tuple[Result, array[float]]]:
        """Results with their bootstrap replicates, oldest first; of one task, or all."""
        where, values = ("WHERE task = ? ", (task,)) if task is not None else ("", ())
        rows = self._read(f"SELECT row, replicates FROM results {where}ORDER BY created_at, rowid", values)  # noqa: S608
        return [(Result.from_row(json.loads(row)), _unpack(replicates)) for row, replicates in rows]

    def tasks(self) -> list[str]:
        """The names of the tasks that have results, in the order in which they first got one."""
        return [task for (task,) in self._read("SELECT task FROM results GROUP BY task ORDER BY min(created_at)", ())]

    def find(self, reference: str) -> Result:
        """The result whose id starts with ``reference``. Raises StoreError unless there is exactly one."""
        rows = self._read("SELECT row FROM results WHERE substr(result_id, 1, ?) = ?", (len(reference), reference))
        if len(rows) != 1:
            raise StoreError(
                f"{'no result has' if not rows else f'{len(rows)} results have'} an id that starts with {reference!r}; "
                "`bakeoff leaderboard --format json` lists the ids"
            )
        return Result.from_row(json.loads(rows[0][0]))

    def _read(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self.lock:
            try:
                return self.db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self.path} could not be read ({error})") from error


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _pack(values: Sequence[float]) -> bytes:
    return array("f", values).tobytes()


def _unpack(blob: bytes) -> array[float]:
    values = array("f")
    values.frombytes(blob)
    return values

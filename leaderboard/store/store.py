"""Results in a database. Rows are only ever added; a row is one transaction; ranks are computed, never stored.

The database is one SQLite file, or a PostgreSQL server; both hold the same rows and answer the same questions.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leaderboard.errors import StoreError, not_written
from leaderboard.result import Result, Status
from leaderboard.store.databases import Database, Sqlite
from leaderboard.store.gc_pause import gc_paused
from leaderboard.store.leases import Lease, Leases

__all__ = ["Fit", "Store", "StoreError", "utc_timestamp"]


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


def utc_timestamp() -> str:
    """UTC, ISO 8601, microseconds: sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


STANDING = """
WITH RECURSIVE version (number) AS (SELECT max(task_version) FROM results WHERE task = ?),
names (submission) AS (
    SELECT min(submission) FROM results WHERE task = ? AND task_version = (SELECT number FROM version)
    UNION ALL
    SELECT (SELECT min(later.submission) FROM results AS later WHERE later.task = ?
        AND later.task_version = (SELECT number FROM version) AND later.submission > names.submission)
    FROM names WHERE names.submission IS NOT NULL
), ends (complete) AS (SELECT TRUE UNION ALL SELECT FALSE)
SELECT results."row", results.replicates FROM names CROSS JOIN ends CROSS JOIN results
WHERE results.task = ? AND results.task_version = (SELECT number FROM version) AND results.submission = names.submission
    AND (results.status = 'complete') = ends.complete AND results.created_at = (
        SELECT max(one.created_at) FROM results AS one WHERE one.task = ?
        AND one.task_version = (SELECT number FROM version) AND one.submission = names.submission
        AND (one.status = 'complete') = ends.complete)
ORDER BY results.created_at, results.{order}
"""
"""Of each submission the newest result that is complete, and the newest that is not, from one index: it goes from submission to
submission and to the end of each, so that it matters how many stand on a board and not how many were ever made."""


class Store:
    """The results of one home folder, or of a PostgreSQL server. Safe to use from several threads and several processes.

    ``home`` is the folder of artefacts, and of the results where ``url`` is None: ``bakeoff.sqlite``. ``url`` is
    ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``. Raises StoreError where there is nothing and ``create`` is False, where it
    cannot be reached, and where a newer Bakeoff wrote it; an older one's is brought up to date.
    """

    def __init__(self, home: Path, *, url: str | None = None, create: bool = True) -> None:
        self.home = home
        self.database: Database = connect(url, create=create) if url else Sqlite(home / "bakeoff.sqlite", create=create)

    @property
    def name(self) -> str:
        """What messages call it: the home folder, or the server's URL without a password."""
        return str(self.home) if isinstance(self.database, Sqlite) else self.database.name

    def close(self) -> None:
        self.database.close()

    def add(self, result: Result, replicates: Sequence[float] = ()) -> None:
        """Record a result; it is on disk when this returns. The same ``result_id`` again changes nothing."""
        self._insert(
            "results",
            {
                "result_id": result.result_id,
                "entry": result.entry,
                "task": result.task,
                "task_version": result.task_version,
                "submission": result.submission,
                "status": result.status,
                "score": result.score,
                '"row"': _dump(result.row()),
                "replicates": _pack(replicates),
                "created_at": result.created_at,
            },
        )

    def add_fit(self, fit: Fit, lease: Lease | None = None) -> bool:
        """Record a trial or a seed; it is on disk when this returns. The same key again changes nothing.

        False where a ``lease`` is given that somebody else has taken over: then it is not on record.
        """
        values = {
            "study": fit.study,
            "phase": fit.phase,
            "number": fit.number,
            "params": _dump(fit.params),
            "attempt": fit.attempt,
            "status": str(fit.status),  # psycopg would bind an enum member by its name
            "value": fit.value,
            "facts": _dump(fit.facts),
            "replicates": _pack(fit.replicates),
            "losses": _pack(fit.losses),
            "created_at": utc_timestamp(),
        }
        if lease is None:
            self._insert("fits", values)
            return True
        placeholders = [
            "CAST(? AS DOUBLE PRECISION)" if name == "value" else "?" for name in values
        ]  # it may be NULL, of no type
        added = self.database.write(
            f"INSERT INTO fits ({', '.join(values)}) SELECT {', '.join(placeholders)} FROM leases "  # noqa: S608
            "WHERE study = ? AND phase = ? AND number = ? AND holder = ? AND token = ? "
            f"{self.database.lock_clause} ON CONFLICT DO NOTHING RETURNING number",
            [*values.values(), lease.study, lease.phase, lease.number, lease.holder, lease.token],
        )
        key = (fit.study, fit.phase, fit.number, values["params"], fit.attempt)
        is_recorded = "SELECT 1 FROM fits WHERE study = ? AND phase = ? AND number = ? AND params = ? AND attempt = ?"
        return bool(added or self.database.read(is_recorded, key))

    def leases(self, study: str, phase: str) -> Leases:
        """What this command is going to hold of a study; close it."""
        return Leases(self.database, study, phase)

    def count_fits(self, study: str, phase: str) -> int:
        """How many fits are on record, all attempts counted."""
        ((count,),) = self.database.read("SELECT count(*) FROM fits WHERE study = ? AND phase = ?", (study, phase))
        return int(count)

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        self.database.write(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) ON CONFLICT DO NOTHING",  # noqa: S608
            list(values.values()),
        )

    def artefacts(self, result_id: str) -> Path:
        """The folder of what is kept beside a result: pictures, source, log."""
        return self.home / "artefacts" / result_id

    def keep(self, result_id: str, name: str, content: bytes) -> None:
        """Keep a file beside a result: whole or not at all, whenever the process ends. Raises StoreError."""
        place = self.artefacts(result_id) / name
        unfinished = place.with_name(f".{place.name}.new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.replace(place)
        except OSError as error:
            raise not_written(str(place), error.strerror) from error

    def fits(self, study: str, phase: str, numbers: Sequence[int] | None = None) -> list[Fit]:
        """Every recorded fit of a study in order of number, the last attempt of each alone; of these ``numbers``, or all."""
        condition = "" if numbers is None else f"AND number IN ({', '.join('?' * len(numbers)) or 'NULL'}) "
        rows = self.database.read(
            "SELECT number, params, attempt, status, value, facts, replicates, losses FROM fits "  # noqa: S608
            f"WHERE study = ? AND phase = ? {condition}ORDER BY number, attempt, {self.database.order_column}",
            (study, phase, *(numbers or ())),
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
        rows = self.database.read(
            f'SELECT "row", replicates FROM results {where}ORDER BY created_at, {self.database.order_column}',  # noqa: S608
            values,
        )
        return _parse_results(rows)

    def standing(self, task: str, asked: Collection[str] = ()) -> list[tuple[Result, array[float]]]:
        """Of a task's results those that may stand on its board, `ranking.standing` decides which: of the newest version the newest
        of each submission, complete or not, and those whose ids are ``asked`` for."""
        marks = ", ".join("?" * len(asked))
        rows = self.database.read(STANDING.format(order=self.database.order_column), (task,) * 5)
        if asked:
            rows += self.database.read(
                f'SELECT "row", replicates FROM results WHERE task = ? AND result_id IN ({marks})',  # noqa: S608
                (task, *asked),
            )
        by_id = {result.result_id: (result, replicates) for result, replicates in _parse_results(rows)}
        results = sorted(by_id.values(), key=lambda pair: pair[0].created_at)
        if len({(result.data_sha256, result.metric) for result, _ in results}) > 1:
            return self.results(task)  # what is newest of a submission may be of other data, and hide what stands
        return results

    def of_entry(self, entry: str) -> Result | None:
        """The complete result of what was asked for, None where there is none."""
        rows = self.database.read(
            f'SELECT "row" FROM results WHERE entry = ? AND status = ? ORDER BY created_at, {self.database.order_column}',  # noqa: S608
            (entry, Status.COMPLETE.value),
        )
        return Result.from_row(json.loads(rows[0][0])) if rows else None

    def failures(self, task: str) -> list[Result]:
        """The results of a task that are not complete, oldest first."""
        rows = self.database.read(
            f'SELECT "row" FROM results WHERE task = ? AND status <> ? ORDER BY created_at, {self.database.order_column}',  # noqa: S608
            (task, Status.COMPLETE.value),
        )
        return [Result.from_row(json.loads(row)) for (row,) in rows]

    def tasks(self) -> list[str]:
        """The names of the tasks that have results, in the order in which they first got one."""
        rows = self.database.read(
            f"SELECT task FROM results GROUP BY task ORDER BY min(created_at), min({self.database.order_column})"  # noqa: S608
        )
        return [task for (task,) in rows]

    def find(self, reference: str) -> Result:
        """The result whose id starts with ``reference``. Raises StoreError unless there is exactly one."""
        rows = self.database.read(
            'SELECT "row" FROM results WHERE substr(result_id, 1, ?) = ?', (len(reference), reference)
        )
        if len(rows) != 1:
            raise StoreError(
                f"{'no result has' if not rows else f'{len(rows)} results have'} an id that starts with {reference!r}; "
                "`bakeoff leaderboard --format json` lists the ids"
            )
        return Result.from_row(json.loads(rows[0][0]))


def connect(url: str, *, create: bool) -> Database:
    if not url.startswith(("postgresql://", "postgres://")):
        raise StoreError(
            "a store is given as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; "
            "for SQLite leave it out and name a folder with --home"
        )
    from leaderboard.store.postgres import Postgres

    return Postgres(url, create=create)


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _parse_results(rows: Sequence[tuple[str, bytes]]) -> list[tuple[Result, array[float]]]:
    with gc_paused():
        return [(Result.from_row(json.loads(row)), _unpack(replicates)) for row, replicates in rows]


def _pack(values: Sequence[float]) -> bytes:
    return array("f", values).tobytes()


def _unpack(blob: bytes) -> array[float]:
    values = array("f")
    values.frombytes(blob)
    return values

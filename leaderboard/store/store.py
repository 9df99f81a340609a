"""Results in a database. The database is append-only, each row is one transaction, and ranks are computed, never stored.

The database is one SQLite file or a PostgreSQL server; both have the same tables and run the same queries.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from leaderboard.errors import StoreError, not_written
from leaderboard.result import Result, Status
from leaderboard.store.databases import Database, Sqlite
from leaderboard.store.gc_pause import gc_paused
from leaderboard.store.leases import Lease, Leases
from leaderboard.store.secret import secret_in_file, secret_in_table

__all__ = ["Fit", "Store", "StoreError", "utc_timestamp"]


@dataclass(frozen=True)
class Fit:
    """Finished trial of a search, or finished seed of a final evaluation; ``phase`` is ``search`` or ``final``.

    ``number`` is that of the trial or seed in its ``study``. ``value`` is its score in the metric's own units, on the validation
    split or the hidden test; None without a score. ``replicates`` are bootstrap scores, ``losses`` the contributions of hidden
    samples to the ranking metric. Both are kept as float32, and are empty if they do not apply.
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
    """Return the current time as ISO 8601 text, UTC with microseconds. Such texts sort by time."""
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
"""Query for the newest complete and the newest incomplete result of each submission.

It jumps in one index from submission to submission. So its time depends on the size of the board, not on the number of results.
"""


class Store:
    """Results in a home folder or on a PostgreSQL server. Safe to use from several threads and processes.

    ``home`` is the folder of artefacts, and of ``bakeoff.sqlite`` if ``url`` is None. ``url`` is
    ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``. A store of an older version is migrated. Raises StoreError if the store
    cannot be reached, if a newer Bakeoff wrote it, or if it does not exist and ``create`` is False.
    """

    def __init__(self, home: Path, *, url: str | None = None, create: bool = True) -> None:
        self.home = home
        self.database: Database = connect(url, create=create) if url else Sqlite(home / "bakeoff.sqlite", create=create)
        with suppress(OSError):  # nobody else's, or not there
            (home / "artefacts").chmod(0o700)

    @property
    def name(self) -> str:
        """Name in messages: the home folder, or the server's URL without a password."""
        return str(self.home) if isinstance(self.database, Sqlite) else self.database.name

    def close(self) -> None:
        self.database.close()

    @cached_property
    def secret(self) -> str:
        """Secret of this store, made at the first call; see `leaderboard.store.secret`. Raises StoreError."""
        if isinstance(self.database, Sqlite):
            return secret_in_file(self.home / "secret")
        return secret_in_table(self.database)

    def add(self, result: Result, replicates: Sequence[float] = ()) -> None:
        """Record a result and its bootstrap replicates; on return they are on disk. Raises StoreError.

        A second call with the same ``result_id`` changes nothing.
        """
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
        """Record a trial or a seed, and return True; on return it is on disk. A second call with the same key changes nothing.

        The key is the study, phase, number, params and attempt. If another command has taken over the ``lease``, record nothing and
        return False, unless the fit is on record already.
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
        ]  # NULL has no type
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
        """Return this command's leases in one phase (``search`` or ``final``) of a study; the caller closes them."""
        return Leases(self.database, study, phase)

    def count_fits(self, study: str, phase: str) -> int:
        """Return the number of recorded fits in one phase (``search`` or ``final``) of a study, all attempts counted."""
        ((count,),) = self.database.read("SELECT count(*) FROM fits WHERE study = ? AND phase = ?", (study, phase))
        return int(count)

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        self.database.write(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) ON CONFLICT DO NOTHING",  # noqa: S608
            list(values.values()),
        )

    def artefacts(self, result_id: str) -> Path:
        """Return the folder for the files of a result: pictures, source, log. It need not exist."""
        return self.home / "artefacts" / result_id

    def keep(self, result_id: str, name: str, content: bytes) -> None:
        """Store a file of a result atomically, as ``name`` in the folder of its artefacts. Raises StoreError."""
        path = self.artefacts(result_id) / name
        unfinished = path.with_name(f".{path.name}.new")
        try:
            (self.home / "artefacts").mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(content)
            unfinished.replace(path)
        except OSError as error:
            raise not_written(str(path), error.strerror) from error

    def fits(self, study: str, phase: str, numbers: Sequence[int] | None = None) -> list[Fit]:
        """Return the recorded fits in one phase of a study, sorted by number: all, or those with the given ``numbers``.

        Of each number only the last attempt is returned; in phase ``final``, of each number and its parameters.
        """
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
        """Return pairs of a result and its bootstrap replicates, oldest first, of one task or of all."""
        where, values = ("WHERE task = ? ", (task,)) if task is not None else ("", ())
        rows = self.database.read(
            f'SELECT "row", replicates FROM results {where}ORDER BY created_at, {self.database.order_column}',  # noqa: S608
            values,
        )
        return _parse_results(rows)

    def standing(self, task: str, asked: Collection[str] = ()) -> list[tuple[Result, array[float]]]:
        """Return candidates for the board of a task, oldest first, from which `ranking.current_results` selects.

        They are pairs of a result and its bootstrap replicates: the newest complete and the newest incomplete result of each
        submission in the newest version of the task, and results with ids in ``asked``. If results differ in data or metric, they
        are all results of the task.
        """
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
            return self.results(
                task
            )  # the newest result of a submission may be of other data, and hide the one on the board
        return results

    def of_entry(self, entry: str) -> Result | None:
        """Return the complete result of the request with content key ``entry``: the oldest of several, None if there is none."""
        rows = self.database.read(
            f'SELECT "row" FROM results WHERE entry = ? AND status = ? ORDER BY created_at, {self.database.order_column}',  # noqa: S608
            (entry, Status.COMPLETE.value),
        )
        return Result.from_row(json.loads(rows[0][0])) if rows else None

    def failures(self, task: str) -> list[Result]:
        """Return the incomplete results of a task, oldest first."""
        rows = self.database.read(
            f'SELECT "row" FROM results WHERE task = ? AND status <> ? ORDER BY created_at, {self.database.order_column}',  # noqa: S608
            (task, Status.COMPLETE.value),
        )
        return [Result.from_row(json.loads(row)) for (row,) in rows]

    def tasks(self) -> list[str]:
        """Return the names of the tasks with results, in the order of their first results."""
        rows = self.database.read(
            f"SELECT task FROM results GROUP BY task ORDER BY min(created_at), min({self.database.order_column})"  # noqa: S608
        )
        return [task for (task,) in rows]

    def find(self, reference: str) -> Result:
        """Return the result whose id starts with ``reference``. Raises StoreError unless there is exactly one."""
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
    """Open a PostgreSQL database. Raises StoreError for another kind of URL, and if the database cannot be opened."""
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

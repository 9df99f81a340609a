"""Interface of databases, and its implementation for SQLite.

The implementation uses the standard library's driver, because the import of SQLAlchemy takes longer than ``bakeoff leaderboard``
may run. Only a migration imports SQLAlchemy.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from leaderboard.errors import StoreError, newer, no_results, not_written
from leaderboard.store import schema

BUSY_SECONDS = 60.0
"""Time in seconds that a writer waits for other writers."""


class Database(Protocol):
    """Open database, safe to use from several threads. Placeholders in SQL are ``?``; every error is a StoreError."""

    name: str
    """Name of the database in messages: a path, or a URL without user and password."""
    order_column: str
    """Name of the column that sorts rows by insertion."""
    clock_sql: str
    """SQL expression for the database's clock in seconds since the epoch."""
    lock_clause: str
    """SQL at the end of a SELECT that locks its rows until the statement is done; empty if no lock is needed."""

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows. Raises StoreError."""

    def write(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in one transaction and return its rows; on return the change is on disk. Raises StoreError.

        A statement may run twice, so it must be idempotent.
        """

    def close(self) -> None:
        """Close the connection."""


class Sqlite:
    """`Database` in one SQLite file with a write-ahead log, synced at each commit."""

    order_column = "rowid"
    clock_sql = "((julianday('now') - 2440587.5) * 86400.0)"
    lock_clause = ""  # one writer at a time

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self.name = str(path)
        self.lock = threading.Lock()
        if not create and not path.exists():
            raise no_results(str(path.parent))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if (version := stored_version(path)) > schema.VERSION:
                raise newer(self.name, version, schema.VERSION)
            keep_private(path)
            self.connection = self._connect()
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be opened ({error}); choose a folder that can be written with --home"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)

    def _prepare(self) -> None:
        """Set the journal mode, then create or migrate the tables."""
        self._write_ahead()
        self.connection.execute("PRAGMA synchronous = FULL")
        if self._version() == 0:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                if self._version() == 0:  # checked again under the lock: another process may have been first
                    for statement in schema.SQLITE_5:
                        self.connection.execute(statement)
                    self.connection.execute(f"PRAGMA user_version = {schema.VERSION}")
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        if self._version() < schema.VERSION:
            from leaderboard.store import migrations

            migrations.upgrade_sqlite(self._connect, self.name)
        if (version := self._version()) > schema.VERSION:
            raise newer(self.name, version, schema.VERSION)

    def _version(self) -> int:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _write_ahead(self) -> None:
        """Switch the file to a write-ahead log, with up to 100 attempts in 5 seconds.

        If several processes open a new file, SQLite refuses some of them at once and ignores its timeout.
        """
        for attempts_left in reversed(range(100)):
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if not attempts_left:
                    raise
                time.sleep(0.05)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.lock:
            try:
                return self.connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self.name} could not be read ({error})") from error

    def write(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.lock:
            try:
                return self.connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise not_written(self.name, error) from error

    def close(self) -> None:
        self.connection.close()


def keep_private(path: Path) -> None:
    """Make a database that its owner alone can read, whatever the umask, and tighten one that is there. SQLite's log follows it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(0o600)


def stored_version(path: Path) -> int:
    """Return the schema version of a SQLite file without a change to the file; 0 if the file or its version is missing.

    SQLite itself would move the log into a file that it opens for writing.
    """
    try:
        with path.open("rb") as file:
            header = file.read(64)
    except FileNotFoundError:
        return 0
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or log.stat().st_size == 0:
        return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else 0
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)
    finally:
        connection.close()

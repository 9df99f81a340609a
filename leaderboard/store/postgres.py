"""Store on a PostgreSQL server, for several machines: tables in the schema ``bakeoff`` of the database that a URL names.

The module needs psycopg 3 (``pip install 'bakeoff[postgres]'``), imported only here. After a lost connection it reconnects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from leaderboard.errors import StoreError, newer, no_results, not_written
from leaderboard.store import schema

if TYPE_CHECKING:
    from psycopg import Connection

RECONNECT_SECONDS = 60.0
"""Time in seconds to wait for a lost server."""
RETRY_SECONDS = 0.2
SCHEMA = "bakeoff"
ADVISORY_LOCK = int.from_bytes(b"bakeoff", "big")
"""Number of the advisory lock for the creation and migration of tables."""
# Options that detect a hung connection, in seconds; tcp_user_timeout is in milliseconds. Options in the URL take precedence.
CONNECTION_DEFAULTS = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
    "application_name": "bakeoff",
}
LOST_STATES = ("57P01", "57P02", "57P03", "57P05")
"""SQLSTATEs of a server that shuts down, crashes, starts or ends an idle session. Those of lost connections start with 08."""
NOT_READY_MESSAGES = ("starting up", "shutting down", "recovery mode", "not yet accepting")
"""Parts of the messages of a server that is not ready for connections; psycopg gives no SQLSTATE for them."""
T = TypeVar("T")


class Postgres:
    """PostgreSQL `Database` that reconnects after a lost connection. It may send a statement twice, so each must be idempotent."""

    order_column = "inserted"
    clock_sql = "extract(epoch FROM clock_timestamp())::double precision"
    lock_clause = "FOR UPDATE"

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.driver = load_driver()
        self.settings = parse_url(url)
        self.name = redacted_url(self.settings)
        self.lock = threading.Lock()
        self.connection: Connection[tuple[Any, ...]] | None = None
        self.opened = False
        self.lost_since: float | None = None
        try:
            self._retry(lambda connection: self._prepare(connection, create=create), "opened")
        except BaseException:
            self.close()
            raise
        self.opened = True

    def _prepare(self, connection: Connection[tuple[Any, ...]], *, create: bool) -> None:
        version = self._version(connection)
        if version == 0 and not create:
            raise no_results(self.name)
        if version == 0:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
                if self._version(connection) == 0:  # checked again under the lock: another process may have been first
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                    for statement in schema.POSTGRES_5:
                        connection.execute(statement)
                    connection.execute("INSERT INTO schema_version VALUES (%s)", (schema.VERSION,))
            version = self._version(connection)
        if version < schema.VERSION:
            from leaderboard.store import migrations

            migrations.upgrade_postgres(self._connect, self.name, lock=ADVISORY_LOCK)
            version = self._version(connection)
        if version > schema.VERSION:
            raise newer(self.name, version, schema.VERSION)

    def _version(self, connection: Connection[tuple[Any, ...]]) -> int:
        """Return the schema version of the server's tables; 0 if there are none."""
        # Not `to_regclass`: its cache may miss tables that another transaction has just committed.
        table = connection.execute(
            "SELECT 1 FROM pg_tables WHERE (schemaname, tablename) = (%s, %s)", (SCHEMA, "schema_version")
        )
        if table.fetchone() is None:
            return 0
        row = connection.execute("SELECT version FROM schema_version").fetchone()
        return int(row[0]) if row else 0

    def _connect(self) -> Connection[tuple[Any, ...]]:
        # No prepared statements: connection poolers do not keep them.
        connection: Connection[tuple[Any, ...]] = self.driver.connect(
            autocommit=True, prepare_threshold=None, **self.settings
        )
        try:
            connection.isolation_level = self.driver.IsolationLevel.READ_COMMITTED
            connection.execute(f"SET search_path TO {SCHEMA}")
            # A commit must be on disk when it is acknowledged; stricter settings of the server stay.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        text = sql.replace("?", "%s")
        return self._retry(lambda connection: connection.execute(text, values).fetchall(), "read")

    def write(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        text = sql.replace("?", "%s")

        def work(connection: Connection[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
            cursor = connection.execute(text, values)
            return cursor.fetchall() if cursor.description else []

        return self._retry(work, "written")

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _retry(self, work: Callable[[Connection[tuple[Any, ...]]], T], operation: str) -> T:
        """Return the result of ``work``, a function of the connection.

        After a lost connection, reconnect and repeat ``work`` for up to `RECONNECT_SECONDS`. Raises StoreError, worded for the
        failed ``operation`` (opened, read or written).
        """
        with self.lock:
            while True:
                try:
                    if self.connection is None:
                        self.connection = self._connect()
                    result = work(self.connection)
                    self.lost_since = None
                    return result
                except self.driver.Error as error:
                    lost = self._is_lost(error)
                    if lost:
                        self.close()
                        self.lost_since = self.lost_since or time.monotonic()
                    if not lost or time.monotonic() - (self.lost_since or 0.0) > RECONNECT_SECONDS:
                        raise self._store_error(error, operation) from error
                time.sleep(RETRY_SECONDS)

    def _is_lost(self, error: Any) -> bool:
        """Return True if the error is a lost connection or a server that is not ready: a retry may help.

        A server that does not answer the very first connection is an error without a retry.
        """
        if not isinstance(error, (self.driver.OperationalError, self.driver.InterfaceError)):
            return False
        state = error.sqlstate or ""
        if (
            state in LOST_STATES
            or state.startswith("08")
            or any(message in str(error) for message in NOT_READY_MESSAGES)
        ):
            return True
        return self.opened and (self.connection is None or self.connection.closed)

    def _store_error(self, error: Any, operation: str) -> StoreError:
        reason = " ".join((error.diag.message_primary or str(error)).split())
        if operation == "opened":
            return StoreError(
                f"the store {self.name} cannot be opened ({reason}); check the URL and that its server runs, "
                "or leave --store and BAKEOFF_STORE out"
            )
        if operation == "read":
            return StoreError(f"the store {self.name} could not be read ({reason})")
        return not_written(f"the store {self.name}", reason)


def load_driver() -> Any:
    """Import and return psycopg. Raises StoreError if it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise StoreError(
            "a store on PostgreSQL needs psycopg, which is not installed; `pip install 'bakeoff[postgres]'`"
        ) from error
    return psycopg


def parse_url(url: str) -> dict[str, Any]:
    """Return the connection parameters in the URL of a store, with defaults for missing ones.

    Raises StoreError for a malformed URL. The message does not repeat the URL: parts of a password may be anywhere in it.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    unreadable = StoreError(
        "the store's URL cannot be read; it should be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
        "with special characters of a password as %40 for @, %2F for / and so on"
    )
    user, at, rest = url.partition("://")[2].partition("@")
    if "@" in rest or (at and "/" in user):
        raise unreadable
    try:
        settings = conninfo_to_dict(url)
    except ProgrammingError:
        raise unreadable from None
    if not all(port.isdigit() or not port for port in str(settings.get("port", "")).split(",")):
        raise unreadable
    return CONNECTION_DEFAULTS | settings


def redacted_url(settings: dict[str, Any]) -> str:
    """Return the URL of a store for messages, without user and password; ``settings`` are its connection parameters."""
    host = settings.get("host") or settings.get("hostaddr") or ""
    host = "" if host.startswith("/") else host
    port = f":{settings['port']}" if settings.get("port") else ""
    return f"postgresql://{host}{port}/{settings.get('dbname') or ''}"

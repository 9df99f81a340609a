"""An older store made into one of this version: Alembic runs the steps in ``versions/``, in one transaction.

The version that counts is SQLite's ``user_version`` or PostgreSQL's table ``schema_version``; Alembic's own table is there only
while it works. Whoever opens the store meanwhile waits, and then finds the work done. Imported only when there is work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from leaderboard.errors import StoreError
from leaderboard.store import schema

MIGRATIONS_FOLDER = Path(__file__).parent
VERSION_TABLE = "alembic_version"


def upgrade_sqlite(connect: Callable[[], Any], name: str) -> None:
    """``connect`` opens connections without transactions of their own, ``name`` is what messages call the store.

    Raises StoreError with the reason; the file is then as it was.
    """
    engine = sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    # The driver would begin a transaction only at the first change; the version has to be read under the lock.
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    _upgrade(engine, "PRAGMA user_version", "PRAGMA user_version = {}", name)


def upgrade_postgres(connect: Callable[[], Any], name: str, *, lock: int) -> None:
    """As `upgrade_sqlite`; ``lock`` is the advisory lock under which versions change."""

    def transactional() -> Any:
        connection = connect()
        connection.autocommit = False
        return connection

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=transactional, poolclass=NullPool)
    sqlalchemy.event.listen(
        engine, "begin", lambda connection: connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock})")
    )
    _upgrade(engine, "SELECT version FROM schema_version", "UPDATE schema_version SET version = {}", name)


def _upgrade(engine: sqlalchemy.Engine, read_version: str, write_version: str, name: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            version = int(connection.exec_driver_sql(read_version).scalar_one())
            if version >= schema.VERSION:
                return
            config.attributes["connection"] = connection
            command.stamp(config, _revision(version))
            command.upgrade(config, _revision(schema.VERSION))
            connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
            connection.exec_driver_sql(write_version.format(schema.VERSION))
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise StoreError(
            f"{name} could not be brought to schema {schema.VERSION} ({reason}); it is as it was"
        ) from error
    finally:
        engine.dispose()


def _revision(version: int) -> str:
    return f"{version:04d}"

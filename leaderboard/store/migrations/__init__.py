"""Migration of an older store to this version: Alembic runs the steps in ``versions/`` in one transaction.

The version is stored in SQLite's ``user_version`` or PostgreSQL's table ``schema_version``. Alembic's own table exists only during
the migration. Other processes that open the store wait until it is done. This package is imported only for a migration.
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
    """Migrate a SQLite store to the schema of this version.

    ``connect`` opens connections in autocommit mode, ``name`` is the store's name in messages. Raises StoreError with the reason;
    the file is then unchanged.
    """
    engine = sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    # The driver begins a transaction only at the first change, but the version must be read under the lock.
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    _upgrade(engine, "PRAGMA user_version", "PRAGMA user_version = {}", name)


def upgrade_postgres(connect: Callable[[], Any], name: str, *, lock: int) -> None:
    """Migrate a PostgreSQL store to the schema of this version.

    ``connect`` opens connections, ``name`` is the store's name in messages, ``lock`` is the number of the advisory lock for
    migrations. Raises StoreError with the reason; the store is then unchanged.
    """

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

"""Version 5: a table for the store's secret on PostgreSQL. With SQLite it is a file beside the database."""

from alembic import op

from leaderboard.store.schema import POSTGRES_SECRETS

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        for statement in POSTGRES_SECRETS:
            op.execute(statement)

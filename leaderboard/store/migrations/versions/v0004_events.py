"""Version 4: table of competition events, and indexes for large boards."""

from alembic import op

from leaderboard.store.schema import INDEXES, POSTGRES_EVENTS, SQLITE_EVENTS

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    events = SQLITE_EVENTS if op.get_bind().dialect.name == "sqlite" else POSTGRES_EVENTS
    for statement in (*INDEXES, *events):
        op.execute(statement)

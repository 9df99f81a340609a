"""Version 3: a table of who is at work on what."""

from alembic import op

from leaderboard.store.schema import LEASES_TABLE

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(LEASES_TABLE)

"""Version 3: table of leases on trials and seeds."""

from alembic import op

from leaderboard.store.schema import LEASES_TABLE

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(LEASES_TABLE)

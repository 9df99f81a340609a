"""Version 1: what a store of Bakeoff 0.1 is. Nothing is made from nothing here; it is where the other steps start."""

revision = "0001"
down_revision = None


def upgrade() -> None: ...

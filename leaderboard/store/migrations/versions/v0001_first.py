"""Version 1: store of Bakeoff 0.1. It has no step; the other steps start from it."""

revision = "0001"
down_revision = None


def upgrade() -> None: ...

"""Alembic environment: runs migrations on the connection and in the transaction that the package opened."""

from alembic import context

from leaderboard.store.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()

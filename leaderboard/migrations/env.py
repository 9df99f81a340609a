"""What Alembic runs for each command: the steps, on the connection and in the transaction that `leaderboard.migrations` opened."""

from alembic import context

from leaderboard.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()

"""Version 2: tables are append-only, and every score is finite or missing. Only SQLite had a version 1.

SQLite cannot add a constraint to a table, so new tables are made and the rows copied in the order of insertion.
"""

from alembic import op

from leaderboard.store.schema import SQLITE_2

revision = "0002"
down_revision = "0001"

COLUMNS = {
    "results": 'result_id, entry, task, task_version, submission, status, score, "row", replicates, created_at',
    "fits": "study, phase, number, params, attempt, status, value, facts, replicates, losses, created_at",
}


def upgrade() -> None:
    op.execute("DROP INDEX results_by_task")
    for table in COLUMNS:
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    tables = [statement for statement in SQLITE_2 if not statement.startswith("CREATE TRIGGER")]
    for statement in tables:
        op.execute(statement)
    for table, columns in COLUMNS.items():
        op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_1 ORDER BY rowid")  # noqa: S608
        op.execute(f"DROP TABLE {table}_1")
    for statement in SQLITE_2[len(tables) :]:
        op.execute(statement)

"""SQL of the store's tables by version, one statement per item. A released version is never changed; a new one needs a migration.

Version 1 had no triggers, and its scores had to be finite only in complete rows. PostgreSQL starts at version 2.
"""

from __future__ import annotations

VERSION = 5


def _append_only(table: str, *key: str) -> tuple[str, ...]:
    """Return the SQL of SQLite triggers that forbid updates and deletes of rows of a table, given the columns of its key.

    `INSERT OR REPLACE` deletes rows without a delete trigger. So the third trigger ignores every insertion of an existing key.
    """
    same = " AND ".join(f"{column} = NEW.{column}" for column in key)
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    there = f"SELECT 1 FROM {table} WHERE ({same}) OR rowid = NEW.rowid"  # noqa: S608
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_once BEFORE INSERT ON {table} WHEN EXISTS ({there}) BEGIN SELECT RAISE(IGNORE); END",
    )


SQLITE_2 = (
    """CREATE TABLE results (
    result_id TEXT PRIMARY KEY NOT NULL,
    entry TEXT NOT NULL,
    task TEXT NOT NULL,
    task_version INTEGER NOT NULL,
    submission TEXT NOT NULL,
    status TEXT NOT NULL,
    score REAL CHECK (score BETWEEN -1e300 AND 1e300),
    "row" TEXT NOT NULL,
    replicates BLOB NOT NULL,
    created_at TEXT NOT NULL,
    CHECK (status <> 'complete' OR score IS NOT NULL)
)""",
    "CREATE INDEX results_by_task ON results (task, task_version)",
    """CREATE TABLE fits (
    study TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('search', 'final')),
    number INTEGER NOT NULL,
    params TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    value REAL CHECK (value BETWEEN -1e300 AND 1e300),
    facts TEXT NOT NULL,
    replicates BLOB NOT NULL,
    losses BLOB NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (study, phase, number, params, attempt),
    CHECK (status <> 'complete' OR value IS NOT NULL)
)""",
    *_append_only("results", "result_id"),
    *_append_only("fits", "study", "phase", "number", "params", "attempt"),
)

# NaN is greater than every number in PostgreSQL, so BETWEEN refuses it. Times sort by bytes, whatever the server's locale.
# An index entry holds at most 2.7 kB, and parameters may be longer: the key has the hash of their bytes instead. To decode text
# with doubled backslashes gives its bytes.
POSTGRES_2 = (
    """CREATE TABLE results (
    result_id TEXT PRIMARY KEY,
    entry TEXT NOT NULL,
    task TEXT NOT NULL,
    task_version BIGINT NOT NULL,
    submission TEXT NOT NULL,
    status TEXT NOT NULL,
    score DOUBLE PRECISION CHECK (score BETWEEN -1e300 AND 1e300),
    "row" TEXT NOT NULL,
    replicates BYTEA NOT NULL,
    created_at TEXT COLLATE "C" NOT NULL,
    inserted BIGINT GENERATED ALWAYS AS IDENTITY,
    CHECK (status <> 'complete' OR score IS NOT NULL)
)""",
    "CREATE INDEX results_by_task ON results (task, task_version)",
    """CREATE TABLE fits (
    study TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('search', 'final')),
    number BIGINT NOT NULL,
    params TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    status TEXT NOT NULL,
    value DOUBLE PRECISION CHECK (value BETWEEN -1e300 AND 1e300),
    facts TEXT NOT NULL,
    replicates BYTEA NOT NULL,
    losses BYTEA NOT NULL,
    created_at TEXT COLLATE "C" NOT NULL,
    inserted BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    CHECK (status <> 'complete' OR value IS NOT NULL)
)""",
    r"""CREATE UNIQUE INDEX fits_once ON fits
    (study, phase, number, attempt, sha256(decode(replace(params, '\', '\\'), 'escape')))""",
    """CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$""",
    "CREATE TRIGGER results_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON results EXECUTE FUNCTION append_only()",
    "CREATE TRIGGER fits_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fits EXECUTE FUNCTION append_only()",
    "CREATE TABLE schema_version (version BIGINT NOT NULL, one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one))",
)

LEASES_TABLE = """CREATE TABLE leases (
    study TEXT NOT NULL,
    phase TEXT NOT NULL,
    number BIGINT NOT NULL,
    holder TEXT NOT NULL,
    token BIGINT NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (study, phase, number)
)"""
SQLITE_3 = (*SQLITE_2, LEASES_TABLE)
POSTGRES_3 = (*POSTGRES_2, LEASES_TABLE)

# The first index finds the rows of a board without a scan of the table; the second finds the result of an entry.
INDEXES = (
    "CREATE INDEX results_standing ON results (task, task_version, submission, (status = 'complete'), created_at)",
    "CREATE INDEX results_by_entry ON results (entry)",
)
_EVENTS = """CREATE TABLE events (
    competition TEXT NOT NULL,
    number BIGINT NOT NULL,
    at TEXT {collation}NOT NULL,
    kind TEXT NOT NULL,
    team TEXT NOT NULL,
    content TEXT NOT NULL,
    sealed {bytes} NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (competition, number)
)"""
SQLITE_EVENTS = (_EVENTS.format(collation="", bytes="BLOB"), *_append_only("events", "competition", "number"))
POSTGRES_EVENTS = (
    _EVENTS.format(collation='COLLATE "C" ', bytes="BYTEA"),
    "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events EXECUTE FUNCTION append_only()",
)
SQLITE_4 = (*SQLITE_3, *INDEXES, *SQLITE_EVENTS)
POSTGRES_4 = (*POSTGRES_3, *INDEXES, *POSTGRES_EVENTS)

# With SQLite the secret is a file of its own. Roles that may read the boards are never granted this table.
POSTGRES_SECRETS = (
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "REVOKE ALL ON secrets FROM PUBLIC",
)
SQLITE_5 = SQLITE_4
POSTGRES_5 = (*POSTGRES_4, *POSTGRES_SECRETS)

"""Secret of a store: text that no submission can know, from which the order of queries and the hidden halves are drawn.

It is kept apart from the rows, so that no export and no backup of the tables shows it: in a file that its owner alone can read, or
in a table of its own on PostgreSQL.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from leaderboard.errors import StoreError, not_written
from leaderboard.store.databases import Database


def new_secret() -> str:
    """Return 256 random bits as hexadecimal digits."""
    return secrets.token_hex(32)


def fingerprint(secret: str) -> str:
    """Return twelve hexadecimal digits that tell two secrets apart and say nothing else of them."""
    return hashlib.sha256(f"bakeoff|{secret}".encode()).hexdigest()[:12]


def secret_in_file(path: Path) -> str:
    """Return the secret in a file, which is made if it is not there. Several processes may do so at once. Raises StoreError."""
    try:
        if not path.exists():
            unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(new_secret())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(unfinished, path)  # fails where another process was first
            unfinished.unlink()
        with suppress(PermissionError):
            path.chmod(0o600)
        secret = path.read_text().strip()
    except OSError as error:
        raise not_written(str(path), error.strerror) from error
    if not secret:
        raise StoreError(f"{path} is empty; put the store's secret back, or remove the file for a new one")
    return secret


def secret_in_table(database: Database) -> str:
    """Return the secret in a database's table, which gets one if it has none. Raises StoreError."""
    database.write("INSERT INTO secrets (name, value) VALUES ('store', ?) ON CONFLICT DO NOTHING", (new_secret(),))
    ((secret,),) = database.read("SELECT value FROM secrets WHERE name = 'store'")
    return str(secret)

"""Secret of a store: made once, readable by its owner alone, and in no row."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from conftest import REPOSITORY
from servers import server

from leaderboard import Store
from leaderboard.store.secret import fingerprint


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_store_has_one_secret_whoever_asks_first(kind: str, tmp_path: Path) -> None:
    url = server().database() if kind == "postgres" else None
    stores = [Store(tmp_path, url=url) for _ in range(6)]
    with ThreadPoolExecutor() as threads:
        found = set(threads.map(lambda store: store.secret, stores))
    for store in stores:
        store.close()
    assert len(found) == 1
    (secret,) = found
    assert len(secret) == 64 and int(secret, 16)
    with closing(Store(tmp_path, url=url)) as again:
        assert again.secret == secret
    assert fingerprint(secret) not in secret


def test_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Store(tmp_path / "home")) as store:
            assert store.secret
            store.keep("abc", "source/model.py", b"content")
    finally:
        os.umask(before)
    home = tmp_path / "home"
    for file in ("secret", "bakeoff.sqlite"):
        assert mode(home / file) == 0o600, file
    assert mode(home / "artefacts") == 0o700
    assert mode(home / "artefacts" / "abc" / "source" / "model.py") == 0o600


def test_files_that_others_could_read_are_tightened_when_they_are_opened(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        assert store.secret
        store.keep("abc", "log.txt", b"")
    for path, loose in (("secret", 0o644), ("bakeoff.sqlite", 0o644), ("artefacts", 0o755)):
        (tmp_path / path).chmod(loose)
    with closing(Store(tmp_path)) as store:
        assert store.secret
    assert [mode(tmp_path / path) for path in ("secret", "bakeoff.sqlite", "artefacts")] == [0o600, 0o600, 0o700]


def test_roles_that_are_granted_the_boards_do_not_see_the_secret() -> None:
    url = server().database()
    with closing(Store(Path("unused"), url=url)) as store:
        assert store.secret
        granted = store.database.read(
            "SELECT grantee FROM information_schema.role_table_grants WHERE table_name = 'secrets' AND grantee = 'PUBLIC'"
        )
    assert granted == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_password_of_a_store_leaves_the_command_line() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://user:geheim%21@127.0.0.1:{silent.getsockname()[1]}/db"
        command = [sys.executable, "-m", "harness.cli", "leaderboard", "--store", url]
        with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE) as process:
            try:
                silent.accept()
                shown = Path("/proc", str(process.pid), "cmdline").read_bytes()
            finally:
                process.kill()
    assert b"geheim" not in shown and b"user:*********@127.0.0.1" in shown

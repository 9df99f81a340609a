"""Crashes lose nothing: runs killed at every step, full disks, and database servers that go away during a run.

A run is killed and the same command is given again. The table must be that of an undisturbed run. Every acknowledged row is there,
once; no process and no temporary file is left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import REPOSITORY, TINY_MODEL, TINY_TASK, write
from servers import Server, server

from leaderboard import Store

KILLER = REPOSITORY / "tests" / "killer.py"
STEPS = ("spawn", "read", "score", "commit", "tell")
TRIALS, SEEDS = 6, 2
NOT_COMPARED = (
    "fit_seconds",
    "predict_seconds",
    "search_seconds",
    "peak_memory_mb",
    "created_at",
    "isolation",
    "probe",
)


SECRET = "1e" * 32


@dataclass
class Scene:
    """Folder with a task, a submission and a home, and the command that is repeated in it."""

    folder: Path
    url: str | None = None
    workers: int = 1
    trials: int = TRIALS
    isolation: str = "process"
    diaries: int = 0
    resumed: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "temporary").mkdir(parents=True)
        write(self.folder, "tiny.py", TINY_TASK)
        write(self.folder, "nearest.py", TINY_MODEL)
        # All homes have one secret, so that the public and the private halves of their rows can be compared.
        (self.folder / "home").mkdir()
        write(self.folder / "home", "secret", SECRET)
        if self.url:
            with closing(Store(self.folder / "home", url=self.url)) as store:
                store.database.write("INSERT INTO secrets (name, value) VALUES ('store', ?)", (SECRET,))

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    def start(self, **plan: object) -> subprocess.Popen[str]:
        self.diaries += 1
        plan["diary"] = str(self.folder / f"diary{self.diaries}")
        arguments = ["run", "tiny.py", "-s", "nearest.py", "--json", "--isolation", self.isolation, "--home", "home"]
        arguments += ["--trials", self.trials, "--seeds", SEEDS, "--workers", self.workers]  # type: ignore[list-item]
        return subprocess.Popen(
            [sys.executable, KILLER, json.dumps(plan), *map(str, arguments)],
            cwd=self.folder,
            env=os.environ
            | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(self.temporary), "BAKEOFF_STORE": self.url or ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> list[dict[str, object]]:
        """Run the command undisturbed; return its rows."""
        started = time.monotonic()
        process = self.start()
        said, complained = process.communicate(timeout=120)
        assert process.returncode == 0, complained
        self.resumed.append(time.monotonic() - started)
        rows: list[dict[str, object]] = json.loads(said)["rows"]
        return rows

    def killed(self, step: str, when: str, hit: int) -> bool:
        """Run the command and kill it at a step. Return False if it ended before that step."""
        process = self.start(step=step, when=when, hit=hit)
        process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL)
        assert_ended(self.children())
        return process.returncode != 0

    def killed_after(self, seconds: float) -> bool:
        process = self.start()
        time.sleep(seconds)
        family = []
        with suppress(psutil.Error):
            psutil.Process(process.pid).suspend()  # so that it starts no child unseen
            family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=60)
        assert_ended(family)
        return process.returncode != 0

    def entries(self, kind: str) -> list[object]:
        """All acknowledged entries of the diaries, of kind ``fit`` or ``result``."""
        lines = [
            json.loads(line)
            for path in self.folder.glob("diary*")
            for line in path.read_text().splitlines()
            if line.endswith("}")
        ]
        return [line[kind] for line in lines if kind in line]

    def children(self) -> list[psutil.Process]:
        """Processes that the killed run had started and that still run."""
        found = []
        *_, last = sorted(self.folder.glob("diary*"), key=lambda path: int(path.name[5:]))
        for line in map(json.loads, last.read_text().splitlines()):
            for pid, created in line.get("children", ()):
                with suppress(psutil.NoSuchProcess):
                    child = psutil.Process(pid)
                    if child.create_time() == created:
                        found.append(child)
        return found

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = Store(self.folder / "home", url=self.url, create=False)
        try:
            yield store
        finally:
            store.close()

    def table(self) -> object:
        """Rows and fits that must be equal in an interrupted and in an undisturbed run."""
        with self.store() as store:
            fits = store.database.read("SELECT phase, number, params, attempt, status, value FROM fits")
            rows = [result.row() for result, _ in store.results()]
        kept = sorted(path.name for path in (self.folder / "home" / "artefacts").rglob("*") if path.is_file())
        return sorted(fits), [{key: row[key] for key in row if key not in NOT_COMPARED} for row in rows], kept

    def nothing_is_lost(self) -> None:
        """Check that every acknowledged row is there, none twice, the budget is exact, and all rows are final."""
        with self.store() as store:
            fits = [list(row) for row in store.database.read("SELECT study, phase, number, params, attempt FROM fits")]
            results = [result for result, _ in store.results()]
            statuses = {status for (status,) in store.database.read("SELECT DISTINCT status FROM fits")}
        acknowledged = [entry for entry in self.entries("fit") if isinstance(entry, list)]
        assert all(fits.count(entry) == 1 for entry in acknowledged), "an acknowledged row is missing, or there twice"
        numbers = sorted((phase, number) for _, phase, number, _, _ in fits)
        assert numbers == [("final", n) for n in range(SEEDS)] + [("search", n) for n in range(self.trials)]
        assert [(result.n_trials, result.n_failed, result.status) for result in results] == [
            (self.trials, 0, "complete")
        ]
        assert self.entries("result") == [results[0].result_id] and statuses <= {"complete", "pruned"}

    def nothing_is_left(self) -> None:
        """Check that no temporary folder is left: the next start removes those of a killed run."""
        assert list(self.temporary.glob("bakeoff-*")) == []


def assert_ended(family: list[psutil.Process]) -> None:
    """Check that all these processes end within a few seconds."""
    _, alive = psutil.wait_procs(family, timeout=10)
    alive = [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not alive, alive


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Table of an undisturbed run."""
    scene = Scene(tmp_path_factory.mktemp("undisturbed") / "scene")
    scene.run()
    scene.nothing_is_lost()
    scene.nothing_is_left()
    return scene.table()


# Killed runs ----------------------------------------------------------------------------------------------------------------


def both(check: Callable[[Any], float], cases: Sequence[Any]) -> float:
    """Run two checks at once, since a run mostly waits; return the longest of their times."""
    with ThreadPoolExecutor(2) as threads:
        return max(threads.map(check, cases))


@pytest.mark.slow
def test_killed_at_each_step(tmp_path: Path, undisturbed: object) -> None:
    """Kill one run five times, at another step each time, then let it end: before the steps in one isolation tier, after them in
    another."""

    def check(case: tuple[str, str]) -> float:
        when, isolation = case
        scene = Scene(tmp_path / when, isolation=isolation)
        for step in STEPS:
            assert scene.killed(step, when, hit=1 if step != "commit" else 2)
        scene.run()
        scene.nothing_is_lost()
        scene.nothing_is_left()
        assert scene.table() == undisturbed
        return scene.resumed[0]

    seconds = both(check, [("before", "process"), ("after", "auto")])
    print(f"10 kills; resumed in {seconds:.1f} s")
    assert seconds < 30


def test_killed_around_the_last_rows(tmp_path: Path, undisturbed: object) -> None:
    """Kill a run after the first seed of the final fits, and between the result's row and the end."""
    scene = Scene(tmp_path / "scene")
    assert scene.killed("commit", "after", hit=TRIALS + 1)
    assert scene.killed("commit", "after", hit=SEEDS)
    scene.run()
    scene.nothing_is_lost()
    scene.nothing_is_left()
    assert scene.table() == undisturbed


@pytest.mark.slow
def test_killed_at_any_time(tmp_path: Path, undisturbed: object) -> None:
    """Kill runs at random moments. With two trials at once the suggestions depend on their order, the other checks do not."""

    def check(workers: int) -> float:
        chance = random.Random(workers)
        scene = Scene(tmp_path / f"scene{workers}", workers=workers)
        for _ in range(2):
            scene.killed_after(chance.uniform(0.5, 2))
        scene.run()
        scene.nothing_is_lost()
        scene.nothing_is_left()
        assert workers > 1 or scene.table() == undisturbed
        return scene.resumed[0]

    print(f"resumed in {both(check, [1, 2]):.1f} s")


KILLS = int(os.environ.get("BAKEOFF_TORTURE", "200"))
"""Number of kills of each kind in the long tests."""


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("how", ["random", "named"])
def test_torture(how: str, tmp_path: Path, undisturbed: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill runs again and again; let each end after one to four kills."""
    kills = 0

    def check(seed: int) -> float:
        nonlocal kills
        chance, runs, slowest = random.Random(f"{how}{seed}"), 0, 0.0
        while kills < KILLS:
            runs += 1
            scene = Scene(tmp_path / f"scene{seed}-{runs}", workers=chance.choice([1, 1, 2]))
            for _ in range(chance.randint(1, 4)):
                if how == "random":
                    died = scene.killed_after(chance.uniform(0, 2))
                else:
                    died = scene.killed(chance.choice(STEPS), chance.choice(["before", "after"]), chance.randint(1, 4))
                kills += died  # a separate statement: the other thread adds during the call
            scene.run()
            scene.nothing_is_lost()
            scene.nothing_is_left()
            assert scene.workers > 1 or scene.table() == undisturbed
            slowest = max(slowest, *scene.resumed)
        return slowest

    seconds = both(check, [1, 2])
    with capsys.disabled():
        print(f"\n{how}: {kills} kills, nothing lost and nothing twice; resumed in {seconds:.1f} s at most")


# A full disk ----------------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a small file system; skip the test if mounting is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_loses_nothing(tmp_path: Path, undisturbed: object) -> None:
    """Fill the disk while a run records on it: in the search, and again in the final fits."""
    scene = Scene(tmp_path / "scene")
    with small_disk(scene.folder / "home", "2m") as home:
        write(home, "secret", SECRET)
        for rows in (2, TRIALS):
            process = scene.start()
            wait_for_rows(scene, process, rows)
            fill(home / "ballast")
            _, complained = process.communicate(timeout=120)
            assert process.returncode == 2, complained
            assert "what was recorded before is safe, and the same command goes on from there" in complained
            assert "Traceback" not in complained and len(complained.strip().splitlines()) <= 2
            with scene.store() as store:
                assert len(store.database.read("SELECT 1 FROM fits")) == len(scene.entries("fit")) >= rows
            (home / "ballast").unlink()
        scene.run()
        scene.nothing_is_lost()
        scene.nothing_is_left()
        assert scene.table() == undisturbed


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


# PostgreSQL -----------------------------------------------------------------------------------------------------------------


def test_a_server_that_restarts_in_mid_run(tmp_path: Path, undisturbed: object) -> None:
    """Resume a killed run; stop its server cleanly and then kill it while the run records: the run continues by itself."""
    machine = server()
    scene = Scene(tmp_path / "scene", url=machine.database())
    assert scene.killed("commit", "after", hit=1)
    process = scene.start()
    for wanted, away in ((2, machine.stop), (4, machine.kill)):
        wait_for_rows(scene, process, wanted)
        away()
        time.sleep(0.5)
        machine.start()
    _, complained = process.communicate(timeout=120)
    assert process.returncode == 0, complained
    scene.nothing_is_lost()
    scene.nothing_is_left()
    assert scene.table() == undisturbed
    with scene.store() as store:
        assert not (scene.folder / "home" / "bakeoff.sqlite").exists() and len(store.results()) == 1


def wait_for_rows(scene: Scene, process: subprocess.Popen[str], wanted: int) -> None:
    for _ in range(6000):
        if len(scene.entries("fit")) >= wanted:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("the run recorded nothing")


def test_a_server_that_stays_away_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads wait at the same time, not in turn; the store works again once the server is back."""
    from leaderboard import StoreError
    from leaderboard.store import postgres
    from leaderboard.store.store import Fit

    machine: Server = server()
    monkeypatch.setattr(postgres, "RECONNECT_SECONDS", 1.0)
    store = Store(tmp_path, url=machine.database())
    machine.stop("immediate")
    said: list[str] = []

    def add(number: int) -> None:
        try:
            store.add_fit(Fit("s", "search", number, {}, 0, "complete", 0.5))
        except StoreError as error:
            said.append(str(error))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    machine.start()
    assert len(said) == 4 and all("what was recorded before is safe" in text for text in said) and took < 20
    add(0)
    assert len(said) == 4 and len(store.fits("s", "search")) == 1
    store.close()

"""The sandbox: its probe is right, an unavailable tier is an error, and each limit has its own status."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from conftest import REPOSITORY, Command, hostile, write
from test_hostile import HOSTILE

import harness
from harness import Limits
from harness.errors import ProbeFailed, UsageError
from harness.execution.child import probe
from harness.execution.parent import cgroups, isolation, workers
from harness.execution.parent.canary import MUST_BE_CLOSED, Canary
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.isolation import Isolation
from harness.execution.parent.workers import Worker, WorkerConfig
from harness.execution.shared.probe_answers import CLOSED, OPEN
from harness.plugins.bundle import bundle
from harness.plugins.registry import find_submission, read_tasks

OPEN_TO_ALL = (
    "read a file",
    "write a file",
    "change a file's rights",
    "parent's environment",
    "signal the parent",
    "process list",
    "tcp",
    "udp",
    "abstract socket",
    "netlink",
    "unlimited disk",
)
"""Holes that an ordinary process of the same user finds open on any Linux."""


def had(tier: str) -> Isolation:
    found, why = isolation.probed(tier)
    if found is None:
        pytest.skip(f"{tier} is not to be had here: {why}")
    return found


# The probe ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> dict[str, str]:
    """Results of the probe in an ordinary process."""
    return isolation.run_probe(Isolation())


@pytest.mark.parametrize("hole", sorted(set(MUST_BE_CLOSED["sandbox-a"])))
def test_each_attempt_can_succeed(hole: str, plain: dict[str, str]) -> None:
    """Each hole is open in an ordinary process; otherwise the probe would not really try it."""
    if hole not in OPEN_TO_ALL and plain[hole] == CLOSED:
        pytest.skip(f"this machine closes it to every process: {hole}")
    assert plain[hole] == OPEN


def test_every_hole_is_tried(plain: dict[str, str]) -> None:
    assert all(set(needed) <= set(plain) for needed in MUST_BE_CLOSED.values())


@pytest.mark.parametrize("tier", isolation.TIERS[:2])
def test_a_tier_is_called_so_when_its_holes_are_closed(tier: str) -> None:
    answers = had(tier).answers
    assert {answers[hole] for hole in MUST_BE_CLOSED[tier]} == {CLOSED}


def test_a_probe_that_lies_is_not_believed(tmp_path: Path) -> None:
    """Only messages that arrive outside count, not claims from inside."""
    with Canary() as canary:
        said = probe.probe(canary.targets)
        judged = canary.verdict(dict.fromkeys(said, CLOSED))
    assert {judged[hole] for hole in ("udp", "write a file", "change a file's rights")} == {OPEN}


def test_an_open_hole_is_no_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    had("sandbox-a")
    answers = dict.fromkeys(MUST_BE_CLOSED["sandbox-a"], CLOSED)
    monkeypatch.setattr(isolation, "run_probe", lambda tier: answers | {"udp": OPEN})
    isolation.probed.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"not to be had here .*its probe found open: udp"):
            isolation.choose("sandbox-a")
        notes: list[str] = []
        assert isolation.choose("auto", notes.append).name == "process" and "its probe found open" in notes[0]
    finally:
        isolation.probed.cache_clear()


# Asking for a tier ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_bubblewrap(tmp_path: Path) -> dict[str, str]:
    """PATH with all programs that a run needs, without bubblewrap."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("setpriv", "git", "sh"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return {"PATH": str(folder)}


def test_an_unavailable_tier_is_an_error(tiny: Path, bakeoff: Command, no_bubblewrap: dict[str, str]) -> None:
    asked = ("run", "tiny.py", "-s", "nearest.py", "--trials", "0", "--seeds", "1")
    done = bakeoff(*asked, "--isolation", "sandbox-a", code=2, env=no_bubblewrap)
    assert (
        "sandbox-a" in done.stderr and "bubblewrap is not installed" in done.stderr and "Traceback" not in done.stderr
    )
    assert not (tiny / ".bakeoff").exists()


def test_auto_goes_down_and_says_so(tiny: Path, bakeoff: Command, no_bubblewrap: dict[str, str]) -> None:
    asked = ("run", "tiny.py", "-s", "nearest.py", "--trials", "0", "--seeds", "1", "--json")
    (row,) = json.loads(bakeoff(*asked, env=no_bubblewrap).stdout)["rows"]
    assert row["isolation"] == ("sandbox-b" if isolation.probed("sandbox-b")[0] else "process")
    (Path(no_bubblewrap["PATH"]) / "setpriv").unlink(missing_ok=True)
    done = bakeoff(*asked, "--home", "other", env=no_bubblewrap)
    (row,) = json.loads(done.stdout)["rows"]
    assert row["isolation"] == "process" and row["status"] == "complete"
    assert "no sandbox here" in done.stderr and "run only code that you trust" in done.stderr


# Kinds of tier A ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", isolation.candidates(), ids=lambda one: f"{one.name}-{one.user_namespace}")
def test_every_way_to_a_tier_runs_a_submission(candidate: Isolation, tiny: Path) -> None:
    """As root, tier A changes to another user; without root, and here too, it can be nobody in a new namespace."""
    try:
        answers = isolation.run_probe(candidate)
    except ProbeFailed as error:
        pytest.skip(f"{candidate.name} is not to be had this way: {error}")
    assert {answers[hole] for hole in MUST_BE_CLOSED[candidate.name]} == {CLOSED}
    task = read_tasks(tiny / "tiny.py")[0].task
    loaded = task.load()
    data = SharedInputs.of(loaded.train, loaded.valid, task.kind)
    source = find_submission(str(tiny / "nearest.py"))
    with Worker(bundle(source), WorkerConfig(candidate)) as worker:
        worker.ready()
        with worker.trial({"shrink": 0.0}, data, seed=0, device="cpu", time_limit=20) as trial:
            trial.fit()
            answer, _ = trial.predict(loaded.test.x, task.kind)
    data.close()
    assert (answer == loaded.test.y).mean() > 0.7


READS_PACKAGES = """
import importlib.util
from pathlib import Path
from harness import Submission

for top, file in (("hypothesis", "core.py"), ("tqdm", "std.py")):
    place = importlib.util.find_spec(top).submodule_search_locations[0]
    try:
        Path(place, file).read_bytes()
        print(top, "is read", flush=True)
    except OSError:
        print(top, "is hidden", flush=True)

class Model(Submission):
    kind = "image-classification"
    def fit(self, train, valid, report): pass
    def predict(self, x): return x
"""


@pytest.mark.parametrize("tier", ["sandbox-a", "sandbox-b"])
def test_an_installed_package_can_be_hidden(tier: str, tmp_path: Path) -> None:
    """As packages with tasks are: their neighbours in site-packages stay readable."""
    if isolation.probed(tier)[0] is None:
        pytest.skip(f"{tier} is not to be had here: {isolation.probed(tier)[1]}")
    tmp_path.chmod(0o755)
    chosen = isolation.choose(tier, hidden=[Path(hypothesis.__file__).parent])
    source = find_submission(str(write(tmp_path, "reads.py", READS_PACKAGES)))
    with Worker(bundle(source), WorkerConfig(chosen)) as worker:
        worker.ready()
    assert worker.log.text.splitlines()[-2:] == ["hypothesis is hidden", "tqdm is read"]


FRAMEWORKS = {
    "torch": """
import torch
from harness import Submission

class Model(Submission):
    kind = "image-classification"

    def fit(self, train, valid, report):
        x, y = torch.tensor(train.x.reshape(len(train), -1) / 255, dtype=torch.float32), torch.tensor(train.y)
        self.net = torch.nn.Linear(x.shape[1], 3)
        optimiser = torch.optim.Adam(self.net.parameters(), lr=0.1)
        for _ in range(100):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(self.net(x), y).backward()
            optimiser.step()

    def predict(self, x):
        with torch.no_grad():
            return self.net(torch.tensor(x.reshape(len(x), -1) / 255, dtype=torch.float32)).argmax(1).numpy()
""",
    "keras": """
import keras
from harness import Submission

class Model(Submission):
    kind = "image-classification"

    def fit(self, train, valid, report):
        self.net = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
        self.net.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
        self.net.fit(train.x / 255, train.y, epochs=30, verbose=0)

    def predict(self, x):
        return self.net.predict(x / 255, verbose=0)
""",
    "sklearnex": """
from sklearnex.svm import SVC
from harness import Submission

class Model(Submission):
    kind = "image-classification"

    def fit(self, train, valid, report):
        self.model = SVC().fit(train.x.reshape(len(train), -1), train.y)

    def predict(self, x):
        return self.model.predict(x.reshape(len(x), -1))
""",
}


@pytest.mark.slow
def test_frameworks_run_in_the_sandbox(tiny: Path) -> None:
    pytest.importorskip("sklearnex")
    had("sandbox-a")
    files = [write(tiny, f"with_{name}.py", text) for name, text in FRAMEWORKS.items()]
    rows = harness.run(
        str(tiny / "tiny.py"), list(map(str, files)), trials=0, seeds=1, isolation_tier="sandbox-a", home=tiny / "home"
    )
    assert [(row["submission"], row["error"]) for row in rows if row["status"] != "complete"] == []
    assert all(row["score"] > 0.7 and row["isolation"] == "sandbox-a" for row in rows)


# Limits ---------------------------------------------------------------------------------------------------------------------

STATUSES = {
    "cpu_hog": "cpu-limit",
    "cpu_hog_of_many": "cpu-limit",
    "memory_hog": "out-of-memory",
    "memory_hog_of_many": "out-of-memory",
    "fork_bomb": "process-limit",
    "thread_bomb": "process-limit",
    "output_flood": "output-limit",
    "disk_hog": "disk-limit",
    "disk_hog_of_many": "disk-limit",
    "hang_in_predict": "timeout",
}
LIMITS = Limits(cpu_seconds=1.0, memory=400_000_000, processes=64, output=2_000_000, disk=30_000_000)


@pytest.fixture
def attacks(tiny: Path) -> Path:
    """Folder of the tiny task with the attacks."""
    shutil.copytree(HOSTILE, tiny / "plugs", ignore=shutil.ignore_patterns("__pycache__", "ruff.toml"))
    (tiny / "plugs" / "target_info.py").write_text("TARGET = {}\n")
    text = (tiny / "tiny.py").read_text()
    write(
        tiny,
        "limited.py",
        text.replace("import Image", "import Limits, Image").replace(
            'metric="accuracy"', f'metric="accuracy", limits={LIMITS!r}'
        ),
    )
    return tiny


@pytest.mark.slow
@pytest.mark.parametrize(
    "tier", ["sandbox-a", *(pytest.param(tier, marks=pytest.mark.long) for tier in ("sandbox-b", "process"))]
)
def test_limits_hold_without_control_groups(tier: str, attacks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling enforces the task's limits, each with its own status. (test_hostile covers control groups.)"""
    wanted = dict(STATUSES)
    if tier != "process":
        had(tier)
    own_user = tier == "sandbox-a" or (tier == "sandbox-b" and isolation.readable_by_others())
    if os.getuid() == 0 and not own_user:
        del wanted["fork_bomb"]  # root's processes have no limit, and the poller is starved: this ends as a timeout
    monkeypatch.setattr(cgroups, "parent_groups", dict)
    rows = harness.run(
        str(attacks / "limited.py"),
        [str(attacks / "plugs" / f"{name}.py") for name in wanted],
        trials=0,
        seeds=1,
        workers=1,
        time_limit=4,
        isolation_tier=tier,
        home=attacks / "home",
    )
    found = {row["submission"].replace("-", "_"): (row["status"], row["error"]) for row in rows}
    assert {name: status for name, (status, _) in found.items()} == wanted, found


def test_each_limit_has_a_flag(attacks: Path, bakeoff: Command) -> None:
    """Flags override the task's own limits, and the error names the flag that raises a limit."""
    flags = {
        "cpu_hog": ("--cpu-limit", "0.5"),
        "memory_hog": ("--memory-limit", "300M"),
        "thread_bomb": ("--process-limit", "40"),
        "output_flood": ("--output-limit", "1M"),
        "disk_hog": ("--disk-limit", "20M"),
    }
    submissions = [word for name in flags for word in ("-s", f"plugs/{name}.py")]
    given = [word for pair in flags.values() for word in pair]
    done = bakeoff(
        *("run", "limited.py", *submissions, *given, "--trials", "0", "--seeds", "1", "--time-limit", "10", "--json"),
        code=1,
    )
    for row in json.loads(done.stdout)["rows"]:
        name = row["submission"].replace("-", "_")
        assert row["status"] == STATUSES[name] and flags[name][0] in row["error"], row["error"]


def test_an_import_that_never_ends_is_one_row(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WARM_LIMIT_SECONDS", 2.0)
    slow = hostile(tiny, "slow", top="time.sleep(1000)")
    (row,) = harness.run(str(tiny / "tiny.py"), [str(slow)], home=tiny / "home")
    assert row["status"] == "failed" and "took more than 2 s to import" in row["error"]


# What killed harnesses leave ------------------------------------------------------------------------------------------------


@pytest.fixture
def gone() -> int:
    """Process id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_folders_of_dead_processes_are_removed_and_others_kept(gone: int) -> None:
    place = Path(tempfile.gettempdir())
    left, kept = place / f"bakeoff-{gone}-left", place / f"bakeoff-{os.getpid()}-kept"
    others = [place / "bakeoff-notes", place / "bakeoff-x-1"]
    try:
        for folder in (left, kept, *others):
            folder.mkdir(exist_ok=True)
            (folder / "file").touch()
        isolation.sweep()
        assert not left.exists() and all((folder / "file").exists() for folder in (kept, *others))
    finally:
        for folder in (left, kept, *others):
            shutil.rmtree(folder, ignore_errors=True)


def test_control_groups_of_dead_processes_are_ended_and_others_kept(gone: int) -> None:
    parents = cgroups.parent_groups()
    if not parents:
        pytest.skip("no control groups can be made here")
    places = {
        pid: {name: folder / f"bakeoff-{pid}-777" for name, folder in parents.items()} for pid in (gone, os.getpid())
    }
    sleepers = {pid: subprocess.Popen(["sleep", "100"]) for pid in places}
    groups = {pid: cgroups.Group(places[pid], None, None) for pid in places}
    try:
        for pid, group in groups.items():
            group.add(sleepers[pid].pid)
        cgroups.sweep()
        assert sleepers[gone].wait(5) == -signal.SIGKILL and sleepers[os.getpid()].poll() is None
        cgroups.sweep()  # a group can be removed once its processes are reaped
        assert not any(place.exists() for place in places[gone].values())
        assert all(place.exists() for place in places[os.getpid()].values())
    finally:
        for group in groups.values():
            group.close()
        for sleeper in sleepers.values():
            sleeper.kill()
            sleeper.wait()


def of_run(mark: str) -> Iterator[psutil.Process]:
    """Yield the processes with this mark in their environment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in process.environ().get("PATH", "") and process.status() != psutil.STATUS_ZOMBIE:
                yield process


@pytest.mark.parametrize("tier", isolation.TIERS)
def test_a_killed_harness_leaves_nothing_that_runs(tier: str, tiny: Path) -> None:
    """SIGKILL of the parent also ends a submission and its child, and the next run removes the files that are left."""
    if tier != "process":
        had(tier)
    busy = hostile(tiny, "busy", "os.fork()\nwhile True: pass")
    mark = f"/bakeoff-killed-{os.getpid()}-{tier}"
    run = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "run", "tiny.py", "-s", busy.name, "--isolation", tier, "--seeds", "1"],
        cwd=tiny,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PATH": f"{os.environ['PATH']}:{mark}"},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: sum(process.cpu_times().user > 0.3 for process in of_run(mark)) >= 3, 60)
        run.kill()
        run.wait()
        if tier == "sandbox-b":  # its server dies with the harness and cannot end the processes of its trials
            isolation.sweep()
            cgroups.sweep()
        wait_for(lambda: not list(of_run(mark)), 5)
    finally:
        for process in of_run(mark):
            process.kill()
    isolation.sweep()
    cgroups.sweep()
    assert not list(Path(tempfile.gettempdir()).glob(f"bakeoff-{run.pid}-*"))
    assert not [left for place in cgroups.parent_groups().values() for left in place.glob(f"bakeoff-{run.pid}-*")]


def wait_for(condition: object, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(psutil.Error):
            if condition():  # type: ignore[operator]
                return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")

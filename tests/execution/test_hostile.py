"""Every attack of tests/hostile gets the verdict that its file names, in each tier, and harms no other entry.

An attack is a file with a docstring (its attempt, its hope), a submission, and up to three literals. This module parses the file
and never imports it:

- ``VERDICT``: the row that it must get. ``status``, one or several; ``error``, words in it; ``chance``, a complete row must score
  like a guess; ``fit_seconds``, the least seconds on record.
- ``OPTIONS``: its needs: ``task`` (a file of `TASKS`), ``limits`` (a name in `LIMITS`), ``seeds``, ``trials``, ``workers``,
  ``time_limit``.
- ``TIERS``: tiers that promise no defence against it, and why; it is not run there.

With any verdict, an attack that prints ``GOT THROUGH`` (see tests/hostile/_base.py) has found a hole. Attacks with the same options
share one run. An honest entry runs beside the last of them, and its scores must be those of a run alone, to the last bit.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import REPOSITORY, TINY_MODEL, TINY_TASK, write

import harness
from harness import Limits
from harness.execution.parent import cgroups, isolation, trial, workers
from leaderboard import Store

HOSTILE = REPOSITORY / "tests" / "hostile"
LIMITS = {
    "standard": Limits(),
    "tight": Limits(cpu_seconds=2.0, memory=400_000_000, processes=64, output=2_000_000, disk=30_000_000),
}
OPTIONS: dict[str, Any] = {
    "task": "tiny",
    "limits": "standard",
    "seeds": 1,
    "trials": 0,
    "workers": 1,
    "time_limit": 20,
}
MARK = f"bakeoff-test-hostile-{os.getpid()}"
"""Mark in the environment of every process that a run of this module starts."""
GUESSED = {"tiny": 0.5, "sorted": 0.5}
"""Accuracies above those of guessing one of three classes."""

SECRET = "0f" * 32
"""Secret of every store of this module, so that the public and the private half of a row can be compared."""
SCORES = ("status", "score", "seeds", "metrics", "ci_low", "ci_high", "public_score", "private_score", "valid_score")
"""Columns of an honest entry's row that must not depend on its neighbours."""
STATUSES = {
    "complete",
    "failed",
    "invalid",
    "timeout",
    "out-of-memory",
    "cpu-limit",
    "process-limit",
    "output-limit",
    "disk-limit",
}

TASKS = {
    "tiny": TINY_TASK,
    "sorted": TINY_TASK.replace("return stratified", "data = stratified")
    .replace(
        "\nTASK",
        """
    import dataclasses
    order = np.argsort(data.test.y)
    return dataclasses.replace(data, test=type(data.test)(data.test.x[order], data.test.y[order]))

TASK""",
    )
    .replace('name="tiny"', 'name="sorted"'),
    "tokens": """
import numpy as np
from harness import Data, NextToken, Split, Task

def chunks(rng, n):
    text = rng.integers(0, 4, size=(n, 33))
    return Split(text[:, :-1], text[:, 1:])

def load():
    rng = np.random.default_rng(1)
    return Data(chunks(rng, 50), chunks(rng, 30), chunks(rng, 120))

TASK = Task(name="tokens", kind=NextToken(vocabulary=4), load=load, metric="nats")
""",
    "series": """
import numpy as np
from harness import Forecasting, Task, windows

def load():
    series = np.random.default_rng(2).normal(size=(400, 1)).cumsum(axis=0)
    return windows(series, lookback=8, horizon=2, bounds=(200, 319, 400))

TASK = Task(name="series", kind=Forecasting(horizon=2), load=load, metric="mse")
""",
}
HONEST = {
    "tiny": TINY_MODEL,
    "sorted": TINY_MODEL,
    "tokens": '''
import numpy as np
from harness import Submission

class Uniform(Submission):
    """All tokens alike."""
    kind = "next-token"
    def fit(self, train, valid, report): pass
    def predict(self, x):
        return np.full((*x.shape, 4), -np.log(4), dtype=np.float32)
''',
    "series": '''
import numpy as np
from harness import Submission

class Last(Submission):
    """The last value goes on."""
    kind = "forecasting"
    def fit(self, train, valid, report): pass
    def predict(self, x):
        return np.repeat(x[:, -1:], self.task_kind.horizon, axis=1)
''',
}


@dataclass(frozen=True)
class Attack:
    """Parsed file of tests/hostile."""

    name: str
    verdict: Mapping[str, Any]
    options: Mapping[str, Any]
    spared: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Attack:
    literals: dict[str, Any] = {"OPTIONS": {}, "TIERS": {}}
    tree = ast.parse(path.read_bytes())
    assert ast.get_docstring(tree) and "Hopes" in str(ast.get_docstring(tree)), (
        f"{path.name} does not say what it hopes for"
    )
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("VERDICT", "OPTIONS", "TIERS"):
                literals[name] = ast.literal_eval(node.value)
    unknown = set(literals["OPTIONS"]) - set(OPTIONS)
    assert not unknown and set(literals["TIERS"]) <= set(isolation.TIERS), f"{path.name}: {unknown}"
    return Attack(path.stem, literals["VERDICT"], OPTIONS | literals["OPTIONS"], literals["TIERS"])


ATTACKS = {path.stem: read(path) for path in sorted(HOSTILE.glob("[a-z]*.py"))}


class Target:
    """Target of the attacks: a folder with secrets, a process, and listening sockets; module ``target_info`` says where."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.victim = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={"PATH": os.defpath})
        self.tcp, self.udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self.abstract, self.unix = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        for listener in (self.tcp, self.udp):
            listener.bind(("127.0.0.1", 0))
        self.abstract.bind(f"\0{MARK}-{id(self)}")
        self.unix.bind(str(folder / "socket"))
        for listener in (self.tcp, self.abstract, self.unix):
            listener.listen()
        self.listeners = (self.tcp, self.udp, self.abstract, self.unix)
        secret, artefact = folder / "secret.npy", self.home / "artefacts" / "another" / "picture.png"
        artefact.parent.mkdir(parents=True)
        artefact.write_bytes(b"a picture")
        np.save(secret, np.arange(120) % 3)
        self.kept = {path: path.read_bytes() for path in (secret, artefact)}
        write(self.home, "secret", SECRET)
        with contextlib.closing(Store(self.home)):
            pass
        (store,) = self.home.glob("*.sqlite")
        self.info = {
            "parent": os.getpid(),
            "victim": self.victim.pid,
            "secret": str(secret),
            "store": str(store),
            "artefact": str(artefact),
            "canary": str(folder / "canary"),
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "abstract": self.abstract.getsockname()[1:].decode(),
            "unix": str(folder / "socket"),
        }

    def harm(self) -> list[str]:
        """List the damage that attacks have done."""
        found = [f"{path.name} was changed" for path, content in self.kept.items() if path.read_bytes() != content]
        if (self.folder / "canary").exists():
            found.append("the canary was written")
        if "BAKEOFF_UNPICKLED" in os.environ:
            found.append("a pickle was read in the parent")
        if self.victim.poll() is not None or psutil.Process(self.victim.pid).status() == psutil.STATUS_STOPPED:
            found.append("the victim was ended or stopped")
        for listener in self.listeners:
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                (listener.recv if listener is self.udp else listener.accept)(*([1] if listener is self.udp else []))
                found.append(f"somebody reached {listener.getsockname()}")
        return found

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for listener in self.listeners:
            listener.close()


def leftovers() -> list[str]:
    """List processes, folders and control groups that runs of this process have left."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and MARK in process.environ().get("PATH", ""):
                found.append(f"process {process.pid}: {process.cmdline()}")
                process.kill()
    found += map(str, Path(tempfile.gettempdir()).glob(f"bakeoff-{os.getpid()}-*"))
    found += map(str, Path("/dev/shm").glob("*bakeoff*"))
    for place in set(cgroups.parent_groups().values()):
        found += map(str, place.glob(f"bakeoff-{os.getpid()}-*"))
    return found


@dataclass
class Ran:
    """Outcome of a run of several attacks: their rows, the output of each, and any damage."""

    rows: dict[str, dict[str, Any]]
    printed: dict[str, str]
    wrong: list[str]


@cache
def alone(tier: str, task: str, trials: int, seeds: int) -> dict[str, Any]:
    """Row of a task's honest entry in a run of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = write(Path(folder), f"{task}.py", TASKS[task])
        honest = write(Path(folder), "honest.py", HONEST[task])
        (Path(folder) / "home").mkdir()
        write(Path(folder) / "home", "secret", SECRET)
        (row,) = harness.run(
            str(place), [str(honest)], trials=trials, seeds=seeds, isolation_tier=tier, home=Path(folder) / "home"
        )
        return row


def attack(attacks: Sequence[Attack], tier: str, folder: Path) -> Ran:
    """Run attacks with the same options in one run, and an honest entry beside the last of them."""
    options = dict(attacks[0].options)
    task, limits = options.pop("task"), LIMITS[options.pop("limits")]
    target = Target(folder)
    try:
        target.info["task"] = str(write(folder, f"{task}.py", TASKS[task]))
        plugs = folder / "plugs"
        shutil.copytree(HOSTILE, plugs, ignore=shutil.ignore_patterns("__pycache__", "ruff.toml"))
        write(plugs, "target_info.py", f"TARGET = {target.info!r}\n")
        write(plugs, "honest.py", HONEST[task])
        names = [*(one.name for one in attacks), "honest"]
        open_before = psutil.Process().num_fds()
        found = harness.run(
            target.info["task"],
            [str(plugs / f"{name}.py") for name in names],
            isolation_tier=tier,
            home=target.home,
            limits=limits,
            **options,
        )
        wrong = target.harm() + leftovers()
        if (kept := psutil.Process().num_fds() - open_before) > 40:  # matplotlib keeps a few fonts open in each thread
            wrong.append(f"{kept} descriptors more are open in the parent")
        rows = {str(row["submission"]).replace("-", "_"): row for row in found}
        wrong += [f"there is no row of {name}" for name in names if name not in rows]
        wrong += [f"{name} ran in {row['isolation']}" for name, row in rows.items() if row["isolation"] != tier]
        for column in SCORES:
            wanted = alone(tier, task, options["trials"], options["seeds"])[column]
            if rows["honest"][column] != wanted:
                wrong.append(f"the honest entry's {column} is {rows['honest'][column]}, and alone {wanted}")
        with contextlib.closing(sqlite3.connect(target.info["store"])) as store:
            (integrity,) = store.execute("PRAGMA integrity_check").fetchone()
            wrong += [] if integrity == "ok" else [f"the store says {integrity}"]
        logs = {name: target.home / "artefacts" / row["result_id"] / "log.txt" for name, row in rows.items()}
        printed = {name: log.read_text(errors="replace") if log.exists() else "" for name, log in logs.items()}
        return Ran(rows, printed, wrong)
    finally:
        target.close()


def group_of(one: Attack) -> str:
    return repr(sorted(one.options.items()))


def needs(tier: str) -> None:
    """Skip the test, with the reason, if this machine lacks the tier."""
    if tier != "process":
        found, why = isolation.probed(tier)
        if found is None:
            pytest.skip(f"{tier} is not to be had here: {why}")


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, Attack], Ran]]:
    """Outcome of an attack's group in a tier; the first request runs the selected attacks of the group."""
    chosen = {
        (item.callspec.params["tier"], item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames
    }
    patch = pytest.MonkeyPatch()
    patch.setenv("PATH", f"{os.environ['PATH']}:/{MARK}")
    patch.setattr(workers, "WARM_LIMIT_SECONDS", 8.0)  # some attacks never end their import
    patch.setattr(trial, "EXIT_LIMIT_SECONDS", 1.0)  # some stop their server, so that it does not report their exit

    @cache
    def outcome(tier: str, group: str) -> Ran:
        alike = [one for one in ATTACKS.values() if group_of(one) == group and tier not in one.spared]
        selected = [one for one in alike if (tier, one.name) in chosen]
        return attack(selected, tier, tmp_path_factory.mktemp("attacks"))

    yield lambda tier, one: outcome(tier, group_of(one))
    patch.undo()


def check_verdict(one: Attack, row: Mapping[str, Any], printed: str) -> None:
    wanted, said = one.verdict, f"{row['status']}: {row['error']}"
    statuses = [wanted["status"]] if isinstance(wanted["status"], str) else wanted["status"]
    assert "GOT THROUGH" not in f"{said} {printed}", f"{one.name} got through: {said}\n{printed[-2000:]}"
    assert row["status"] in statuses, f"{one.name}: {said}\n{printed[-2000:]}"
    if row["status"] == "complete":
        if wanted.get("chance"):
            assert row["score"] < GUESSED.get(one.options["task"], np.inf), f"{one.name} scores {row['score']}"
        assert row["fit_seconds"] >= wanted.get("fit_seconds", 0.0)
        assert np.isfinite(row["score"])
    else:
        assert row["score"] is None and row["error"] and row["error"].isprintable()
        assert wanted.get("error", "") in row["error"], said


def cases(tier: str) -> list[Any]:
    """Parameters of all attacks in a tier. All run in tier A; in other tiers a handful run, the others are long tests."""
    few = (
        "hang_ignores_signals",
        "memory_hog_of_many",
        "lookahead_plainly",
        "answer_changed_later",
        "network_udp",
        "labels_by_path",
    )
    return [
        pytest.param(tier, name, marks=() if tier == "sandbox-a" or name in few else pytest.mark.long)
        for name in ATTACKS
    ]


@pytest.mark.parametrize(("tier", "name"), [case for tier in isolation.TIERS for case in cases(tier)])
def test_an_attack_gets_its_verdict(tier: str, name: str, outcomes: Callable[[str, Attack], Ran]) -> None:
    one = ATTACKS[name]
    needs(tier)
    if tier in one.spared:
        pytest.skip(f"{tier}: {one.spared[tier]}")
    ran = outcomes(tier, one)
    check_verdict(one, ran.rows[name], ran.printed[name])
    assert not ran.wrong, f"after {name} and those run beside it: {ran.wrong}"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_names_its_verdict(name: str) -> None:
    """The literals of a file have the form given in the docstring of this module."""
    one = ATTACKS[name]
    statuses = [one.verdict["status"]] if isinstance(one.verdict["status"], str) else one.verdict["status"]
    assert set(statuses) <= STATUSES and set(one.verdict) <= {"status", "error", "chance", "fit_seconds"}
    assert one.verdict.get("chance") or "complete" not in statuses or one.options["task"] == "tokens"


MANY = """
import json, sys, warnings
import psutil
import harness
from harness.execution.parent import trial, workers

task, home, hostile, honest = json.loads(sys.argv[1])
workers.WARM_LIMIT_SECONDS, trial.EXIT_LIMIT_SECONDS = 8.0, 1.0
options = {"trials": 0, "seeds": 1, "workers": 1, "time_limit": 10, "home": home, "isolation_tier": "sandbox-a"}
process = psutil.Process()
warnings.simplefilter("ignore")
harness.run(task, honest[:2] + hostile[:20], **options)
before = process.memory_full_info().uss
rows = harness.run(task, hostile + honest[2:], **options)
after = process.memory_full_info().uss
print(json.dumps({"grown": after - before, "rows": rows}))
"""
"""Program of a separate harness: a first run warms it up, a second one is measured. (Recorded fits are not repeated.)"""


@pytest.mark.long
def test_a_hundred_hostile_entries_cost_the_others_nothing(tmp_path: Path) -> None:
    """Honest entries beside the attacks score as they do alone, and the parent's memory does not grow."""
    needs("sandbox-a")
    names = [one.name for one in ATTACKS.values() if one.options == OPTIONS]
    target = Target(tmp_path)
    try:
        write(tmp_path, "tiny.py", TINY_TASK)
        target.info["task"] = str(tmp_path / "tiny.py")
        plugs = tmp_path / "plugs"
        shutil.copytree(HOSTILE, plugs, ignore=shutil.ignore_patterns("__pycache__", "ruff.toml"))
        write(plugs, "target_info.py", f"TARGET = {target.info!r}\n")
        hostile = []
        for number in range(120):  # the first twenty are the warm-up
            text = (HOSTILE / f"{names[number % len(names)]}.py").read_text()
            hostile.append(str(write(plugs, f"hostile_{number:03}.py", f"{text}\n# {number}\n")))
        honest = [str(write(plugs, f"honest_{number}.py", f"{TINY_MODEL}# {number}\n")) for number in range(6)]
        (alone,) = harness.run(
            target.info["task"], honest[:1], trials=0, seeds=1, home=tmp_path / "alone", isolation_tier="sandbox-a"
        )
        asked = json.dumps([target.info["task"], str(target.home), hostile, honest])
        done = subprocess.run(
            [sys.executable, "-c", MANY, asked], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said = json.loads(done.stdout)
        for row in said["rows"]:
            if row["submission"].startswith("honest"):
                assert {column: row[column] for column in SCORES} == {column: alone[column] for column in SCORES}
            else:
                name = names[int(row["submission"][-3:]) % len(names)]
                check_verdict(ATTACKS[name], row, "")
        assert sum(row["submission"].startswith("hostile") for row in said["rows"]) >= 100
        assert not target.harm()
        print(f"the parent grew by {said['grown'] / 1e6:.1f} MB")
        assert said["grown"] < 50e6
    finally:
        target.close()

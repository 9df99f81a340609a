"""Runs on a real Ray cluster of several nodes on this machine: the same results, also after the loss of a node, and no escape."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Command, table, write
from hypothesis import given
from hypothesis import strategies as st

from harness import UsageError
from harness.execution.cluster.ray_cluster import layout

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install 'bakeoff[ray]'")

BLOBS = """
import torch
from harness import Float
from harness.frameworks.torch import TorchSubmission

class Blobs(TorchSubmission):
    kind = "image-classification"
    space = {"learning_rate": Float(1e-4, 1e-1, log=True)}
    epochs = 4

    def build(self, train):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
"""

SLOW = (
    "import time\n"
    + """
import os
from nearest import Nearest

class Slow(Nearest):
    def fit(self, train, valid, report):
        time.sleep(1.5)
        super().fit(train, valid, report)
"""
)

ESCAPE = """
import socket
from nearest import Nearest

class Escape(Nearest):
    space = {{}}
    defaults = {{}}
    def fit(self, train, valid, report):
        self.params = {{"shrink": 0.0}}
        super().fit(train, valid, report)
        try:
            socket.create_connection({address!r}, 5)
        except OSError:
            return
        raise RuntimeError("reached the cluster")
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Cluster of a head without CPUs for trials and two nodes with one CPU each."""
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def rows(home: Path) -> list[tuple[Any, ...]]:
    """Outcome of a search without its costs: number, configuration, status and value of each trial."""
    return sorted(table(home, "number", "params", "status", "value", "phase"), key=str)


@pytest.mark.long
def test_a_cluster_finds_what_this_machine_finds(nodes: Any, tiny: Path, bakeoff: Command) -> None:
    """A vectorized search and three seeds give the same results to the last digit."""
    write(tiny, "blobs.py", BLOBS)
    for place, more in (("here", ()), ("there", ("--cluster", nodes.address))):
        bakeoff("tune", "tiny.py", "blobs.py", "--trials", 6, "--no-halving", "--home", place, *more)
        bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 0, "--home", place, *more)
    found = rows(tiny / "there")
    assert found == rows(tiny / "here") and len(found) == 6 + 3


@pytest.mark.long
def test_pickled_models_stay_on_their_node(nodes: Any, tmp_path: Path, bakeoff: Command) -> None:
    """Image generation has several queries, each answered in a process of its own."""
    for place, more in (("here", ()), ("there", ("--cluster", nodes.address))):
        (tmp_path / place).mkdir()
        write(tmp_path / place, "secret", "0f" * 32)  # the same order of rows: sums round in their order
        bakeoff("run", "digit-images", "-s", "pca-gaussian", "--trials", 0, "--seeds", 2, "--home", place, *more)
    assert rows(tmp_path / "there") == rows(tmp_path / "here")


@pytest.mark.long
def test_a_node_is_lost_and_another_comes(nodes: Any, tiny: Path) -> None:
    """Trials of the lost node run again under their numbers, and none is counted twice."""
    write(tiny, "slow.py", SLOW)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "BAKEOFF_STORE": ""}
    command = [sys.executable, "-m", "harness.cli", "tune", "tiny.py", "slow.py", "--trials", "10", "--no-halving"]
    third = nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    with subprocess.Popen(
        [*command, "--cluster", nodes.address, "--home", "there"],
        cwd=tiny,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while not (tiny / "there" / "bakeoff.sqlite").exists() or len(table(tiny / "there", "number")) < 3:
            assert running.poll() is None, running.stderr and running.stderr.read()
            time.sleep(0.1)
        nodes.remove_node(third, allow_graceful=False)
        nodes.add_node(num_cpus=1)
        _, said = running.communicate(timeout=200)
    assert running.returncode == 0, said
    assert "is lost; what ran on it is run again" in said
    subprocess.run(
        [*command, "--home", "here"], cwd=tiny, env=environment, check=True, capture_output=True, timeout=200
    )
    assert rows(tiny / "there") == rows(tiny / "here") and len(rows(tiny / "there")) == 10


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_isolation_holds_on_the_nodes(nodes: Any, tiny: Path, bakeoff: Command) -> None:
    host, _, port = nodes.address.rpartition(":")
    write(tiny, "escape.py", ESCAPE.format(address=(host, int(port))))
    arguments = ("run", "tiny.py", "-s", "escape.py", "--seeds", 1, "--cluster", nodes.address)
    bakeoff(*arguments, "--isolation", "sandbox-a", "--home", "a")
    done = bakeoff(*arguments, "--isolation", "process", "--home", "b", code=1)
    assert "reached the cluster" in done.stdout + done.stderr


def test_a_missing_cluster_is_an_error(tiny: Path, bakeoff: Command) -> None:
    done = bakeoff("tune", "tiny.py", "nearest.py", "--cluster", "127.0.0.1:1", code=2)
    assert "no Ray cluster could be joined at '127.0.0.1:1'" in done.stderr and "ray start --head" in done.stderr
    assert "Traceback" not in done.stderr


@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8)), min_size=1, max_size=5), st.none() | st.integers(1, 40)
)
def test_slots_fit_on_the_machines(machines: list[tuple[int, int]], workers: int | None) -> None:
    """Slots are one a GPU or CPU, or as many as requested: threads and GPU shares never exceed those of the machines."""
    there = [{"CPU": float(cpus), "GPU": float(gpus)} for cpus, gpus in machines]
    usable = [cpus for cpus, gpus in machines if gpus or not any(gpus for _, gpus in machines)]
    if not sum(usable):
        with pytest.raises(UsageError):
            layout(there, workers, "auto")
        return
    found = layout(there, workers, "auto")
    gpus = sum(gpus for _, gpus in machines)
    assert found.count == (workers or gpus or sum(usable))
    if found.threads > 1:
        assert sum(cpus // found.threads for cpus in usable) >= found.count
    assert found.gpus * found.count <= gpus + 1e-9 and (found.gpus > 0) == (gpus > 0)


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "known to the machines of one cluster alone"}


@pytest.fixture
def isolated_head() -> Iterator[str]:
    """Address of a head that is connected only to one node: each has a network namespace, with one cable between them."""
    if os.getuid() or not shutil.which("ip"):
        pytest.skip("separate networks need root and the program ip (the package iproute2)")
    tag = f"bk{os.getpid() % 100_000}"
    head, node = f"{tag}h", f"{tag}n"

    def ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"networks cannot be made here: {done.stderr.strip()}")

    def start(space: str, *words: str) -> subprocess.Popen[bytes]:
        ray = Path(sys.executable).with_name("ray")
        command = ["ip", "netns", "exec", space, str(ray), "start", "--block", "--disable-usage-stats", *words]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | TOKEN
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    running: list[subprocess.Popen[bytes]] = []
    held = ExitStack()
    try:
        for space in (head, node):
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        ip("link", "add", head, "netns", head, "type", "veth", "peer", "name", node, "netns", node)
        for space, address in ((head, "10.77.0.1/24"), (node, "10.77.0.2/24")):
            ip("-n", space, "addr", "add", address, "dev", space)
            ip("-n", space, "link", "set", space, "up")
        # A separate folder: Ray writes the address of this machine's cluster into it.
        folder = (
            f"--temp-dir={held.enter_context(tempfile.TemporaryDirectory(prefix='bk', ignore_cleanup_errors=True))}"
        )
        arguments = (
            "--head",
            "--port=6390",
            "--node-ip-address=10.77.0.1",
            "--num-cpus=0",
            "--include-dashboard=false",
            folder,
        )
        running.append(start(head, *arguments))
        running.append(start(node, "--address=10.77.0.1:6390", "--node-ip-address=10.77.0.2", "--num-cpus=2"))
        yield head
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)
        for space in (head, node):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
        held.close()


@pytest.mark.long
def test_machines_that_share_nothing_but_a_network(isolated_head: str, tiny: Path, bakeoff: Command) -> None:
    bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 4, "--home", "here")
    command = [
        "ip",
        "netns",
        "exec",
        isolated_head,
        sys.executable,
        "-m",
        "harness.cli",
        "run",
        "tiny.py",
        "-s",
        "nearest.py",
    ]
    done = subprocess.run(
        [*command, "--trials", "4", "--home", "there", "--cluster", "10.77.0.1:6390"],
        cwd=tiny,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "BAKEOFF_STORE": ""} | TOKEN,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert rows(tiny / "there") == rows(tiny / "here")

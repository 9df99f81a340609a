"""The slots of a Ray cluster: a `Station` each, as actors that Ray finds room for.

One coordinator, this process, asks the sampler, scores and records; Ray only places slots and says which are lost. Hidden labels
stay here. Needs Ray (``pip install 'bakeoff[ray]'``), which is imported when one connects.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from harness.contract import Limits
from harness.errors import BakeoffError, PluginError, SlotLost, UsageError
from harness.execution.cluster.node_agent import NodeAgent, NodeInfo, package_hash
from harness.execution.cluster.proxies import SLOT_WAIT_SECONDS, RemoteSlot, RemoteWorkerPool
from harness.execution.parent.fit_data import FitInputs
from harness.execution.parent.isolation import Isolation
from harness.execution.parent.slots import Slots
from harness.execution.parent.workers import WorkerConfig
from harness.plugins.bundle import Bundle

CONCURRENT_CALLS = 8
"""Calls that a station may be in at once: a fit, the end of it, and a worker that warms up."""
JOIN_SECONDS = 30.0
"""Seconds for which a cluster may have no machine."""
MAX_REFERENCES = 8
"""Sets of data that the cluster's object store keeps for us."""


class ClusterSlots(Slots):
    """Slots that come as machines have room, and go as machines are lost; a lost one is asked for again."""

    def __init__(self, names: Sequence[str], threads: int, cluster: Cluster) -> None:
        super().__init__((), threads)
        self.devices, self.cluster = tuple(names), cluster

    @property
    def device(self) -> str:
        return self.cluster.device

    def acquire(self) -> str:
        without = time.monotonic()
        while True:
            with suppress(queue.Empty):
                return self.free.get(timeout=1.0)
            if any(place.info and not place.lost for place in list(self.cluster.remote_slots.values())):
                without = time.monotonic()
            elif time.monotonic() - without > SLOT_WAIT_SECONDS:
                raise BakeoffError(
                    f"the cluster at {self.cluster.address} has had no slot for {SLOT_WAIT_SECONDS:.0f} s; what is done is on record, "
                    "and the same command goes on from there"
                )

    def release(self, device: str) -> None:
        """Give a slot back, or ask for another in its place."""
        place = self.cluster.remote_slots[device]
        if not place.lost:
            self.free.put(device)
        elif not place.refused:
            self.cluster.start_slot(device)


class Cluster(AbstractContextManager["Cluster"]):
    """A connection to a Ray cluster, and our slots there. Close it when done."""

    def __init__(
        self, address: str, *, workers: int | None, devices: str, tier: str, note: Callable[[str], None]
    ) -> None:
        self.address, self.tier, self.note = address, tier, note
        self.ray = connect(address)
        try:
            self.layout = layout(self._machines(), workers, devices)
            self.lock = threading.Lock()
            self.closed = False
            self.refused: list[str] = []
            self.references: dict[int, tuple[FitInputs, Any]] = {}
            self.remote_slots: dict[str, RemoteSlot] = {}
            names = tuple(f"slot {number}" for number in range(self.layout.count))
            self.slots = ClusterSlots(names, self.layout.threads, self)
            self.first_info: NodeInfo | None = None
            self.arrived = threading.Event()
            for name in names:
                self.start_slot(name)
            if not self.arrived.wait(SLOT_WAIT_SECONDS) or self.first_info is None:
                raise UsageError("; ".join(dict.fromkeys(self.refused)) or self.layout.complaint(address))
        except BaseException:
            self.close()
            raise

    def _machines(self) -> list[Mapping[str, float]]:
        """What the machines offer, waiting a little for the first one: a cluster that was just started is joined one by one."""
        began = time.monotonic()
        while True:
            machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            if any(machine.get("CPU", 0) >= 1 for machine in machines) or time.monotonic() - began > JOIN_SECONDS:
                return machines
            time.sleep(0.5)

    @property
    def device(self) -> str:
        """What rows record."""
        assert self.first_info is not None
        return self.first_info.device.partition(":")[0]

    @property
    def isolation(self) -> Isolation:
        """The tier of all slots, with what was found when it was probed on the first."""
        assert self.first_info is not None
        return self.first_info.isolation

    def start_slot(self, name: str) -> None:
        """Ask for a slot, in place of a lost one of the same name; it is there for use when Ray has found room for it."""
        if self.closed:
            return
        wants = {"num_cpus": self.layout.threads, "num_gpus": self.layout.gpus}
        actor = self.ray.remote(NodeAgent).options(
            **wants, max_restarts=0, max_concurrency=CONCURRENT_CALLS, scheduling_strategy="SPREAD"
        )
        place = RemoteSlot(name, self.ray, actor.remote(self.layout.threads, self.layout.slots_per_node))
        self.remote_slots[name] = place
        threading.Thread(target=self._admit, args=(place,), daemon=True).start()

    def _admit(self, place: RemoteSlot) -> None:
        """Let a slot in once it is there, if it is one that may run our trials."""
        try:
            facts: NodeInfo = place.call(
                "info", self.first_info.isolation.name if self.first_info else self.tier, wait=None
            )
            with self.lock:
                first = self.first_info = self.first_info or facts
            if facts.isolation.name != first.isolation.name:
                facts = place.call("info", first.isolation.name)
            if facts.package_hash != package_hash():
                raise PluginError(
                    "it has another version of Bakeoff than the machine that coordinates; install the same"
                )
            if facts.device != first.device:
                raise PluginError(f"its device is {facts.device}, where the first slot has {first.device}")
        except SlotLost:
            if not self.closed:
                time.sleep(1.0)
                self.start_slot(place.name)
            return
        except Exception as error:
            node = place.info.node if place.info else "a machine of the cluster"
            self.refused.append(f"{node} was left out: {error}")
            self.note(self.refused[-1])
            place.lost = place.refused = True
            if all(other.lost for other in list(self.remote_slots.values())):
                self.arrived.set()
            return
        if facts.isolation.name == "process" and facts is first and self.tier == "auto":
            self.note(
                "no sandbox on the cluster, where a submission reaches all that Ray reaches: run only code that you trust"
            )
        place.info = facts
        self.slots.free.put(place.name)
        self.arrived.set()

    def usable_slots(self) -> list[RemoteSlot]:
        """The slots that can be used now."""
        return [place for place in list(self.remote_slots.values()) if place.info and not place.lost]

    def slot(self, name: str) -> RemoteSlot:
        """The slot that now has this name."""
        return self.remote_slots[name]

    def reference(self, given: FitInputs) -> Any:
        """Data as Ray hands it around: sent once to each machine."""
        with self.lock:
            if id(given) not in self.references:
                while len(self.references) >= MAX_REFERENCES:
                    self.references.pop(next(iter(self.references)))
                self.references[id(given)] = given, self.ray.put(given)
            return self.references[id(given)][1]

    def worker_pool(self, bundle: Bundle, limits: Limits) -> RemoteWorkerPool:
        return RemoteWorkerPool(self, bundle, WorkerConfig(self.isolation, limits, self.layout.threads))

    def close(self) -> None:
        self.closed = True
        for place in getattr(self, "places", {}).values():
            with suppress(Exception):
                self.ray.kill(place.actor)
        self.ray.shutdown()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Layout:
    """How many slots, what each takes, and how many of them a machine may have."""

    count: int
    threads: int
    gpus: float
    slots_per_node: int

    def complaint(self, address: str) -> str:
        wants = f"{self.threads} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        return f"the cluster at {address} had no room for a slot of {wants} within {SLOT_WAIT_SECONDS:.0f} s; see `ray status`"


def layout(machines: Sequence[Mapping[str, float]], workers: int | None, devices: str) -> Layout:
    """Slots for machines with so many CPU and GPU: one a GPU where there are any, else one a CPU, or ``workers`` of them.

    More workers than GPUs share these. Raises UsageError.
    """
    if devices not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"on a cluster --devices should be auto, cpu or cuda, since Ray places the slots; it is {devices!r}"
        )
    if workers is not None and workers < 1:
        raise UsageError(f"--workers should be at least 1; it is {workers}")
    gpus = 0 if devices == "cpu" else int(sum(machine.get("GPU", 0) for machine in machines))
    if devices == "cuda" and not gpus:
        raise UsageError("--devices cuda: no machine of the cluster has a GPU")
    used = [machine for machine in machines if not gpus or machine.get("GPU", 0) >= 1]
    cpus = [int(machine.get("CPU", 0)) for machine in used]
    if not sum(cpus):
        raise UsageError("no machine of the cluster offers a CPU; start them with `ray start --num-cpus N`")
    count = workers or gpus or sum(cpus)
    sharing = math.ceil(count / gpus) if gpus else 1
    threads = next((n for n in range(max(cpus), 1, -1) if sum(cpu // n for cpu in cpus) >= count), 1)
    most = max(cpu // threads for cpu in cpus)
    if gpus:
        most = min(most, sharing * int(max(machine.get("GPU", 0) for machine in used)))
    return Layout(count, threads, 1 / sharing if gpus else 0.0, max(most, 1))


def connect(address: str) -> Any:
    """Ray, connected. Raises UsageError where it is not installed, or nothing answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UsageError("--cluster needs Ray, which is not installed; `pip install 'bakeoff[ray]'`") from None
    try:
        check_listening(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="bakeoff")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"no Ray cluster could be joined at {address!r} ({said}); start one with `ray start --head`, and give HOST:PORT, "
            "or auto on a machine that belongs to it; where it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    return ray


def check_listening(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray would try for minutes, and then end the process."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        if not port.isdigit():
            raise ValueError(f"the port should be a number; it is {port!r}")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()

"""Slots on a Ray cluster: each is a Ray actor of class `NodeAgent`.

One coordinator, this process, runs the sampler, scores and records; Ray only places the slots and reports lost ones. Hidden labels
stay here. Needs Ray (``pip install 'bakeoff[ray]'``), which `connect` imports.
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
"""Largest number of concurrent calls of one agent: a fit, a kill, and workers that start."""
JOIN_SECONDS = 30.0
"""Seconds to wait for the first machine of a cluster that has a CPU."""
MAX_REFERENCES = 8
"""Largest number of `FitInputs` that stay in the cluster's object store."""


class ClusterSlots(Slots):
    """Pool of the slots of a cluster; the name of a slot stands in the place of a device.

    A slot appears when Ray has placed it. A lost slot is requested again from Ray.
    """

    def __init__(self, names: Sequence[str], threads: int, cluster: Cluster) -> None:
        super().__init__((), threads)
        self.devices, self.cluster = tuple(names), cluster

    @property
    def device(self) -> str:
        return self.cluster.device

    def acquire(self) -> str:
        """Wait for a free slot and return its name. Raises BakeoffError after `SLOT_WAIT_SECONDS` without a slot on the cluster."""
        last_seen = time.monotonic()
        while True:
            with suppress(queue.Empty):
                return self.free.get(timeout=1.0)
            if any(slot.info and not slot.lost for slot in list(self.cluster.remote_slots.values())):
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > SLOT_WAIT_SECONDS:
                raise BakeoffError(
                    f"the cluster at {self.cluster.address} has had no slot for {SLOT_WAIT_SECONDS:.0f} s; what is done is on "
                    "record, and the same command goes on from there"
                )

    def release(self, device: str) -> None:
        """Give the slot named ``device`` back to the pool. If it is lost, request another from Ray, unless it was refused."""
        slot = self.cluster.remote_slots[device]
        if not slot.lost:
            self.free.put(device)
        elif not slot.refused:
            self.cluster.start_slot(device)


class Cluster(AbstractContextManager["Cluster"]):
    """Connection to the Ray cluster at ``address``, and the slots that this process has on it. Close it when done.

    ``workers`` and ``devices`` are as in `layout`, ``tier`` as in `isolation.choose`. ``note`` is called with messages for the
    user. Raises UsageError if no slot can be used.
    """

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
        """Return the resources of each live machine, such as {"CPU": 8.0, "GPU": 1.0}.

        Machines join a new cluster one by one, so this waits up to `JOIN_SECONDS` for the first one with a CPU.
        """
        began = time.monotonic()
        while True:
            machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            if any(machine.get("CPU", 0) >= 1 for machine in machines) or time.monotonic() - began > JOIN_SECONDS:
                return machines
            time.sleep(0.5)

    @property
    def device(self) -> str:
        """Kind of device of all slots, as rows of a board record it: cpu or cuda."""
        assert self.first_info is not None
        return self.first_info.device.partition(":")[0]

    @property
    def isolation(self) -> Isolation:
        """Tier of isolation of all slots, with the answers of the probe on the first slot."""
        assert self.first_info is not None
        return self.first_info.isolation

    def start_slot(self, name: str) -> None:
        """Request a slot from Ray; it replaces a lost slot of the same name.

        Returns at once. A thread runs `_admit`, which adds the slot to the free ones once Ray has placed it.
        """
        if self.closed:
            return
        wants = {"num_cpus": self.layout.threads, "num_gpus": self.layout.gpus}
        actor = self.ray.remote(NodeAgent).options(
            **wants, max_restarts=0, max_concurrency=CONCURRENT_CALLS, scheduling_strategy="SPREAD"
        )
        slot = RemoteSlot(name, self.ray, actor.remote(self.layout.threads, self.layout.slots_per_node))
        self.remote_slots[name] = slot
        threading.Thread(target=self._admit, args=(slot,), daemon=True).start()

    def _admit(self, slot: RemoteSlot) -> None:
        """Wait until Ray has placed a slot, check its tier, version and device, and add it to the free slots.

        A slot that fails a check is refused with a note; a lost one is requested again.
        """
        try:
            info: NodeInfo = slot.call(
                "info", self.first_info.isolation.name if self.first_info else self.tier, wait=None
            )
            with self.lock:
                first = self.first_info = self.first_info or info
            if info.isolation.name != first.isolation.name:
                info = slot.call("info", first.isolation.name)
            if info.package_hash != package_hash():
                raise PluginError(
                    "it has another version of Bakeoff than the machine that coordinates; install the same"
                )
            if info.device != first.device:
                raise PluginError(f"its device is {info.device}, where the first slot has {first.device}")
        except SlotLost:
            if not self.closed:
                time.sleep(1.0)
                self.start_slot(slot.name)
            return
        except Exception as error:
            node = slot.info.node if slot.info else "a machine of the cluster"
            self.refused.append(f"{node} was left out: {error}")
            self.note(self.refused[-1])
            slot.lost = slot.refused = True
            if all(other.lost for other in list(self.remote_slots.values())):
                self.arrived.set()
            return
        if info.isolation.name == "process" and info is first and self.tier == "auto":
            self.note(
                "no sandbox on the cluster, where a submission reaches all that Ray reaches: run only code that you trust"
            )
        slot.info = info
        self.slots.free.put(slot.name)
        self.arrived.set()

    def usable_slots(self) -> list[RemoteSlot]:
        """Return the slots that have passed `_admit` and are not lost."""
        return [slot for slot in list(self.remote_slots.values()) if slot.info and not slot.lost]

    def slot(self, name: str) -> RemoteSlot:
        """Return the slot that now has this name; it may have replaced a lost one."""
        return self.remote_slots[name]

    def reference(self, inputs: FitInputs) -> Any:
        """Return Ray's reference to the inputs of fits. With it Ray sends the inputs to each machine only once."""
        with self.lock:
            if id(inputs) not in self.references:
                while len(self.references) >= MAX_REFERENCES:
                    self.references.pop(next(iter(self.references)))
                self.references[id(inputs)] = inputs, self.ray.put(inputs)
            return self.references[id(inputs)][1]

    def worker_pool(self, bundle: Bundle, limits: Limits) -> RemoteWorkerPool:
        """Start the processes of a submission on all usable slots and return their pool. ``limits`` are those of one trial."""
        return RemoteWorkerPool(self, bundle, WorkerConfig(self.isolation, limits, self.layout.threads))

    def close(self) -> None:
        self.closed = True
        for slot in getattr(self, "remote_slots", {}).values():
            with suppress(Exception):
                self.ray.kill(slot.actor)
        self.ray.shutdown()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Layout:
    """Plan of the slots on a cluster: ``count`` slots, each with ``threads`` CPUs and ``gpus`` GPUs (a fraction if shared).

    ``slots_per_node`` is the largest number of slots on one machine.
    """

    count: int
    threads: int
    gpus: float
    slots_per_node: int

    def complaint(self, address: str) -> str:
        """Return the error message for a cluster without room for a slot."""
        wants = f"{self.threads} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        return f"the cluster at {address} had no room for a slot of {wants} within {SLOT_WAIT_SECONDS:.0f} s; see `ray status`"


def layout(machines: Sequence[Mapping[str, float]], workers: int | None, devices: str) -> Layout:
    """Return a plan of slots for machines with these resources (numbers by Ray's names CPU and GPU).

    The plan has ``workers`` slots; by default one for each GPU, or one for each CPU if there are no GPUs or ``devices`` is cpu.
    Slots share GPUs if there are more slots than GPUs. Raises UsageError if ``devices`` is not auto, cpu or cuda, if ``workers`` is
    below 1, or if the machines lack a needed CPU or GPU.
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
    slots_per_node = max(cpu // threads for cpu in cpus)
    if gpus:
        slots_per_node = min(slots_per_node, sharing * int(max(machine.get("GPU", 0) for machine in used)))
    return Layout(count, threads, 1 / sharing if gpus else 0.0, max(slots_per_node, 1))


def connect(address: str) -> Any:
    """Connect to the Ray cluster at ``address`` (HOST:PORT or auto), and return the module ``ray``.

    Raises UsageError if Ray is not installed or the cluster does not answer.
    """
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
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"no Ray cluster could be joined at {address!r} ({reason}); start one with `ray start --head`, and give HOST:PORT, "
            "or auto on a machine that belongs to it; where it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    return ray


def check_listening(address: str) -> None:
    """Raise OSError if nothing listens at ``address``, and ValueError if its port is no number. Passes without a port.

    Ray itself would try for minutes and then end this process.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        if not port.isdigit():
            raise ValueError(f"the port should be a number; it is {port!r}")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()

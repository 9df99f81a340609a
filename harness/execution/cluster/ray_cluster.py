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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.contract import Limits
from harness.errors import BakeoffError, PluginError, SlotLost, UsageError
from harness.execution.closing import Closes
from harness.execution.cluster.node_agent import Facts, Station, own_hash
from harness.execution.cluster.proxies import PATIENCE, Place, RemoteCrew
from harness.execution.parent.fit_data import Given
from harness.execution.parent.isolation import Isolation
from harness.execution.parent.slots import Slots
from harness.execution.parent.workers import Setting
from harness.plugins.registry import Bundle

CALLS = 8
"""Calls that a station may be in at once: a fit, the end of it, and a worker that warms up."""
JOINING = 30.0
"""Seconds for which a cluster may have no machine."""
KEPT = 8
"""Sets of data that the cluster's object store keeps for us."""


class ClusterSlots(Slots):
    """Slots that come as machines have room, and go as machines are lost; a lost one is asked for again."""

    def __init__(self, names: Sequence[str], threads: int, cluster: Cluster) -> None:
        super().__init__((), threads)
        self.devices, self.cluster = tuple(names), cluster

    @property
    def device(self) -> str:
        return self.cluster.device

    def take(self) -> str:
        without = time.monotonic()
        while True:
            with suppress(queue.Empty):
                return self.free.get(timeout=1.0)
            if any(place.facts and not place.lost for place in list(self.cluster.places.values())):
                without = time.monotonic()
            elif time.monotonic() - without > PATIENCE:
                raise BakeoffError(
                    f"the cluster at {self.cluster.address} has had no slot for {PATIENCE:.0f} s; what is done is on record, "
                    "and the same command goes on from there"
                )

    def give(self, device: str) -> None:
        """Give a slot back, or ask for another in its place."""
        place = self.cluster.places[device]
        if not place.lost:
            self.free.put(device)
        elif not place.refused:
            self.cluster.start(device)


class Cluster(Closes):
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
            self.references: dict[int, tuple[Given, Any]] = {}
            self.places: dict[str, Place] = {}
            names = tuple(f"slot {number}" for number in range(self.layout.count))
            self.slots = ClusterSlots(names, self.layout.threads, self)
            self.first: Facts | None = None
            self.arrived = threading.Event()
            for name in names:
                self.start(name)
            if not self.arrived.wait(PATIENCE) or self.first is None:
                raise UsageError("; ".join(dict.fromkeys(self.refused)) or self.layout.complaint(address))
        except BaseException:
            self.close()
            raise

    def _machines(self) -> list[Mapping[str, float]]:
        """What the machines offer, waiting a little for the first one: a cluster that was just started is joined one by one."""
        began = time.monotonic()
        while True:
            machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            if any(machine.get("CPU", 0) >= 1 for machine in machines) or time.monotonic() - began > JOINING:
                return machines
            time.sleep(0.5)

    @property
    def device(self) -> str:
        """What rows record."""
        assert self.first is not None
        return self.first.device.partition(":")[0]

    @property
    def isolation(self) -> Isolation:
        """The tier of all slots, with what was found when it was probed on the first."""
        assert self.first is not None
        return self.first.isolation

    def start(self, name: str) -> None:
        """Ask for a slot, in place of a lost one of the same name; it is there for use when Ray has found room for it."""
        if self.closed:
            return
        wants = {"num_cpus": self.layout.threads, "num_gpus": self.layout.gpus}
        actor = self.ray.remote(Station).options(
            **wants, max_restarts=0, max_concurrency=CALLS, scheduling_strategy="SPREAD"
        )
        place = Place(name, self.ray, actor.remote(self.layout.threads, self.layout.neighbours))
        self.places[name] = place
        threading.Thread(target=self._greet, args=(place,), daemon=True).start()

    def _greet(self, place: Place) -> None:
        """Let a slot in once it is there, if it is one that may run our trials."""
        try:
            facts: Facts = place.call("facts", self.first.isolation.name if self.first else self.tier, wait=None)
            with self.lock:
                first = self.first = self.first or facts
            if facts.isolation.name != first.isolation.name:
                facts = place.call("facts", first.isolation.name)
            if facts.bakeoff != own_hash():
                raise PluginError(
                    "it has another version of Bakeoff than the machine that coordinates; install the same"
                )
            if facts.device != first.device:
                raise PluginError(f"its device is {facts.device}, where the first slot has {first.device}")
        except SlotLost:
            if not self.closed:
                time.sleep(1.0)
                self.start(place.name)
            return
        except Exception as error:
            node = place.facts.node if place.facts else "a machine of the cluster"
            self.refused.append(f"{node} was left out: {error}")
            self.note(self.refused[-1])
            place.lost = place.refused = True
            if all(other.lost for other in list(self.places.values())):
                self.arrived.set()
            return
        if facts.isolation.name == "process" and facts is first and self.tier == "auto":
            self.note(
                "no sandbox on the cluster, where a submission reaches all that Ray reaches: run only code that you trust"
            )
        place.facts = facts
        self.slots.free.put(place.name)
        self.arrived.set()

    def there(self) -> list[Place]:
        """The slots that can be used now."""
        return [place for place in list(self.places.values()) if place.facts and not place.lost]

    def place(self, name: str) -> Place:
        """The slot that now has this name."""
        return self.places[name]

    def reference(self, given: Given) -> Any:
        """Data as Ray hands it around: sent once to each machine."""
        with self.lock:
            if id(given) not in self.references:
                while len(self.references) >= KEPT:
                    self.references.pop(next(iter(self.references)))
                self.references[id(given)] = given, self.ray.put(given)
            return self.references[id(given)][1]

    def crew(self, bundle: Bundle, limits: Limits) -> RemoteCrew:
        return RemoteCrew(self, bundle, Setting(self.isolation, limits, self.layout.threads))

    def close(self) -> None:
        self.closed = True
        for place in getattr(self, "places", {}).values():
            with suppress(Exception):
                self.ray.kill(place.actor)
        self.ray.shutdown()


@dataclass(frozen=True)
class Layout:
    """How many slots, what each takes, and how many of them a machine may have."""

    count: int
    threads: int
    gpus: float
    neighbours: int

    def complaint(self, address: str) -> str:
        wants = f"{self.threads} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        return f"the cluster at {address} had no room for a slot of {wants} within {PATIENCE:.0f} s; see `ray status`"


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
        answers(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="bakeoff")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"no Ray cluster could be joined at {address!r} ({said}); start one with `ray start --head`, and give HOST:PORT, "
            "or auto on a machine that belongs to it; where it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    return ray


def answers(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray would try for minutes, and then end the process."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        if not port.isdigit():
            raise ValueError(f"the port should be a number; it is {port!r}")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()

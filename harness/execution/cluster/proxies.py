"""Crews, workers and trials that stand for those of a `Station` on another machine, and are used as those here are.

What comes back is verified here: the machine over there only watches over the sandbox.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from harness.contract import Array, Kind
from harness.errors import BakeoffError, PluginError, SlotLost, TrialFailed, TrialPruned
from harness.execution.cluster.node_agent import NodeInfo, Reply
from harness.execution.parent.batch_trial import OnReports
from harness.execution.parent.fit_data import FitInputs, SharedInputs
from harness.execution.parent.trial import FitResult, TrialUsage, drive, verified
from harness.execution.parent.workers import WARM_LIMIT_SECONDS, WorkerConfig
from harness.plugins.bundle import Bundle
from harness.plugins.description import Description

SLOT_WAIT_SECONDS = 300.0
"""Seconds for which a cluster may have no slot for us at all."""
CALL_GRACE_SECONDS = 60.0
"""Seconds beyond its own limits after which a machine that does not answer is taken for lost."""


class RemoteSlot:
    """A slot on some machine of the cluster. It may be lost at any time: then each call raises SlotLost."""

    def __init__(self, name: str, ray: Any, actor: Any) -> None:
        self.name, self.ray, self.actor = name, ray, actor
        self.info: NodeInfo | None = None
        self.lost = self.refused = False
        """Refused is one that is there and cannot be used: no other is asked for in its place."""

    def call(self, method: str, *given: Any, wait: float | None = CALL_GRACE_SECONDS) -> Any:
        """What a station answers. Raises TrialFailed, TrialPruned and PluginError as said there, and SlotLost."""
        errors = self.ray.exceptions
        try:
            if self.lost:
                raise SlotLost(self.loss_message())
            reply = self.ray.get(getattr(self.actor, method).remote(*given), timeout=wait)
        except errors.RayTaskError:
            raise  # our own fault there, not the machine's
        except errors.RayError as error:
            self.lost = True
            with suppress(Exception):
                self.ray.kill(self.actor)  # one that hangs is not to come back and answer
            raise SlotLost(self.loss_message()) from error
        if not isinstance(reply, Reply) or reply.error is None:
            return reply.value if isinstance(reply, Reply) else reply
        if reply.status == "pruned":
            raise TrialPruned
        raise TrialFailed(reply.status, reply.error) if reply.status else PluginError(reply.error)

    def loss_message(self) -> str:
        return f"a slot on {self.info.node} is lost" if self.info else "a slot of the cluster is lost"


class SlotProvider(Protocol):
    """What a crew needs of its cluster."""

    address: str

    def usable_slots(self) -> list[RemoteSlot]: ...
    def slot(self, name: str) -> RemoteSlot: ...
    def reference(self, given: FitInputs) -> Any: ...


class RemoteWorkerPool(AbstractContextManager["RemoteWorkerPool"]):
    """What `Crew` is, on all slots of a cluster."""

    keeps_models = False

    def __init__(self, cluster: SlotProvider, bundle: Bundle, config: WorkerConfig) -> None:
        self.cluster, self.bundle, self.config = cluster, bundle, config
        self.lock = threading.Lock()
        self.closed = False
        self.described: Description | None = None
        self.outputs: list[str] = []
        self.spare: dict[RemoteSlot, int] = {}
        self.workers: list[RemoteWorker] = []
        self.first = self.fresh()
        self.expect(len(cluster.usable_slots()))

    def ready(self) -> Description:
        """Wait for a first process. Raises PluginError."""
        began = time.monotonic()
        while time.monotonic() - began < SLOT_WAIT_SECONDS:
            for place in self.cluster.usable_slots():
                with suppress(SlotLost):
                    return self.first.process_on(place)[1]
            time.sleep(0.2)
        raise BakeoffError(f"the cluster at {self.cluster.address} has no slot left")

    def expect(self, count: int) -> None:
        """So many processes will be asked for: one is started ahead on each slot, as far as that goes."""
        for place in self.cluster.usable_slots()[:count]:
            if place not in self.spare:
                with suppress(SlotLost, PluginError, TrialFailed):
                    self.spare[place] = place.call("open", self.bundle, self.config.limits)

    def fresh(self) -> RemoteWorker:
        """Processes that no hidden input has reached, one on each slot that it is used on; close it after one use."""
        with self.lock:
            self.workers.append(RemoteWorker(self))
            return self.workers[-1]

    def open(self, place: RemoteSlot) -> tuple[int, Description]:
        """A process on a slot, ready. Raises PluginError and SlotLost."""
        number = self.spare.pop(place, None)
        if number is None:
            number = place.call("open", self.bundle, self.config.limits)
        try:
            self.described = place.call("ready", number, wait=WARM_LIMIT_SECONDS + CALL_GRACE_SECONDS)
            return number, self.described
        except (PluginError, TrialFailed) as error:
            self.shut(place, number)
            if self.described is None:
                raise
            place.lost = place.refused = True  # elsewhere it could be started: something is missing there
            raise SlotLost(f"{place.loss_message()}, since {error}") from error

    def shut(self, place: RemoteSlot, number: int) -> None:
        with suppress(SlotLost):
            self.outputs.append(place.call("close", number))

    def close(self) -> None:
        with self.lock:
            self.closed = True
        for worker in self.workers:
            worker.close()
        while self.spare:
            self.shut(*self.spare.popitem())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def printed(self) -> str:
        """The end of what its processes printed."""
        return "".join([*self.outputs, *(worker.printed for worker in self.workers)])[-(1 << 16) :]


class RemoteWorker(AbstractContextManager["RemoteWorker"]):
    """What `Worker` is: one process on each slot that it has been used on."""

    def __init__(self, pool: RemoteWorkerPool) -> None:
        self.pool = pool
        self.lock = threading.Lock()
        self.opened: dict[RemoteSlot, tuple[int, Description]] = {}

    def process_on(self, place: RemoteSlot) -> tuple[int, Description]:
        """The process on a slot and what it says of itself. Raises PluginError and SlotLost."""
        with self.lock:
            if place in self.opened:
                return self.opened[place]
        opened = self.pool.open(place)
        with self.lock:
            known = self.opened.setdefault(place, opened)
        if known is not opened:
            self.pool.shut(place, opened[0])
        if self.pool.closed:
            self.close()
        return known

    def trial(
        self,
        params: Mapping[str, Any],
        data: SharedInputs,
        *,
        seed: int,
        device: str,
        time_limit: float,
        budget: float = 1.0,
        snapshots: bool = False,
    ) -> RemoteTrial:
        """A trial on the slot called ``device``."""
        options = {"seed": seed, "time_limit": time_limit, "budget": budget, "snapshots": snapshots}
        return RemoteTrial(*self._fit(dict(params), data, device, options), time_limit)

    def batch_trial(
        self,
        members: Sequence[Mapping[str, Any]],
        data: SharedInputs,
        *,
        max_members: int,
        seed: int,
        device: str,
        time_limit: float,
        budget: float = 1.0,
    ) -> RemoteBatchTrial:
        told = [dict(params) for params in members]
        options = {"max_members": max_members, "seed": seed, "time_limit": time_limit, "budget": budget}
        return RemoteBatchTrial(*self._fit(told, data, device, options), time_limit * len(told))

    def _fit(self, params: Any, data: SharedInputs, device: str, options: Mapping[str, Any]) -> tuple[RemoteSlot, int]:
        place = self.pool.cluster.slot(device)
        worker, _ = self.process_on(place)
        reference = self.pool.cluster.reference(data.inputs)
        return place, place.call("fit", worker, params, data.key, reference, with_device(place, options))

    def thaw(self, model: RemoteModel, *, seed: int, device: str, time_limit: float) -> RemoteTrial:
        """A trial that has taken up a frozen model, on the slot where that was frozen."""
        worker, _ = self.process_on(model.slot)
        options = with_device(model.slot, {"seed": seed, "time_limit": time_limit})
        number = model.slot.call("thaw", worker, model.number, options, wait=time_limit + CALL_GRACE_SECONDS)
        return RemoteTrial(model.slot, number, time_limit)

    @property
    def printed(self) -> str:
        said = []
        for place, (number, _) in list(self.opened.items()):
            with suppress(SlotLost):
                said.append(place.call("printed", number))
        return "".join(said)

    def close(self) -> None:
        with self.lock:
            opened, self.opened = self.opened, {}
        for place, (number, _) in opened.items():
            self.pool.shut(place, number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def with_device(place: RemoteSlot, options: Mapping[str, Any]) -> dict[str, Any]:
    assert place.info is not None
    return {**options, "device": place.info.device}


class RemoteTrial:
    """What `Trial` is, on another machine."""

    def __init__(self, place: RemoteSlot, number: int, time_limit: float) -> None:
        self.slot, self.number, self.call_limit = place, number, time_limit + CALL_GRACE_SECONDS
        self.usage = TrialUsage(0, 0.0)
        self.closed = False

    def fit(self, on_report: Callable[[float], bool] = lambda loss: False) -> FitResult:
        """As `Trial.fit`; raises SlotLost too, as all calls here do."""
        fitted: FitResult = drive(self._steps(), on_report)
        return fitted

    def _steps(self) -> Any:
        answer = None
        while True:
            done, said = self.slot.call("advance", self.number, answer, wait=self.call_limit)
            if done:
                return said
            answer = yield said

    def predict(self, x: Array, kind: Kind, member: int = 0) -> tuple[Array, float]:
        answer, seconds = self.slot.call("answer", self.number, x, kind.output_specs(x), member, wait=self.call_limit)
        return verified(kind, x, answer, seconds)

    def freeze(self) -> RemoteModel:
        return RemoteModel(self.slot, self.slot.call("freeze", self.number, wait=self.call_limit))

    def thaw(self) -> None:
        """It has been taken up already."""

    def pause_clock(self) -> None:
        self.slot.call("pause_clock", self.number)

    @property
    def alive(self) -> bool:
        return not self.closed and not self.slot.lost

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            with suppress(SlotLost):
                self.usage = self.slot.call("end", self.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind is not TrialPruned:
            with suppress(SlotLost):
                self.slot.call("kill", self.number)
        self.close()


class RemoteBatchTrial(RemoteTrial):
    """What `Together` is, on another machine."""

    def fit_many(self, on_reports: OnReports) -> tuple[list[int], dict[int, str]]:
        found: tuple[list[int], dict[int, str]] = drive(self._steps(), on_reports)
        return found


@dataclass(frozen=True)
class RemoteModel:
    """A frozen model, which stays on the machine where it was fitted."""

    slot: RemoteSlot
    number: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(SlotLost):
            self.slot.call("drop", self.number)

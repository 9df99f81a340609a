"""Proxies of workers and trials on other machines, with the interface of the local ones.

Each call goes to a `NodeAgent`. Predictions are verified here; the remote machine only runs the sandbox and keeps its limits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from harness.contract import Array, OutputSpec
from harness.errors import BakeoffError, PluginError, SlotLost, TrialFailed, TrialPruned
from harness.execution.cluster.node_agent import NodeInfo, Reply
from harness.execution.parent.batch_trial import BatchResult, OnReports
from harness.execution.parent.fit_data import FitInputs, SharedInputs
from harness.execution.parent.trial import FitResult, TrialUsage, VerifiedPredictions, drive
from harness.execution.parent.workers import WARM_LIMIT_SECONDS, WorkerConfig
from harness.plugins.bundle import Bundle
from harness.plugins.description import Description

SLOT_WAIT_SECONDS = 300.0
"""Seconds to wait for a slot while the cluster has none."""
CALL_GRACE_SECONDS = 60.0
"""Seconds beyond a call's own limit after which a silent machine counts as lost."""


class RemoteSlot:
    """Slot on a machine of the cluster. The slot may be lost at any time; from then on every call raises SlotLost."""

    def __init__(self, name: str, ray: Any, actor: Any) -> None:
        self.name, self.ray, self.actor = name, ray, actor
        self.info: NodeInfo | None = None
        self.lost = self.refused = False
        """``lost``: no call reaches the slot any more. ``refused``: the slot exists but cannot be used, so it is not replaced."""

    def call(self, method: str, *arguments: Any, wait: float | None = CALL_GRACE_SECONDS) -> Any:
        """Call a method of the slot's agent and return its value. Raises the agent's TrialFailed, TrialPruned or PluginError.

        Raises SlotLost if the machine is lost or does not answer within ``wait`` seconds; None waits without end.
        """
        errors = self.ray.exceptions
        try:
            if self.lost:
                raise SlotLost(self.loss_message())
            reply = self.ray.get(getattr(self.actor, method).remote(*arguments), timeout=wait)
        except errors.RayTaskError:
            raise  # a bug of Bakeoff on the agent, not a lost machine
        except errors.RayError as error:
            self.lost = True
            with suppress(Exception):
                self.ray.kill(self.actor)  # an agent that hangs must not answer later
            raise SlotLost(self.loss_message()) from error
        if not isinstance(reply, Reply) or reply.error is None:
            return reply.value if isinstance(reply, Reply) else reply
        if reply.status == "pruned":
            raise TrialPruned
        raise TrialFailed(reply.status, reply.error) if reply.status else PluginError(reply.error)

    def loss_message(self) -> str:
        return f"a slot on {self.info.node} is lost" if self.info else "a slot of the cluster is lost"


class SlotProvider(Protocol):
    """Interface of a cluster to the worker pools on it."""

    address: str

    def usable_slots(self) -> list[RemoteSlot]: ...
    def slot(self, name: str) -> RemoteSlot: ...
    def reference(self, inputs: FitInputs) -> Any: ...


class RemoteWorkerPool(AbstractContextManager["RemoteWorkerPool"]):
    """Workers of one submission on a cluster, with the interface of `WorkerPool`. A worker may have a process on every slot."""

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
        """Wait until the submission is imported on one slot, and return the submission's description.

        Raises PluginError if the import fails, TrialFailed if it exceeds a limit, BakeoffError if the cluster has no slot left.
        """
        began = time.monotonic()
        while time.monotonic() - began < SLOT_WAIT_SECONDS:
            for slot in self.cluster.usable_slots():
                with suppress(SlotLost):
                    return self.first.process_on(slot)[1]
            time.sleep(0.2)
        raise BakeoffError(f"the cluster at {self.cluster.address} has no slot left")

    def pause_spare(self) -> None:
        """Do nothing: workers on a cluster run at once."""

    def resume_spare(self) -> None:
        """Do nothing, as `pause_spare`."""

    def expect(self, count: int, queries: int = 0) -> None:
        """Start a worker ahead on each of the first ``count`` slots."""
        for slot in self.cluster.usable_slots()[:count]:
            if slot not in self.spare:
                with suppress(SlotLost, PluginError, TrialFailed):
                    self.spare[slot] = slot.call("open", self.bundle, self.config.limits)

    def fresh(self) -> RemoteWorker:
        """Return a worker that has never received hidden test inputs. Close it after one use.

        It starts a process on each slot when it is first used there.
        """
        with self.lock:
            self.workers.append(RemoteWorker(self))
            return self.workers[-1]

    def open(self, slot: RemoteSlot) -> tuple[int, Description]:
        """Return the number of a ready process of the submission on a slot, and the submission's description.

        Raises PluginError or TrialFailed if the import fails and none has succeeded before. After a success, a failed import makes
        the slot refused instead. Raises SlotLost for a lost or refused slot.
        """
        number = self.spare.pop(slot, None)
        if number is None:
            number = slot.call("open", self.bundle, self.config.limits)
        try:
            self.described = slot.call("ready", number, wait=WARM_LIMIT_SECONDS + CALL_GRACE_SECONDS)
            return number, self.described
        except (PluginError, TrialFailed) as error:
            self.shut(slot, number)
            if self.described is None:
                raise
            slot.lost = slot.refused = True  # the submission starts elsewhere, so this machine lacks something
            raise SlotLost(f"{slot.loss_message()}, since {error}") from error

    def shut(self, slot: RemoteSlot, number: int) -> None:
        with suppress(SlotLost):
            self.outputs.append(slot.call("close", number))

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
        """End of the text that all processes have printed, at most 65536 characters."""
        return "".join([*self.outputs, *(worker.printed for worker in self.workers)])[-(1 << 16) :]


class RemoteWorker(AbstractContextManager["RemoteWorker"]):
    """`Worker` on a cluster: one process on each slot where it has been used."""

    def __init__(self, pool: RemoteWorkerPool) -> None:
        self.pool = pool
        self.lock = threading.Lock()
        self.opened: dict[RemoteSlot, tuple[int, Description]] = {}

    def process_on(self, slot: RemoteSlot) -> tuple[int, Description]:
        """Return the number of this worker's process on a slot, started if needed, and the submission's description.

        Raises PluginError, TrialFailed and SlotLost; see `RemoteWorkerPool.open`.
        """
        with self.lock:
            if slot in self.opened:
                return self.opened[slot]
        opened = self.pool.open(slot)
        with self.lock:
            known = self.opened.setdefault(slot, opened)
        if known is not opened:
            self.pool.shut(slot, opened[0])
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
        """Fork a trial on the slot named ``device``, and return it before its fit. Arguments are those of `Worker.trial`."""
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
        """Fork a vectorized fit on the slot named ``device``, and return it before its fit. See `Worker.batch_trial`."""
        configurations = [dict(params) for params in members]
        options = {"max_members": max_members, "seed": seed, "time_limit": time_limit, "budget": budget}
        return RemoteBatchTrial(*self._fit(configurations, data, device, options), time_limit * len(configurations))

    def _fit(self, params: Any, data: SharedInputs, device: str, options: Mapping[str, Any]) -> tuple[RemoteSlot, int]:
        slot = self.pool.cluster.slot(device)
        worker, _ = self.process_on(slot)
        reference = self.pool.cluster.reference(data.inputs)
        return slot, slot.call("fit", worker, params, data.key, reference, with_device(slot, options))

    def thaw(self, model: RemoteModel, *, seed: int, device: str, time_limit: float) -> RemoteTrial:
        """Return a trial that has loaded a frozen model, on the slot on which the model was frozen (not on ``device``).

        ``time_limit`` is in seconds, for loading and predictions.
        """
        worker, _ = self.process_on(model.slot)
        options = with_device(model.slot, {"seed": seed, "time_limit": time_limit})
        number = model.slot.call("thaw", worker, model.number, options, wait=time_limit + CALL_GRACE_SECONDS)
        return RemoteTrial(model.slot, number, time_limit)

    @property
    def printed(self) -> str:
        outputs = []
        for slot, (number, _) in list(self.opened.items()):
            with suppress(SlotLost):
                outputs.append(slot.call("printed", number))
        return "".join(outputs)

    def close(self) -> None:
        with self.lock:
            opened, self.opened = self.opened, {}
        for slot, (number, _) in opened.items():
            self.pool.shut(slot, number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def with_device(slot: RemoteSlot, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options together with ``device``, the slot's device under the name that its machine uses, such as cuda:0."""
    assert slot.info is not None
    return {**options, "device": slot.info.device}


class RemoteTrial(VerifiedPredictions):
    """`Trial` on another machine; its number there is ``number``. Calls may raise SlotLost."""

    def __init__(self, slot: RemoteSlot, number: int, time_limit: float) -> None:
        self.slot, self.number, self.call_limit = slot, number, time_limit + CALL_GRACE_SECONDS
        self.usage = TrialUsage(0, 0.0)
        self.closed = False

    def fit(self, on_report: Callable[[float], bool] = lambda loss: False) -> FitResult:
        """Run the fit to its end and return its result. Raises TrialFailed and SlotLost.

        Calls ``on_report(loss)`` at each report of the submission. If it returns True, raises TrialPruned.
        """
        result: FitResult = drive(self._steps(), on_report)
        return result

    def _steps(self) -> Any:
        answer = None
        while True:
            done, value = self.slot.call("advance", self.number, answer, wait=self.call_limit)
            if done:
                return value
            answer = yield value

    def answer(self, x: Array, forms: Sequence[OutputSpec], member: int = 0) -> tuple[Array, float]:
        reply: tuple[Array, float] = self.slot.call("answer", self.number, x, forms, member, wait=self.call_limit)
        return reply

    def freeze(self) -> RemoteModel:
        return RemoteModel(self.slot, self.slot.call("freeze", self.number, wait=self.call_limit))

    def thaw(self) -> None:
        """Do nothing: `RemoteWorker.thaw` has waited until the model was loaded."""

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
    """`BatchTrial` on another machine."""

    def fit_many(self, on_reports: OnReports) -> BatchResult:
        result: BatchResult = drive(self._steps(), on_reports)
        return result


@dataclass(frozen=True)
class RemoteModel:
    """Frozen model, kept on the machine on which it was fitted until the ``with`` block ends."""

    slot: RemoteSlot
    number: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(SlotLost):
            self.slot.call("drop", self.number)

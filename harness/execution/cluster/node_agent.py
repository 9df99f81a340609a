"""A slot on a machine of a cluster: the parent's side of a submission's processes, told from afar what to run.

A `Station` stands where the sandbox is. It is handed code, data and questions, never a hidden label, and hands back losses and raw
answers. Nothing here knows how calls travel. What a submission does wrong comes back as a value, not as an exception, because
exceptions lose their meaning on the way.
"""

from __future__ import annotations

import hashlib
import itertools
import platform
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness import datasets
from harness.contract import Array, OutputSpec, Limits
from harness.errors import PluginError, TrialFailed, TrialPruned, UsageError
from harness.execution.parent import cgroups, isolation, slots
from harness.execution.parent.batch_trial import BatchTrial
from harness.execution.parent.fit_data import FitInputs, SharedInputs
from harness.execution.parent.isolation import Isolation
from harness.execution.parent.limits import default_memory
from harness.execution.parent.trial import Trial, TrialUsage
from harness.execution.parent.workers import Worker, WorkerConfig
from harness.execution.shared.memory import SealedBytes
from harness.plugins.bundle import Bundle


@dataclass(frozen=True)
class Reply:
    """What came of a call: ``value``; or an ``error`` with its ``status``, "" where the plug-in or the request is wrong."""

    value: Any = None
    error: str | None = None
    status: str = ""


@dataclass(frozen=True)
class NodeInfo:
    """What a station says of itself: its machine, the hash of its Bakeoff, its device, and its tier with what the probe found."""

    node: str
    package_hash: str
    device: str
    isolation: Isolation


@dataclass
class OpenWorker:
    """A worker with the data that it was handed: files that no other worker's trials see."""

    worker: Worker
    data: dict[int, SharedInputs] = field(default_factory=dict)


@dataclass
class RunningFit:
    """A trial, and the fit that it is in the midst of."""

    trial: Trial
    steps: Generator[Any, Any, Any]
    started: bool = False


@cache
def package_hash() -> str:
    """Of the source of the package: both ends have to run the same."""
    found = hashlib.sha256()
    place = Path(__file__).parent.parent.parent
    for path in sorted(place.rglob("*.py")):
        if "shipped" not in path.relative_to(place).parts:
            found.update(path.relative_to(place).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def as_reply(call: Callable[[], Any]) -> Reply:
    try:
        return Reply(call())
    except TrialPruned:
        return Reply(error="ended by the search", status="pruned")
    except TrialFailed as error:
        return Reply(error=str(error), status=error.status)
    except (PluginError, UsageError) as error:
        return Reply(error=str(error))


class NodeAgent:
    """One slot. Methods may be called from several threads; things that live here are named by numbers."""

    def __init__(self, threads: int, slots_per_node: int) -> None:
        """``neighbours`` is how many slots of so many ``threads`` its machine may have."""
        self.threads, self.slots_per_node = threads, slots_per_node
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.workers: dict[int, OpenWorker] = {}
        self.trials: dict[int, RunningFit] = {}
        self.models: dict[int, SealedBytes] = {}
        self.isolation: Isolation | None = None

    def info(self, tier: str) -> Reply:
        """Choose a tier, as `isolation.choose` does, and say what this is. Nothing is started before."""

        def look() -> NodeInfo:
            isolation.sweep()
            cgroups.sweep()
            self.isolation = isolation.choose(tier, hidden=datasets.folders())
            device = "cuda:0" if slots.gpus() and slots.torch_has_cuda() else "cpu"
            return NodeInfo(platform.node(), package_hash(), device, self.isolation)

        return as_reply(look)

    def open(self, bundle: Bundle, limits: Limits) -> Reply:
        """Start a worker, and do not wait for it."""

        def start() -> int:
            assert self.isolation is not None
            if bundle.package and not bundle.package.exists():
                raise PluginError(f"the package of {bundle.name} is not at {bundle.package} on {platform.node()}")
            share = Limits(memory=default_memory(self.slots_per_node))
            return self._keep(
                self.workers, OpenWorker(Worker(bundle, WorkerConfig(self.isolation, limits.over(share), self.threads)))
            )

        return as_reply(start)

    def ready(self, worker: int) -> Reply:
        return as_reply(self.workers[worker].worker.ready)

    def fit(
        self,
        worker: int,
        params: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        key: int,
        inputs: FitInputs,
        options: Mapping[str, Any],
    ) -> Reply:
        """Fork a trial, one of several configurations where ``params`` is a sequence; `advance` it. ``key`` names the data."""

        def begin() -> int:
            held = self.workers[worker]
            if key not in held.data:
                held.data[key] = SharedInputs(inputs)
            data = held.data[key]
            if isinstance(params, Mapping):
                trial = held.worker.trial(params, data, **options)
                return self._keep(self.trials, RunningFit(trial, trial.fit_steps()))
            together: BatchTrial = held.worker.batch_trial(params, data, **options)
            return self._keep(self.trials, RunningFit(together, together.fit_many_steps()))

        return as_reply(begin)

    def advance(self, trial: int, answer: Any) -> Reply:
        """Go on with a fit to its next report, (False, what was reported), or to its end, (True, what it comes to)."""

        def go() -> tuple[bool, Any]:
            running = self.trials[trial]
            try:
                if running.started:
                    return False, running.steps.send(answer)
                running.started = True
                return False, next(running.steps)
            except StopIteration as end:
                return True, end.value

        return as_reply(go)

    def answer(self, trial: int, x: Array, forms: Sequence[OutputSpec], member: int) -> Reply:
        return as_reply(lambda: self.trials[trial].trial.answer(x, forms, member))

    def pause_clock(self, trial: int) -> Reply:
        return as_reply(self.trials[trial].trial.pause_clock)

    def freeze(self, trial: int) -> Reply:
        return as_reply(lambda: self._keep(self.models, self.trials[trial].trial.freeze()))

    def thaw(self, worker: int, model: int, options: Mapping[str, Any]) -> Reply:
        """Fork a trial that takes up a frozen model, and wait until it has."""

        def begin() -> int:
            trial = self.workers[worker].worker.thaw(self.models[model], **options)
            number = self._keep(self.trials, RunningFit(trial, trial.fit_steps()))
            trial.thaw()
            return number

        return as_reply(begin)

    def end(self, trial: int) -> TrialUsage:
        """End a trial that may be none any more."""
        running = self.trials.pop(trial, None)
        if running is None:
            return TrialUsage(0, 0.0)
        running.trial.close()
        return running.trial.usage

    def kill(self, trial: int) -> None:
        """End a trial that is not to be waited for."""
        if running := self.trials.get(trial):
            running.trial.kill()

    def drop(self, model: int) -> None:
        if parcel := self.models.pop(model, None):
            parcel.close()

    def printed(self, worker: int) -> str:
        held = self.workers.get(worker)
        return held.worker.log.text if held else ""

    def close(self, worker: int) -> str:
        """End a worker with all that it started; what it printed."""
        with self.lock:
            held = self.workers.pop(worker, None)
        if held is None:
            return ""
        held.worker.close()
        for data in held.data.values():
            with suppress(OSError):
                data.close()
        return held.worker.log.text

    def _keep(self, place: dict[int, Any], thing: Any) -> int:
        number = next(self.numbers)
        place[number] = thing
        return number

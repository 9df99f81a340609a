"""Agent of one slot on a machine of a cluster: it runs workers and trials for the coordinator.

A `NodeAgent` runs on the machine of the sandbox. It receives code, data and queries, never a hidden label, and returns losses and
raw answers. It does not depend on how calls are transported. Errors of a submission are returned as values, because exceptions lose
their type in transport.
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
from harness.contract import Array, Limits, OutputSpec
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
    """Result of a call: ``value``, or ``error`` with its ``status``; the status is "" for a wrong plug-in or request."""

    value: Any = None
    error: str | None = None
    status: str = ""


@dataclass(frozen=True)
class NodeInfo:
    """Description of an agent: machine, hash of its Bakeoff source, device, and tier with the probe's answers."""

    node: str
    package_hash: str
    device: str
    isolation: Isolation


@dataclass
class OpenWorker:
    """Open worker with its own shared inputs by key: no other worker's trials see these files."""

    worker: Worker
    data: dict[int, SharedInputs] = field(default_factory=dict)


@dataclass
class RunningFit:
    """Trial and the generator of its running fit."""

    trial: Trial
    steps: Generator[Any, Any, Any]
    started: bool = False


@cache
def package_hash() -> str:
    """Return the SHA-256 of the package's source, which coordinator and agents must share."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent.parent
    for path in sorted(root.rglob("*.py")):
        if "shipped" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def as_reply(call: Callable[[], Any]) -> Reply:
    """Run a call and return its value or its error."""
    try:
        return Reply(call())
    except TrialPruned:
        return Reply(error="ended by the search", status="pruned")
    except TrialFailed as error:
        return Reply(error=str(error), status=error.status)
    except (PluginError, UsageError) as error:
        return Reply(error=str(error))


class NodeAgent:
    """Agent of one slot. Workers, trials and models are named by numbers. Methods may be called from several threads."""

    def __init__(self, threads: int, slots_per_node: int) -> None:
        """Create the agent of a slot with ``threads``; its machine may have ``slots_per_node`` of them."""
        self.threads, self.slots_per_node = threads, slots_per_node
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.workers: dict[int, OpenWorker] = {}
        self.trials: dict[int, RunningFit] = {}
        self.models: dict[int, SealedBytes] = {}
        self.isolation: Isolation | None = None

    def info(self, tier: str) -> Reply:
        """Choose a tier, as `isolation.choose` does, and return `NodeInfo`. This must be the first call."""

        def choose() -> NodeInfo:
            isolation.sweep()
            cgroups.sweep()
            self.isolation = isolation.choose(tier, hidden=datasets.data_folders())
            device = "cuda:0" if slots.gpus() and slots.torch_has_cuda() else "cpu"
            return NodeInfo(platform.node(), package_hash(), device, self.isolation)

        return as_reply(choose)

    def open(self, bundle: Bundle, limits: Limits) -> Reply:
        """Start a worker and return its number, without waiting for the import."""

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
        """Wait for a worker's import and return the description of its submission."""
        return as_reply(self.workers[worker].worker.ready)

    def fit(
        self,
        worker: int,
        params: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        key: int,
        inputs: FitInputs,
        options: Mapping[str, Any],
    ) -> Reply:
        """Fork a trial, or a batch if ``params`` is a sequence, and return its number for `advance`. ``key`` names the inputs."""

        def begin() -> int:
            opened = self.workers[worker]
            if key not in opened.data:
                opened.data[key] = SharedInputs(inputs)
            data = opened.data[key]
            if isinstance(params, Mapping):
                trial = opened.worker.trial(params, data, **options)
                return self._keep(self.trials, RunningFit(trial, trial.fit_steps()))
            batch: BatchTrial = opened.worker.batch_trial(params, data, **options)
            return self._keep(self.trials, RunningFit(batch, batch.fit_many_steps()))

        return as_reply(begin)

    def advance(self, trial: int, answer: Any) -> Reply:
        """Continue a fit; return (False, report) at its next report, or (True, result) at its end."""

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
        """Return an unverified answer of a trial and its seconds."""
        return as_reply(lambda: self.trials[trial].trial.answer(x, forms, member))

    def pause_clock(self, trial: int) -> Reply:
        """Stop a trial's clock until the next query."""
        return as_reply(self.trials[trial].trial.pause_clock)

    def freeze(self, trial: int) -> Reply:
        """Keep a trial's pickled model, and return the model's number."""
        return as_reply(lambda: self._keep(self.models, self.trials[trial].trial.freeze()))

    def thaw(self, worker: int, model: int, options: Mapping[str, Any]) -> Reply:
        """Fork a trial, wait until it has loaded a frozen model, and return its number."""

        def begin() -> int:
            trial = self.workers[worker].worker.thaw(self.models[model], **options)
            number = self._keep(self.trials, RunningFit(trial, trial.fit_steps()))
            trial.thaw()
            return number

        return as_reply(begin)

    def end(self, trial: int) -> TrialUsage:
        """End a trial and return its usage; zero if it has ended before."""
        running = self.trials.pop(trial, None)
        if running is None:
            return TrialUsage(0, 0.0)
        running.trial.close()
        return running.trial.usage

    def kill(self, trial: int) -> None:
        """Kill a trial without waiting for its exit."""
        if running := self.trials.get(trial):
            running.trial.kill()

    def drop(self, model: int) -> None:
        """Delete a frozen model."""
        if pickled := self.models.pop(model, None):
            pickled.close()

    def printed(self, worker: int) -> str:
        """Return the end of a worker's output."""
        opened = self.workers.get(worker)
        return opened.worker.log.text if opened else ""

    def close(self, worker: int) -> str:
        """End a worker and its descendants; return the end of its output."""
        with self.lock:
            opened = self.workers.pop(worker, None)
        if opened is None:
            return ""
        opened.worker.close()
        for data in opened.data.values():
            with suppress(OSError):
                data.close()
        return opened.worker.log.text

    def _keep(self, table: dict[int, Any], item: Any) -> int:
        number = next(self.numbers)
        table[number] = item
        return number

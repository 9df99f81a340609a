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
from harness.plugins.task_files import installed_task_paths


@dataclass(frozen=True)
class Reply:
    """Answer of a node agent to a call: ``value``, or the message ``error`` with the ``status`` of a failed trial.

    The status is "pruned" for a pruned trial, "" for a wrong plug-in or request.
    """

    value: Any = None
    error: str | None = None
    status: str = ""


@dataclass(frozen=True)
class NodeInfo:
    """Description of a slot: name of its machine, hash of its Bakeoff source, device (cpu or cuda:0), and tier of isolation."""

    node: str
    package_hash: str
    device: str
    isolation: Isolation


@dataclass
class OpenWorker:
    """Open worker of a node agent, with its own copies of the inputs that its trials share, by key.

    No trial of another worker sees the files of these copies.
    """

    worker: Worker
    data: dict[int, SharedInputs] = field(default_factory=dict)


@dataclass
class RunningFit:
    """Trial with the generator of its fit. ``started`` is True after the generator's first step."""

    trial: Trial
    steps: Generator[Any, Any, Any]
    started: bool = False


@cache
def package_hash() -> str:
    """Return the SHA-256 of Bakeoff's Python source in hexadecimal digits. It must be the same on coordinator and agents."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent.parent
    for path in sorted(root.rglob("*.py")):
        if "shipped" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def as_reply(call: Callable[[], Any]) -> Reply:
    """Run ``call`` and return its value as a `Reply`.

    TrialPruned, TrialFailed, PluginError and UsageError are returned as the reply's error; others are raised.
    """
    try:
        return Reply(call())
    except TrialPruned:
        return Reply(error="ended by the search", status="pruned")
    except TrialFailed as error:
        return Reply(error=str(error), status=error.status)
    except (PluginError, UsageError) as error:
        return Reply(error=str(error))


class NodeAgent:
    """Agent of one slot on a machine of a cluster. The coordinator calls it to run workers and trials.

    Calls name workers, trials and models by numbers. They may come from several threads at once.
    """

    def __init__(self, threads: int, slots_per_node: int) -> None:
        """Create the agent of a slot with ``threads`` CPU threads, on a machine with at most ``slots_per_node`` slots."""
        self.threads, self.slots_per_node = threads, slots_per_node
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.workers: dict[int, OpenWorker] = {}
        self.trials: dict[int, RunningFit] = {}
        self.models: dict[int, SealedBytes] = {}
        self.isolation: Isolation | None = None

    def info(self, tier: str) -> Reply:
        """Choose a tier of isolation, as `isolation.choose` does, and return the slot's `NodeInfo`. This must be the first call."""

        def choose() -> NodeInfo:
            isolation.sweep()
            cgroups.sweep()
            self.isolation = isolation.choose(tier, hidden=[*datasets.data_folders(), *installed_task_paths()])
            device = "cuda:0" if slots.gpus() and slots.torch_has_cuda() else "cpu"
            return NodeInfo(platform.node(), package_hash(), device, self.isolation)

        return as_reply(choose)

    def open(self, bundle: Bundle, limits: Limits) -> Reply:
        """Start a worker of the submission ``bundle`` and return the worker's number, without waiting for the import."""

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
        """Wait until a worker has imported its submission, and return the submission's `Description`."""
        return as_reply(self.workers[worker].worker.ready)

    def fit(
        self,
        worker: int,
        params: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        key: int,
        inputs: FitInputs,
        options: Mapping[str, Any],
    ) -> Reply:
        """Fork a trial, or a batch trial if ``params`` is a sequence, and return its number. `advance` runs its fit.

        ``key`` identifies ``inputs``, so that a worker copies them only once. ``options`` go to `Worker.trial` or
        `Worker.batch_trial`.
        """

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
        """Continue the fit of a trial. Return (False, report) at its next report, or (True, result) at its end.

        ``answer`` is the reply to its last report; the first call of a fit has none.
        """

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
        """Return a trial's unverified answer to ``x`` in one of the output specs ``forms``, and its seconds.

        ``member`` selects the model of a batch.
        """
        return as_reply(lambda: self.trials[trial].trial.answer(x, forms, member))

    def pause_clock(self, trial: int) -> Reply:
        """Stop the clock of a trial's time limit until the trial's next query."""
        return as_reply(self.trials[trial].trial.pause_clock)

    def freeze(self, trial: int) -> Reply:
        """Have a trial pickle its fitted model, keep the pickle on this machine, and return the pickle's number."""
        return as_reply(lambda: self._keep(self.models, self.trials[trial].trial.freeze()))

    def thaw(self, worker: int, model: int, options: Mapping[str, Any]) -> Reply:
        """Fork a trial, wait until it has loaded the frozen ``model``, and return its number. ``options`` go to `Worker.thaw`."""

        def begin() -> int:
            trial = self.workers[worker].worker.thaw(self.models[model], **options)
            number = self._keep(self.trials, RunningFit(trial, trial.fit_steps()))
            trial.thaw()
            return number

        return as_reply(begin)

    def end(self, trial: int) -> TrialUsage:
        """End a trial and return its usage; zeros if the trial has ended before."""
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
        """Return the end of the text that a worker has printed, at most 64 KiB; "" for a closed worker."""
        opened = self.workers.get(worker)
        return opened.worker.log.text if opened else ""

    def close(self, worker: int) -> str:
        """End a worker and its descendants. Return the end of the text that it has printed; "" if it was closed before."""
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

"""One trial, seen by the parent: a fork that fits and predicts, under limits. The parent checks each message of the fork.

Every failure becomes a `TrialFailed` with a row's status. All times are by the parent's clock.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

import psutil

from harness.contract import Array, Kind, Limits, OutputSpec
from harness.errors import ChannelClosed, InvalidPrediction, TrialFailed, TrialPruned
from harness.execution.parent import cgroups
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.limits import (
    LimitExceeded,
    LimitMonitor,
    ProcessUsage,
    advice,
    format_bytes,
    group_exceeded,
    output_exceeded,
)
from harness.execution.parent.log import Log
from harness.execution.shared.channel import (
    MAX_TEXT_CHARACTERS,
    Channel,
    clean_line,
    clean_text,
    finite_number,
    whole_number,
)
from harness.execution.shared.memory import SealedBytes, SharedArray
from harness.execution.shared.processes import continue_tree, kill_tree, stop_tree
from leaderboard.result import Status

EXIT_LIMIT_SECONDS = 5.0
"""Seconds for which the parent waits, twice, for the report of a fork's exit before it kills the whole worker."""
CHILD_STATUSES = (Status.FAILED, Status.OUT_OF_MEMORY, Status.INVALID, Status.PROCESS_LIMIT, Status.DISK_LIMIT)
"""Statuses that a fork may claim for its own failure. None is to its advantage; any other claim becomes failed."""


R = TypeVar("R")
A = TypeVar("A")
F = TypeVar("F")


def drive(steps: Generator[R, A, F], answer: Callable[[R], A]) -> F:
    """Run a generator to its end: send it ``answer(value)`` for each ``value`` that it yields. Return the generator's result."""
    try:
        step = next(steps)
        while True:
            step = steps.send(answer(step))
    except StopIteration as end:
        result: F = end.value
        return result
    finally:
        steps.close()


@dataclass(frozen=True)
class FitResult:
    """Result of a fit. ``snapshots`` are sheets of training pictures, oldest first, or None; ``gpu_memory`` is a peak, in bytes."""

    seconds: float
    n_parameters: int | None
    summary: str
    snapshots: Array | None
    gpu_memory: int | None = None


@dataclass(frozen=True)
class TrialUsage:
    """Peak resident memory in bytes and CPU seconds of an ended trial."""

    peak_memory: int
    cpu_seconds: float


class WorkerHandle(Protocol):
    """Interface of a worker to the trials that are forked from it."""

    limits: Limits
    log: Log
    trials: dict[int, Trial]

    @property
    def exceeded(self) -> LimitExceeded | None: ...
    def post(self, message: Mapping[str, Any], fds: Sequence[int], trial: Trial) -> None: ...
    def give_up(self) -> None: ...
    def helpers(self) -> ProcessUsage: ...


class VerifiedPredictions(ABC):
    """Base class of a trial on this or another machine. `predict` verifies the raw reply that `answer` returns."""

    @abstractmethod
    def answer(self, x: Array, forms: Sequence[OutputSpec], member: int = 0) -> tuple[Array, float]:
        """Return an unverified answer to ``x`` in one of the output specs ``forms``, and its seconds. Raises TrialFailed."""

    def predict(self, x: Array, kind: Kind, member: int = 0) -> tuple[Array, float]:
        """Return a prediction verified by ``kind``, and its seconds; ``member`` selects a model of a batch. Raises TrialFailed."""
        prediction, seconds = self.answer(x, kind.output_specs(x), member)
        try:
            kind.verify(prediction, x)
        except InvalidPrediction as error:
            raise TrialFailed(Status.INVALID, str(error)) from error
        return prediction, seconds


class Trial(VerifiedPredictions):
    """One fork of a worker: `fit`, then `predict` any number of times. Leaving the ``with`` block ends the fork and sets `usage`.

    ``message`` is the fork's job, ``arrays`` its data by name. ``time_limit`` is in seconds, for fit and predictions together.
    """

    def __init__(
        self,
        worker: WorkerHandle,
        message: Mapping[str, Any],
        arrays: Mapping[str, SharedArray],
        *,
        extra_fds: Sequence[int] = (),
        snapshots_of: SharedInputs | None = None,
        time_limit: float,
        scratch: Path | None,
    ) -> None:
        self.worker, self.time_limit, self.scratch = worker, time_limit, scratch
        self.usage = TrialUsage(0, 0.0)
        self.deadline = time.monotonic() + time_limit
        self.time_left: float | None = None
        self.killed = self.closed = False
        self.exceeded: LimitExceeded | None = None
        self.process: psutil.Process | None = None
        self.group: cgroups.Group | None = None
        self.monitor: LimitMonitor | None = None
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours, tells_pid=True)
        self.mailbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.snapshot_form = snapshots_of.snapshots if snapshots_of else None
        self.snapshot_memory = (
            SharedArray(self.snapshot_form.shape, self.snapshot_form.dtype) if self.snapshot_form else None
        )
        all_arrays = dict(arrays) | ({"snapshots": self.snapshot_memory} if self.snapshot_memory else {})
        read_end, write_end = os.pipe()
        self.output_thread = worker.log.drain(read_end, worker.limits.output, self._stop_output)
        self.started = time.monotonic()
        try:
            fds = [theirs.fileno(), write_end, *extra_fds, *(array.fd for array in all_arrays.values())]
            worker.post({**message, "arrays": [array.spec(name) for name, array in all_arrays.items()]}, fds, self)
        finally:
            theirs.close()
            os.close(write_end)

    number: int
    """Number of the trial, unique in its worker; `Worker.post` sets it."""

    def fit(self, on_report: Callable[[float], bool] = lambda loss: False) -> FitResult:
        """Run the fit to its end and return its result. Raises TrialFailed.

        Calls ``on_report(loss)`` at each report of the submission, with NaN if not finite. If it returns True, raises TrialPruned.
        """
        return drive(self.fit_steps(), on_report)

    def fit_steps(self) -> Generator[float, bool, FitResult]:
        """Run the fit as a generator that returns the result: yield each reported loss, NaN if not finite; take True to prune."""
        self._begin()
        while (message := self._receive()).get("event") == "report":
            loss = finite_number(message.get("loss"))
            prune = yield float("nan") if loss is None else loss
            self._send({"prune": prune})
            if prune:
                raise TrialPruned
        seconds = time.monotonic() - self.started
        self._expect(message, "fitted")
        description = self._receive()
        self._expect(description, "described")
        n_snapshots = whole_number(description.get("snapshots"))
        snapshots = (
            self.snapshot_memory.read(self.snapshot_form)[:n_snapshots]
            if self.snapshot_memory and self.snapshot_form and n_snapshots
            else None
        )
        summary = clean_text(description.get("summary"), MAX_TEXT_CHARACTERS)
        return FitResult(
            seconds,
            whole_number(description.get("n_parameters")),
            summary,
            snapshots,
            whole_number(description.get("gpu_memory")),
        )

    def pause_clock(self) -> None:
        """Stop the clock of the trial's time limit until the next query, and the trial with it: nobody learns beyond the limit."""
        self.time_left = self.deadline - time.monotonic()
        if self.process:
            stop_tree(self.process.pid)

    def answer(self, x: Array, forms: Sequence[OutputSpec], member: int = 0) -> tuple[Array, float]:
        if self.time_left is not None:
            self.deadline, self.time_left = time.monotonic() + self.time_left, None
            if self.process:
                continue_tree(self.process.pid)
        with SharedArray.of(x) as query, SharedArray.blank(forms) as answer:
            started = time.monotonic()
            self._send(
                {
                    "op": "predict",
                    "member": member,
                    "shape": query.shape,
                    "dtype": query.dtype,
                    "forms": [{"name": form.name, "shape": form.shape, "dtype": form.dtype} for form in forms],
                },
                [query.fd, answer.fd],
            )
            message = self._receive()
            self._expect(message, "predicted")
            seconds = time.monotonic() - started
            chosen = [form for form in forms if form.name == message.get("form")]
            if not chosen:
                raise TrialFailed(
                    Status.INVALID, f"the answer's form should be one of {', '.join(form.name for form in forms)}"
                )
            return answer.read(chosen[0]), seconds

    def freeze(self) -> SealedBytes:
        """Return the fitted model, pickled and sealed, for `Worker.thaw`; close it when done. Raises TrialFailed."""
        parcel = SealedBytes()
        try:
            self._send({"op": "freeze"}, [parcel.fd])
            self._expect(self._receive(), "frozen")
            limit = self.worker.limits.memory
            if limit is not None and parcel.allocated > limit:
                raise TrialFailed(
                    Status.OUT_OF_MEMORY,
                    f"its pickled model takes {format_bytes(parcel.allocated)}; {advice('memory', format_bytes(limit))}",
                )
            parcel.seal()
        except OSError as error:
            parcel.close()
            raise TrialFailed(Status.INVALID, f"the pickled model is still being written to: {error}") from error
        except BaseException:
            parcel.close()
            raise
        return parcel

    def thaw(self) -> None:
        """Wait until the fork, made by `Worker.thaw`, has loaded the frozen model. Raises TrialFailed."""
        self._begin()
        self._expect(self._receive(), "thawed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind is not TrialPruned:
            self.kill()
        self.close()

    @property
    def alive(self) -> bool:
        """True while the fork can take another query: nobody has killed or closed it, and no exit has been reported."""
        return not self.killed and not self.closed and self.mailbox.empty()

    def close(self) -> None:
        """End the fork and its descendants, and set `usage`. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.channel.close()
        self._exited()
        if self.monitor:
            self.monitor.stop()
        self.kill()  # descendants that still run
        if self.group:
            self.usage = TrialUsage(max(self.usage.peak_memory, self.group.peak_memory), self.usage.cpu_seconds)
            self.group.close()
        self.worker.trials.pop(self.number, None)
        if self.snapshot_memory:
            self.snapshot_memory.close()

    def kill(self) -> None:
        """Kill the fork and all descendants that the parent can see. The server kills the others when it reaps the fork."""
        if self.group:
            self.group.kill()
        if self.process and self.process.is_running():  # its process id may have been reused
            kill_tree(self.process.pid)
        self.killed = True

    def _begin(self) -> None:
        """Wait for the fork's first message, set the fork's limits, and let it start. Raises TrialFailed."""
        try:
            message, _ = self.channel.receive(self.deadline)
        except TimeoutError:
            self._raise_timeout()
        except ChannelClosed:
            self._raise_death()
        self._expect(message, "awake")
        limits, pid = self.worker.limits, self.channel.pid
        if pid:
            with suppress(psutil.Error):
                self.process = psutil.Process(pid)
            self.group = cgroups.make(limits.memory, limits.processes, pid)
            self.monitor = LimitMonitor(
                pid, limits, self._stop_exceeded, self.group, self.scratch, helpers=self.worker.helpers
            )
        self._send({"op": "go"})

    def _stop_exceeded(self, exceeded: LimitExceeded) -> None:
        """Record an exceeded limit and kill the fork. Called from the monitor's or the output's thread."""
        self.exceeded = self.exceeded or exceeded
        self.kill()

    def _stop_output(self) -> None:
        self._stop_exceeded(output_exceeded(self.worker.limits))

    def _exited(self) -> int | None:
        """Wait for the report of the fork's exit and set `usage`. Return the exit code, or None if the whole worker is gone."""
        for seconds in (EXIT_LIMIT_SECONDS, EXIT_LIMIT_SECONDS):
            try:
                message = self.mailbox.get(timeout=seconds)
            except queue.Empty:
                self.kill()
                continue
            self.mailbox.put(message)
            if message is None:
                return None
            peak = max(whole_number(message.get("peak_memory")) or 0, self.monitor.peak if self.monitor else 0)
            self.usage = TrialUsage(peak, finite_number(message.get("cpu_seconds")) or 0.0)
            code = message.get("code")
            return code if isinstance(code, int) else None
        self.worker.give_up()
        return None

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        try:
            self.channel.send(message, fds)
        except ChannelClosed:
            self._raise_death()

    def _receive(self) -> dict[str, Any]:
        try:
            message, _ = self.channel.receive(self.deadline)
        except TimeoutError:
            self._raise_timeout()
        except ChannelClosed:
            self._raise_death()
        # The kernel may have killed a child of the fork for a limit: then no message of the fork counts.
        if exceeded := self._find_exceeded():
            raise TrialFailed(exceeded.status, exceeded.error)
        if message.get("event") == "failed":
            status = message.get("status")
            error = clean_line(message.get("error")) or "it failed and said nothing of why"
            limits = self.worker.limits
            if status == Status.DISK_LIMIT and limits.disk:
                error += f"; {advice('disk', format_bytes(limits.disk))}"
            elif status == Status.PROCESS_LIMIT:
                error += f"; {advice('process', limits.processes)}"
            raise TrialFailed(status if status in CHILD_STATUSES else Status.FAILED, error)
        return message

    def _find_exceeded(self) -> LimitExceeded | None:
        if self.exceeded is None and self.group:
            self.exceeded = group_exceeded(self.group, self.worker.limits)
        return self.exceeded or self.worker.exceeded

    def _expect(self, message: Mapping[str, Any], event: str) -> None:
        if message.get("event") != event:
            raise TrialFailed(
                Status.INVALID, f"the process should have said {event!r}; it said {json.dumps(message)[:80]}"
            )

    def _raise_timeout(self) -> NoReturn:
        if exceeded := self._find_exceeded():  # it was killed, but a descendant kept the channel open
            raise TrialFailed(exceeded.status, exceeded.error)
        raise TrialFailed(
            Status.TIMEOUT, f"took more than {self.time_limit:g} s for fit and predict; raise --time-limit or do less"
        )

    def _raise_death(self) -> NoReturn:
        killed_before = self.killed
        code = self._exited()
        if exceeded := self._find_exceeded():
            raise TrialFailed(exceeded.status, exceeded.error)
        if code is None:
            raise TrialFailed(Status.FAILED, "the submission's process is gone: it was killed, or killed itself")
        if self.killed and not killed_before:
            raise TrialFailed(
                Status.FAILED, "its process closed its channel, or sent what is no message, and was ended"
            )
        if code == -signal.SIGXCPU:
            raise TrialFailed(Status.CPU_LIMIT, f"computed too long; {advice('cpu', self.worker.limits.cpu_seconds)} s")
        if code == -signal.SIGKILL:
            raise TrialFailed(
                Status.OUT_OF_MEMORY,
                "killed by the system, most likely because memory ran out; use a smaller model or batch",
            )
        raise TrialFailed(Status.FAILED, f"its process ended before it answered ({exit_reason(code)})")


def exit_reason(code: int | None) -> str:
    """Return a short description of an exit code of `subprocess`, such as "signal SIGKILL". None means that it still runs."""
    if code is None:
        return "it closed its channel"
    number = -code if code < 0 else code - 128  # bubblewrap reports signals as a shell does
    with suppress(ValueError):
        return f"signal {signal.Signals(number).name}"
    return f"exit code {code}"

"""The parent's side of one trial: a fork that fits and answers, watched, and believed in nothing without looking.

Whatever goes wrong comes out as a `TrialFailed` with one of the statuses of a row. All times are by this process's clock.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

import psutil

from harness.contract import Array, OutputSpec, Kind, Limits
from harness.errors import ChannelClosed, InvalidPrediction, TrialFailed, TrialPruned
from harness.execution.parent import cgroups
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.limits import (
    LimitExceeded,
    LimitMonitor,
    advice,
    format_bytes,
    group_exceeded,
    output_exceeded,
)
from harness.execution.shared.channel import (
    MAX_TEXT_CHARACTERS,
    Channel,
    clean_line,
    clean_text,
    finite_number,
    whole_number,
)
from harness.execution.shared.memory import SealedBytes, SharedArray
from harness.execution.shared.processes import kill_tree

EXIT_LIMIT_SECONDS = 5.0
"""Seconds that a killed trial may take to be reported as gone before its whole worker is given up."""
LOG_LIMIT_BYTES = 64 * 1024
CHILD_STATUSES = ("failed", "out-of-memory", "invalid", "process-limit", "disk-limit")
"""The statuses that a child may give itself; none of them is to its advantage."""


R = TypeVar("R")
A = TypeVar("A")
F = TypeVar("F")


def drive(steps: Generator[R, A, F], answer: Callable[[R], A]) -> F:
    """Answer each of the steps, and return what they come to."""
    try:
        step = next(steps)
        while True:
            step = steps.send(answer(step))
    except StopIteration as end:
        found: F = end.value
        return found
    finally:
        steps.close()


@dataclass(frozen=True)
class FitResult:
    """What a fit cost and left. ``snapshots`` are sheets of pictures from training, oldest first; ``gpu_memory`` is in bytes."""

    seconds: float
    n_parameters: int | None
    summary: str
    snapshots: Array | None
    gpu_memory: int | None = None


@dataclass(frozen=True)
class TrialUsage:
    """Peak resident memory in bytes, and processor seconds, of a trial that has ended."""

    peak_memory: int
    cpu_seconds: float


class Log:
    """The end of what a submission's processes print. Thread-safe."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.kept = 0
        self.lock = threading.Lock()

    def add(self, piece: bytes) -> None:
        with self.lock:
            self.pieces.append(piece)
            self.kept += len(piece)
            while self.kept - len(self.pieces[0]) > LOG_LIMIT_BYTES:
                self.kept -= len(self.pieces.popleft())

    @property
    def text(self) -> str:
        with self.lock:
            return b"".join(self.pieces)[-LOG_LIMIT_BYTES:].decode(errors="replace")

    def drain(self, fd: int, limit: int | None, on_full: Callable[[], None]) -> threading.Thread:
        """Read a pipe to its end, in a thread that then closes it; ``full`` is called once more than ``most`` bytes have come."""

        def read() -> None:
            came = 0
            while piece := os.read(fd, 1 << 16):
                before, came = came, came + len(piece)
                self.add(piece)
                if limit is not None and before <= limit < came:
                    on_full()
            os.close(fd)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread


class WorkerHandle(Protocol):
    """What a trial needs of the worker that it is a fork of."""

    limits: Limits
    log: Log
    trials: dict[int, Trial]

    @property
    def exceeded(self) -> LimitExceeded | None: ...
    def post(self, message: Mapping[str, Any], fds: Sequence[int], trial: Trial) -> None: ...
    def give_up(self) -> None: ...


class Trial:
    """One fork: `fit`, then `predict` any number of times. Leaving the ``with`` block ends the process; then `usage` is known."""

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
        given = dict(arrays) | ({"snapshots": self.snapshot_memory} if self.snapshot_memory else {})
        out, printed = os.pipe()
        self.output_thread = worker.log.drain(out, worker.limits.output, self._stop_output)
        self.started = time.monotonic()
        try:
            fds = [theirs.fileno(), printed, *extra_fds, *(array.fd for array in given.values())]
            worker.post({**message, "arrays": [array.spec(name) for name, array in given.items()]}, fds, self)
        finally:
            theirs.close()
            os.close(printed)

    number: int
    """Given by the worker when it posts the message."""

    def fit(self, on_report: Callable[[float], bool] = lambda loss: False) -> FitResult:
        """Wait for the fit. ``on_report(loss)`` may answer True to end the trial: TrialPruned. Raises TrialFailed."""
        return drive(self.fit_steps(), on_report)

    def fit_steps(self) -> Generator[float, bool, FitResult]:
        """The fit, report by report: yields each loss, NaN for what is no number, and is sent whether to end."""
        self._begin()
        while (message := self._receive()).get("event") == "report":
            loss = finite_number(message.get("loss"))
            prune = yield float("nan") if loss is None else loss
            self._send({"prune": prune})
            if prune:
                raise TrialPruned
        seconds = time.monotonic() - self.started
        self._expect(message, "fitted")
        facts = self._receive()
        self._expect(facts, "described")
        kept = whole_number(facts.get("snapshots"))
        pictures = (
            self.snapshot_memory.read(self.snapshot_form)[:kept]
            if self.snapshot_memory and self.snapshot_form and kept
            else None
        )
        said = clean_text(facts.get("summary"), MAX_TEXT_CHARACTERS)
        return FitResult(
            seconds, whole_number(facts.get("n_parameters")), said, pictures, whole_number(facts.get("gpu_memory"))
        )

    def pause_clock(self) -> None:
        """The next question may take its time to come: what is left of the trial's time is stopped until then."""
        self.time_left = self.deadline - time.monotonic()

    def predict(self, x: Array, kind: Kind, member: int = 0) -> tuple[Array, float]:
        """The answer to ``x``, verified, and the seconds it took, of one ``member`` where there are several. Raises TrialFailed."""
        return verified(kind, x, *self.answer(x, kind.output_specs(x), member))

    def answer(self, x: Array, forms: Sequence[OutputSpec], member: int = 0) -> tuple[Array, float]:
        """An answer in one of these forms, which nobody has looked at yet, and its seconds. Raises TrialFailed."""
        if self.time_left is not None:
            self.deadline, self.time_left = time.monotonic() + self.time_left, None
        with SharedArray.of(x) as question, SharedArray.blank(forms) as answer:
            started = time.monotonic()
            self._send(
                {
                    "op": "predict",
                    "member": member,
                    "shape": question.shape,
                    "dtype": question.dtype,
                    "forms": [{"name": form.name, "shape": form.shape, "dtype": form.dtype} for form in forms],
                },
                [question.fd, answer.fd],
            )
            message = self._receive()
            self._expect(message, "predicted")
            seconds = time.monotonic() - started
            chosen = [form for form in forms if form.name == message.get("form")]
            if not chosen:
                raise TrialFailed(
                    "invalid", f"the answer's form should be one of {', '.join(form.name for form in forms)}"
                )
            return answer.read(chosen[0]), seconds

    def freeze(self) -> SealedBytes:
        """The fitted model as bytes that nobody can change any more, for `Worker.thaw`. Raises TrialFailed; close it when done."""
        parcel = SealedBytes()
        try:
            self._send({"op": "freeze"}, [parcel.fd])
            self._expect(self._receive(), "frozen")
            parcel.seal()
        except OSError as error:
            parcel.close()
            raise TrialFailed("invalid", f"the pickled model is still being written to: {error}") from error
        except BaseException:
            parcel.close()
            raise
        return parcel

    def thaw(self) -> None:
        """Wait until a frozen model is back. Raises TrialFailed."""
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
        """Whether it may be asked more: nobody has ended it, and it has not ended itself as far as is known."""
        return not self.killed and not self.closed and self.mailbox.empty()

    def close(self) -> None:
        """End the process and everything that it started; closing again does nothing."""
        if self.closed:
            return
        self.closed = True
        self.channel.close()
        self._exited()
        if self.monitor:
            self.monitor.stop()
        self.kill()  # what it left running
        if self.group:
            self.usage = TrialUsage(max(self.usage.peak_memory, self.group.peak_memory), self.usage.cpu_seconds)
            self.group.close()
        self.worker.trials.pop(self.number, None)
        if self.snapshot_memory:
            self.snapshot_memory.close()

    def kill(self) -> None:
        """Kill the trial and what it started, as far as can be seen from here. The worker's process does so too when it reaps."""
        if self.group:
            self.group.kill()
        if self.process and self.process.is_running():  # the number may be another process's by now
            kill_tree(self.process.pid)
        self.killed = True

    def _begin(self) -> None:
        """Let the fork begin, once it is known by the kernel's word which process it is, and its limits hold."""
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
            self.monitor = LimitMonitor(pid, limits, self._stop_exceeded, self.group, self.scratch)
        self._send({"op": "go"})

    def _stop_exceeded(self, excess: LimitExceeded) -> None:
        """A limit was exceeded. Called from the thread that saw it."""
        self.exceeded = self.exceeded or excess
        self.kill()

    def _stop_output(self) -> None:
        self._stop_exceeded(output_exceeded(self.worker.limits))

    def _exited(self) -> int | None:
        """Wait for the end of the process; its exit code, or None where the whole worker is gone."""
        for patience in (EXIT_LIMIT_SECONDS, EXIT_LIMIT_SECONDS):
            try:
                message = self.mailbox.get(timeout=patience)
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
        # A limit may have cost it a child and not itself: what it says then is worth nothing.
        if excess := self._find_exceeded():
            raise TrialFailed(excess.status, excess.error)
        if message.get("event") == "failed":
            status = message.get("status")
            said = clean_line(message.get("error")) or "it failed and said nothing of why"
            limits = self.worker.limits
            if status == "disk-limit" and limits.disk:
                said += f"; {advice('disk', format_bytes(limits.disk))}"
            elif status == "process-limit":
                said += f"; {advice('process', limits.processes)}"
            raise TrialFailed(status if status in CHILD_STATUSES else "failed", said)
        return message

    def _find_exceeded(self) -> LimitExceeded | None:
        if self.exceeded is None and self.group:
            self.exceeded = group_exceeded(self.group, self.worker.limits)
        return self.exceeded or self.worker.exceeded

    def _expect(self, message: Mapping[str, Any], event: str) -> None:
        if message.get("event") != event:
            raise TrialFailed("invalid", f"the process should have said {event!r}; it said {json.dumps(message)[:80]}")

    def _raise_timeout(self) -> NoReturn:
        if excess := self._find_exceeded():  # killed for it, while something that it started kept the channel open
            raise TrialFailed(excess.status, excess.error)
        raise TrialFailed(
            "timeout", f"took more than {self.time_limit:g} s for fit and predict; raise --time-limit or do less"
        )

    def _raise_death(self) -> NoReturn:
        ended_here = self.killed
        code = self._exited()
        if excess := self._find_exceeded():
            raise TrialFailed(excess.status, excess.error)
        if code is None:
            raise TrialFailed("failed", "the submission's process is gone: it was killed, or killed itself")
        if self.killed and not ended_here:
            raise TrialFailed("failed", "its process closed its channel, or sent what is no message, and was ended")
        if code == -signal.SIGXCPU:
            raise TrialFailed("cpu-limit", f"computed too long; {advice('cpu', self.worker.limits.cpu_seconds)} s")
        if code == -signal.SIGKILL:
            raise TrialFailed(
                "out-of-memory",
                "killed by the system, most likely because memory ran out; use a smaller model or batch",
            )
        raise TrialFailed("failed", f"its process ended before it answered ({exit_reason(code)})")


def verified(kind: Kind, x: Array, answer: Array, seconds: float) -> tuple[Array, float]:
    """An answer to ``x`` that its kind lets pass, with its seconds. Raises TrialFailed."""
    try:
        kind.verify(answer, x)
    except InvalidPrediction as error:
        raise TrialFailed("invalid", str(error)) from error
    return answer, seconds


def exit_reason(code: int | None) -> str:
    """What an exit code of `subprocess` says, None being a process that runs on."""
    if code is None:
        return "it closed its channel"
    number = -code if code < 0 else code - 128  # bubblewrap says it as a shell does
    with suppress(ValueError):
        return f"signal {signal.Signals(number).name}"
    return f"exit code {code}"

"""The parent's side of a child: start it warm, run trials in it, believe nothing that it says without looking.

A `Worker` is one submission's process; a `Trial` is one fork of it. Whatever goes wrong in a trial comes out as a
`TrialFailed` with one of the statuses of a row. All times are by this process's clock.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import psutil
from optuna.distributions import json_to_distribution

from harness.contract import Array, Data, Distribution, InvalidPrediction, Kind, PluginError
from harness.execution.channel import Channel, ChannelClosed, line, real, text, whole
from harness.execution.isolation import Isolation
from harness.execution.memory import Shared
from harness.execution.worker import TEXT_LIMIT, kill_tree
from harness.plugins import Source

WARM_LIMIT = 180.0
"""Seconds that a submission may take to import what it needs."""
EXIT_LIMIT = 5.0
"""Seconds that a killed trial may take to be reported as gone before its whole worker is given up."""
LOG_LIMIT = 64 * 1024


class TrialFailed(Exception):
    """A trial that gave no valid answer. ``status`` is a row's: failed, timeout, out-of-memory or invalid."""

    def __init__(self, status: str, error: str) -> None:
        super().__init__(error)
        self.status = status


class TrialPruned(Exception):
    """A trial that the search ended."""


@dataclass(frozen=True)
class Description:
    """What a submission says of itself, checked."""

    kinds: tuple[str, ...]
    space: Mapping[str, Distribution]
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Fitted:
    """What a fit cost and left. ``snapshots`` are sheets of pictures from training, oldest first."""

    seconds: float
    n_parameters: int | None
    summary: str
    snapshots: Array | None


@dataclass(frozen=True)
class Usage:
    """What a trial's process used in all: peak resident bytes and CPU seconds."""

    peak_memory: int
    cpu_seconds: float


class FitData:
    """What a submission may learn from: train and valid, shared once and handed to every trial."""

    def __init__(self, data: Data, kind: Kind) -> None:
        self.kind = {"name": kind.name, **kind.settings()}
        self.arrays = {
            f"{part}.{axis}": Shared.of(array)
            for part, split in (("train", data.train), ("valid", data.valid))
            for axis, array in (("x", split.x), ("y", split.labels))
        }
        self.snapshots = kind.snapshots()

    def close(self) -> None:
        for shared in self.arrays.values():
            shared.close()


class Worker:
    """One submission's warmed process, with everything that it forks. Thread-safe; close it when done."""

    def __init__(self, source: Source, isolation: Isolation, *, threads: int) -> None:
        self.source = source
        self.scratch = Path(tempfile.mkdtemp(prefix="bakeoff-"))
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.sending = threading.Lock()
        self.numbers = 0
        self.pids: dict[int, int] = {}
        self.mailboxes: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self.gone = False
        self.closed = False
        with theirs:
            self.process = subprocess.Popen(
                isolation.command(["harness.execution.worker", str(theirs.fileno())]),
                pass_fds=[theirs.fileno()],
                cwd=self.scratch,
                env=isolation.environment(self.scratch, threads),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._log: deque[bytes] = deque()
        self._logged = 0
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()
        self._listener: threading.Thread | None = None
        place = {"path": str(source.path), "object": source.object, "module": source.module, "name": source.name}
        with suppress(ChannelClosed):
            self.channel.send({"source": place})

    def ready(self) -> Description:
        """Wait until everything is imported. Raises PluginError with the reason where that fails."""
        try:
            message, _ = self.channel.receive(time.monotonic() + WARM_LIMIT)
        except TimeoutError:
            raise PluginError(f"{self.source.name} took more than {WARM_LIMIT:.0f} s to import") from None
        except ChannelClosed:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_LIMIT)
            why = exit_reason(self.process.returncode)
            raise PluginError(f"{self.source.name} ended while it was imported ({why})") from None
        if message.get("event") != "ready":
            raise PluginError(f"{self.source.name} could not be loaded: {line(message.get('error'))}")
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            space = {str(name): json_to_distribution(text) for name, text in message["space"].items()}
            defaults = dict(message["defaults"])
            json.dumps([dict(item.__dict__) for item in space.values()], allow_nan=False)  # no infinite bounds
            outside = [name for name in defaults if not allowed(space[name], defaults[name])]
            description = Description(tuple(line(kind) for kind in message["kinds"]), space, defaults)
        except Exception as error:
            raise PluginError(f"{self.source.name} described itself in a way that cannot be read: {error}") from error
        if outside:
            name = outside[0]
            raise PluginError(
                f"{self.source.name} has the default {name}={defaults[name]!r}, which is not in {space[name]}"
            )
        return description

    def trial(
        self,
        params: Mapping[str, Any],
        data: FitData,
        *,
        seed: int,
        device: str,
        time_limit: float,
        snapshots: bool = False,
    ) -> Trial:
        """Fork: a trial that has been started and not yet fitted. Use it in a ``with`` block."""
        return Trial(self, params, data, seed=seed, device=device, time_limit=time_limit, snapshots=snapshots)

    @property
    def log(self) -> str:
        """The end of what the process printed."""
        return b"".join(self._log)[-LOG_LIMIT:].decode(errors="replace")

    def close(self) -> None:
        """End the process and everything that it started."""
        if self.closed:
            return
        self.closed = self.gone = True
        with suppress(OSError):
            self.channel.socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(EXIT_LIMIT)
        except subprocess.TimeoutExpired:
            kill_tree(self.process.pid)
            self.process.wait()
        self._kill_trials()
        if self._listener:
            self._listener.join(EXIT_LIMIT)
        self._reader.join(EXIT_LIMIT)
        if self.process.stdout and not self._reader.is_alive():
            self.process.stdout.close()
        self.channel.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_mine(self, pid: int) -> bool:
        """Whether a process is a child of this worker's: a submission could name any."""
        try:
            return bool(psutil.Process(pid).ppid() == self.process.pid)
        except psutil.Error:
            return False

    def _kill_trials(self) -> None:
        """Kill the trials that a server left running because it was killed itself."""
        for pid in list(self.pids.values()):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _drain(self) -> None:
        assert self.process.stdout is not None
        while piece := os.read(self.process.stdout.fileno(), 1 << 14):
            self._log.append(piece)
            self._logged += len(piece)
            while self._logged - len(self._log[0]) > LOG_LIMIT:
                self._logged -= len(self._log.popleft())

    def _listen(self) -> None:
        """Hand each message of the server to the trial that it is about; None when the server is gone."""
        with suppress(ChannelClosed):
            while True:
                message, _ = self.channel.receive()
                number = whole(message.get("number"))
                mailbox = None if number is None else self.mailboxes.get(number)
                if number is None or mailbox is None:
                    continue
                if message.get("event") == "started":
                    pid = whole(message.get("pid"))
                    if pid and self._is_mine(pid):
                        self.pids[number] = pid
                elif message.get("event") == "exited":
                    self.pids.pop(number, None)
                    mailbox.put(message)
        self.gone = True
        self._kill_trials()
        for mailbox in list(self.mailboxes.values()):
            mailbox.put(None)


class Trial:
    """One fork: `fit`, then `predict` any number of times. Leaving the ``with`` block ends the process; then `usage` is known."""

    def __init__(
        self,
        worker: Worker,
        params: Mapping[str, Any],
        data: FitData,
        *,
        seed: int,
        device: str,
        time_limit: float,
        snapshots: bool,
    ) -> None:
        self.worker = worker
        self.usage = Usage(0, 0.0)
        self.deadline = time.monotonic() + time_limit
        self.killed = False
        self.time_limit = time_limit
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.mailbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.sheet = data.snapshots if snapshots else None
        self.sheet_memory = Shared(self.sheet.shape, self.sheet.dtype) if self.sheet else None
        arrays = data.arrays | ({"snapshots": self.sheet_memory} if self.sheet_memory else {})
        with worker.sending:
            self.number = worker.numbers
            worker.numbers += 1
            worker.mailboxes[self.number] = self.mailbox
            if worker.gone:
                self.mailbox.put(None)
            message = {
                "op": "trial",
                "number": self.number,
                "params": dict(params),
                "seed": seed,
                "device": device,
                "kind": data.kind,
                "scratch": str(worker.scratch / str(self.number)),
                "arrays": [array.spec(name) for name, array in arrays.items()],
            }
            self.started = time.monotonic()
            with theirs, suppress(ChannelClosed):  # a dead worker is found out by the first wait
                worker.channel.send(message, [theirs.fileno(), *(array.fd for array in arrays.values())])

    def fit(self, on_report: Callable[[float], bool] = lambda loss: False) -> Fitted:
        """Wait for the fit. ``on_report(loss)`` may answer True to end the trial: TrialPruned. Raises TrialFailed."""
        while (message := self._receive()).get("event") == "report":
            loss = real(message.get("loss"))
            prune = on_report(float("nan") if loss is None else loss)
            self._send({"prune": prune})
            if prune:
                raise TrialPruned
        seconds = time.monotonic() - self.started
        self._expect(message, "fitted")
        facts = self._receive()
        self._expect(facts, "described")
        kept = whole(facts.get("snapshots"))
        pictures = self.sheet_memory.read(self.sheet)[:kept] if self.sheet_memory and self.sheet and kept else None
        return Fitted(seconds, whole(facts.get("n_parameters")), text(facts.get("summary"), TEXT_LIMIT), pictures)

    def predict(self, x: Array, kind: Kind) -> tuple[Array, float]:
        """The answer to ``x``, verified, and the seconds it took. Raises TrialFailed."""
        forms = kind.forms(x)
        with Shared.of(x) as question, Shared.blank(forms) as answer:
            started = time.monotonic()
            self._send(
                {
                    "op": "predict",
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
            copy = answer.read(chosen[0])
        try:
            kind.verify(copy, x)
        except InvalidPrediction as error:
            raise TrialFailed("invalid", str(error)) from error
        return copy, seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
        if kind is not None and kind is not TrialPruned:
            self._kill()
        self._exited()
        self.worker.mailboxes.pop(self.number, None)
        if self.sheet_memory:
            self.sheet_memory.close()

    def _kill(self) -> None:
        self.killed = True
        with self.worker.sending, suppress(ChannelClosed):
            self.worker.channel.send({"op": "kill", "number": self.number})

    def _exited(self) -> int | None:
        """Wait for the end of the process; its exit code, or None where the whole worker is gone."""
        for patience in (EXIT_LIMIT, EXIT_LIMIT):
            try:
                message = self.mailbox.get(timeout=patience)
            except queue.Empty:
                self._kill()
                continue
            self.mailbox.put(message)
            if message is None:
                return None
            self.usage = Usage(whole(message.get("peak_memory")) or 0, real(message.get("cpu_seconds")) or 0.0)
            code = message.get("code")
            return code if isinstance(code, int) else None
        kill_tree(self.worker.process.pid)
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
            raise TrialFailed(
                "timeout", f"took more than {self.time_limit:g} s for fit and predict; raise --time-limit or do less"
            ) from None
        except ChannelClosed:
            self._raise_death()
        if message.get("event") == "failed":
            status = message.get("status")
            raise TrialFailed(
                status if status in ("failed", "out-of-memory", "invalid") else "failed",
                line(message.get("error")) or "it failed and said nothing of why",
            )
        return message

    def _expect(self, message: Mapping[str, Any], event: str) -> None:
        if message.get("event") != event:
            raise TrialFailed("invalid", f"the process should have said {event!r}; it said {json.dumps(message)[:80]}")

    def _raise_death(self) -> NoReturn:
        code = self._exited()
        if code is None:
            raise TrialFailed("failed", "the submission's process is gone: it was killed, or killed itself")
        if self.killed:
            raise TrialFailed("failed", "its process closed its channel, or sent what is no message, and was ended")
        if code == -signal.SIGKILL:
            raise TrialFailed(
                "out-of-memory",
                "killed by the system, most likely because memory ran out; use a smaller model or batch",
            )
        raise TrialFailed("failed", f"its process ended before it answered ({exit_reason(code)})")


def allowed(distribution: Distribution, value: Any) -> bool:
    """Whether a value can be drawn from a distribution."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False


def exit_reason(code: int | None) -> str:
    """What an exit code of `subprocess` says, None being a process that runs on."""
    if code is None:
        return "it closed its channel"
    if code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"

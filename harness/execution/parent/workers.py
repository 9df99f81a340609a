"""The parent's side of a submission's processes: start them warm, fork trials in them, end them with all that they started.

A `Worker` is one warmed process in its tier of isolation; a `Crew` is all of one submission's, with fresh ones for what must not
remember: each seed that sees the hidden test inputs, and each further question about them.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.distributions import json_to_distribution

from harness.contract import Distribution, Limits
from harness.errors import ChannelClosed, PluginError, TrialFailed
from harness.execution.closing import Closes
from harness.execution.parent import cgroups, isolation
from harness.execution.parent import limits as watch
from harness.execution.parent.batch_trial import Together
from harness.execution.parent.fit_data import FitData
from harness.execution.parent.isolation import INSIDE, Isolation, Room
from harness.execution.parent.limits import Excess
from harness.execution.parent.trial import EXIT_LIMIT, Log, Trial, exit_reason
from harness.execution.shared.channel import SMALL, Channel, line, whole
from harness.execution.shared.memory import Parcel
from harness.execution.shared.processes import kill, processes_of_user, tree
from harness.plugins.registry import Bundle

WARM_LIMIT = 180.0
"""Seconds that a submission may take to import what it needs."""
DATA_HEADROOM = 2 << 30
"""Bytes of address space beyond the memory limit: what a library maps and hardly touches. A backstop where no group counts."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Description:
    """What a submission says of itself, checked."""

    kinds: tuple[str, ...]
    space: Mapping[str, Distribution]
    defaults: Mapping[str, Any]
    together: bool = False
    """Whether it can fit several configurations as one."""
    budget: bool = False
    """Whether a fit can be told to take a share of its epochs."""


@dataclass(frozen=True)
class Setting:
    """Under what all processes of a submission run: tier, limits of one trial, threads, and how many trials at once."""

    isolation: Isolation
    limits: Limits = watch.STANDARD
    threads: int = 1
    at_once: int = 1


class Worker(Closes):
    """One warmed process with everything that it forks. Thread-safe; close it when done."""

    def __init__(self, bundle: Bundle, setting: Setting) -> None:
        self.bundle, self.setting = bundle, setting
        self.limits = setting.limits.over(watch.STANDARD)
        tier = setting.isolation
        self.on_disk = None if tier.has_own_files else Path(tempfile.mkdtemp(prefix=f"bakeoff-{os.getpid()}-"))
        self.scratch = self.on_disk or Path(INSIDE)
        self.sending = threading.Lock()
        self.closing = threading.Lock()
        self.numbers = itertools.count()
        self.trials: dict[int, Trial] = {}
        self.gone = self.closed = self.used = False
        self.log = Log()
        self._excess: Excess | None = None
        self.group: cgroups.Group | None = None
        self.watch: watch.Watch | None = None
        self._listener: threading.Thread | None = None
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours, tells_pid=True)
        room = Room(
            self.scratch,
            disk=(self.limits.disk or 0) * setting.at_once,
            rlimits=self._rlimits(),
            number=next(_numbers),
            threads=setting.threads,
            shown=(bundle.package,) if bundle.package else (),
        )
        out, printed = os.pipe()
        self.printing = self.log.drain(out, self.limits.output, lambda: self._end(watch.too_loud(self.limits)))
        try:
            self.process = tier.start(
                ["harness.execution.child.server", str(theirs.fileno())],
                room,
                fds=[theirs.fileno()],
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise PluginError(f"a process in tier {tier.name} could not be started: {error}") from error
        finally:
            theirs.close()
            os.close(printed)
        self._greeter = threading.Thread(target=self._greet, daemon=True)
        self._greeter.start()

    def _greet(self) -> None:
        """Put the process under its limits, and then tell it what to import: until it is told it runs nothing but Bakeoff."""
        with suppress(ChannelClosed, TimeoutError), self.bundle.content() as content:
            self.channel.receive(time.monotonic() + WARM_LIMIT)
            if pid := self.channel.pid:
                self.group = cgroups.make(self.limits.memory, self.limits.processes, pid)
                limits = replace(self.limits, cpu_seconds=None)  # imports are not counted, and have a limit on time
                self.watch = watch.Watch(pid, limits, self._end, self.group, self.on_disk, self._watched)
            told = {"source": self.bundle.told(), "folder": str(self.scratch / "source")}
            self.channel.send(told, [content.fileno()])

    def _watched(self) -> list[int]:
        """The trials that have a watch of their own."""
        return [trial.process.pid for trial in list(self.trials.values()) if trial.process]

    def _end(self, excess: Excess) -> None:
        """The process itself, not one of its trials, used more than its limits."""
        self._excess = self._excess or excess
        self.kill()

    @property
    def exceeded(self) -> Excess | None:
        """The limit that the process itself, not one of its trials, has met."""
        return self._excess or (watch.excess_of(self.group, self.limits) if self.group else None)

    def _rlimits(self) -> dict[str, int]:
        """The kernel's own limits on each process: coarser than a group's or the watch's, and never asleep."""
        limits, at_once = self.limits, self.setting.at_once
        found = {"RLIMIT_NOFILE": 4096, "RLIMIT_FSIZE": limits.disk}
        if limits.processes is not None:
            # Where the user is not the sandbox's own, whatever else that user runs counts too.
            others = 0 if self.setting.isolation.has_own_files else processes_of_user()
            found["RLIMIT_NPROC"] = limits.processes * at_once + 64 + others
        if limits.cpu_seconds is not None:
            found["RLIMIT_CPU"] = int(limits.cpu_seconds + WARM_LIMIT)  # a backstop: the watch looks at their sum
        if limits.memory is not None and not cgroups.parents() and not isolation.gpu_nodes():
            found["RLIMIT_DATA"] = limits.memory + DATA_HEADROOM
        return {name: value for name, value in found.items() if value is not None}

    def ready(self) -> Description:
        """Wait until everything is imported. Raises PluginError with the reason where that fails, TrialFailed for a limit."""
        name = self.bundle.name
        deadline = time.monotonic() + WARM_LIMIT
        self._greeter.join(WARM_LIMIT)
        try:
            message, _ = self.channel.receive(deadline)
        except TimeoutError:
            raise PluginError(f"{name} took more than {WARM_LIMIT:.0f} s to import") from None
        except ChannelClosed:
            if excess := self.exceeded:
                raise TrialFailed(excess.status, f"while it was imported it {excess.error}") from None
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_LIMIT)
            self.printing.join(EXIT_LIMIT)
            last = self.log.text.strip().rpartition("\n")[2]
            why = exit_reason(self.process.returncode) + (f": {line(last, 200)}" if last else "")
            raise PluginError(f"{name} ended while it was imported ({why})") from None
        if message.get("event") != "ready":
            said = f"{name} could not be loaded: {line(message.get('error'))}"
            if message.get("status") in ("out-of-memory", "process-limit", "disk-limit"):
                raise TrialFailed(str(message["status"]), said)
            raise PluginError(said)
        self.channel.most = SMALL
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            space = {str(name): json_to_distribution(text) for name, text in message["space"].items()}
            defaults = dict(message["defaults"])
            json.dumps([dict(item.__dict__) for item in space.values()], allow_nan=False)  # no infinite bounds
            outside = [name for name in defaults if not allowed(space[name], defaults[name])]
            kinds = tuple(line(kind) for kind in message["kinds"])
            description = Description(
                kinds, space, defaults, message.get("together") is True, message.get("budget") is True
            )
        except Exception as error:
            raise PluginError(f"{name} described itself in a way that cannot be read: {error}") from error
        if outside:
            raise PluginError(
                f"{name} has the default {outside[0]}={defaults[outside[0]]!r}, which is not in {space[outside[0]]}"
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
        budget: float = 1.0,
        snapshots: bool = False,
    ) -> Trial:
        """Fork: a trial that has been started and not yet fitted. Use it in a ``with`` block."""
        told = {"seed": seed, "device": device, "budget": budget, "kind": data.kind}
        message = {"op": "fit", "params": dict(params), **told}
        return Trial(
            self,
            message,
            data.arrays,
            sheet_of=data if snapshots else None,
            time_limit=time_limit,
            scratch=self.on_disk,
        )

    def together(
        self,
        members: Sequence[Mapping[str, Any]],
        data: FitData,
        *,
        few: int,
        seed: int,
        device: str,
        time_limit: float,
        budget: float = 1.0,
    ) -> Together:
        """Fork: several configurations that are to be fitted as one, in the time of all of them; ``time_limit`` is that of one.

        Where they would take long, a ``few`` of them.
        """
        told = [dict(params) for params in members]
        message = {
            "op": "fit-together",
            "members": told,
            "few": few,
            "seed": seed,
            "device": device,
            "budget": budget,
            "kind": data.kind,
        }
        trial = Together(self, message, data.arrays, time_limit=time_limit * len(told), scratch=self.on_disk)
        trial.members, trial.each = len(told), time_limit
        return trial

    def thaw(self, model: Parcel, *, seed: int, device: str, time_limit: float) -> Trial:
        """Fork: a trial that takes up a model which another has frozen, and knows nothing else of that one's life."""
        message = {"op": "thaw", "seed": seed, "device": device}
        return Trial(self, message, {}, handed=[model.fd], time_limit=time_limit, scratch=self.on_disk)

    def post(self, message: Mapping[str, Any], fds: Sequence[int], trial: Trial) -> None:
        """Ask the process to fork a trial, which is given its number here."""
        with self.sending:
            self.used = True
            trial.number = next(self.numbers)
            self.trials[trial.number] = trial
            if self.gone:
                trial.mailbox.put(None)
            place = {"number": trial.number, "scratch": str(self.scratch / str(trial.number))}
            with suppress(ChannelClosed):  # a dead worker is found out by the first wait
                self.channel.send({**message, **place}, fds)

    def kill(self) -> None:
        """Kill the process and what it started, children first: orphans are handed to it, so that it sees all of them."""
        pid = self.process.pid
        if self.process.poll() is None:
            for _ in range(100):
                below = tree(pid)[1:]
                if not below:
                    break
                for child in below:
                    kill(child)
                time.sleep(0.001)
        with suppress(ProcessLookupError):
            self.process.kill()

    give_up = kill

    def close(self) -> None:
        """End the process and everything that it started."""
        with self.closing:
            if self.closed:
                return
            self.closed = self.gone = True
        with suppress(OSError):
            self.channel.socket.shutdown(socket.SHUT_RDWR)
        self.kill()
        self.process.wait()
        for trial in list(self.trials.values()):
            trial.kill()
        self._greeter.join(EXIT_LIMIT)
        if self.watch:
            self.watch.stop()
        if self.group:
            self.group.close()
        if self._listener:
            self._listener.join(EXIT_LIMIT)
        self.printing.join(EXIT_LIMIT)
        self.channel.close()
        if self.on_disk:
            shutil.rmtree(self.on_disk, ignore_errors=True)

    def _listen(self) -> None:
        """Hand each message of the server to the trial that it is about; None when the server is gone."""
        with suppress(ChannelClosed):
            while True:
                message, _ = self.channel.receive()
                number = whole(message.get("number"))
                trial = None if number is None else self.trials.get(number)
                if (
                    trial and message.get("event") == "exited" and trial.mailbox.empty()
                ):  # one is kept, however many are said
                    trial.mailbox.put(message)
        self.gone = True
        for trial in list(self.trials.values()):
            trial.kill()
            trial.mailbox.put(None)


class Crew(Closes):
    """The processes of one submission. The first searches; `fresh` ones have seen nothing but what they will be given."""

    holds = True
    """Whether fitted models may wait in it for each other: its machine is not lost without this process."""

    def __init__(self, bundle: Bundle, setting: Setting) -> None:
        self.bundle, self.setting = bundle, setting
        self.lock = threading.Lock()
        self.closed = self.described = False
        self.first = Worker(bundle, setting)
        self.all = [self.first]
        self.spare = [self.first]
        self.wanted = 1

    def ready(self) -> Description:
        """Wait for the first process. Raises PluginError."""
        description = self.first.ready()
        self.described = True
        return description

    def expect(self, count: int) -> None:
        """So many fresh processes will be asked for: as many as run at once are started ahead of it."""
        with self.lock:
            if self.first.used and self.first in self.spare:  # what the search has left there no final fit may find
                self.spare.remove(self.first)
                self.first.close()
            self.wanted = count
            self._warm_ahead()

    def fresh(self) -> Worker:
        """A process, ready, that no hidden input has reached; close it after one use. Raises PluginError where none starts."""
        with self.lock:
            if self.closed:
                raise PluginError(f"the processes of {self.bundle.name} have been ended")
            worker = self.spare.pop(0) if self.spare else self._start()
            self.wanted -= 1
            self._warm_ahead()
        if worker is not self.first or not self.described:
            worker.ready()
        return worker

    def _warm_ahead(self) -> None:
        while len(self.spare) < min(self.wanted, self.setting.at_once) and not self.closed:
            self.spare.append(self._start())

    def _start(self) -> Worker:
        worker = Worker(self.bundle, self.setting)
        self.all.append(worker)
        return worker

    def close(self) -> None:
        with self.lock:
            self.closed = True
        for worker in self.all:
            worker.close()

    @property
    def printed(self) -> str:
        """The end of what its processes printed."""
        return "".join(worker.log.text for worker in self.all)[-watch.MEBIBYTE // 16 :]


def allowed(distribution: Distribution, value: Any) -> bool:
    """Whether a value can be drawn from a distribution."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False

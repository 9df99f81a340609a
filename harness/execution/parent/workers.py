"""Workers of a submission, seen by the parent: start one, have it fork trials, stop it, end it with all its descendants.

A `Worker` is one server process that has imported the submission, in its tier of isolation. Work that must not remember earlier
work gets a fresh worker: final fits, which see the hidden test inputs, and each further query about these inputs.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.distributions import json_to_distribution

from harness.contract import Limits
from harness.errors import ChannelClosed, PluginError, TrialFailed
from harness.execution.parent import cgroups, isolation
from harness.execution.parent.batch_trial import BatchTrial
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.isolation import SANDBOX_SCRATCH, Isolation, ProcessSpec
from harness.execution.parent.limits import (
    STANDARD_LIMITS,
    LimitExceeded,
    LimitMonitor,
    ProcessUsage,
    group_exceeded,
    helper_usage,
    output_exceeded,
)
from harness.execution.parent.log import Log
from harness.execution.parent.trial import EXIT_LIMIT_SECONDS, Trial, exit_reason
from harness.execution.shared.channel import SMALL_MESSAGE_BYTES, Channel, clean_line, whole_number
from harness.execution.shared.folders import remove_tree
from harness.execution.shared.memory import SealedBytes
from harness.execution.shared.processes import continue_tree, count_user_processes, kill, process_tree, stop_tree
from harness.plugins.bundle import Bundle
from harness.plugins.description import Description, allowed
from harness.plugins.task_files import task_parts
from leaderboard.result import Status

WARM_LIMIT_SECONDS = 180.0
"""Seconds that a submission may take to import what it needs."""
DATA_HEADROOM_BYTES = 2 << 30
"""Bytes of data segment that a process may have beyond its memory limit, since libraries map memory that they hardly touch. Used
if there are neither control groups nor GPUs."""

_numbers = itertools.count()


@dataclass(frozen=True)
class WorkerConfig:
    """Conditions for all workers of a submission: tier, limits and CPU threads of one trial, and number of concurrent trials."""

    isolation: Isolation
    limits: Limits = STANDARD_LIMITS
    threads: int = 1
    at_once: int = 1


class Worker(AbstractContextManager["Worker"]):
    """One server process that imports a submission, and its forks, one for each trial. Thread-safe; close it when done.

    The process starts at construction and imports in the background; `ready` waits. Raises PluginError if it cannot be started.
    """

    def __init__(self, bundle: Bundle, config: WorkerConfig) -> None:
        self.bundle, self.config = bundle, config
        self.limits = config.limits.over(STANDARD_LIMITS)
        tier = config.isolation
        self.disk_folder = None if tier.has_own_files else Path(tempfile.mkdtemp(prefix=f"bakeoff-{os.getpid()}-"))
        self.scratch = self.disk_folder or Path(SANDBOX_SCRATCH)
        self.send_lock = threading.Lock()
        self.close_lock = threading.Lock()
        self.numbers = itertools.count()
        self.trials: dict[int, Trial] = {}
        self.gone = self.closed = self.used = False
        self.log = Log()
        self._exceeded: LimitExceeded | None = None
        self.group: cgroups.Group | None = None
        self.monitor: LimitMonitor | None = None
        self._listener: threading.Thread | None = None
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours, tells_pid=True)
        spec = ProcessSpec(
            self.scratch,
            disk=(self.limits.disk or 0) * config.at_once,
            rlimits=self._rlimits(),
            number=next(_numbers),
            threads=config.threads,
            visible=(bundle.package,) if bundle.package else (),
            masked=tuple(task_parts(bundle.package)) if bundle.package else (),
        )
        read_end, write_end = os.pipe()
        self.output_thread = self.log.drain(
            read_end, self.limits.output, lambda: self._stop_exceeded(output_exceeded(self.limits))
        )
        try:
            self.process = tier.start(
                ["harness.execution.child.server", str(theirs.fileno())],
                spec,
                fds=[theirs.fileno()],
                stdout=write_end,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise PluginError(f"a process in tier {tier.name} could not be started: {error}") from error
        finally:
            theirs.close()
            os.close(write_end)
        self._handshake_thread = threading.Thread(target=self._handshake, daemon=True)
        self._handshake_thread.start()

    def _handshake(self) -> None:
        """Set the limits of the server process, then send it the submission. Until then it runs Bakeoff's own code only."""
        with suppress(ChannelClosed, TimeoutError), self.bundle.content() as content:
            self.channel.receive(time.monotonic() + WARM_LIMIT_SECONDS)
            if pid := self.channel.pid:
                self.group = cgroups.make(self.limits.memory, self.limits.processes, pid)
                limits = replace(self.limits, cpu_seconds=None)  # imports are not counted, and have a limit on time
                self.monitor = LimitMonitor(
                    pid, limits, self._stop_exceeded, self.group, self.disk_folder, self._monitored
                )
            hello = {"source": self.bundle.manifest(), "folder": str(self.scratch / "source")}
            self.channel.send(hello, [content.fileno()])

    def helpers(self) -> ProcessUsage:
        """Return what the server and the processes that its import has left use, the trials left out."""
        return helper_usage(self.channel.pid, self._monitored()) if self.channel.pid else ProcessUsage()

    def _monitored(self) -> list[int]:
        """Return the process ids of the running trials, which have limit monitors of their own."""
        return [trial.process.pid for trial in list(self.trials.values()) if trial.process]

    def _stop_exceeded(self, exceeded: LimitExceeded) -> None:
        """Record a limit that the server itself, not one of its trials, has exceeded; kill the server and its forks."""
        self._exceeded = self._exceeded or exceeded
        self.kill()

    @property
    def exceeded(self) -> LimitExceeded | None:
        """Limit that the server itself, not one of its trials, has exceeded; or None."""
        return self._exceeded or (group_exceeded(self.group, self.limits) if self.group else None)

    def _rlimits(self) -> dict[str, int]:
        """Return the kernel's resource limits of each process of this worker, by name such as RLIMIT_CPU.

        The sandbox tiers set these limits. They are coarser than control groups and `LimitMonitor`, but depend on neither.
        """
        limits, at_once = self.limits, self.config.at_once
        found = {"RLIMIT_NOFILE": 4096, "RLIMIT_FSIZE": limits.disk}
        if limits.processes is not None:
            # Without a sandbox's own user the kernel counts everything that this user runs.
            others = 0 if self.config.isolation.has_own_files else count_user_processes()
            found["RLIMIT_NPROC"] = limits.processes * at_once + 64 + others
        if limits.cpu_seconds is not None:
            # A backstop: the monitor adds up all processes.
            found["RLIMIT_CPU"] = int(limits.cpu_seconds + WARM_LIMIT_SECONDS)
        if limits.memory is not None and not cgroups.parent_groups() and not isolation.gpu_nodes():
            found["RLIMIT_DATA"] = limits.memory + DATA_HEADROOM_BYTES
        return {name: value for name, value in found.items() if value is not None}

    def ready(self) -> Description:
        """Wait until the submission is imported. Return its checked description: kinds, search space, defaults and abilities.

        Raises TrialFailed if the import exceeded a limit, PluginError with the reason for any other failure.
        """
        name = self.bundle.name
        deadline = time.monotonic() + WARM_LIMIT_SECONDS
        self._handshake_thread.join(WARM_LIMIT_SECONDS)
        try:
            message, _ = self.channel.receive(deadline)
        except TimeoutError:
            raise PluginError(f"{name} took more than {WARM_LIMIT_SECONDS:.0f} s to import") from None
        except ChannelClosed:
            if exceeded := self.exceeded:
                raise TrialFailed(exceeded.status, f"while it was imported it {exceeded.error}") from None
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_LIMIT_SECONDS)
            self.output_thread.join(EXIT_LIMIT_SECONDS)
            last = self.log.text.strip().rpartition("\n")[2]
            why = exit_reason(self.process.returncode) + (f": {clean_line(last, 200)}" if last else "")
            raise PluginError(f"{name} ended while it was imported ({why})") from None
        if message.get("event") != "ready":
            error_text = f"{name} could not be loaded: {clean_line(message.get('error'))}"
            if message.get("status") in (Status.OUT_OF_MEMORY, Status.PROCESS_LIMIT, Status.DISK_LIMIT):
                raise TrialFailed(str(message["status"]), error_text)
            raise PluginError(error_text)
        self.channel.message_limit = SMALL_MESSAGE_BYTES
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            space = {str(name): json_to_distribution(text) for name, text in message["space"].items()}
            defaults = dict(message["defaults"])
            json.dumps([dict(domain.__dict__) for domain in space.values()], allow_nan=False)  # no infinite bounds
            outside = [name for name in defaults if not allowed(space[name], defaults[name])]
            texts = [*space, *(choice for domain in space.values() for choice in getattr(domain, "choices", ()))]
            unprintable = [text for text in texts if isinstance(text, str) and not text.isprintable()]
            kinds = tuple(clean_line(kind) for kind in message["kinds"])
            description = Description(
                kinds, space, defaults, message.get("vectorizable") is True, message.get("budget") is True
            )
        except Exception as error:
            raise PluginError(f"{name} described itself in a way that cannot be read: {error}") from error
        if unprintable:
            raise PluginError(
                f"{name} has a name or a choice in its space that cannot be printed: {ascii(unprintable[0])[:80]}"
            )
        if outside:
            raise PluginError(
                f"{name} has the default {outside[0]}={defaults[outside[0]]!r}, which is not in {space[outside[0]]}"
            )
        return description

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
    ) -> Trial:
        """Fork a trial that will fit the hyperparameters ``params``, and return it before its fit. Use it in a ``with`` block.

        ``time_limit`` is in seconds, for fit and predictions; ``budget`` is the share of a full fit's epochs. ``snapshots``: the
        parent gets the pictures that the submission keeps during training.
        """
        common = {"seed": seed, "device": device, "budget": budget, "kind": data.kind}
        message = {"op": "fit", "params": dict(params), **common}
        return Trial(
            self,
            message,
            data.arrays,
            snapshots_of=data if snapshots else None,
            time_limit=time_limit,
            scratch=self.disk_folder,
        )

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
    ) -> BatchTrial:
        """Fork a vectorized fit of the configurations ``members``, and return it before its fit. Use it in a ``with`` block.

        ``time_limit`` is in seconds for one member; the fork gets the sum. ``budget`` is the share of a full fit's epochs. If a fit
        of all members would take long, the submission may fit only the first ``max_members``.
        """
        configurations = [dict(params) for params in members]
        message = {
            "op": "fit-many",
            "members": configurations,
            "max_members": max_members,
            "seed": seed,
            "device": device,
            "budget": budget,
            "kind": data.kind,
        }
        trial = BatchTrial(
            self, message, data.arrays, time_limit=time_limit * len(configurations), scratch=self.disk_folder
        )
        trial.n_members, trial.member_time_limit = len(configurations), time_limit
        return trial

    def thaw(self, model: SealedBytes, *, seed: int, device: str, time_limit: float) -> Trial:
        """Fork a trial that loads the frozen model of another trial, and return it before it has loaded; see `Trial.thaw`.

        The two trials share nothing but the model. ``time_limit`` is in seconds, for loading and predictions.
        """
        message = {"op": "thaw", "seed": seed, "device": device}
        with model.copy() as own:
            return Trial(self, message, {}, extra_fds=[own.fd], time_limit=time_limit, scratch=self.disk_folder)

    def post(self, message: Mapping[str, Any], fds: Sequence[int], trial: Trial) -> None:
        """Give a trial its number, and ask the server to fork it. The fork gets ``message`` and the descriptors ``fds``.

        Raises nothing for a dead server: the first wait of the trial notices it.
        """
        with self.send_lock:
            self.used = True
            trial.number = next(self.numbers)
            self.trials[trial.number] = trial
            if self.gone:
                trial.mailbox.put(None)
            assigned = {"number": trial.number, "scratch": str(self.scratch / str(trial.number))}
            with suppress(ChannelClosed):  # the first wait notices a dead worker
                self.channel.send({**message, **assigned}, fds)

    def kill(self) -> None:
        """Kill the server and its descendants, children first: the server adopts orphans, so all of them can be found below it."""
        pid = self.process.pid
        if self.process.poll() is None:
            for _ in range(100):
                descendants = process_tree(pid)[1:]
                if not descendants:
                    break
                for child in descendants:
                    kill(child)
                time.sleep(0.001)
        with suppress(ProcessLookupError):
            self.process.kill()

    give_up = kill

    def pause(self) -> None:
        """Stop the server and its descendants until `resume`: whoever stands still notices nothing of what others do."""
        stop_tree(self.process.pid)

    def resume(self) -> None:
        continue_tree(self.process.pid)

    def close(self) -> None:
        """End the server and its descendants, and delete their scratch folder and control group. A second call does nothing."""
        with self.close_lock:
            if self.closed:
                return
            self.closed = self.gone = True
        with suppress(OSError):
            self.channel.socket.shutdown(socket.SHUT_RDWR)
        self.kill()
        self.process.wait()
        for trial in list(self.trials.values()):
            trial.kill()
        self._handshake_thread.join(EXIT_LIMIT_SECONDS)
        if self.monitor:
            self.monitor.stop()
        if self.group:
            self.group.close()
        if self._listener:
            self._listener.join(EXIT_LIMIT_SECONDS)
        self.output_thread.join(EXIT_LIMIT_SECONDS)
        self.channel.close()
        if self.disk_folder:
            remove_tree(self.disk_folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        """Put each message about an ended fork into the mailbox of the fork's trial, until the server is gone.

        Then kill all trials and put None into their mailboxes.
        """
        with suppress(ChannelClosed):
            while True:
                message, _ = self.channel.receive()
                number = whole_number(message.get("number"))
                trial = None if number is None else self.trials.get(number)
                # A server that lies may send many: one is kept.
                if trial and message.get("event") == "exited" and trial.mailbox.empty():
                    trial.mailbox.put(message)
        self.gone = True
        for trial in list(self.trials.values()):
            trial.kill()
            trial.mailbox.put(None)

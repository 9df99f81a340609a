"""The child: a warmed process that imports one submission, and forks for every trial.

``python -m harness.execution.child.server FD`` talks over the Unix socket FD. The server imports and then does nothing but fork
and reap. Each fork has a channel of its own to the parent, and does there what `harness.execution.child.run_trial` says.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import selectors
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from harness.contract import Distribution, Submission
from harness.errors import ChannelClosed, PluginError
from harness.execution.child.lazy_dynamo import defer_dynamo
from harness.execution.child.run_trial import one_line, run_trial, status_of
from harness.execution.shared.channel import Channel
from harness.execution.shared.processes import children, kill_tree
from harness.plugins.loader import load_submission

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(fd: int) -> None:
    channel = Channel(socket.socket(fileno=fd), takes_fds=True)
    adopt_orphans()
    channel.send({"event": "awake"})  # the parent puts this process under its limits before it says what to import
    hello, fds = channel.receive()
    try:
        path = unpack(hello["source"]["files"], fds[0], Path(hello["folder"]))
        gc.disable()  # an import makes much and drops little: collections would look through all of it again and again
        submission = load_submission(path, hello["source"]["object"], hello["source"]["module"])
        warm_up()
        described = describe(submission)
        # What is there now is there for good: a collection in a fork that looked at it would copy every page of it.
        gc.freeze()
        gc.enable()
        channel.send({"event": "ready", **described})
    except BaseException as error:  # a plug-in may raise anything, also SystemExit
        traceback.print_exc()
        channel.send({"event": "broken", "status": status_of(error), "error": one_line(error)})
        return
    Server(channel, submission, Path.cwd()).serve()


def unpack(files: Sequence[tuple[str, int]], fd: int, folder: Path) -> Path:
    """Write out the plug-in's files, which the parent has read and hashed; the first one is the plug-in itself."""
    with os.fdopen(fd, "rb") as content:
        for name, size in files:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.read(size))
    return folder / files[0][0]


def warm_up() -> None:
    """Import now what a library would otherwise import in every fork: numpy its generators when they are first named. Torch would
    import its compiler with the first optimiser, which is put off until somebody compiles.
    """
    importlib.import_module("numpy.random")
    defer_dynamo()


def describe(submission: type[Submission]) -> dict[str, Any]:
    """What the parent may know of a submission: kinds, search space, defaults. Checked here, and again by the parent."""
    from optuna.distributions import distribution_to_json

    kinds = (submission.kind,) if isinstance(submission.kind, str) else submission.kind
    if not isinstance(kinds, (tuple, list)) or not all(isinstance(kind, str) for kind in kinds):
        raise PluginError(f"kind should be the name of a kind, or a tuple of names; it is {submission.kind!r}")
    if not isinstance(submission.space, Mapping):
        raise PluginError(
            f"space should be a dict of Float, Int and Categorical; it is a {type(submission.space).__name__}"
        )
    for name, known in submission.space.items():
        if not isinstance(known, Distribution):
            raise PluginError(
                f"space should be a dict of Float, Int and Categorical; {name} is a {type(known).__name__}"
            )
    unknown = set(submission.defaults) - set(submission.space)
    if unknown:
        raise PluginError(f"defaults name {', '.join(sorted(unknown))}, which space does not have")
    return {
        "kinds": kinds,
        "space": {name: distribution_to_json(known) for name, known in submission.space.items()},
        "defaults": dict(submission.defaults),
        "together": bool(submission.together()),
        "budget": bool(submission.supports_budget()),
    }


def adopt_orphans() -> None:
    """Have the kernel hand this process whatever its descendants leave behind (Linux; elsewhere such strays go to init)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Server:
    """Forks, reaps, kills; ends with everything it started when the parent's end of the channel closes."""

    def __init__(self, channel: Channel, submission: type[Submission], scratch: Path) -> None:
        self.channel, self.submission, self.scratch = channel, submission, scratch
        self.running: dict[int, int] = {}  # pid -> the trial's number
        self.spare_fork: tuple[int, Channel] | None = None
        """A fork that waits for what it is to do: that of a large process takes longer than many a trial."""
        self.trials = 0
        self.wake, self.woken = socket.socketpair()
        self.wake.setblocking(False)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, self._ignore)
        signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
        with selectors.DefaultSelector() as ready:
            ready.register(self.channel.socket, selectors.EVENT_READ)
            ready.register(self.woken, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in ready.select():
                        if key.fileobj is self.woken:
                            self.woken.recv(4096)
                            self.reap()
                        else:
                            self.start_trial()
            except ChannelClosed:
                pass
            finally:
                # The parent may be gone.
                for pid in [*self.running, *([self.spare_fork[0]] if self.spare_fork else [])]:
                    kill_tree(pid)
                    with suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                shutil.rmtree(self.scratch, ignore_errors=True)

    @staticmethod
    def _ignore(number: int, frame: FrameType | None) -> None:
        """A handler must be there for the wake-up descriptor to be written."""

    def start_trial(self) -> None:
        """Hand a trial to a fork; from the second one on the next fork is made while this one is at work."""
        message, fds = self.channel.receive()
        pid = self.hand_over(message, fds)
        self.running[pid] = message["number"]
        for fd in fds:
            os.close(fd)
        self.trials += 1
        if self.trials > 1:
            self.spare_fork = self.fork()

    def hand_over(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        while True:
            pid, handing = self.spare_fork or self.fork()
            self.spare_fork = None
            try:
                handing.send(message, fds)
                return pid
            except ChannelClosed:  # something has killed it while it waited
                continue
            finally:
                handing.close()

    def fork(self) -> tuple[int, Channel]:
        """A child that waits, and where to tell it what for."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self.become_trial(Channel(theirs, takes_fds=True))
        theirs.close()
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # in both processes: whichever comes first
        return pid, Channel(ours)

    def become_trial(self, waiting: Channel) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.channel.close()
            message, fds = waiting.receive()
            waiting.close()
            channel = Channel(socket.socket(fileno=fds[0]), takes_fds=True)
            for stream in (1, 2):
                os.dup2(fds[1], stream)
            os.close(fds[1])
            channel.send({"event": "awake"})
            channel.receive()  # the parent has to say that the limits hold
            run_trial(self.submission, channel, message, fds[2:])
            code = 0
        except ChannelClosed:
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def reap(self) -> None:
        while self.running:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.spare_fork and pid == self.spare_fork[0]:
                self.spare_fork[1].close()
                self.spare_fork = None
            if pid not in self.running:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what the trial itself left behind
            for stray in children(os.getpid()):  # and what left its group: orphans come to this process
                if stray not in self.running and not (self.spare_fork and stray == self.spare_fork[0]):
                    kill_tree(stray)
            shutil.rmtree(self.scratch / str(self.running[pid]), ignore_errors=True)
            scale = 1 if sys.platform == "darwin" else 1024
            self.channel.send(
                {
                    "event": "exited",
                    "number": self.running.pop(pid),
                    "code": os.waitstatus_to_exitcode(status),
                    "peak_memory": usage.ru_maxrss * scale,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                }
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Server process of one submission: it imports the submission once and forks for every trial.

``python -m harness.execution.child.server FD`` communicates over the Unix socket FD. After the import the server only forks and
reaps. Each fork has its own channel to the parent and runs `harness.execution.child.run_trial`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import selectors
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
from harness.execution.shared.folders import remove_tree
from harness.execution.shared.processes import children, kill_tree
from harness.frameworks.batch import can_fit_many
from harness.plugins.loader import load_submission

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(fd: int) -> None:
    channel = Channel(socket.socket(fileno=fd), takes_fds=True)
    adopt_orphans()
    channel.send({"event": "awake"})  # the parent sets the limits of this process before it sends the submission
    hello, fds = channel.receive()
    try:
        path = unpack(hello["source"]["files"], fds[0], Path(hello["folder"]))
        gc.disable()  # an import frees little, so repeated collections would only cost time
        submission = load_submission(path, hello["source"]["object"], hello["source"]["module"])
        warm_up()
        described = describe(submission)
        # These objects live as long as the process. A collection in a fork would touch them and copy all their pages.
        gc.freeze()
        gc.enable()
        channel.send({"event": "ready", **described})
    except BaseException as error:  # a plug-in may raise anything, also SystemExit
        traceback.print_exc()
        channel.send({"event": "broken", "status": status_of(error), "error": one_line(error)})
        return
    Server(channel, submission, Path.cwd()).serve()


def unpack(files: Sequence[tuple[str, int]], fd: int, folder: Path) -> Path:
    """Write the files of a submission below ``folder``, and return the path of the first file, the plug-in itself.

    ``files`` are pairs of relative path and size in bytes. Their contents, as the parent read and hashed them, follow one another
    in the descriptor ``fd``.
    """
    with os.fdopen(fd, "rb") as content:
        for name, size in files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read(size))
    return folder / files[0][0]


def warm_up() -> None:
    """Import modules such as ``numpy.random`` before the first fork; otherwise libraries import them again in every fork.

    Torch would import its compiler with the first optimizer; `defer_dynamo` defers that until the first compilation.
    """
    importlib.import_module("numpy.random")
    defer_dynamo()


def describe(submission: type[Submission]) -> dict[str, Any]:
    """Return kinds, search space, defaults and abilities of a submission, as JSON values for the parent.

    Raises PluginError if one is malformed. The parent checks them again.
    """
    from optuna.distributions import distribution_to_json

    kinds = (submission.kind,) if isinstance(submission.kind, str) else submission.kind
    if not isinstance(kinds, (tuple, list)) or not all(isinstance(kind, str) for kind in kinds):
        raise PluginError(f"kind should be the name of a kind, or a tuple of names; it is {submission.kind!r}")
    if not isinstance(submission.space, Mapping):
        raise PluginError(
            f"space should be a dict of Float, Int and Categorical; it is a {type(submission.space).__name__}"
        )
    for name, domain in submission.space.items():
        if not isinstance(domain, Distribution):
            raise PluginError(
                f"space should be a dict of Float, Int and Categorical; {name} is a {type(domain).__name__}"
            )
    unknown = set(submission.defaults) - set(submission.space)
    if unknown:
        raise PluginError(f"defaults name {', '.join(sorted(unknown))}, which space does not have")
    return {
        "kinds": kinds,
        "space": {name: distribution_to_json(domain) for name, domain in submission.space.items()},
        "defaults": dict(submission.defaults),
        "vectorizable": can_fit_many(submission),
        "budget": bool(submission.supports_budget()),
    }


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants (Linux; elsewhere init gets them)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent process ends for any reason (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Server:
    """Loop of a submission's server process: it forks a process for each trial and reaps ended ones.

    When the parent closes the channel, the server kills all its forks and ends.
    """

    def __init__(self, channel: Channel, submission: type[Submission], scratch: Path) -> None:
        self.channel, self.submission, self.scratch = channel, submission, scratch
        self.running: dict[int, int] = {}  # pid -> the trial's number
        self.spare_fork: tuple[int, Channel] | None = None
        """Process id of a fork that waits for the next trial, and the channel to it. Forking a large process may take longer
        than a short trial."""
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
                # The parent may be gone, so nobody else ends the forks.
                for pid in [*self.running, *([self.spare_fork[0]] if self.spare_fork else [])]:
                    kill_tree(pid)
                    with suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                remove_tree(self.scratch)

    @staticmethod
    def _ignore(number: int, frame: FrameType | None) -> None:
        """Do nothing at the end of a child: Python writes to the wake-up descriptor only for signals with a handler."""

    def start_trial(self) -> None:
        """Receive the next trial from the parent and hand it to a fork. From the second trial on, also fork a spare in advance.

        Raises ChannelClosed if the parent has closed the channel.
        """
        message, fds = self.channel.receive()
        pid = self.hand_over(message, fds)
        self.running[pid] = message["number"]
        for fd in fds:
            os.close(fd)
        self.trials += 1
        if self.trials > 1:
            self.spare_fork = self.fork()

    def hand_over(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Send a trial's message and descriptors to the spare fork, or to a new one, and return the fork's process id."""
        while True:
            pid, waiting = self.spare_fork or self.fork()
            self.spare_fork = None
            try:
                waiting.send(message, fds)
                return pid
            except ChannelClosed:  # the spare fork was killed while it waited
                continue
            finally:
                waiting.close()

    def fork(self) -> tuple[int, Channel]:
        """Fork a child that waits for a trial. Return its process id and the channel for the trial's message."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self.become_trial(Channel(theirs, takes_fds=True))
        theirs.close()
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # also in the child: the first of both counts
        return pid, Channel(ours)

    def become_trial(self, waiting: Channel) -> NoReturn:
        """Turn this fork into a trial: wait for the message of a trial on ``waiting``, run it, and exit the process."""
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
            channel.receive()  # the parent confirms that the limits are set
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
        """Reap ended forks. Kill the descendants of each, delete its scratch folder, and report its exit to the parent."""
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
                os.killpg(pid, signal.SIGKILL)  # the rest of the trial's process group
            for stray in children(os.getpid()):  # descendants that left the group: this process adopts orphans
                if stray not in self.running and not (self.spare_fork and stray == self.spare_fork[0]):
                    kill_tree(stray)
            remove_tree(self.scratch / str(self.running[pid]))
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

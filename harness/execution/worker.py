"""The child: a warmed process that imports one submission, and forks for every trial.

``python -m harness.execution.worker FD`` talks over the Unix socket FD. The server imports and then does nothing but fork
and reap. Each fork has a channel of its own to the parent, fits there, answers questions, and exits. Arrays come and go
through file descriptors of fixed size, numbers and short texts through small JSON messages: no pickle, no file names.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import math
import os
import pickle
import selectors
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from harness.contract import Array, Distribution, PluginError, Split, Submission
from harness.execution.channel import Channel, ChannelClosed
from harness.execution.memory import map_array
from harness.execution.processes import children, kill_tree
from harness.frameworks.seeds import seed_everything
from harness.frameworks.uncompiled import leave_out_the_compiler
from harness.plugins import load_submission

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TEXT_LIMIT = 20_000


def main(fd: int) -> None:
    channel = Channel(socket.socket(fileno=fd), takes_fds=True)
    adopt_orphans()
    channel.send({"event": "awake"})  # the parent puts this process under its limits before it says what to import
    hello, fds = channel.receive()
    try:
        path = unpack(hello["source"]["files"], fds[0], Path(hello["folder"]))
        submission = load_submission(path, hello["source"]["object"], hello["source"]["module"])
        warm_up()
        described = describe(submission)
        # What is there now is there for good: a collection in a fork that looked at it would copy every page of it.
        gc.collect()
        gc.freeze()
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
    leave_out_the_compiler()


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
    }


def one_line(error: BaseException) -> str:
    """``ValueError: first line``, at most 300 characters, and what to do where a sandbox is the reason."""
    text = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    said = (text if isinstance(error, PluginError) else f"{name}: {text}" if text else name)[:300]
    if isinstance(error, (FileNotFoundError, ModuleNotFoundError)):
        said += "; a submission sees what is installed, the modules beside it that it imports, and the files that `files` names"
    elif isinstance(error, PermissionError):
        said += "; in a sandbox there is no network, and only its own folder can be written"
    return said


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
        self.spare: tuple[int, Channel] | None = None
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
                            self.obey()
            except ChannelClosed:
                pass
            finally:
                # The parent may be gone.
                for pid in [*self.running, *([self.spare[0]] if self.spare else [])]:
                    kill_tree(pid)
                    with suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                shutil.rmtree(self.scratch, ignore_errors=True)

    @staticmethod
    def _ignore(number: int, frame: FrameType | None) -> None:
        """A handler must be there for the wake-up descriptor to be written."""

    def obey(self) -> None:
        """Hand a trial to a fork; from the second one on the next fork is made while this one is at work."""
        message, fds = self.channel.receive()
        pid = self.hand_over(message, fds)
        self.running[pid] = message["number"]
        for fd in fds:
            os.close(fd)
        self.trials += 1
        if self.trials > 1:
            self.spare = self.fork()

    def hand_over(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        while True:
            pid, handing = self.spare or self.fork()
            self.spare = None
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
            if self.spare and pid == self.spare[0]:
                self.spare[1].close()
                self.spare = None
            if pid not in self.running:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what the trial itself left behind
            for stray in children(os.getpid()):  # and what left its group: orphans come to this process
                if stray not in self.running and not (self.spare and stray == self.spare[0]):
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


def run_trial(submission: type[Submission], channel: Channel, message: dict[str, Any], fds: list[int]) -> None:
    """One trial, in its own fork: come to fitted models, mostly one, then answer what is asked until the parent hangs up."""
    seed_everything(int(message["seed"]))
    place = os.open("/dev/null", os.O_RDONLY)
    os.dup2(place, 0)
    doing = "set up"
    try:
        os.makedirs(message["scratch"], exist_ok=True)  # noqa: PTH103
        os.chdir(message["scratch"])
        models: Mapping[int, Submission]
        if message["op"] == "thaw":
            doing = "take up its pickled model"
            with os.fdopen(fds[0], "rb") as parcel:
                parcel.seek(0)
                models = {0: pickle.load(parcel)}  # noqa: S301, the submission's own bytes, in the submission's own sandbox
            channel.send({"event": "thawed"})
        else:
            arrays = {
                spec["name"]: map_array(fd, spec["shape"], spec["dtype"]) for spec, fd in zip(message["arrays"], fds)
            }
            snapshots = arrays.pop("snapshots", None)
            train = Split(arrays["train.x"], arrays["train.y"], arrays.get("train.unlabelled"))
            valid = Split(arrays["valid.x"], arrays["valid.y"])
            doing = "fit"
            if message["op"] == "fit-together":
                models = fit_together(submission, channel, message, train, valid)
            else:
                model = new(submission, message, message["params"])
                models = {0: model}
                model.fit(train, valid, Reporter(channel))
                synchronise(message["device"])
                channel.send({"event": "fitted"})
                doing = "describe itself"
                channel.send({"event": "described", **facts(model, snapshots, fds[-1])})
        while True:
            question, handed = channel.receive()
            if question["op"] == "freeze":
                doing = "be pickled, which tasks need that ask a second time in another process"
                freeze(models[0], handed[0])
                channel.send({"event": "frozen"})
                continue
            doing = "predict"
            x = map_array(handed[0], question["shape"], question["dtype"])
            answer = np.asarray(models[question["member"]].predict(x))
            synchronise(message["device"])
            channel.send({"event": "predicted", "form": write_answer(answer, question["forms"], handed[1])})
            for fd in handed:
                os.close(fd)
    except ChannelClosed:
        return
    except BaseException as error:  # a submission may raise anything
        traceback.print_exc()
        said = str(error) if isinstance(error, WrongForm) else f"could not {doing}: {one_line(error)}"
        where = "" if isinstance(error, WrongForm) else plugin_line(error, submission)
        channel.send({"event": "failed", "status": status_of(error), "error": f"{said}{where}"[:600]})


def new(submission: type[Submission], message: Mapping[str, Any], params: Mapping[str, Any]) -> Submission:
    """An unfitted model."""
    model = submission(params, seed=message["seed"], device=message["device"])
    model.task_kind = SimpleNamespace(**message["kind"])
    return model


def fit_together(
    submission: type[Submission], channel: Channel, message: Mapping[str, Any], train: Split, valid: Split
) -> Mapping[int, Submission]:
    """Several configurations as one, each made as a trial alone would make it."""

    def made(params: Mapping[str, Any]) -> Submission:
        seed_everything(int(message["seed"]))
        return new(submission, message, params)

    def report(losses: Mapping[int, float]) -> set[int]:
        said = [[place, float(loss) if math.isfinite(loss) else None] for place, loss in losses.items()]
        channel.send({"event": "reports", "losses": said})
        return set(channel.receive()[0]["ended"])

    fitted, apart = submission.fit_together(
        [partial(made, params) for params in message["members"]], train, valid, report, int(message["few"])
    )
    synchronise(message["device"])
    reasons = [[why, [place for place in apart if apart[place] == why]] for why in dict.fromkeys(apart.values())]
    channel.send({"event": "fitted", "fitted": sorted(fitted), "apart": reasons})
    return fitted


def freeze(model: Submission, fd: int) -> None:
    """Pickle a fitted model into a descriptor."""
    with os.fdopen(fd, "wb") as parcel:
        pickle.dump(model, parcel, protocol=5)


def status_of(error: BaseException) -> str:
    """The status that an error of a submission's comes to: which limit it met, if it met one."""
    said = str(error).lower()
    if isinstance(error, WrongForm):
        return "invalid"
    if isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said:
        return "out-of-memory"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "disk-limit"
    if number == errno.EAGAIN or "can't start new thread" in said:
        return "process-limit"
    return "failed"


def plugin_line(error: BaseException, submission: type[Submission]) -> str:
    """`` (file.py line 12)``: where in the plug-in's own file an error came from."""
    file = sys.modules[submission.__module__].__file__ or ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name} line {lines[-1]})" if lines else ""


def synchronise(device: str) -> None:
    """Wait for the GPU, so that the parent's clock sees the work done."""
    if device.startswith("cuda") and (torch := sys.modules.get("torch")):
        torch.cuda.synchronize(device)


class Reporter:
    """``report(loss)``: tells the parent a number. Where the parent ends the trial, the call does not return."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __call__(self, loss: float) -> None:
        self.channel.send({"event": "report", "loss": float(loss) if math.isfinite(loss) else None})
        reply, _ = self.channel.receive()
        if reply.get("prune"):
            os._exit(0)


def facts(model: Submission, snapshots: Array | None, fd: int) -> dict[str, Any]:
    """What a fitted model says of itself: parameters, summary, and how many snapshots it left in the shared array."""
    count = 0
    if snapshots is not None:
        out = map_array(fd, snapshots.shape, snapshots.dtype.str, shared=True)
        for sheet in list(model.snapshots)[-len(out) :]:
            sheet = np.asarray(sheet)[: out.shape[1]]
            if sheet.shape[1:] == out.shape[2:] and sheet.dtype == out.dtype:
                out[count, : len(sheet)] = sheet
                count += 1
    n_parameters = model.n_parameters()
    return {
        "n_parameters": None if n_parameters is None else int(n_parameters),
        "summary": str(model.summary())[:TEXT_LIMIT],
        "snapshots": count,
        "gpu_memory": gpu_memory(model.device),
    }


def gpu_memory(device: str) -> int | None:
    """The most that torch has held of a GPU's memory in this process, in bytes."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.max_memory_reserved(device))


class WrongForm(Exception):
    """An answer of no form that the kind allows."""


def write_answer(answer: Array, forms: Sequence[Mapping[str, Any]], fd: int) -> str:
    """Copy an answer into the shared buffer, as the form whose shape and number type it has; return the form's name."""
    for form in forms:
        dtype = np.dtype(form["dtype"])
        same_type = answer.dtype.kind in ("iu" if dtype.kind in "iu" else "f")
        if answer.shape == tuple(form["shape"]) and same_type:
            if dtype.kind == "u" and answer.dtype != dtype:
                continue
            np.copyto(
                map_array(fd, form["shape"], form["dtype"], shared=True),
                answer,
                casting="same_kind" if dtype.kind == "f" else "unsafe",
            )
            return str(form["name"])
    wanted = " or ".join(f"{form['name']} {form['dtype']} {tuple(form['shape'])}" for form in forms)
    raise WrongForm(f"predict should return {wanted}; it returned {answer.dtype} {answer.shape}")


if __name__ == "__main__":
    main(int(sys.argv[1]))

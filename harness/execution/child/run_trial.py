"""What a fork does for its one trial: it fits there, answers questions, and exits.

Arrays come and go through file descriptors of fixed size, numbers and short texts through small JSON messages: no pickle, no file
names. A model that another process shall take up is pickled into a descriptor, in the submission's own sandbox and for it alone.
"""

from __future__ import annotations

import errno
import math
import os
import pickle
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.contract import Array, Split, Submission
from harness.errors import ChannelClosed, PluginError, WrongForm
from harness.execution.shared.channel import MAX_TEXT_CHARACTERS, Channel
from harness.execution.shared.memory import map_array
from harness.seeding import seed_everything


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
                models = fit_many(submission, channel, message, train, valid)
            else:
                model = make_model(submission, message, message["params"])
                models = {0: model}
                model.fit(train, valid, Reporter(channel))
                synchronise(message["device"])
                channel.send({"event": "fitted"})
                doing = "describe itself"
                channel.send({"event": "described", **describe_model(model, snapshots, fds[-1])})
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


def make_model(submission: type[Submission], message: Mapping[str, Any], params: Mapping[str, Any]) -> Submission:
    """An unfitted model."""
    model = submission(params, seed=message["seed"], device=message["device"])
    model.task_kind = SimpleNamespace(**message["kind"])
    if message["budget"] != 1:  # who does not heed it may have a budget of its own
        model.budget = float(message["budget"])
    return model


def fit_many(
    submission: type[Submission], channel: Channel, message: Mapping[str, Any], train: Split, valid: Split
) -> Mapping[int, Submission]:
    """Several configurations as one, each made as a trial alone would make it."""

    def made(params: Mapping[str, Any]) -> Submission:
        seed_everything(int(message["seed"]))
        return make_model(submission, message, params)

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


def describe_model(model: Submission, snapshots: Array | None, fd: int) -> dict[str, Any]:
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
        "summary": str(model.summary())[:MAX_TEXT_CHARACTERS],
        "snapshots": count,
        "gpu_memory": gpu_memory(model.device),
    }


def gpu_memory(device: str) -> int | None:
    """The most that torch has held of a GPU's memory in this process, in bytes."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.max_memory_reserved(device))


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

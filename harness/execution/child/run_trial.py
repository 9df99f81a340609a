"""One trial inside its fork: fit, answer queries, exit.

Arrays pass through descriptors of files of fixed size, numbers and short texts through small JSON messages: no pickle, no file
names. A model for another process is pickled into a descriptor; only forks of the same submission unpickle it, in their sandbox.
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

from harness.contract import Array, OutputSpec, Split, Submission
from harness.errors import ChannelClosed, PluginError, WrongOutputSpec
from harness.execution.shared.channel import MAX_TEXT_CHARACTERS, Channel
from harness.execution.shared.memory import map_array
from harness.frameworks.batch import can_fit_many
from harness.seeding import seed_everything


def run_trial(submission: type[Submission], channel: Channel, message: dict[str, Any], fds: list[int]) -> None:
    """Fit one model, or several in a vectorized fit, or load a pickled one, as ``message["op"]`` says. Then answer queries.

    Returns when the parent closes the channel. An error of the submission is sent to the parent as "failed", not raised. ``fds``
    are descriptors of the arrays that ``message`` lists, or of the pickled model.
    """
    seed_everything(int(message["seed"]))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    doing = "set up"
    try:
        os.makedirs(message["scratch"], exist_ok=True)  # noqa: PTH103
        os.chdir(message["scratch"])
        models: Mapping[int, Submission]
        if message["op"] == "thaw":
            doing = "take up its pickled model"
            with os.fdopen(fds[0], "rb") as pickled:
                pickled.seek(0)
                models = {0: pickle.load(pickled)}  # noqa: S301, the submission's own bytes, in the submission's own sandbox
            channel.send({"event": "thawed"})
        else:
            arrays = {
                spec["name"]: map_array(fd, spec["shape"], spec["dtype"]) for spec, fd in zip(message["arrays"], fds)
            }
            snapshots = arrays.pop("snapshots", None)
            train = Split(arrays["train.x"], arrays["train.y"], arrays.get("train.unlabelled"))
            valid = Split(arrays["valid.x"], arrays["valid.y"])
            doing = "fit"
            if message["op"] == "fit-many":
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
            query, query_fds = channel.receive()
            if query["op"] == "freeze":
                doing = "be pickled, which tasks need that ask a second time in another process"
                freeze(models[0], query_fds[0])
                channel.send({"event": "frozen"})
                continue
            doing = "predict"
            x = map_array(query_fds[0], query["shape"], query["dtype"])
            answer = np.asarray(models[query["member"]].predict(x))
            synchronise(message["device"])
            channel.send({"event": "predicted", "form": write_answer(answer, query["forms"], query_fds[1])})
            for fd in query_fds:
                os.close(fd)
    except ChannelClosed:
        return
    except BaseException as error:  # a submission may raise anything
        traceback.print_exc()
        text = str(error) if isinstance(error, WrongOutputSpec) else f"could not {doing}: {one_line(error)}"
        where = "" if isinstance(error, WrongOutputSpec) else plugin_line(error, submission)
        channel.send({"event": "failed", "status": status_of(error), "error": f"{text}{where}"[:600]})


def make_model(submission: type[Submission], message: Mapping[str, Any], params: Mapping[str, Any]) -> Submission:
    """Return a new, unfitted model with the hyperparameters ``params``; ``message`` gives its seed, device, kind and budget."""
    model = submission(params, seed=message["seed"], device=message["device"])
    model.task_kind = SimpleNamespace(**message["kind"])
    if message["budget"] != 1:  # a submission without support may have a `budget` of its own
        model.budget = float(message["budget"])
    return model


def fit_many(
    submission: type[Submission], channel: Channel, message: Mapping[str, Any], train: Split, valid: Split
) -> Mapping[int, Submission]:
    """Fit the configurations in ``message["members"]`` in one vectorized fit. Return the fitted models by their place in that list.

    Each model is made from the same random state as in a trial of its own. Sends the outcome of all members to the parent. Raises
    TypeError if the submission has no vectorized fit.
    """

    def make(params: Mapping[str, Any]) -> Submission:
        seed_everything(int(message["seed"]))
        return make_model(submission, message, params)

    def report(losses: Mapping[int, float]) -> set[int]:
        pairs = [[number, float(loss) if math.isfinite(loss) else None] for number, loss in losses.items()]
        channel.send({"event": "reports", "losses": pairs})
        return set(channel.receive()[0]["pruned"])

    if not can_fit_many(submission):
        raise TypeError(f"{submission.__name__} has one configuration fitted at a time")
    makers = [partial(make, params) for params in message["members"]]
    fitted, rejected, postponed = submission.fit_many(makers, train, valid, report, int(message["max_members"]))
    synchronise(message["device"])
    reasons = [
        [reason, [number for number in rejected if rejected[number] == reason]]
        for reason in dict.fromkeys(rejected.values())
    ]
    channel.send({"event": "fitted", "fitted": sorted(fitted), "rejected": reasons, "postponed": sorted(postponed)})
    return fitted


def freeze(model: Submission, fd: int) -> None:
    """Write the pickle of a fitted model to a file descriptor, and close the descriptor."""
    with os.fdopen(fd, "wb") as pickled:
        pickle.dump(model, pickled, protocol=5)


def one_line(error: BaseException) -> str:
    """Return an error as one line: "ValueError: first line of its message", at most 300 characters.

    Advice is added where the sandbox may be the cause. A PluginError is named by its message alone.
    """
    text = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    line = (text if isinstance(error, PluginError) else f"{name}: {text}" if text else name)[:300]
    if isinstance(error, (FileNotFoundError, ModuleNotFoundError)):
        line += "; a submission sees what is installed, the modules beside it that it imports, and the files that `files` names"
    elif isinstance(error, PermissionError):
        line += "; in a sandbox there is no network, and only its own folder can be written"
    return line


def status_of(error: BaseException) -> str:
    """Return the status of a trial that ended with this error: invalid, out-of-memory, disk-limit, process-limit or failed."""
    text = str(error).lower()
    if isinstance(error, WrongOutputSpec):
        return "invalid"
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "out-of-memory"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "disk-limit"
    if number == errno.EAGAIN or "can't start new thread" in text:
        return "process-limit"
    return "failed"


def plugin_line(error: BaseException, submission: type[Submission]) -> str:
    """Return " (file.py line 12)", the last line of the plug-in's own file in the error's traceback; "" if it has none."""
    file = sys.modules[submission.__module__].__file__ or ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name} line {lines[-1]})" if lines else ""


def synchronise(device: str) -> None:
    """Wait until a GPU has finished its work, so that the parent's clock includes it. Does nothing for a CPU."""
    if device.startswith("cuda") and (torch := sys.modules.get("torch")):
        torch.cuda.synchronize(device)


class Reporter:
    """Function ``report(loss)`` that a submission's fit gets. It sends the loss to the parent and waits for the reply.

    If the parent prunes the trial, the process exits in the call.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __call__(self, loss: float) -> None:
        self.channel.send({"event": "report", "loss": float(loss) if math.isfinite(loss) else None})
        reply, _ = self.channel.receive()
        if reply.get("prune"):
            os._exit(0)


def describe_model(model: Submission, snapshots: Array | None, fd: int) -> dict[str, Any]:
    """Return parameter count, summary and peak GPU memory (bytes) of a fitted model, and the number of its snapshots sent.

    Copies the model's snapshots, if they fit, into the shared array behind ``fd``, which has the shape and dtype of ``snapshots``.
    None copies none.
    """
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
    """Return the peak GPU memory that torch reserved in this process, in bytes; None without torch or GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.max_memory_reserved(device))


def write_answer(answer: Array, forms: Sequence[Mapping[str, Any]], fd: int) -> str:
    """Copy an answer into the shared buffer ``fd``, and return the name of the output spec that accepts its shape and dtype.

    Raises WrongOutputSpec if none of ``forms`` does.
    """
    for form in forms:
        spec = OutputSpec(form["name"], tuple(form["shape"]), form["dtype"])
        if spec.accepts(answer):
            np.copyto(
                map_array(fd, form["shape"], form["dtype"], shared=True),
                answer,
                casting="same_kind" if answer.dtype.kind == "f" else "unsafe",
            )
            return spec.name
    wanted = " or ".join(f"{form['name']} {form['dtype']} {tuple(form['shape'])}" for form in forms)
    raise WrongOutputSpec(f"predict should return {wanted}; it returned {answer.dtype} {answer.shape}")

"""What a function of tensors does, written down operation by operation, and done again without the function.

Vectorising and differentiating decide at every step anew what is to be computed; a small network spends more time on that than on
computing. Below them both is a plain list of operations, which is the same at every step, and which is what is kept here.
"""

# What `torch.fx.experimental.proxy_tensor.make_fx` does is this and much more, and takes two seconds to import.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

Arrays = Sequence[Tensor]
SAME = torch.ops.aten.detach.default


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down all operations while it is active, tensors by number; ``given`` have the first numbers."""

    def __init__(self, given: Arrays) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: Any = WeakTensorKeyDictionary()
        self.count = 0
        self.constants: dict[int, Tensor] = {}
        """Tensors that no operation made."""
        self.calls: list[tuple[Any, list[Any], Any, list[int | None]]] = []
        for tensor in given:
            self.next(tensor)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = op(*args, **(kwargs or {}))
        flat, form = tree_flatten((args, dict(kwargs or {})))
        flat = [Numbered(self.used(one)) if isinstance(one, Tensor) else one for one in flat]
        if op is SAME and result not in self.numbers:
            self.numbers[result] = flat[0].number
            return result
        out = list(result) if isinstance(result, (list, tuple)) else [result]
        made = [
            None if not isinstance(one, Tensor) else self.numbers[one] if one in self.numbers else self.next(one)
            for one in out
        ]
        self.calls.append((op, flat, form, made))
        return result

    def used(self, tensor: Tensor) -> int:
        if tensor not in self.numbers:
            self.constants[self.next(tensor)] = tensor
        return int(self.numbers[tensor])

    def next(self, tensor: Tensor) -> int:
        self.numbers[tensor] = self.count
        self.count += 1
        return self.count - 1


class Numbered:
    """A tensor in what was written down."""

    def __init__(self, number: int) -> None:
        self.number = number


class Recording:
    """A program of the operations that a recorder has seen, and that came to ``found``. Call it with as many tensors as were
    ``given``, of the same shapes.

    Tensors that come from neither the given ones nor an operation are taken as constants.
    """

    def __init__(self, recorder: Recorder, found: Arrays, given: int) -> None:
        results = [recorder.used(tensor) for tensor in found]
        names = [f"t{number}" for number in range(recorder.count)]
        space: dict[str, Any] = {names[number]: tensor for number, tensor in recorder.constants.items()}
        kept = {*range(given), *recorder.constants}
        lines: list[str] = []
        wanted = set(results)
        for place, (op, flat, form, out) in reversed(list(enumerate(recorder.calls))):
            if not (op._schema.is_mutable or wanted & set(out)):
                continue
            args, kwargs = tree_unflatten(
                [Text(names[one.number]) if isinstance(one, Numbered) else one for one in flat], form
            )
            used = {one.number for one in flat if isinstance(one, Numbered)}
            last = sorted(used - wanted - kept)
            if last:
                lines.append(f"{' = '.join(names[number] for number in last)} = None")
            wanted |= used
            space[f"op{place}"] = op
            said = [text(one, space) for one in args] + [f"{key}={text(one, space)}" for key, one in kwargs.items()]
            call = f"op{place}({', '.join(said)})"
            several = len(op._schema.returns) > 1 or (out and "[]" in str(op._schema.returns[0].type))
            target = ", ".join("_" if number is None else names[number] for number in out) + ("," if several else "")
            lines.append(f"{target} = {call}" if out else call)
        body = "\n    ".join([*reversed(lines), f"return ({''.join(names[number] + ', ' for number in results)})"])
        # Constants are defaults: an operation may give back the very tensor that it took, under the same name.
        given_names = ", ".join(
            [*names[:given], *(f"{names[number]}={names[number]}" for number in recorder.constants)]
        )
        exec(compile(f"def again({given_names}):\n    {body}", "<recorded>", "exec"), space)  # noqa: S102, its own text
        self.again: Callable[..., Arrays] = space["again"]

    @torch.no_grad()
    def __call__(self, *given: Tensor) -> Arrays:
        return self.again(*given)


class Changed(Exception):
    """A function does now what it did not do when it was written down."""


class Replayed:
    """A function of tensors that is replayed where that is known to come to the same, and called where it is not.

    The second call with tensors of the same shapes is recorded, the third is held against the record, to the bit, and so is the
    first after each `doubt`: a function may change what it does as it goes, which a record does not follow.
    """

    def __init__(self, function: Callable[..., Arrays]) -> None:
        self.function = function
        self.shapes: list[torch.Size] | None = None
        self.recording: Recording | None = None
        self.trusted = self.proved = self.hopeless = False

    def doubt(self) -> None:
        self.trusted = False

    def __call__(self, *given: Tensor) -> Arrays:
        """What the function gives. Raises Changed where replays may have come to something else."""
        shapes = [tensor.shape for tensor in given]
        if self.hopeless or shapes != self.shapes:
            self.shapes, self.recording, self.trusted, self.proved = shapes, None, False, False
            return self.function(*given)
        if self.recording is None:
            return self._record(given)
        if self.trusted:
            return self.recording(*given)
        copies = [tensor.clone() for tensor in given]  # the function may write to what it is given
        again, found = self.recording(*copies), self.function(*given)
        same = all(agree(one, other) for one, other in zip((*again, *copies), (*found, *given), strict=True))
        if self.proved and not same:
            raise Changed("what a step computes is not what it computed before")
        self.trusted = self.proved = same
        self.hopeless = not same
        return found

    def _record(self, given: Arrays) -> Arrays:
        recorder = Recorder(given)
        with recorder:
            found = self.function(*given)
        try:
            self.recording = Recording(recorder, found, len(given))
        except Exception:  # no record is no loss but of time
            self.hopeless = True
        return found


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same: on a CPU to the bit, on a GPU as far as its sums are."""
    if one.is_cuda:
        return torch.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


class Text(str):
    """A name in the program that is written."""

    __slots__ = ()


def text(value: Any, space: dict[str, Any]) -> str:
    """A value as it stands in the program: numbers and names as such, all else under a name in ``space``."""
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(text(one, space) for one in value)}]"
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    name = f"c{len(space)}"
    space[name] = value
    return name

"""What a function of tensors does, written down operation by operation, and done again without the function.

Vectorising and differentiating decide at every step anew what is to be computed; a small network spends more time on that than on
computing. Below them both is a plain list of operations, which is the same at every step, and which is what is kept here, without
what changes nothing: views of what is there already, what is computed a second time, and what depends on shapes alone.
"""

# What `torch.fx.experimental.proxy_tensor.make_fx` does is this and much more, and takes two seconds to import.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

from harness.errors import Changed

Arrays = Sequence[Tensor]
aten = torch.ops.aten
SHAPED = {
    of.default for of in (aten.new_zeros, aten.new_ones, aten.new_full, aten.zeros_like, aten.ones_like, aten.full_like)
}
"""Operations that look at no number of the tensors that they are given."""


class Numbered(NamedTuple):
    """A tensor in what was written down."""

    number: int


class Call(NamedTuple):
    """An operation, its arguments, flat, with their form, and the numbers of what it gave; None for what is no tensor."""

    op: Any
    flat: list[Any]
    form: Any
    out: list[int | None]

    @property
    def used(self) -> set[int]:
        return {one.number for one in self.flat if isinstance(one, Numbered)}

    @property
    def writes(self) -> bool:
        return bool(self.op._schema.is_mutable)

    @property
    def repeatable(self) -> bool:
        """Whether it gives the same again, and nothing else comes of it."""
        return not self.writes and torch.Tag.nondeterministic_seeded not in self.op.tags


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down all operations while it is active, tensors by number; ``given`` have the first numbers."""

    def __init__(self, given: Arrays) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: Any = WeakTensorKeyDictionary()
        self.count = 0
        self.constants: dict[int, Tensor] = {}
        """Tensors that no operation made."""
        self.fixed: dict[int, Tensor] = {}
        """Tensors that are the same whatever was given."""
        self.origin: list[int] = []
        """Of each tensor the one that it is a view of, or itself."""
        self.memory: dict[int, Any] = {}
        """Where each of these lies: as long as they are held, two may lie in one place."""
        self.views: dict[Any, int] = {}
        """Tensors by origin and by how they lie in it."""
        self.calls: list[Call] = []
        for tensor in given:
            self.held(tensor)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = op(*args, **(kwargs or {}))
        flat, form = tree_flatten((args, dict(kwargs or {})))
        tensors = [one for one in flat if isinstance(one, Tensor)]
        flat = [Numbered(self.used(one)) if isinstance(one, Tensor) else one for one in flat]
        out = list(result) if isinstance(result, (list, tuple)) else [result]
        before = self.count
        call = Call(op, flat, form, [self.made(one, tensors) if isinstance(one, Tensor) else None for one in out])
        if self.count == before and not call.writes:
            return result  # all of it is there already
        self.calls.append(call)
        if len(out) == 1 and call.repeatable and (op in SHAPED or call.used <= self.fixed.keys()):
            self.fixed |= {number: one for number, one in zip(call.out, out) if number is not None}
        return result

    def used(self, tensor: Tensor) -> int:
        if tensor not in self.numbers:
            self.constants[self.held(tensor)] = tensor
        return int(self.numbers[tensor])

    def held(self, tensor: Tensor) -> int:
        """The number of a tensor that is there before, and stays."""
        number = self.next(tensor, self.count)
        self.memory[number] = ("held", storage(tensor))
        return number

    def made(self, tensor: Tensor, of: Arrays) -> int:
        """The number of what an operation gave: a known one where it is what is there already, in the same memory."""
        if tensor in self.numbers:
            return int(self.numbers[tensor])
        for one in of:
            if storage(one) == storage(tensor):
                origin = self.origin[self.numbers[one]]
                self.views.setdefault((origin, lies(one)), self.numbers[one])
                view = origin, lies(tensor)
                if view in self.views:
                    self.numbers[tensor] = self.views[view]
                else:
                    self.views[view] = self.next(tensor, origin)
                return int(self.numbers[tensor])
        number = self.next(tensor, self.count)
        self.memory[number] = ("made", number)
        return number

    def next(self, tensor: Tensor, origin: int) -> int:
        self.numbers[tensor] = self.count
        self.origin.append(origin)
        self.count += 1
        return self.count - 1

    def simplified(self, results: Sequence[int]) -> tuple[list[Call], dict[int, Tensor], list[int]]:
        """The calls without those that change nothing, the tensors that need no call, and the results as they are numbered then.

        What is written to, or given away, is left as it is, and so is what is computed of it.
        """

        def memory(numbers: set[int]) -> set[Any]:
            return {self.memory[self.origin[number]] for number in numbers}

        theirs = memory(set(results)).union(*(memory(call.used) for call in self.calls if call.writes))
        fixed: dict[int, Tensor] = {}
        instead: dict[int, int] = {}
        known: dict[Any, list[int | None]] = {}
        calls = []
        for call in self.calls:
            made = {number for number in call.out if number is not None}
            flat = [
                Numbered(instead.get(one.number, one.number)) if isinstance(one, Numbered) else one for one in call.flat
            ]
            call = call._replace(flat=flat)
            if not call.repeatable or memory(made) & theirs:
                calls.append(call)
            elif made <= self.fixed.keys():
                fixed |= {number: self.fixed[number] for number in made}
            else:
                told = call.op, str(call.form), tuple((type(one), one) for one in flat)
                if not memory(call.used) & theirs and told in known:
                    instead |= {
                        mine: its for mine, its in zip(call.out, known[told]) if mine is not None and its is not None
                    }
                else:
                    known[told] = call.out
                    calls.append(call)
        return calls, fixed, [instead.get(number, number) for number in results]


def storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def layout(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...]]:
    return tensor.shape, tensor.stride()


def lies(tensor: Tensor) -> tuple[Any, ...]:
    """How a tensor lies in its memory: two of one memory that do so alike are one."""
    return layout(tensor), tensor.storage_offset(), tensor.dtype, tensor.is_conj(), tensor.is_neg()


class Recording:
    """A program of the operations that a recorder has seen, and that came to ``found``. Call it with as many tensors as were
    ``given``, of the same shapes and strides.

    Tensors that come from neither the given ones nor an operation are taken as constants.
    """

    def __init__(self, recorder: Recorder, found: Arrays, given: int) -> None:
        calls, fixed, results = recorder.simplified([recorder.used(tensor) for tensor in found])
        names = [f"t{number}" for number in range(recorder.count)]
        constants = recorder.constants | fixed
        space: dict[str, Any] = {}
        kept = {*range(given), *constants}
        lines: list[str] = []
        wanted = set(results)
        for place, (op, flat, form, out) in reversed(list(enumerate(calls))):
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
        space |= {names[number]: constants[number] for number in constants.keys() & wanted}
        # Constants are defaults: an operation may give back the very tensor that it took, under the same name.
        given_names = ", ".join(
            [*names[:given], *(f"{names[number]}={names[number]}" for number in sorted(constants.keys() & wanted))]
        )
        exec(compile(f"def again({given_names}):\n    {body}", "<recorded>", "exec"), space)  # noqa: S102, its own text
        self.again: Callable[..., Arrays] = space["again"]

    @torch.no_grad()
    def __call__(self, *given: Tensor) -> Arrays:
        return self.again(*given)


class Replayed:
    """A function of tensors that is replayed where that is known to come to the same, and called where it is not.

    The second call with tensors of the same shapes and strides is recorded, the third is held against the record, to the bit,
    and so is the first after each `doubt`: a function may change what it does as it goes, which a record does not follow.
    """

    def __init__(self, function: Callable[..., Arrays]) -> None:
        self.function = function
        self.layouts: list[Any] | None = None
        self.recording: Recording | None = None
        self.trusted = self.proved = self.hopeless = False

    def doubt(self) -> None:
        self.trusted = False

    def __call__(self, *given: Tensor) -> Arrays:
        """What the function gives. Raises Changed where replays may have come to something else."""
        layouts = [layout(tensor) for tensor in given]
        if self.hopeless or layouts != self.layouts:
            self.layouts, self.recording, self.trusted, self.proved = layouts, None, False, False
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

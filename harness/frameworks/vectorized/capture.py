"""Capture of a training step: its tensor operations are recorded once and then run again without the Python code around them.

`torch.func.vmap` and autograd work out at every step which operations to run, and a small network spends more time on that than on
the operations. The list of operations is the same at every step. A recording keeps it without operations that have no effect: views
of tensors that are known already, repeated computations, and tensors that depend on shapes alone.
"""

# `torch.fx.experimental.proxy_tensor.make_fx` does the same and much more, but takes two seconds to import.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

from harness.errors import StepChanged

Tensors = Sequence[Tensor]
aten = torch.ops.aten
SHAPE_ONLY_OPS = {
    op.default for op in (aten.new_zeros, aten.new_ones, aten.new_full, aten.zeros_like, aten.ones_like, aten.full_like)
}
"""Operations whose result depends on the shapes of their tensors, not on the values."""


class TensorNumber(NamedTuple):
    """Reference to a recorded tensor among the arguments of an operation."""

    number: int


class Operation(NamedTuple):
    """One recorded operation of torch: its arguments and results, with tensors as numbers."""

    op: Any
    args: list[Any]
    """Flattened arguments, with a `TensorNumber` in place of each tensor."""
    structure: Any
    """Structure of positional and keyword arguments, for `tree_unflatten`."""
    out: list[int | None]
    """Numbers of the results; None for a result that is no tensor."""

    @property
    def used(self) -> set[int]:
        """Numbers of the tensors among the arguments."""
        return {arg.number for arg in self.args if isinstance(arg, TensorNumber)}

    @property
    def writes(self) -> bool:
        """True if the operation writes to one of its arguments."""
        return bool(self.op._schema.is_mutable)

    @property
    def is_pure(self) -> bool:
        """True if the operation writes to no argument and gives the same result for the same arguments."""
        return not self.writes and torch.Tag.nondeterministic_seeded not in self.op.tags


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that records all tensor operations in its ``with`` block and numbers all tensors. The ``inputs`` come first."""

    def __init__(self, inputs: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: Any = WeakTensorKeyDictionary()
        self.count = 0
        self.constants: dict[int, Tensor] = {}
        """Tensors that are neither inputs nor results of a recorded operation, by number."""
        self.fixed: dict[int, Tensor] = {}
        """Results that do not depend on the values of the inputs, by number."""
        self.base: list[int] = []
        """By number of a tensor: the number of the tensor that it is a view of, or its own."""
        self.memory: dict[int, Any] = {}
        """Key of a tensor's memory, by number of a base. Inputs and constants may share memory, and results do not."""
        self.views: dict[Any, int] = {}
        """Numbers of tensors by base and `view_key`."""
        self.operations: list[Operation] = []
        for tensor in inputs:
            self.add_existing(tensor)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = op(*args, **(kwargs or {}))
        flat, structure = tree_flatten((args, dict(kwargs or {})))
        tensors = [arg for arg in flat if isinstance(arg, Tensor)]
        flat = [TensorNumber(self.number_of(arg)) if isinstance(arg, Tensor) else arg for arg in flat]
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        count_before = self.count
        out = [self.add_result(one, tensors) if isinstance(one, Tensor) else None for one in results]
        operation = Operation(op, flat, structure, out)
        if self.count == count_before and not operation.writes:
            return result  # all results are known tensors, so the operation has no effect
        self.operations.append(operation)
        independent = op in SHAPE_ONLY_OPS or operation.used <= self.fixed.keys()
        if len(results) == 1 and operation.is_pure and independent:
            self.fixed |= {number: one for number, one in zip(out, results) if number is not None}
        return result

    def number_of(self, tensor: Tensor) -> int:
        """Return the number of a tensor. A tensor that has none yet becomes a constant."""
        if tensor not in self.numbers:
            self.constants[self.add_existing(tensor)] = tensor
        return int(self.numbers[tensor])

    def add_existing(self, tensor: Tensor) -> int:
        """Give an input or a constant the next number, and return it."""
        number = self.add(tensor, self.count)
        self.memory[number] = ("existing", storage(tensor))
        return number

    def add_result(self, tensor: Tensor, args: Tensors) -> int:
        """Return the number of a result of an operation with tensor arguments ``args``; a new tensor gets the next number.

        A view that covers the same memory as a known tensor in the same way gets that tensor's number.
        """
        if tensor in self.numbers:
            return int(self.numbers[tensor])
        for arg in args:
            if storage(arg) == storage(tensor):
                base = self.base[self.numbers[arg]]
                self.views.setdefault((base, view_key(arg)), self.numbers[arg])
                view = base, view_key(tensor)
                if view in self.views:
                    self.numbers[tensor] = self.views[view]
                else:
                    self.views[view] = self.add(tensor, base)
                return int(self.numbers[tensor])
        number = self.add(tensor, self.count)
        self.memory[number] = ("result", number)
        return number

    def add(self, tensor: Tensor, base: int) -> int:
        """Give a tensor the next number, and return it. ``base`` is the number of the tensor that it is a view of, or its own."""
        self.numbers[tensor] = self.count
        self.base.append(base)
        self.count += 1
        return self.count - 1

    def simplified(self, results: Sequence[int]) -> tuple[list[Operation], dict[int, Tensor], list[int]]:
        """Return the operations that have an effect, the other results by number, and the new numbers of ``results``.

        The other results are tensors that need no operation, because they do not depend on the values of the inputs. A repeated
        computation is left out, and its results get the numbers of the first one. Operations that share memory with a written
        tensor or with a result stay as they are.
        """

        def memory_of(numbers: set[int]) -> set[Any]:
            return {self.memory[self.base[number]] for number in numbers}

        written = (memory_of(operation.used) for operation in self.operations if operation.writes)
        protected = memory_of(set(results)).union(*written)
        fixed: dict[int, Tensor] = {}
        replacement: dict[int, int] = {}
        known: dict[Any, list[int | None]] = {}
        operations = []
        for operation in self.operations:
            out = {number for number in operation.out if number is not None}
            args = [
                TensorNumber(replacement.get(arg.number, arg.number)) if isinstance(arg, TensorNumber) else arg
                for arg in operation.args
            ]
            operation = operation._replace(args=args)
            if not operation.is_pure or memory_of(out) & protected:
                operations.append(operation)
            elif out <= self.fixed.keys():
                fixed |= {number: self.fixed[number] for number in out}
            else:
                key = operation.op, str(operation.structure), tuple((type(arg), arg) for arg in args)
                if not memory_of(operation.used) & protected and key in known:
                    pairs = zip(operation.out, known[key])
                    replacement |= {new: first for new, first in pairs if new is not None and first is not None}
                else:
                    known[key] = operation.out
                    operations.append(operation)
        return operations, fixed, [replacement.get(number, number) for number in results]


def storage(tensor: Tensor) -> int:
    """Return the address of a tensor's storage object, equal for tensors that share memory."""
    return int(tensor.untyped_storage()._cdata)


def layout(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...]]:
    """Return the shape and the strides of a tensor."""
    return tensor.shape, tensor.stride()


def view_key(tensor: Tensor) -> tuple[Any, ...]:
    """Return a key that is equal for two views of the same memory if they show the same elements in the same way."""
    return layout(tensor), tensor.storage_offset(), tensor.dtype, tensor.is_conj(), tensor.is_neg()


class Recording:
    """Callable that runs the operations of a recorder again, on ``n_inputs`` tensors laid out like the recorded inputs.

    It returns the tensors that correspond to ``results``. Constants keep the values that they had in the recording.
    """

    def __init__(self, recorder: Recorder, results: Tensors, n_inputs: int) -> None:
        operations, fixed, returned = recorder.simplified([recorder.number_of(tensor) for tensor in results])
        names = [f"t{number}" for number in range(recorder.count)]
        constants = recorder.constants | fixed
        space: dict[str, Any] = {}
        kept = {*range(n_inputs), *constants}
        lines: list[str] = []
        needed = set(returned)
        for place, (op, flat, structure, out) in reversed(list(enumerate(operations))):
            if not (op._schema.is_mutable or needed & set(out)):
                continue
            args, kwargs = tree_unflatten(
                [Name(names[arg.number]) if isinstance(arg, TensorNumber) else arg for arg in flat], structure
            )
            used = {arg.number for arg in flat if isinstance(arg, TensorNumber)}
            released = sorted(used - needed - kept)  # this is the last operation that needs them
            if released:
                lines.append(f"{' = '.join(names[number] for number in released)} = None")
            needed |= used
            space[f"op{place}"] = op
            arguments = [render(arg, space) for arg in args] + [
                f"{key}={render(arg, space)}" for key, arg in kwargs.items()
            ]
            call = f"op{place}({', '.join(arguments)})"
            is_sequence = len(op._schema.returns) > 1 or (out and "[]" in str(op._schema.returns[0].type))
            target = ", ".join("_" if number is None else names[number] for number in out) + (
                "," if is_sequence else ""
            )
            lines.append(f"{target} = {call}" if out else call)
        body = "\n    ".join([*reversed(lines), f"return ({''.join(names[number] + ', ' for number in returned)})"])
        used_constants = sorted(constants.keys() & needed)
        space |= {names[number]: constants[number] for number in used_constants}
        # Constants are default arguments, because an operation may return one of its arguments under the same name.
        parameters = ", ".join([*names[:n_inputs], *(f"{names[number]}={names[number]}" for number in used_constants)])
        exec(compile(f"def program({parameters}):\n    {body}", "<recorded>", "exec"), space)  # noqa: S102, its own text
        self.program: Callable[..., Tensors] = space["program"]

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensors:
        return self.program(*inputs)


class CapturedStep:
    """Function of tensors that runs from a recording as soon as the recording has given the same results as the function.

    The second call with the same shapes and strides is recorded. The third runs both the function and the recording and compares
    them, and so does the first call after each `recheck`. A function that changes what it does is not captured.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self.function = function
        self.layouts: list[Any] | None = None
        self.recording: Recording | None = None
        self.trusted = False
        """True while calls run the recording without a comparison."""
        self.verified = False
        """True once the recording has been equal to the function."""
        self.disabled = False
        """True once the function cannot be captured: all further calls run the function."""

    def recheck(self) -> None:
        """Have the next call compare the recording with the function."""
        self.trusted = False

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Return the function's results. Raises StepChanged if an earlier run of the recording may have been wrong."""
        layouts = [layout(tensor) for tensor in inputs]
        if self.disabled or layouts != self.layouts:
            self.layouts, self.recording, self.trusted, self.verified = layouts, None, False, False
            return self.function(*inputs)
        if self.recording is None:
            return self._record(inputs)
        if self.trusted:
            return self.recording(*inputs)
        copies = [tensor.clone() for tensor in inputs]  # the function may write to its inputs
        replayed, results = self.recording(*copies), self.function(*inputs)
        same = all(equal(a, b) for a, b in zip((*replayed, *copies), (*results, *inputs), strict=True))
        if self.verified and not same:
            raise StepChanged("what a step computes is not what it computed before")
        self.trusted = self.verified = same
        self.disabled = not same
        return results

    def _record(self, inputs: Tensors) -> Tensors:
        """Call the function, record it, and return its results. If no recording can be made, all further calls run the function."""
        recorder = Recorder(inputs)
        with recorder:
            results = self.function(*inputs)
        try:
            self.recording = Recording(recorder, results, len(inputs))
        except Exception:  # without a recording the step is only slower
            self.disabled = True
        return results


def equal(a: Tensor, b: Tensor) -> bool:
    """Return True if two tensors are equal: exactly on a CPU, with a tolerance on a GPU, whose sums vary. NaN equals NaN."""
    if a.is_cuda:
        return torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


class Name(str):
    """Name of a variable in the program that a `Recording` generates."""

    __slots__ = ()


def render(value: Any, space: dict[str, Any]) -> str:
    """Return the source text of an argument in a generated program.

    A value that is no literal is put into ``space`` under a new name, and this name is returned.
    """
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(render(item, space) for item in value)}]"
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    name = f"c{len(space)}"
    space[name] = value
    return name

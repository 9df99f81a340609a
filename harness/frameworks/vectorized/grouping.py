"""Which models may share a stack: those that differ in nothing but weights, rates and dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness import seeding as seeds
from harness.errors import Varies
from harness.frameworks.vectorized.layers import Dropout

if TYPE_CHECKING:
    from harness.frameworks.torch import Loop, TorchSubmission


@dataclass
class Member:
    """One configuration: its number, its model with the built module, its optimiser, and the random state that it trains from."""

    number: int
    model: TorchSubmission
    optimizer: torch.optim.Optimizer
    random: seeds.State
    loop: Loop


class Common(dict[str, Any]):
    """The hyperparameters that all members share; to ask for another one is an error, as it is to ask for all of them."""

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        first = members[0]
        self.varying = {name for name in first if any(params[name] != first[name] for params in members)}
        super().__init__({name: value for name, value in first.items() if name not in self.varying})

    def look(self, name: object = None) -> None:
        """Raise Varies for a name that is not shared, or, of a look at all of them, for any."""
        if self.varying and (name is None or name in self.varying):
            raise Varies(min(self.varying) if name is None else name)

    def __getitem__(self, name: str) -> Any:
        self.look(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.look(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.look(name)
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.look()
        return super().__iter__()

    def keys(self) -> Any:
        self.look()
        return super().keys()

    def values(self) -> Any:
        self.look()
        return super().values()

    def items(self) -> Any:
        self.look()
        return super().items()


def alike(members: Sequence[Member]) -> list[list[Member]]:
    """Members by architecture, in the order of their first."""
    groups: list[list[Member]] = []
    for member in members:
        for group in groups:
            if same_member(group[0], member):
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def same_member(a: Member, b: Member) -> bool:
    """Whether two differ in nothing but weights, rates and dropout."""
    own = ("params", "module")
    return (
        a.loop == b.loop
        and a.random == b.random
        and type(a.optimizer) is type(b.optimizer)
        and same_values(vars(a.model), vars(b.model), own)
        and same_modules(a.model.module, b.model.module)
    )


def same_modules(a: nn.Module, b: nn.Module) -> bool:
    there, here = dict(a.named_modules()), dict(b.named_modules())
    return there.keys() == here.keys() and all(same_module(there[name], here[name]) for name in there)


def same_module(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules, those below them aside, compute the same with the same weights, but for a dropout's share."""
    if type(a) is not type(b):
        return False
    own = ["_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs"]
    if isinstance(a, Dropout):
        own.append("p")
    for mine, its in ((a._parameters, b._parameters), (a._buffers, b._buffers)):
        if {name: shape_of(value) for name, value in mine.items()} != {
            name: shape_of(value) for name, value in its.items()
        }:
            return False
    return same_values(vars(a), vars(b), own)


def shape_of(value: Tensor | None) -> tuple[Any, ...] | None:
    return None if value is None else (value.shape, value.dtype, value.requires_grad)


def same_values(a: Mapping[str, Any], b: Mapping[str, Any], own: Sequence[str]) -> bool:
    return a.keys() == b.keys() and all(same_value(a[name], b[name]) for name in a if name not in own)


def same_value(a: Any, b: Any) -> bool:
    """Equality that takes a doubtful answer, or a refusal to answer, for a no."""
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_value(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_value, a, b))
    try:
        return bool(a == b)
    except Exception:
        return False

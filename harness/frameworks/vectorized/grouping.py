"""Groups of models that one vectorized fit can train: models that differ only in weights, optimizer settings and dropout rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness import seeding
from harness.errors import HyperparameterVaries
from harness.frameworks.vectorized.layers import Dropout
from harness.frameworks.vectorized.protocol import Trainable, TrainingLoop


@dataclass
class VectorizedMember:
    """One configuration of a vectorized fit, with its built model and the settings of its training loop."""

    number: int
    """Place of the configuration in the call of ``fit_many``."""
    model: Trainable
    optimizer: torch.optim.Optimizer
    random: seeding.State
    """State of all random generators after the model was built."""
    loop: TrainingLoop


class SharedParams(dict[str, Any]):
    """Hyperparameters of a vectorized fit, of which only the values that all members share can be read.

    A read of a hyperparameter that varies raises HyperparameterVaries. So does a read of all at once, if any varies.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        first = members[0]
        self.varying = {name for name in first if any(params[name] != first[name] for params in members)}
        super().__init__({name: value for name, value in first.items() if name not in self.varying})

    def check(self, name: object = None) -> None:
        """Raise HyperparameterVaries if this hyperparameter varies, or, without a name, if any does."""
        if self.varying and (name is None or name in self.varying):
            raise HyperparameterVaries(min(self.varying) if name is None else name)

    def __getitem__(self, name: str) -> Any:
        self.check(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.check(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.check(name)
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.check()
        return super().__iter__()

    def keys(self) -> Any:
        self.check()
        return super().keys()

    def values(self) -> Any:
        self.check()
        return super().values()

    def items(self) -> Any:
        self.check()
        return super().items()


def group_members(members: Sequence[VectorizedMember]) -> list[list[VectorizedMember]]:
    """Return the members in groups that one vectorized fit each can train. Groups are in the order of their first members."""
    groups: list[list[VectorizedMember]] = []
    for member in members:
        for group in groups:
            if can_share_fit(group[0], member):
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def can_share_fit(a: VectorizedMember, b: VectorizedMember) -> bool:
    """Return True if two members differ only in hyperparameters, weights, optimizer settings and dropout rates."""
    return (
        a.loop == b.loop
        and a.random == b.random
        and type(a.optimizer) is type(b.optimizer)
        and same_values(vars(a.model), vars(b.model), ignored=("params", "module"))
        and same_modules(a.model.module, b.model.module)
    )


def same_modules(a: nn.Module, b: nn.Module) -> bool:
    """Return True if two modules have equal submodules under the same names, apart from values of weights and dropout rates."""
    mine, theirs = dict(a.named_modules()), dict(b.named_modules())
    return mine.keys() == theirs.keys() and all(same_layer(mine[name], theirs[name]) for name in mine)


def same_layer(a: nn.Module, b: nn.Module) -> bool:
    """Return True if two modules are equal, apart from submodules, values of weights and buffers, and dropout rates."""
    if type(a) is not type(b):
        return False
    ignored = ["_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs"]
    if isinstance(a, Dropout):
        ignored.append("p")
    for mine, theirs in ((a._parameters, b._parameters), (a._buffers, b._buffers)):
        if {name: spec_of(value) for name, value in mine.items()} != {
            name: spec_of(value) for name, value in theirs.items()
        }:
            return False
    return same_values(vars(a), vars(b), ignored)


def spec_of(value: Tensor | None) -> tuple[Any, ...] | None:
    """Return shape, dtype and ``requires_grad`` of a tensor; None for None."""
    return None if value is None else (value.shape, value.dtype, value.requires_grad)


def same_values(a: Mapping[str, Any], b: Mapping[str, Any], ignored: Sequence[str]) -> bool:
    """Return True if two mappings have the same keys and, apart from ``ignored`` keys, equal values."""
    return a.keys() == b.keys() and all(same_value(a[name], b[name]) for name in a if name not in ignored)


def same_value(a: Any, b: Any) -> bool:
    """Return True only if two values are certainly equal; False also where a comparison fails or is ambiguous."""
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

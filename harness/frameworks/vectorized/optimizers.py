"""Torch's optimisers for many models at once: parameters (members, numbers), rates and decays one a member.

Torch's own take one learning rate for all that they move. These read what each member's optimiser was told and follow the same
formulas (`torch.optim`, the single-tensor ones), row by row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn, optim

from harness.errors import Unsuited

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

Numbers = Mapping[str, np.ndarray]
"""What an optimiser is told: float64, one a member."""
Columns = Mapping[str, Tensor]
"""What a step multiplies with: float32 (members, 1)."""
Arrays = tuple[Tensor, Tensor, Sequence[Tensor]]
"""Weights, gradients and the optimiser's state of a pack, (members, numbers) each."""
Rows = Sequence[tuple[Tensor, ...]]
"""Of one member: its weights, and each kind of its state, over the packs of a parameter group."""
SMALL = 4096
"""Parameters of fewer numbers share an array, and members of fewer are moved many at a time: an operation on one costs its launch
and little more."""
IN_CACHE = 1 << 16
"""Numbers that a CPU updates at a time: few enough to stay in its cache from one operation to the next."""
REFUSED = ("amsgrad", "maximize", "differentiable", "centered", "dampening")


class Adam:
    """Adam (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019) where weight decay stands apart from the gradient."""

    kept = 2

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.decoupled = bool(flags.get("decoupled_weight_decay"))

    def prepare(self, h: Numbers, step: int) -> dict[str, np.ndarray]:
        root = np.sqrt(1 - h["beta2"] ** step)
        return {
            "decay": 1 - h["lr"] * h["weight_decay"] if self.decoupled else h["weight_decay"],
            "of mean": 1 - h["beta1"],
            "beta2": h["beta2"],
            "of square": 1 - h["beta2"],
            "eps": h["eps"] * root,  # the root is taken out of the denominator, which saves a pass over all weights
            "rate": h["lr"] / (1 - h["beta1"] ** step) * root,
        }

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        mean, square = state
        if self.decoupled:
            w.mul_(c["decay"])
        else:
            g = g + c["decay"] * w
        mean.lerp_(g, c["of mean"].expand_as(g))
        square.mul_(c["beta2"]).addcmul_(g, g * c["of square"])
        scale = square.sqrt().add_(c["eps"])
        w.addcmul_(torch.div(mean, scale, out=scale), c["rate"], value=-1)

    def update_each(
        self, rows: Sequence[Rows], gradients: Sequence[Tensor], h: Numbers, step: int, cut: Tensor | None
    ) -> None:
        """`update` member by member, in the step that torch has as one: each number is fetched and written once."""
        fused = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        names = ("lr", "beta1", "beta2", "weight_decay", "eps")
        told = [dict(zip(names, numbers)) for numbers in zip(*(h[name].tolist() for name in names))]
        scales: Sequence[Tensor | None] = [None] * len(told) if cut is None else (1 / cut[:, 0]).unbind()  # it divides
        steps = [torch.tensor(float(step))] * len(gradients)
        given: Iterable[tuple[Tensor, ...]] = zip(*(gradient.unbind() for gradient in gradients))
        for (weights, means, squares), its, numbers, scale in zip(rows, given, told, scales):
            fused(weights, its, means, squares, [], steps, **numbers, amsgrad=False, maximize=False, grad_scale=scale)


class SGD:
    """Stochastic gradient descent, with momentum where it has some."""

    kept = 1

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.nesterov = bool(flags["nesterov"])

    def prepare(self, h: Numbers, step: int) -> dict[str, np.ndarray]:
        return {"decay": h["weight_decay"], "momentum": h["momentum"], "rate": h["lr"]}

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        g = g + c["decay"] * w
        velocity = state[0].mul_(c["momentum"]).add_(g)
        g = g + c["momentum"] * velocity if self.nesterov else velocity
        w.sub_(g * c["rate"])


class RMSprop:
    """RMSProp (Hinton 2012), with momentum where it has some."""

    kept = 2

    def __init__(self, flags: Mapping[str, Any]) -> None:
        """It has no flag that matters."""

    def prepare(self, h: Numbers, step: int) -> dict[str, np.ndarray]:
        names = {"decay": "weight_decay", "alpha": "alpha", "eps": "eps", "momentum": "momentum", "rate": "lr"}
        return {"of square": 1 - h["alpha"], **{name: h[told] for name, told in names.items()}}

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        square, velocity = state
        g = g + c["decay"] * w
        square.mul_(c["alpha"]).addcmul_(g, g * c["of square"])
        velocity.mul_(c["momentum"]).add_(g / square.sqrt().add_(c["eps"]))
        w.sub_(velocity * c["rate"])


class Adagrad:
    """Adagrad (Duchi et al. 2011)."""

    kept = 1

    def __init__(self, flags: Mapping[str, Any]) -> None:
        """It has no flag that matters."""

    def prepare(self, h: Numbers, step: int) -> dict[str, np.ndarray]:
        return {"decay": h["weight_decay"], "eps": h["eps"], "rate": h["lr"] / (1 + (step - 1) * h["lr_decay"])}

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        g = g + c["decay"] * w
        total = state[0].addcmul_(g, g)
        w.sub_(g / total.sqrt().add_(c["eps"]) * c["rate"])


Rule = Adam | SGD | RMSprop | Adagrad

RULES: Mapping[type[optim.Optimizer], type[Rule]] = {
    optim.AdamW: Adam,
    optim.Adam: Adam,
    optim.SGD: SGD,
    optim.RMSprop: RMSprop,
    optim.Adagrad: Adagrad,
}


class Pack(NamedTuple):
    """Parameters that share an array (members, n): one large one, or several small ones of a parameter group."""

    group: int
    names: list[str]
    shapes: list[torch.Size]

    @property
    def sizes(self) -> list[int]:
        return [shape.numel() for shape in self.shapes]


class Optimizer:
    """One stacked optimiser for members that each have one of the same type, over parameters of the same names and shapes.

    Weights are a list of arrays (members, n), one for each of ``packs``.
    """

    def __init__(self, members: Sequence[optim.Optimizer], parameters: Mapping[str, nn.Parameter]) -> None:
        first = members[0]
        name = type(first).__name__
        if type(first) not in RULES:
            raise Unsuited(f"{name} has no stacked form")
        told = [[unpacked(group) for group in member.param_groups] for member in members]
        if any(len(groups) != len(first.param_groups) for groups in told):
            raise Unsuited("its optimisers have groups of different numbers")
        if any(flags != mine for groups in told for (_, flags), (_, mine) in zip(groups, told[0])):
            raise Unsuited("its optimisers differ in more than rates")
        if any(numbers.get(flag) or flags.get(flag) for numbers, flags in told[0] for flag in REFUSED):
            raise Unsuited(f"{name} has a stacked form without {', '.join(REFUSED)} alone")
        self.rules = [RULES[type(first)](flags) for _, flags in told[0]]
        self.told = [
            {key: np.array([groups[place][0][key] for groups in told]) for key in told[0][place][0]}
            for place in range(len(first.param_groups))
        ]
        self.packs = list(packs(first, parameters))
        self.names = [name for pack in self.packs for name in pack.names]
        self.device = next(iter(parameters.values())).device
        self.state = [
            [torch.zeros(len(members), sum(pack.sizes), device=self.device) for _ in range(self.rules[pack.group].kept)]
            for pack in self.packs
        ]
        self.moves: list[list[dict[str, float]]] = []
        self.done = 0
        self.split_from: Sequence[Tensor] | None = None
        self.split: dict[int, list[Rows]] = {}
        """By parameter group, see `rows`."""

    def stacked(self, members: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        """The parameters of all members, copied."""
        return [
            torch.stack([torch.cat([weights[name].detach().flatten() for name in pack.names]) for weights in members])
            for pack in self.packs
        ]

    def views(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Weights as one view (members, *shape) for each of ``names``."""
        for pack, array in zip(self.packs, weights):
            parts: Sequence[Tensor] = torch.split(array, pack.sizes, dim=1)
            for part, shape in zip(parts, pack.shapes):
                yield part.view(len(part), *shape)

    def follow(self, schedules: Sequence[list[list[dict[str, float]]]]) -> None:
        """Take up a schedule: the first member's, by step and group, rates as shares of its first. Others have to agree."""
        self.moves = schedules[0]
        for other in schedules[1:]:
            for mine, its in zip(self.moves, other):
                for a, b in zip(mine, its):
                    if a.keys() != b.keys() or not np.allclose(list(a.values()), list(b.values()), rtol=1e-9):
                        raise Unsuited("its schedules are not multiples of each other")

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor], clip: float | None) -> None:
        """Move ``weights`` in place by ``gradients`` of the same shapes, each member's cut to a norm of ``clip``."""
        moves, self.done = self.moves[self.done], self.done + 1
        cut = None
        if clip is not None:
            norms = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in gradients])
            cut = (clip / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1.0)[:, None]
        given = list(zip(weights, gradients, self.state))
        for group, (rule, told, move) in enumerate(zip(self.rules, self.told, moves)):
            now = dict(told)
            for name, value in move.items():
                now[name] = told["lr"] * value if name == "lr" else np.full_like(told[name], value)
            arrays = [of for pack, of in zip(self.packs, given) if pack.group == group]
            large = sum(array.shape[1] for array, _, _ in arrays) >= SMALL
            if isinstance(rule, Adam) and large and self.device.type == "cpu":
                rule.update_each(self.rows(group, weights), [of for _, of, _ in arrays], now, self.done, cut)
            else:
                self.in_columns(rule, arrays, rule.prepare(now, self.done), cut)

    def rows(self, group: int, weights: Sequence[Tensor]) -> list[Rows]:
        """Weights and state of each member, split once for as long as these are its arrays: it takes as long as to use them."""
        if self.split_from is not weights:
            self.split_from, self.split = weights, {}
        if group not in self.split:
            mine = [place for place, pack in enumerate(self.packs) if pack.group == group]
            kinds = zip(*([weights[place], *self.state[place]] for place in mine))
            self.split[group] = list(zip(*(zip(*(array.unbind() for array in kind)) for kind in kinds)))
        return self.split[group]

    def in_columns(self, rule: Rule, arrays: Sequence[Arrays], told: Numbers, cut: Tensor | None) -> None:
        """Many members at a time, what they are told in columns."""
        table = torch.from_numpy(np.stack(list(told.values())).astype(np.float32)).to(self.device)
        columns = dict(zip(told, table[:, :, None].unbind()))
        for weights, gradients, state in arrays:
            rows = len(weights) if weights.is_cuda else max(IN_CACHE // weights.shape[1], 1)
            for start in range(0, len(weights), rows):
                part = slice(start, start + rows)
                mine = {name: column[part] for name, column in columns.items()}
                g = gradients[part] if cut is None else gradients[part].mul_(cut[part])
                rule.update(weights[part], g, [kept[part] for kept in state], mine)

    def gather(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients (members, *shape), one for each of ``names``, as arrays like the weights'."""
        given = iter(gradients)
        found = []
        for pack in self.packs:
            parts = [next(given).flatten(1) for _ in pack.names]
            found.append(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return found

    def keep(self, index: Tensor) -> None:
        """Go on with these members alone, int64 places."""
        self.state = [[kept[index] for kept in state] for state in self.state]
        self.split_from = None
        at = index.cpu().numpy()
        self.told = [{name: values[at] for name, values in told.items()} for told in self.told]


def packs(optimizer: optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> Iterator[Pack]:
    name_of = {id(weight): name for name, weight in parameters.items()}
    for place, group in enumerate(optimizer.param_groups):
        if any(id(weight) not in name_of for weight in group["params"]):
            raise Unsuited("its optimiser moves what is no parameter of its module")
        names = [name_of[id(weight)] for weight in group["params"]]
        small = [name for name in names if parameters[name].numel() < SMALL]
        for together in ([name] for name in names if name not in small):
            yield Pack(place, together, [parameters[name].shape for name in together])
        if small:
            yield Pack(place, small, [parameters[name].shape for name in small])


def unpacked(group: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers of a parameter group, ``betas`` as beta1 and beta2, and its flags."""
    numbers: dict[str, float] = {}
    flags: dict[str, Any] = {}
    for name, value in group.items():
        if name == "betas":
            numbers |= {"beta1": float(value[0]), "beta2": float(value[1])}
        elif isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
            numbers[name] = float(value)
        elif name != "params":
            flags[name] = value
    return numbers, flags


def schedule(optimizer: optim.Optimizer, make: Callable[[], LRScheduler], steps: int) -> list[list[dict[str, float]]]:
    """What a scheduler does to an optimiser, by step and group: ``lr`` as a share of what it was told, momenta that it moves."""
    before = [momenta(group) for group in optimizer.param_groups]
    first = [float(group["lr"]) for group in optimizer.param_groups]
    if not all(first):
        raise Unsuited("a learning rate is 0")
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moving = make()
        for _ in range(steps):
            groups = zip(optimizer.param_groups, first)
            found.append([{"lr": float(group["lr"]) / rate} | momenta(group) for group, rate in groups])
            optimizer.step()  # nothing has a gradient, so nothing moves: a scheduler wants it
            moving.step()
    for place, told in enumerate(before):
        for name, value in told.items():
            if all(move[place][name] == value for move in found):
                for move in found:
                    del move[place][name]
    return found


def momenta(group: Mapping[str, Any]) -> dict[str, float]:
    found = {"beta1": float(group["betas"][0])} if "betas" in group else {}
    return found | ({"momentum": float(group["momentum"])} if "momentum" in group else {})

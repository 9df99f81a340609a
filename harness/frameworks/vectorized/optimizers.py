"""Torch's optimizers for many models at once: parameters are arrays (members, n), and each member has its own learning rate.

An optimizer of torch has one learning rate for all its parameters. The optimizers here read the settings of each member's optimizer
and follow the same formulas (`torch.optim`, the single-tensor implementations) row by row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn, optim

from harness.errors import NotVectorizable

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

MemberSettings = Mapping[str, np.ndarray]
"""Settings of the optimizers of all members by name, each float64 (members,)."""
Columns = Mapping[str, Tensor]
"""Factors of one step by name, each float32 (members, 1)."""
PackArrays = tuple[Tensor, Tensor, Sequence[Tensor]]
"""Weights, gradients and the parts of the optimizer's state of one `ParameterPack`, each float32 (members, n)."""
MemberRows = Sequence[tuple[Tensor, ...]]
"""Weights and each part of the optimizer's state of one member in one parameter group. Each is a tuple with one array (n,) for each
`ParameterPack` of the group."""
Schedule = list[list[dict[str, float]]]
"""Learning rates and momenta by name, for each step and parameter group. ``lr`` is a multiple of the initial learning rate."""
SMALL_PARAMETER_NUMBERS = 4096
"""Number of values below which a parameter shares an array with others, and below which the members of a parameter group are
updated together. For smaller arrays an operation costs little more than its launch."""
CACHED_NUMBERS = 1 << 16
"""Number of values that a CPU updates at a time, so few that they stay in its cache between operations."""
UNSUPPORTED_FLAGS = ("amsgrad", "maximize", "differentiable", "centered", "dampening")


class Adam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019) if weight decay is decoupled from the gradient."""

    n_state = 2

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.decoupled = bool(flags.get("decoupled_weight_decay"))

    def prepare(self, h: MemberSettings, step: int) -> dict[str, np.ndarray]:
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
        self,
        rows: Sequence[MemberRows],
        gradients: Sequence[Tensor],
        h: MemberSettings,
        step: int,
        clip_factor: Tensor | None,
    ) -> None:
        """Take the step of `update` member by member with torch's fused kernel, which reads and writes each number once.

        ``rows`` are by member; ``gradients`` are (members, n) by pack; ``step`` counts from 1; ``clip_factor`` is (members, 1),
        None without clipping.
        """
        fused = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        names = ("lr", "beta1", "beta2", "weight_decay", "eps")
        settings = [dict(zip(names, values)) for values in zip(*(h[name].tolist() for name in names))]
        divisors: Sequence[Tensor | None] = [None] * len(settings)
        if clip_factor is not None:
            divisors = (1 / clip_factor[:, 0]).unbind()  # the kernel divides gradients by ``grad_scale``
        steps = [torch.tensor(float(step))] * len(gradients)
        by_member: Iterable[tuple[Tensor, ...]] = zip(*(gradient.unbind() for gradient in gradients))
        for (weights, means, squares), own, values, divisor in zip(rows, by_member, settings, divisors):
            fused(weights, own, means, squares, [], steps, **values, amsgrad=False, maximize=False, grad_scale=divisor)


class SGD:
    """Stochastic gradient descent, with or without momentum."""

    n_state = 1

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.nesterov = bool(flags["nesterov"])

    def prepare(self, h: MemberSettings, step: int) -> dict[str, np.ndarray]:
        return {"decay": h["weight_decay"], "momentum": h["momentum"], "rate": h["lr"]}

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        g = g + c["decay"] * w
        velocity = state[0].mul_(c["momentum"]).add_(g)
        g = g + c["momentum"] * velocity if self.nesterov else velocity
        w.sub_(g * c["rate"])


class RMSprop:
    """RMSProp (Hinton 2012), with or without momentum."""

    n_state = 2

    def __init__(self, flags: Mapping[str, Any]) -> None:
        """Take no flags into account: none changes the formula."""

    def prepare(self, h: MemberSettings, step: int) -> dict[str, np.ndarray]:
        names = {"decay": "weight_decay", "alpha": "alpha", "eps": "eps", "momentum": "momentum", "rate": "lr"}
        return {"of square": 1 - h["alpha"], **{name: h[setting] for name, setting in names.items()}}

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        square, velocity = state
        g = g + c["decay"] * w
        square.mul_(c["alpha"]).addcmul_(g, g * c["of square"])
        velocity.mul_(c["momentum"]).add_(g / square.sqrt().add_(c["eps"]))
        w.sub_(velocity * c["rate"])


class Adagrad:
    """Adagrad (Duchi et al. 2011)."""

    n_state = 1

    def __init__(self, flags: Mapping[str, Any]) -> None:
        """Take no flags into account: none changes the formula."""

    def prepare(self, h: MemberSettings, step: int) -> dict[str, np.ndarray]:
        return {"decay": h["weight_decay"], "eps": h["eps"], "rate": h["lr"] / (1 + (step - 1) * h["lr_decay"])}

    def update(self, w: Tensor, g: Tensor, state: Sequence[Tensor], c: Columns) -> None:
        g = g + c["decay"] * w
        total = state[0].addcmul_(g, g)
        w.sub_(g / total.sqrt().add_(c["eps"]) * c["rate"])


Rule = Adam | SGD | RMSprop | Adagrad
"""Formula of an optimizer's step. ``n_state`` is the number of arrays in its state; ``prepare`` computes the factors (members,) of
a step from the settings; ``update`` moves weights ``w`` in place by gradients ``g``, both (members, n)."""

RULES: Mapping[type[optim.Optimizer], type[Rule]] = {
    optim.AdamW: Adam,
    optim.Adam: Adam,
    optim.SGD: SGD,
    optim.RMSprop: RMSprop,
    optim.Adagrad: Adagrad,
}


class ParameterPack(NamedTuple):
    """Parameters of one parameter group that share an array (members, n): a large one alone, or all small ones.

    ``group`` is the number of the group.
    """

    group: int
    names: list[str]
    shapes: list[torch.Size]

    @property
    def sizes(self) -> list[int]:
        """Number of values in each parameter."""
        return [shape.numel() for shape in self.shapes]


class VectorizedOptimizer:
    """Optimizer for members whose own optimizers have the same type, over parameters of the same names and shapes.

    Weights are a list of arrays (members, n), one for each of ``packs``. Raises NotVectorizable if the optimizers differ in more
    than numbers, or have settings that no rule supports.
    """

    def __init__(self, members: Sequence[optim.Optimizer], parameters: Mapping[str, nn.Parameter]) -> None:
        first = members[0]
        name = type(first).__name__
        if type(first) not in RULES:
            raise NotVectorizable(f"{name} has no stacked form")
        groups_of = [[split_settings(group) for group in member.param_groups] for member in members]
        if any(len(groups) != len(first.param_groups) for groups in groups_of):
            raise NotVectorizable("its optimisers have groups of different numbers")
        if any(flags != expected for groups in groups_of for (_, flags), (_, expected) in zip(groups, groups_of[0])):
            raise NotVectorizable("its optimisers differ in more than rates")
        if any(numbers.get(flag) or flags.get(flag) for numbers, flags in groups_of[0] for flag in UNSUPPORTED_FLAGS):
            raise NotVectorizable(f"{name} has a stacked form without {', '.join(UNSUPPORTED_FLAGS)} alone")
        self.rules = [RULES[type(first)](flags) for _, flags in groups_of[0]]
        self.settings = [
            {key: np.array([groups[place][0][key] for groups in groups_of]) for key in groups_of[0][place][0]}
            for place in range(len(first.param_groups))
        ]
        """Settings of all members, by number of the parameter group."""
        self.packs = list(pack_parameters(first, parameters))
        self.names = [name for pack in self.packs for name in pack.names]
        """Names of all parameters, in the order of `views` and `gather`."""
        self.device = next(iter(parameters.values())).device
        self.state = [
            [
                torch.zeros(len(members), sum(pack.sizes), device=self.device)
                for _ in range(self.rules[pack.group].n_state)
            ]
            for pack in self.packs
        ]
        self.schedule: Schedule = []
        self.steps_done = 0
        self.rows_weights: Sequence[Tensor] | None = None
        """Weights that ``rows_by_group`` holds the rows of; None if there are none."""
        self.rows_by_group: dict[int, list[MemberRows]] = {}

    def stack(self, members: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        """Return the parameters of all members, given by name, as copies in one array (members, n) for each pack."""
        return [
            torch.stack([torch.cat([weights[name].detach().flatten() for name in pack.names]) for weights in members])
            for pack in self.packs
        ]

    def views(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield a view (members, *shape) of the weights for each of ``names``."""
        for pack, array in zip(self.packs, weights):
            parts: Sequence[Tensor] = torch.split(array, pack.sizes, dim=1)
            for part, shape in zip(parts, pack.shapes):
                yield part.view(len(part), *shape)

    def set_schedule(self, schedules: Sequence[Schedule]) -> None:
        """Follow the first of ``schedules`` from now on. Raises NotVectorizable if another one differs from it."""
        self.schedule = schedules[0]
        for other in schedules[1:]:
            for expected, groups in zip(self.schedule, other):
                for a, b in zip(expected, groups):
                    if a.keys() != b.keys() or not np.allclose(list(a.values()), list(b.values()), rtol=1e-9):
                        raise NotVectorizable("its schedules are not multiples of each other")

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor], clip: float | None) -> None:
        """Move ``weights`` in place by ``gradients``, both arrays (members, n) by pack.

        Each member's gradients are first clipped to norm ``clip``, unless it is None.
        """
        scheduled, self.steps_done = self.schedule[self.steps_done], self.steps_done + 1
        clip_factor = None
        if clip is not None:
            norms = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in gradients])
            clip_factor = (clip / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1.0)[:, None]
        arrays_of = list(zip(weights, gradients, self.state))
        for group, (rule, settings, values) in enumerate(zip(self.rules, self.settings, scheduled)):
            current = dict(settings)
            for name, value in values.items():
                current[name] = settings["lr"] * value if name == "lr" else np.full_like(settings[name], value)
            arrays = [pack_arrays for pack, pack_arrays in zip(self.packs, arrays_of) if pack.group == group]
            large = sum(array.shape[1] for array, _, _ in arrays) >= SMALL_PARAMETER_NUMBERS
            if isinstance(rule, Adam) and large and self.device.type == "cpu":
                own = [gradient for _, gradient, _ in arrays]
                rule.update_each(self.rows(group, weights), own, current, self.steps_done, clip_factor)
            else:
                self.update_together(rule, arrays, rule.prepare(current, self.steps_done), clip_factor)

    def rows(self, group: int, weights: Sequence[Tensor]) -> list[MemberRows]:
        """Return the weights and state of each member in a parameter group, as views.

        They are kept for further calls with the same ``weights``: the split takes as long as an update.
        """
        if self.rows_weights is not weights:
            self.rows_weights, self.rows_by_group = weights, {}
        if group not in self.rows_by_group:
            places = [place for place, pack in enumerate(self.packs) if pack.group == group]
            parts = zip(*([weights[place], *self.state[place]] for place in places))
            self.rows_by_group[group] = list(zip(*(zip(*(array.unbind() for array in part)) for part in parts)))
        return self.rows_by_group[group]

    def update_together(
        self, rule: Rule, arrays: Sequence[PackArrays], factors: MemberSettings, clip_factor: Tensor | None
    ) -> None:
        """Move the weights of one parameter group in place, for many members at a time.

        ``arrays`` are by pack; ``factors`` come from the rule's ``prepare``; ``clip_factor`` is (members, 1), None without
        clipping.
        """
        table = torch.from_numpy(np.stack(list(factors.values())).astype(np.float32)).to(self.device)
        columns = dict(zip(factors, table[:, :, None].unbind()))
        for weights, gradients, state in arrays:
            rows = len(weights) if weights.is_cuda else max(CACHED_NUMBERS // weights.shape[1], 1)
            for start in range(0, len(weights), rows):
                part = slice(start, start + rows)
                own = {name: column[part] for name, column in columns.items()}
                g = gradients[part] if clip_factor is None else gradients[part].mul_(clip_factor[part])
                rule.update(weights[part], g, [array[part] for array in state], own)

    def gather(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return gradients (members, *shape), one for each of ``names``, as arrays (members, n), one for each pack."""
        remaining = iter(gradients)
        arrays = []
        for pack in self.packs:
            parts = [next(remaining).flatten(1) for _ in pack.names]
            arrays.append(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return arrays

    def select(self, index: Tensor) -> None:
        """Keep the state and the settings of only the members at the places ``index``, int64 (k,)."""
        self.state = [[array[index] for array in arrays] for arrays in self.state]
        self.rows_weights = None
        places = index.cpu().numpy()
        self.settings = [{name: values[places] for name, values in settings.items()} for settings in self.settings]


def pack_parameters(optimizer: optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> Iterator[ParameterPack]:
    """Yield the packs of an optimizer's parameters. Raises NotVectorizable if it moves tensors that are not in ``parameters``."""
    name_of = {id(weight): name for name, weight in parameters.items()}
    for place, group in enumerate(optimizer.param_groups):
        if any(id(weight) not in name_of for weight in group["params"]):
            raise NotVectorizable("its optimiser moves what is no parameter of its module")
        names = [name_of[id(weight)] for weight in group["params"]]
        small = [name for name in names if parameters[name].numel() < SMALL_PARAMETER_NUMBERS]
        for packed in [*([name] for name in names if name not in small), *([small] if small else [])]:
            yield ParameterPack(place, packed, [parameters[name].shape for name in packed])


def split_settings(group: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the settings of a parameter group in two mappings: numbers, with ``betas`` as beta1 and beta2, and flags.

    Flags are all other settings, such as booleans.
    """
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


def record_schedule(optimizer: optim.Optimizer, make: Callable[[], LRScheduler], steps: int) -> Schedule:
    """Return the learning rates, and the momenta if they change, that a new scheduler from ``make`` sets over ``steps`` steps.

    The optimizer is left changed. Raises NotVectorizable if a learning rate is 0, which has no multiples.
    """
    initial_momenta = [momenta(group) for group in optimizer.param_groups]
    initial_rates = [float(group["lr"]) for group in optimizer.param_groups]
    if not all(initial_rates):
        raise NotVectorizable("a learning rate is 0")
    schedule: Schedule = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make()
        for _ in range(steps):
            pairs = zip(optimizer.param_groups, initial_rates)
            schedule.append([{"lr": float(group["lr"]) / rate} | momenta(group) for group, rate in pairs])
            optimizer.step()  # moves nothing, since no parameter has a gradient; a scheduler warns without it
            scheduler.step()
    for place, initial in enumerate(initial_momenta):
        for name, value in initial.items():
            if all(groups[place][name] == value for groups in schedule):
                for groups in schedule:
                    del groups[place][name]
    return schedule


def momenta(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the settings of a parameter group that a scheduler may change beside the learning rate: ``beta1`` and ``momentum``."""
    found = {"beta1": float(group["betas"][0])} if "betas" in group else {}
    return found | ({"momentum": float(group["momentum"])} if "momentum" in group else {})

"""Vectorized fit: many configurations of one torch submission, trained in one loop with one vectorized step.

Members of a fit run the same operations on the same batches. They share architecture, seed and training loop. They may differ in
hyperparameters of their optimizer, in dropout rates and in initial weights. Nothing is declared: members whose modules or
attributes differ elsewhere are put into separate groups, and so are members with different values of a hyperparameter that the
loss, the forward pass or the augmentation reads. The losses of each member equal those of a single fit up to rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from harness import seeding
from harness.contract import Split
from harness.errors import HyperparameterVaries, NotVectorizable, StepChanged
from harness.frameworks.batch import FitManyResult, Report
from harness.frameworks.vectorized.capture import CapturedStep
from harness.frameworks.vectorized.grouping import SharedParams, VectorizedMember, group_members
from harness.frameworks.vectorized.layers import Dropout, InputLayout, VectorizedDropout, draw_masks, vectorizable_copy
from harness.frameworks.vectorized.optimizers import Schedule, VectorizedOptimizer, record_schedule
from harness.frameworks.vectorized.protocol import Trainable

MAX_GROUP_BYTES = 1 << 30
"""Limit in bytes for parameters, gradients and optimizer state of one vectorized fit. A group that needs more is split."""
ARRAYS_PER_PARAMETER = 6
"""Arrays of a parameter's size in training: parameter, gradient, two moments, best value so far, and a temporary one."""
MAX_BUILD_SECONDS = 1.0
"""Models that take longer to build are fitted alone, because a vectorized fit builds all models before it trains the first."""
WARM_STEPS, TIMED_STEPS = 2, 3
"""Number of first steps that are not timed, and of steps after them that are. A timed step may also be captured or checked, so the
fastest one decides."""
MAX_TIME_RATIO = 0.9
"""Ratio of the time of a vectorized step to the time of single steps of all members, above which the members are fitted alone."""
LOSS_TOLERANCE = 1e-3
"""Relative and absolute difference allowed between the losses of a member in a vectorized fit and alone, in the first steps. It
covers rounding. Losses from other random numbers differ by more."""
MAX_VALIDATION_ROWS = 4096
"""Rows of the validation split in one forward pass, counted once for each member. Each member gets at least 64."""
LONG_FIT_MANY_SECONDS = 30.0
"""Expected seconds of all fits above which only the first ``max_members`` are fitted, so that the search can learn from them."""

NO_SIMILAR_MEMBER = "no other has its architecture"


def fit_many(
    makers: Sequence[Callable[[], Trainable]], train: Split, valid: Split, report: Report, max_members: int
) -> FitManyResult[Trainable]:
    """Fit models from all ``makers`` in vectorized fits where that pays; return the models, and the members without one.

    See `harness.frameworks.batch.FitsMany.fit_many`.
    """
    fitted: dict[int, Trainable] = {}
    rejected: dict[int, str] = {}
    postponed: set[int] = set()
    members: list[VectorizedMember] = []
    fastest_build = math.inf
    for number, make in enumerate(makers):
        started = time.perf_counter()
        members.append(build_member(number, make, train))
        fastest_build = min(fastest_build, time.perf_counter() - started)
        if number and fastest_build > MAX_BUILD_SECONDS:
            reason = f"one takes {fastest_build:.1f} s to build, and would again alone"
            return FitManyResult(fitted, dict.fromkeys(range(len(makers)), reason), postponed)
    new_groups, trained_any = group_members(members), False
    probed_groups: list[list[VectorizedMember]] = []

    def reject(members: Collection[VectorizedMember], reason: str) -> None:
        rejected.update(dict.fromkeys((member.number for member in members), reason))

    def undecided(group: list[VectorizedMember]) -> list[VectorizedMember]:
        """Return the members of a group that are neither rejected nor postponed."""
        return [member for member in group if member.number not in rejected and member.number not in postponed]

    def attempt(group: list[VectorizedMember], work: Callable[[VectorizedFit], None]) -> bool:
        """Run ``work`` on a new fit of a group and return True. If the group cannot be vectorized, split or reject it and return
        False."""
        fit = None
        try:
            fit = VectorizedFit(group, train, valid)
            work(fit)
        except HyperparameterVaries as name:
            by_value: dict[Any, list[VectorizedMember]] = {}
            for member in undecided(group):
                by_value.setdefault(member.model.params[str(name)], []).append(member)
            new_groups[:0] = by_value.values()
        except NotVectorizable as reason:
            reject(undecided(group), str(reason))
        except Exception as error:  # torch has many errors for operations that it cannot vectorize
            message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            reject(fit.members if fit else group, message)
        else:
            return True
        return False

    def train_group(fit: VectorizedFit) -> None:
        """Train the members of a fit to the end, without those that are postponed after the first epoch."""

        def postpone(seconds_each: float) -> set[int]:
            """Postpone members if the fits of all remaining members would take long, at ``seconds_each`` seconds a member.

            Return the numbers of all postponed members.
            """
            left = [member.number for group in [fit.members, *probed_groups] for member in group]
            if seconds_each * len(left) > LONG_FIT_MANY_SECONDS:
                postponed.update(number for number in left if number >= max_members and number not in rejected)
            return postponed

        fit.run(report, fitted, postpone)

    while new_groups or probed_groups:
        while new_groups:
            group = new_groups.pop(0)
            bytes_each = ARRAYS_PER_PARAMETER * 4 * max(group[0].model.n_parameters(), 1)
            largest = max(MAX_GROUP_BYTES // bytes_each, 1)
            if len(group) == 1:
                reject(group, NO_SIMILAR_MEMBER)
            elif len(group) > largest:
                new_groups[:0] = [group[start : start + largest] for start in range(0, len(group), largest)]
            elif len(group) == len(members) or attempt(group, VectorizedFit.probe):  # the only group needs no probe
                probed_groups.append(group)
        if not trained_any and len(rejected) > len(members) / 2:
            for group in probed_groups:
                reject(group, "most of those that were asked with it cannot be stacked")
            break
        trained_any = True
        if probed_groups:
            group = undecided(probed_groups.pop(0))
            if len(group) > 1:
                attempt(group, train_group)
            else:
                reject(group, NO_SIMILAR_MEMBER)
    return FitManyResult(fitted, rejected, postponed)


def build_member(number: int, make: Callable[[], Trainable], train: Split) -> VectorizedMember:
    """Return member ``number``: the unfitted model that ``make`` returns, with its module and optimizer built."""
    model = make()
    loop = model.begin(train)
    return VectorizedMember(number, model, model.optimizer(), seeding.generator_state(model.device), loop)


class LossModule(nn.Module):
    """A submission's module, forward pass and loss as one module, for `functional_call`."""

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.module, self.model = model.module, [model]  # a list, because a model may be a module itself

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, float32 (). Outside training, the answer is converted to float32 before the loss."""
        model = self.model[0]
        with model.precision():
            answer = model.forward(x)
            if model.module.training:
                return model.loss(answer, y)
        return model.loss(answer.float(), y)


class VectorizedFit:
    """One vectorized fit: the training loop of several members. ``members`` are the members that are still being trained.

    Creation and steps raise NotVectorizable or HyperparameterVaries if the members cannot share a fit.
    """

    def __init__(self, members: Sequence[VectorizedMember], train: Split, valid: Split) -> None:
        self.members, self.valid = list(members), valid
        first, modules = members[0], [member.model.module for member in members]
        self.device = first.model.device
        self.epochs, self.batch_size, self.clip, self.patience = first.loop
        self.model = copy.copy(first.model)
        self.model.params = SharedParams([member.model.params for member in members])
        self.model.module = vectorizable_copy(modules[0])
        self.loss_module = LossModule(self.model)
        self.optimizer = VectorizedOptimizer(
            [member.optimizer for member in members], dict(modules[0].named_parameters())
        )
        self.weights = self.optimizer.stack([dict(module.named_parameters()) for module in modules])
        self.buffers = stack_buffers(modules, set(self.optimizer.names))
        seeding.restore_state(first.random, self.device)
        self.x, self.y = self.model.inputs(train.x), torch.tensor(train.labels, device=self.device)
        self.steps = max(len(self.x) // self.batch_size, 1)
        random = seeding.generator_state(self.device)
        self.optimizer.set_schedule([self.schedule_of(member) for member in (first, members[-1])])
        self.reference = SingleFit(members[-1].model, self.epochs, self.steps)
        seeding.restore_state(random, self.device)
        self.unmasked: list[tuple[str, InputLayout]] = []
        """Name and input layout of each dropout layer that was called without a mask since the last step."""
        for name, layer in self.model.module.named_modules():
            if isinstance(layer, VectorizedDropout):
                layer.name, layer.unmasked = name, self.unmasked
        self.masks: dict[str, Tensor] = {}
        self.captured_step = CapturedStep(self.gradients_and_losses)
        self.mask_layouts: tuple[torch.Size, dict[str, InputLayout]] | None = None
        """Shape of a batch, and the layout of each dropout layer's input for it, in the order of the calls. None until known."""
        self.best = torch.full((len(members),), math.inf, dtype=torch.float64)
        self.best_epoch = torch.zeros(len(members), dtype=torch.int64)
        self.best_weights = [array.clone() for array in self.weights]
        self.best_buffers = {name: value.clone() for name, value in self.buffers.items()}

    def schedule_of(self, member: VectorizedMember) -> Schedule:
        """Return the learning rates and momenta of a member's own scheduler over a whole fit."""
        model, optimizer = member.model, member.model.optimizer()  # a new one, because a scheduler changes it
        return record_schedule(
            optimizer, lambda: model.scheduler(optimizer, self.epochs, self.steps), self.epochs * self.steps
        )

    def probe(self) -> None:
        """Run the first steps only. Raises NotVectorizable if single fits are faster or come to other losses."""
        self.train_epoch(compare=True, steps=WARM_STEPS + TIMED_STEPS)

    @property
    def seconds(self) -> float:
        """Expected seconds of training all members from start to end, from the timed steps; 0 if there were none."""
        return min((at_once for _, at_once in self.reference.seconds), default=0.0) * self.steps * self.epochs

    def run(self, report: Report, fitted: dict[int, Trainable], postpone: Callable[[float], set[int]]) -> None:
        """Train all members to the end, and put the finished models into ``fitted``, by member number.

        ``report`` is called after each epoch and returns the numbers of the members to prune. ``postpone`` is called once, after
        the first epoch, with the expected seconds of one member, and returns the numbers of the members that leave.
        """
        for epoch in range(self.epochs):
            self.train_epoch(compare=epoch == 0)
            if epoch == 0 and (leaving := postpone(self.seconds / len(self.members))):
                self.select([place for place, member in enumerate(self.members) if member.number not in leaving])
                if not self.members:
                    return
            losses = self.validation_losses()
            self.keep_best(losses, epoch)
            pruned = report({member.number: float(loss) for member, loss in zip(self.members, losses)})
            remaining = []
            for place, member in enumerate(self.members):
                if member.number in pruned:
                    continue
                if self.patience and epoch - int(self.best_epoch[place]) >= self.patience:
                    fitted[member.number] = self.finish(place)
                else:
                    remaining.append(place)
            self.select(remaining)
            if not self.members:
                return
        for place, member in enumerate(self.members):
            fitted[member.number] = self.finish(place)
        self.members = []

    def train_epoch(self, *, compare: bool, steps: int | None = None) -> None:
        """Train for one epoch, or for its first ``steps`` steps. With ``compare``, the first ones are compared with single steps.

        The comparison raises NotVectorizable if single fits are faster or come to other losses.
        """
        self.model.module.train()
        self.captured_step.recheck()
        for step, (batch, target) in enumerate(islice(self.model.batches(self.x, self.y, self.batch_size), steps)):
            batch = self.model.augment(batch)
            if not compare or step >= WARM_STEPS + TIMED_STEPS:
                self.step(batch, target)
                continue
            before = seeding.generator_state(self.device)
            alone, seconds_alone = self.timed(partial(self.reference.step, batch, target))
            seeding.restore_state(before, self.device)
            together, seconds = self.timed(partial(self.step, batch, target))
            self.compare(alone, float(together[-1]), step, len(self.members) * seconds_alone, seconds)

    def compare(self, alone: float, together: float, step: int, seconds_alone: float, seconds: float) -> None:
        """Compare step number ``step``, from 0, with single steps: the loss of the last member, and the seconds for all members.

        Raises NotVectorizable if the losses differ or, after the last timed step, if single steps are faster.
        """
        if not math.isclose(alone, together, rel_tol=LOSS_TOLERANCE, abs_tol=LOSS_TOLERANCE) and math.isfinite(alone):
            raise NotVectorizable(
                f"in a stack its loss comes out as {together:.6g}, alone as {alone:.6g}, at step {step + 1}"
            )
        if step >= WARM_STEPS:
            self.reference.seconds.append((seconds_alone, seconds))
        if WARM_STEPS <= step == min(WARM_STEPS + TIMED_STEPS, self.steps) - 1:
            one_by_one, at_once = map(min, zip(*self.reference.seconds))
            if at_once > MAX_TIME_RATIO * one_by_one:
                raise NotVectorizable(
                    f"a step of {len(self.members)} together takes {1000 * at_once:.1f} ms, of one after the other "
                    f"{1000 * one_by_one:.1f} ms"
                )

    def timed(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Return the result of ``work`` and its seconds, including the work that it starts on the GPU."""
        started = time.perf_counter()
        result = work()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return result, time.perf_counter() - started

    def step(self, batch: Tensor, target: Tensor) -> Tensor:
        """Take one training step for every member on the same batch; return the losses before the step, float32 (members,)."""
        self.draw_masks(batch)
        buffers = [*self.buffers.values(), *self.masks.values()]
        try:
            *gradients, losses = self.captured_step(*self.optimizer.views(self.weights), *buffers, batch, target)
        except StepChanged as error:
            raise NotVectorizable(str(error)) from error
        self.optimizer.step(self.weights, self.optimizer.gather(gradients), self.clip)
        return losses

    def gradients_and_losses(self, *inputs: Tensor) -> list[Tensor]:
        """Return the gradients of all weights, each (members, *shape), and the losses (members,).

        ``inputs`` are the weights, the buffers and masks, a batch and its targets. Raises NotVectorizable if a weight has no
        gradient.
        """
        count = len(self.optimizer.names)
        weights, buffers, (batch, target) = inputs[:count], inputs[count:-2], inputs[-2:]
        leaves = [rows.detach().requires_grad_() for rows in weights]
        losses = self.losses(leaves, buffers, batch, target)
        gradients = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise NotVectorizable("a weight that its optimiser moves has no gradient")
        return [*gradients, losses.detach()]

    def draw_masks(self, batch: Tensor) -> None:
        """Draw the dropout masks for a step on ``batch``, and set ``self.masks``.

        The first step has none: it shows the layout of the layers' inputs. Nor has a batch of another shape.
        """
        if self.mask_layouts is None and self.unmasked and len(dict(self.unmasked)) == len(self.unmasked):
            self.mask_layouts = batch.shape, dict(self.unmasked)
        self.unmasked.clear()
        layouts = self.mask_layouts
        self.masks = draw_masks(layouts[1], self.buffers) if layouts and batch.shape == layouts[0] else {}

    def losses(self, weights: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of every member on the same batch, float32 (members,).

        ``buffers`` are the values of ``self.buffers`` and then of ``self.masks``.
        """

        def loss(weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
            return functional_call(self.loss_module, {**weights, **buffers}, (x, y))  # type: ignore[no-any-return]

        weights_by_name = {f"module.{name}": rows for name, rows in zip(self.optimizer.names, weights)}
        names = (*self.buffers, *self.masks)
        buffers_by_name = {f"module.{name}": values for name, values in zip(names, buffers, strict=True)}
        return vmap(loss)(weights_by_name, buffers_by_name)

    @torch.no_grad()
    def validation_losses(self) -> Tensor:
        """Return the validation loss of each member as `TorchSubmission.validation_loss` defines it, float64 (members,)."""
        self.model.module.eval()
        self.masks = {}
        end = min(len(self.valid), 16 * self.model.predict_batch)
        rows = max(MAX_VALIDATION_ROWS // len(self.members), 64)
        weights = list(self.optimizer.views(self.weights))
        total = torch.zeros(len(self.members), dtype=torch.float64)
        for start in range(0, end, rows):
            x = self.model.inputs(self.valid.x[start : min(start + rows, end)])
            y = torch.tensor(self.valid.labels[start : start + len(x)], device=self.device)
            total += self.losses(weights, list(self.buffers.values()), x, y).double().cpu() * len(x)
        return total / end

    def keep_best(self, losses: Tensor, epoch: int) -> None:
        """Copy the weights and buffers of members with a new lowest validation loss. ``losses`` are float64 (members,)."""
        better = losses < self.best
        self.best = torch.where(better, losses, self.best)
        self.best_epoch[better] = epoch
        on_device = better.to(self.device)
        for best, array in zip(self.best_weights, self.weights):
            best[on_device] = array[on_device]
        for name, value in self.buffers.items():
            self.best_buffers[name][on_device] = value[on_device]

    def select(self, places: Sequence[int]) -> None:
        """Keep only the members at these places in ``members``, with their weights and state."""
        if len(places) == len(self.members):
            return
        index = torch.tensor(places, dtype=torch.int64)
        self.members = [self.members[place] for place in places]
        self.best, self.best_epoch = self.best[index], self.best_epoch[index]
        index = index.to(self.device)
        self.weights = [array[index] for array in self.weights]
        self.best_weights = [array[index] for array in self.best_weights]
        self.buffers = {name: value[index] for name, value in self.buffers.items()}
        self.best_buffers = {name: value[index] for name, value in self.best_buffers.items()}
        self.optimizer.select(index)

    @torch.no_grad()
    def finish(self, place: int) -> Trainable:
        """Return the model of the member at ``place``, with its best weights, or with its last ones if no loss was finite."""
        model = self.members[place].model
        any_finite = bool(torch.isfinite(self.best[place]))
        weights, buffers = (self.best_weights, self.best_buffers) if any_finite else (self.weights, self.buffers)
        tensors = {**dict(model.module.named_buffers()), **dict(model.module.named_parameters())}
        for name, rows in zip(self.optimizer.names, self.optimizer.views(weights)):
            tensors[name].copy_(rows[place])
        for name, values in buffers.items():
            if name in tensors:
                tensors[name].copy_(values[place])
        return model


class SingleFit:
    """Copy of one member that takes the first steps alone. A vectorized fit is compared with its losses and its time."""

    def __init__(self, model: Trainable, epochs: int, steps: int) -> None:
        self.model = copy.copy(model)
        self.model.module = copy.deepcopy(model.module)
        self.model.module.train()
        self.optimizer = self.model.optimizer()
        self.schedule = self.model.scheduler(self.optimizer, epochs, steps)
        self.seconds: list[tuple[float, float]] = []
        """Seconds of each timed step: single steps of all members one after the other, and one vectorized step."""

    def step(self, batch: Tensor, target: Tensor) -> float:
        """Take one training step on a batch; return the loss of the batch before the step."""
        loss: Any = self.optimizer.step(partial(self.model.gradients, self.optimizer, batch, target))  # type: ignore[arg-type]
        self.schedule.step()
        return float(loss.detach())


def stack_buffers(modules: Sequence[nn.Module], moved: set[str]) -> dict[str, Tensor]:
    """Return the tensors that no optimizer moves, by name: buffers, frozen weights and dropout rates, each (members, *shape).

    ``moved`` are the names of the parameters that the optimizer moves. Dropout rates are float64 (members,) and named ``layer.p``.
    """
    tensors_of = [{**dict(module.named_buffers()), **dict(module.named_parameters())} for module in modules]
    names = [name for name in tensors_of[0] if name not in moved]
    stacked = {name: torch.stack([tensors[name].detach() for tensors in tensors_of]) for name in names}
    device = next(modules[0].parameters()).device
    for name, layer in modules[0].named_modules():
        if isinstance(layer, Dropout):
            rates = [float(module.get_submodule(name).p) for module in modules]  # type: ignore[arg-type]
            stacked[f"{name}.p" if name else "p"] = torch.tensor(rates, dtype=torch.float64, device=device)
    return stacked

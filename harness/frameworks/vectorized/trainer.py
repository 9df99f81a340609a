"""Many configurations of one torch submission trained at once: parameters stacked, one vectorised step for all of them.

Members of a stack run the same operations on the same batches: they agree in architecture, seed and loop, and differ in what an
optimiser or a dropout layer is told (rates, decays, momenta, dropout) and in how their weights started. What differs is found out,
not declared: members whose modules or attributes differ elsewhere are put into other stacks, and so are members of which the loss,
the forward pass or the augmentation reads a hyperparameter that they do not share. Each member's losses are those of
`TorchSubmission.fit` alone, but for rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from harness import seeding as seeds
from harness.contract import LATER, Split
from harness.errors import Changed, Unsuited, Varies
from harness.frameworks.vectorized.capture import Replayed
from harness.frameworks.vectorized.grouping import Common, Member, alike
from harness.frameworks.vectorized.layers import Dropout, Dropouts, Form, masks, stand_in
from harness.frameworks.vectorized.optimizers import Optimizer, schedule

if TYPE_CHECKING:
    from harness.frameworks.torch import TorchSubmission

STACK_BYTES = 1 << 30
"""The most that parameters, gradients and the optimiser's state of one stack may take; more members make more stacks."""
COPIES = 6
"""Arrays of a parameter's size that training holds: itself, gradient, two moments, the best so far, one in passing."""
LONGEST_BUILD = 1.0
"""Seconds: what takes longer to build is fitted alone, since all are built before the first is trained."""
WARM_STEPS, TIMED_STEPS = 2, 3
"""Of the timed ones one is recorded and one checked; it is the fastest that counts."""
GAIN = 0.9
"""A stack goes on where a step takes less than this share of what its members take one after the other."""
AS_ALONE = 1e-3
"""How far the first losses of a stack may be from those of a member alone: rounding, and no other random numbers."""
ROWS_AT_ONCE = 4096
"""Rows of the validation split that go through all members at once, counted once a member."""
LONG = 30.0
"""Seconds: where all would take longer, a few are fitted, and what they show decides what the others shall be."""

ONLY = "no other has its architecture"

Report = Callable[[Mapping[int, float]], set[int]]
"""Takes the validation losses of an epoch by number; returns the numbers that are to end here."""


def fit_together(
    makers: Sequence[Callable[[], TorchSubmission]], train: Split, valid: Split, report: Report, few: int
) -> tuple[dict[int, TorchSubmission], dict[int, str]]:
    """Fit as many as can be fitted together. The fitted models by number, and the others with the reason why not.

    A maker seeds everything and makes an unfitted model. Numbers are places in ``makers``. What ``report`` ended is in neither. Of
    those that would take long all together, the first ``few`` are fitted.
    """
    fitted: dict[int, TorchSubmission] = {}
    apart: dict[int, str] = {}
    members: list[Member] = []
    shortest = math.inf
    for number, make in enumerate(makers):
        started = time.perf_counter()
        members.append(member_of(number, make, train))
        shortest = min(shortest, time.perf_counter() - started)
        if number and shortest > LONGEST_BUILD:
            return fitted, dict.fromkeys(
                range(len(makers)), f"one takes {shortest:.1f} s to build, and would again alone"
            )
    waiting, begun = alike(members), False
    ready: list[list[Member]] = []

    def wanted(group: list[Member]) -> list[Member]:
        """Those that have not been put off, or put apart."""
        return [member for member in group if member.number not in apart]

    def attempt(group: list[Member], work: Callable[[Stack], None]) -> bool:
        """Whether it went well; who cannot be stacked, or in smaller stacks alone, is put where it belongs."""
        stack = None
        try:
            stack = Stack(group, train, valid)
            work(stack)
        except Varies as key:
            by_value: dict[Any, list[Member]] = {}
            for member in wanted(group):
                by_value.setdefault(member.model.params[str(key)], []).append(member)
            waiting[:0] = by_value.values()
        except Unsuited as reason:
            apart.update(dict.fromkeys((member.number for member in wanted(group)), str(reason)))
        except Exception as error:  # what vectorising does not support says so in many ways
            left = stack.members if stack else group
            said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            apart.update(dict.fromkeys((member.number for member in left), said))
        else:
            return True
        return False

    def run(stack: Stack) -> None:
        def postponed(each: float) -> set[int]:
            """Who is not to be fitted now, where each would take so many seconds in its stack."""
            left = [member.number for group in [stack.members, *ready] for member in group]
            if each * len(left) > LONG:
                apart.update(dict.fromkeys((number for number in left if number >= few), LATER))
            return {number for number, why in apart.items() if why == LATER}

        stack.run(report, fitted, postponed)

    while waiting or ready:
        while waiting:
            group = waiting.pop(0)
            most = max(STACK_BYTES // (COPIES * 4 * max(group[0].model.n_parameters(), 1)), 1)
            if len(group) == 1:
                apart[group[0].number] = ONLY
            elif len(group) > most:
                waiting[:0] = [group[start : start + most] for start in range(0, len(group), most)]
            elif len(group) == len(members) or attempt(group, Stack.probe):  # one of all shows soon enough what it is
                ready.append(group)
        if not begun and len(apart) > len(members) / 2:
            rest = [member.number for group in ready for member in group]
            return fitted, apart | dict.fromkeys(rest, "most of those that were asked with it cannot be stacked")
        begun = True
        if ready:
            group = wanted(ready.pop(0))
            if len(group) > 1:
                attempt(group, run)
            else:
                apart.update(dict.fromkeys((member.number for member in group), ONLY))
    return fitted, apart


def member_of(number: int, make: Callable[[], TorchSubmission], train: Split) -> Member:
    model = make()
    loop = model.begin(train)
    return Member(number, model, model.optimizer(), seeds.state(model.device), loop)


class Whole(nn.Module):
    """A submission's module with what the loop asks of it, as one module: losses in training, answers and losses after it."""

    def __init__(self, model: TorchSubmission) -> None:
        super().__init__()
        self.module, self.asked = model.module, [model]  # in a list: no module of this one

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        model = self.asked[0]
        with model.precision():
            answer = model.forward(x)
            if model.module.training:
                return model.loss(answer, y)
        return model.loss(answer.float(), y)


class Stack:
    """Members that train as one. ``members`` are those that are still in it."""

    def __init__(self, members: Sequence[Member], train: Split, valid: Split) -> None:
        self.members, self.valid = list(members), valid
        first, modules = members[0], [member.model.module for member in members]
        self.device = first.model.device
        self.epochs, self.size, self.clip, self.patience = first.loop
        self.model = copy.copy(first.model)
        self.model.params = Common([member.model.params for member in members])
        self.model.module = stand_in(modules[0])
        self.whole = Whole(self.model)
        self.optimizer = Optimizer([member.optimizer for member in members], dict(modules[0].named_parameters()))
        self.weights = self.optimizer.stacked([dict(module.named_parameters()) for module in modules])
        self.others = others_of(modules, set(self.optimizer.names))
        seeds.restore(first.random, self.device)
        self.x, self.y = self.model.inputs(train.x), torch.tensor(train.labels, device=self.device)
        self.steps = max(len(self.x) // self.size, 1)
        held = seeds.state(self.device)
        self.optimizer.follow([self.schedule(member) for member in (first, members[-1])])
        self.twin = Twin(members[-1].model, self.epochs, self.steps)
        seeds.restore(held, self.device)
        self.met: list[tuple[str, Form]] = []
        for name, layer in self.model.module.named_modules():
            if isinstance(layer, Dropouts):
                layer.name, layer.met = name, self.met
        self.masks: dict[str, Tensor] = {}
        self.derivatives = Replayed(self.differentiated)
        self.forms: tuple[torch.Size, dict[str, Form]] | None = None
        """Of a batch, and of what each dropout layer is given then, in the order in which they meet it."""
        self.best = torch.full((len(members),), math.inf, dtype=torch.float64)
        self.best_epoch = torch.zeros(len(members), dtype=torch.int64)
        self.best_weights = [array.clone() for array in self.weights]
        self.best_others = {name: value.clone() for name, value in self.others.items()}

    def schedule(self, member: Member) -> list[list[dict[str, float]]]:
        model, optimizer = member.model, member.model.optimizer()  # a schedule leaves its marks
        return schedule(
            optimizer, lambda: model.scheduler(optimizer, self.epochs, self.steps), self.epochs * self.steps
        )

    def probe(self) -> None:
        """The first steps alone. Raises Unsuited where stacking does not pay."""
        self.train_epoch(compare=True, steps=WARM_STEPS + TIMED_STEPS)

    @property
    def seconds(self) -> float:
        """What training all members to their end should take, from what their first steps took; 0 where there were too few."""
        return min((at_once for _, at_once in self.twin.seconds), default=0.0) * self.steps * self.epochs

    def run(self, report: Report, fitted: dict[int, TorchSubmission], postponed: Callable[[float], set[int]]) -> None:
        """Train all members to their end, and put those into ``fitted`` that come to it.

        ``postponed`` is asked once who leaves before that, from the seconds that each member is going to take.
        """
        for epoch in range(self.epochs):
            self.train_epoch(compare=epoch == 0)
            if epoch == 0 and (gone := postponed(self.seconds / len(self.members))):
                self.narrow([place for place, member in enumerate(self.members) if member.number not in gone])
                if not self.members:
                    return
            losses = self.validation_losses()
            self.keep_best(losses, epoch)
            ended = report({member.number: float(loss) for member, loss in zip(self.members, losses)})
            stay = []
            for place, member in enumerate(self.members):
                if member.number in ended:
                    continue
                if self.patience and epoch - int(self.best_epoch[place]) >= self.patience:
                    fitted[member.number] = self.finished(place)
                else:
                    stay.append(place)
            self.narrow(stay)
            if not self.members:
                return
        for place, member in enumerate(self.members):
            fitted[member.number] = self.finished(place)
        self.members = []

    def train_epoch(self, *, compare: bool, steps: int | None = None) -> None:
        """One epoch, or so many ``steps`` of it. Its first steps are compared with those of one member alone.

        Raises Unsuited where stacking does not pay.
        """
        self.model.module.train()
        self.derivatives.doubt()
        for step, (batch, target) in enumerate(islice(self.model.batches(self.x, self.y, self.size), steps)):
            batch = self.model.augment(batch)
            if not compare or step >= WARM_STEPS + TIMED_STEPS:
                self.step(batch, target)
                continue
            before = seeds.state(self.device)
            alone, seconds_alone = self.timed(partial(self.twin.step, batch, target))
            seeds.restore(before, self.device)
            together, seconds = self.timed(partial(self.step, batch, target))
            self.compare(alone, float(together[-1]), step, len(self.members) * seconds_alone, seconds)

    def compare(self, alone: float, together: float, step: int, seconds_alone: float, seconds: float) -> None:
        if not math.isclose(alone, together, rel_tol=AS_ALONE, abs_tol=AS_ALONE) and math.isfinite(alone):
            raise Unsuited(f"in a stack its loss comes out as {together:.6g}, alone as {alone:.6g}, at step {step + 1}")
        if step >= WARM_STEPS:
            self.twin.seconds.append((seconds_alone, seconds))
        if WARM_STEPS <= step == min(WARM_STEPS + TIMED_STEPS, self.steps) - 1:
            one_by_one, at_once = map(min, zip(*self.twin.seconds))
            if at_once > GAIN * one_by_one:
                raise Unsuited(
                    f"a step of {len(self.members)} together takes {1000 * at_once:.1f} ms, of one after the other "
                    f"{1000 * one_by_one:.1f} ms"
                )

    def timed(self, work: Callable[[], Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        done = work()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return done, time.perf_counter() - started

    def step(self, batch: Tensor, target: Tensor) -> Tensor:
        """One step of every member; their losses before it (members,)."""
        self.draw_masks(batch)
        others = [*self.others.values(), *self.masks.values()]
        try:
            *found, losses = self.derivatives(*self.optimizer.views(self.weights), *others, batch, target)
        except Changed as error:
            raise Unsuited(str(error)) from error
        self.optimizer.step(self.weights, self.optimizer.gather(found), self.clip)
        return losses

    def differentiated(self, *given: Tensor) -> list[Tensor]:
        """Gradients of all weights and the losses (members,), of weights, what else a module holds, a batch and its targets."""
        count = len(self.optimizer.names)
        weights, others, (batch, target) = given[:count], given[count:-2], given[-2:]
        leaves = [rows.detach().requires_grad_() for rows in weights]
        losses = self.losses(leaves, others, batch, target)
        found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        if any(part is None for part in found):
            raise Unsuited("a weight that its optimiser moves has no gradient")
        return [*found, losses.detach()]

    def draw_masks(self, batch: Tensor) -> None:
        """Draw this step's dropout masks, where the first step has shown which layers meet what, in which order."""
        if self.forms is None and self.met and len(dict(self.met)) == len(self.met):
            self.forms = batch.shape, dict(self.met)
        self.met.clear()
        self.masks = masks(self.forms[1], self.others) if self.forms and batch.shape == self.forms[0] else {}

    def losses(self, weights: Sequence[Tensor], others: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """The loss of every member on a batch that all share (members,). ``others`` are buffers and masks."""

        def one(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Tensor:
            return functional_call(self.whole, {**weights, **others}, (x, y))  # type: ignore[no-any-return]

        named = {f"module.{name}": rows for name, rows in zip(self.optimizer.names, weights)}
        held = {f"module.{name}": values for name, values in zip((*self.others, *self.masks), others, strict=True)}
        return vmap(one)(named, held)

    @torch.no_grad()
    def validation_losses(self) -> Tensor:
        """What `TorchSubmission.validation_loss` gives for each member (members,) float64."""
        self.model.module.eval()
        self.masks = {}
        end = min(len(self.valid), 16 * self.model.predict_batch)
        rows = max(ROWS_AT_ONCE // len(self.members), 64)
        weights = list(self.optimizer.views(self.weights))
        total = torch.zeros(len(self.members), dtype=torch.float64)
        for start in range(0, end, rows):
            x = self.model.inputs(self.valid.x[start : min(start + rows, end)])
            y = torch.tensor(self.valid.labels[start : start + len(x)], device=self.device)
            total += self.losses(weights, list(self.others.values()), x, y).double().cpu() * len(x)
        return total / end

    def keep_best(self, losses: Tensor, epoch: int) -> None:
        better = losses < self.best
        self.best = torch.where(better, losses, self.best)
        self.best_epoch[better] = epoch
        here = better.to(self.device)
        for best, array in zip(self.best_weights, self.weights):
            best[here] = array[here]
        for name, value in self.others.items():
            self.best_others[name][here] = value[here]

    def narrow(self, places: Sequence[int]) -> None:
        """Go on with the members at these places."""
        if len(places) == len(self.members):
            return
        index = torch.tensor(places, dtype=torch.int64)
        self.members = [self.members[place] for place in places]
        self.best, self.best_epoch = self.best[index], self.best_epoch[index]
        index = index.to(self.device)
        self.weights = [array[index] for array in self.weights]
        self.best_weights = [array[index] for array in self.best_weights]
        self.others = {name: value[index] for name, value in self.others.items()}
        self.best_others = {name: value[index] for name, value in self.best_others.items()}
        self.optimizer.keep(index)

    @torch.no_grad()
    def finished(self, place: int) -> TorchSubmission:
        """A member's model with its best weights; the last ones where no loss was a number."""
        model = self.members[place].model
        known = bool(torch.isfinite(self.best[place]))
        weights, others = (self.best_weights, self.best_others) if known else (self.weights, self.others)
        there = {**dict(model.module.named_buffers()), **dict(model.module.named_parameters())}
        for name, rows in zip(self.optimizer.names, self.optimizer.views(weights)):
            there[name].copy_(rows[place])
        for name, values in others.items():
            if name in there:
                there[name].copy_(values[place])
        return model


class Twin:
    """A copy of one member that takes the first steps alone: what stacking is held against, in what it computes and in time."""

    def __init__(self, model: TorchSubmission, epochs: int, steps: int) -> None:
        self.model = copy.copy(model)
        self.model.module = copy.deepcopy(model.module)
        self.model.module.train()
        self.optimizer = self.model.optimizer()
        self.schedule = self.model.scheduler(self.optimizer, epochs, steps)
        self.seconds: list[tuple[float, float]] = []

    def step(self, batch: Tensor, target: Tensor) -> float:
        loss: Any = self.optimizer.step(partial(self.model.gradients, self.optimizer, batch, target))  # type: ignore[arg-type]
        self.schedule.step()
        return float(loss.detach())


def others_of(modules: Sequence[nn.Module], moved: set[str]) -> dict[str, Tensor]:
    """What a module holds beside the weights that its optimiser moves, stacked: buffers, frozen weights, and dropout's shares."""
    held = [{**dict(module.named_buffers()), **dict(module.named_parameters())} for module in modules]
    found = {name: torch.stack([tensors[name].detach() for tensors in held]) for name in held[0] if name not in moved}
    device = next(modules[0].parameters()).device
    for name, layer in modules[0].named_modules():
        if isinstance(layer, Dropout):
            shares = [float(module.get_submodule(name).p) for module in modules]  # type: ignore[arg-type]
            found[f"{name}.p" if name else "p"] = torch.tensor(shares, dtype=torch.float64, device=device)
    return found

"""Configurations that are trained as one: each comes to what it comes to alone, and what cannot be stacked is found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from harness import Split
from harness import seeding as seeds
from harness.contract import LATER
from harness.frameworks.recurrent import RecurrentSubmission
from harness.frameworks.torch import TorchSubmission
from harness.frameworks.vectorized import trainer as fused
from harness.frameworks.vectorized.optimizers import RULES, Optimizer, schedule

IMAGES = SimpleNamespace(name="image-classification", classes=4)
ROWS = SimpleNamespace(name="sequence-classification", classes=4)


@pytest.fixture(autouse=True)
def stacks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether stacking pays is another matter than whether it is right."""
    monkeypatch.setattr(fused, "GAIN", float("inf"))


def splits(kind: SimpleNamespace) -> tuple[Split, Split]:
    rng = np.random.default_rng(0)
    y = np.arange(192) % 4
    if kind is IMAGES:
        x = rng.integers(0, 90, (192, 8, 8, 1)).astype(np.uint8)
        x[np.arange(192), 2 * y] += 120
    else:
        x = rng.normal(size=(192, 12, 3)).astype(np.float32)
        x[np.arange(192), 3 * y] += 2
    return Split(x[:128], y[:128]), Split(x[128:], y[128:])


class Dense(TorchSubmission):
    kind = "image-classification"
    epochs, batch_size = 4, 32

    def build(self, train: Split) -> nn.Module:
        width = self.params.get("width", 16)
        dropout = nn.Dropout(self.params.get("dropout", 0.0))
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), dropout, nn.Linear(width, 4))


class Convolutions(TorchSubmission):
    kind = "image-classification"
    epochs, batch_size = 3, 32

    def build(self, train: Split) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(self.params.get("dropout", 0.0)),
            nn.Linear(72, 4),
        )

    def augment(self, x: Tensor) -> Tensor:
        return x.flip(3) if torch.rand(()) < 0.5 else x


class Momentum(Dense):
    schedule = "cosine"

    def optimizer(self) -> optim.Optimizer:
        return optim.SGD(
            self.module.parameters(), lr=self.params["learning_rate"], momentum=self.params["momentum"], nesterov=True
        )


class Groups(Dense):
    """No decay of biases, as transformers are mostly trained."""

    def optimizer(self) -> optim.Optimizer:
        weights = [weight for weight in self.module.parameters() if weight.dim() > 1]
        biases = [weight for weight in self.module.parameters() if weight.dim() == 1]
        decays = {"params": weights, "weight_decay": self.params["weight_decay"]}
        return optim.AdamW([decays, {"params": biases, "weight_decay": 0.0}], lr=self.params["learning_rate"])


class Columns(TorchSubmission):
    """A linear layer on three dimensions that do not lie in memory as they are numbered."""

    kind = "sequence-classification"
    epochs, batch_size = 4, 32

    def build(self, train: Split) -> nn.Module:
        return nn.Sequential(Turned(), nn.Linear(12, 5, bias=False), nn.Linear(5, 4), nn.Flatten(), nn.Linear(12, 4))


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Recurrent(RecurrentSubmission):
    kind = "sequence-classification"
    cell: Any = nn.LSTM

    def __init__(self, params: Mapping[str, Any], *, seed: int, device: str) -> None:
        super().__init__({"hidden": 8, "layers": 1, "dropout": 0.0, "epochs": 8, **params}, seed=seed, device=device)


class GRU(Recurrent):
    cell = nn.GRU


class RNN(Recurrent):
    cell = nn.RNN


RATES = [{"learning_rate": 10**-power} for power in (1.5, 2.0, 2.5, 3.0)]
DROPOUT = [{**rates, "dropout": share} for rates, share in zip(RATES, (0.0, 0.1, 0.3, 0.6))]
DECAYS = [{**rates, "weight_decay": decay} for rates, decay in zip(RATES, (0.0, 1e-3, 0.1, 0.5))]
MOMENTA = [{**rates, "momentum": share} for rates, share in zip(RATES, (0.1, 0.5, 0.9, 0.95))]


def makers(submission: type[TorchSubmission], members: Sequence[Mapping[str, Any]], kind: SimpleNamespace) -> list[Any]:
    def make(params: Mapping[str, Any]) -> TorchSubmission:
        seeds.seed_everything(0)
        model = submission(params, seed=0, device="cpu")
        model.task_kind = kind
        return model

    return [partial(make, params) for params in members]


def together(
    submission: type[TorchSubmission],
    members: Sequence[Mapping[str, Any]],
    kind: SimpleNamespace = IMAGES,
    ended: Callable[[int, int], bool] = lambda number, epoch: False,
    few: int = 99,
) -> tuple[Mapping[int, TorchSubmission], Mapping[int, str], list[list[float]]]:
    """What `fit_together` comes to, and the losses that each member reported. ``ended`` of a number and its reports so far."""
    losses: list[list[float]] = [[] for _ in members]

    def report(found: Mapping[int, float]) -> set[int]:
        for number, loss in found.items():
            losses[number].append(loss)
        return {number for number in found if ended(number, len(losses[number]))}

    fitted, apart = submission.fit_together(makers(submission, members, kind), *splits(kind), report, few)
    return fitted, apart, losses


def alone(
    submission: type[TorchSubmission], params: Mapping[str, Any], kind: SimpleNamespace = IMAGES
) -> tuple[TorchSubmission, list[float]]:
    losses: list[float] = []
    model = makers(submission, [params], kind)[0]()
    model.fit(*splits(kind), losses.append)
    return model, losses


@pytest.mark.parametrize(
    ("submission", "members", "kind"),
    [
        (Dense, DROPOUT, IMAGES),
        (Dense, DECAYS, IMAGES),
        (Convolutions, DROPOUT, IMAGES),
        (Momentum, MOMENTA, IMAGES),
        (Groups, DECAYS, IMAGES),
        (Columns, DECAYS, ROWS),
        (Recurrent, DROPOUT, ROWS),
        (GRU, DROPOUT, ROWS),
        (RNN, DROPOUT, ROWS),
    ],
)
def test_each_comes_to_what_it_comes_to_alone(
    submission: type[TorchSubmission], members: Sequence[Mapping[str, Any]], kind: SimpleNamespace
) -> None:
    """The losses of all epochs to 1e-5, and the answers of the best of them, dropout and moving averages included."""
    fitted, apart, losses = together(submission, members, kind)
    assert not apart and set(fitted) == set(range(len(members)))
    x = splits(kind)[1].x
    for number, params in enumerate(members):
        model, its = alone(submission, params, kind)
        np.testing.assert_allclose(losses[number], its, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(fitted[number].predict(x), model.predict(x), atol=1e-4)
    assert len({round(rows[-1], 4) for rows in losses}) == len(members), "the members did not differ"


def test_who_is_ended_leaves_and_the_others_do_not_notice() -> None:
    fitted, apart, losses = together(Dense, DROPOUT, ended=lambda number, epoch: number in (0, 2) and epoch == 2)
    assert set(fitted) == {1, 3} and not apart
    assert [len(rows) for rows in losses] == [2, 4, 2, 4]
    for number in fitted:
        np.testing.assert_allclose(losses[number], alone(Dense, DROPOUT[number])[1], rtol=1e-5)


def test_patience_ends_a_member() -> None:
    members = [
        {"learning_rate": rate, "patience": 1, "epochs": 12, "schedule": "constant"} for rate in (1e-3, 0.5, 1.0)
    ]
    _, _, losses = together(Dense, members)
    assert [len(rows) for rows in losses] == [len(alone(Dense, params)[1]) for params in members]
    assert len({len(rows) for rows in losses}) > 1, "patience made no difference"


def test_a_member_that_diverges_harms_no_other() -> None:
    members = [{"learning_rate": 1e-2}, {"learning_rate": 1e30}, {"learning_rate": 1e-3}]
    fitted, _, losses = together(Dense, members)
    assert set(fitted) == {0, 1, 2} and not np.isfinite(losses[1]).all()
    for number in (0, 2):
        np.testing.assert_allclose(losses[number], alone(Dense, members[number])[1], rtol=1e-5)


def test_architectures_are_stacked_apart() -> None:
    members = [{"width": width, **rates} for width, rates in zip((8, 16, 8, 16, 24), [*RATES, RATES[0]])]
    fitted, apart, losses = together(Dense, members)
    assert set(fitted) == {0, 1, 2, 3} and apart == {4: "no other has its architecture"}
    for number in fitted:
        np.testing.assert_allclose(losses[number], alone(Dense, members[number])[1], rtol=1e-5)


class Tempered(Dense):
    """Its loss reads a hyperparameter, so that members of one stack have to share it."""

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        return super().loss(answer / self.params["temperature"], y)


def test_what_the_loss_reads_is_shared_in_a_stack() -> None:
    members = [{"temperature": heat, **rates} for heat, rates in zip((1.0, 2.0, 1.0, 2.0), RATES)]
    fitted, apart, losses = together(Tempered, members)
    assert set(fitted) == {0, 1, 2, 3} and not apart
    for number in fitted:
        np.testing.assert_allclose(losses[number], alone(Tempered, members[number])[1], rtol=1e-5)


class Functional(Dense):
    """Dropout in the forward pass, by a share that no module holds."""

    def build(self, train: Split) -> nn.Module:
        class Network(nn.Module):
            def __init__(self, share: float) -> None:
                super().__init__()
                self.share, self.head = share, nn.Linear(64, 4)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(nn.functional.dropout(x.flatten(1), self.share, self.training))

        return Network(self.params["dropout"])


class Counting(Dense):
    """A module that keeps its own count in an attribute, and computes with it: in a stack it would be lost."""

    def build(self, train: Split) -> nn.Module:
        return Counter()


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return self.head(x.flatten(1)) * self.seen


class Unknown(Dense):
    def optimizer(self) -> optim.Optimizer:
        return optim.Adadelta(self.module.parameters(), lr=self.params["learning_rate"])


@pytest.mark.parametrize(
    ("submission", "reason"),
    [
        (Functional, "no other has its architecture"),
        (Counting, "its loss comes out as"),
        (Unknown, "Adadelta has no stacked form"),
    ],
)
def test_what_cannot_be_stacked_is_left_alone(submission: type[TorchSubmission], reason: str) -> None:
    fitted, apart, _ = together(submission, DROPOUT)
    assert not fitted and set(apart) == set(range(4)) and all(reason in why for why in apart.values()), apart


def test_a_stack_that_does_not_pay_is_dissolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "GAIN", 0.0)
    fitted, apart, losses = together(Dense, RATES)
    assert not fitted and set(apart) == {0, 1, 2, 3} and not any(losses)
    assert all("together takes" in why for why in apart.values())


def test_of_many_that_take_long_a_few_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever stacks they are in, and those as if there had never been others."""
    monkeypatch.setattr(fused, "LONG", 0.0)
    members = [{"width": (8, 16)[number % 2], "learning_rate": 10**-2 / (number + 1)} for number in range(9)]
    fitted, apart, losses = together(Dense, members, few=4)
    assert set(fitted) == {0, 1, 2, 3} and apart == dict.fromkeys(range(4, 9), LATER)
    for number, params in enumerate(members):
        assert losses[number] == pytest.approx(alone(Dense, params)[1] if number in fitted else [], rel=1e-5)
    fitted, apart, _ = together(Dense, members, few=3)
    assert set(fitted) == {0, 2} and apart == dict.fromkeys(range(3, 9), LATER) | {1: "no other has its architecture"}
    monkeypatch.setattr(fused, "LONG", 1e9)
    assert len(together(Dense, members, few=4)[0]) == 9


class Judged(Dense):
    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        found = super().loss(answer, y)
        return found if self.module.training else found * (1 + self.params["weight_decay"])


def test_who_was_put_off_stays_so_where_a_stack_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "LONG", 0.0)
    members = [{"weight_decay": (0.0, 0.5)[number % 2], "learning_rate": 10**-2 / (number + 1)} for number in range(6)]
    fitted, apart, losses = together(Judged, members, few=4)
    assert set(fitted) == {0, 1, 2, 3} and apart == dict.fromkeys((4, 5), LATER)
    for number in fitted:
        assert losses[number] == pytest.approx(alone(Judged, members[number])[1], rel=1e-5)


def test_a_loop_of_ones_own_is_never_stacked() -> None:
    class Own(Dense):
        def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
            super().fit(train, valid, report)

    assert Dense.together() and not Own.together()


OPTIMIZERS: Mapping[type[optim.Optimizer], Mapping[str, st.SearchStrategy[Any]]] = {
    optim.AdamW: {
        "betas": st.tuples(st.floats(0.5, 0.95), st.floats(0.9, 0.999)),
        "eps": st.sampled_from([1e-8, 1e-6]),
    },
    optim.Adam: {"betas": st.tuples(st.floats(0.5, 0.95), st.floats(0.9, 0.999))},
    optim.SGD: {"momentum": st.sampled_from([0.0, 0.5, 0.9])},
    optim.RMSprop: {"alpha": st.floats(0.8, 0.99), "momentum": st.sampled_from([0.0, 0.9])},
    optim.Adagrad: {"lr_decay": st.sampled_from([0.0, 0.1])},
}


def test_every_stacked_optimizer_is_tested() -> None:
    assert set(OPTIMIZERS) == set(RULES)


@pytest.mark.parametrize("kind", list(OPTIMIZERS), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_stacked_optimizer_moves_as_torchs_own(kind: type[optim.Optimizer], data: st.DataObject) -> None:
    """Five steps of three members, rates, decays and the rest drawn for each, clipped or not, half-way one member fewer."""
    rates = {"lr": st.floats(1e-4, 0.1), "weight_decay": st.sampled_from([0.0, 1e-3, 0.1])}
    told = [data.draw(st.fixed_dictionaries({**rates, **OPTIMIZERS[kind]})) for _ in range(3)]
    clip = data.draw(st.sampled_from([None, 0.5]))
    width = data.draw(st.sampled_from([8, 70]), label="width")  # small parameters, or a large one and a small one
    torch.manual_seed(0)
    modules = [nn.Linear(width, width) for _ in told]
    own = [kind(module.parameters(), **numbers) for module, numbers in zip(modules, told)]  # type: ignore[call-arg]
    stacked = Optimizer(
        [kind(module.parameters(), **numbers) for module, numbers in zip(modules, told)],
        dict(modules[0].named_parameters()),
    )  # type: ignore[call-arg]
    weights = stacked.stacked([dict(module.named_parameters()) for module in modules])
    stacked.follow([schedule(own[0], lambda: optim.lr_scheduler.LambdaLR(own[0], lambda step: 1.0), 5)])
    here = [0, 1, 2]
    for step in range(5):
        gradients = [[torch.randn_like(weight) for weight in module.parameters()] for module in modules]
        for place in here:
            for weight, gradient in zip(modules[place].parameters(), gradients[place]):
                weight.grad = gradient.clone()
            if clip is not None:
                nn.utils.clip_grad_norm_(modules[place].parameters(), clip)
            own[place].step()
        by_name = dict(zip(dict(modules[0].named_parameters()), zip(*[gradients[place] for place in here])))
        stacked.step(weights, stacked.gather([torch.stack(by_name[name]) for name in stacked.names]), clip)
        if step == 2:
            here = [0, 2]
            stacked.keep(torch.tensor(here))
            weights = [array[here] for array in weights]
    for name, rows in zip(stacked.names, stacked.views(weights)):
        for place, row in zip(here, rows):
            torch.testing.assert_close(
                row, dict(modules[place].named_parameters())[name].detach(), rtol=1e-5, atol=1e-5
            )

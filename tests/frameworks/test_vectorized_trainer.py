"""Vectorized training: each member gets the results of a single fit, and unsuitable submissions are detected."""

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

from harness import Split, seeding
from harness.frameworks.batch import FitManyResult, can_fit_many
from harness.frameworks.recurrent import RecurrentSubmission
from harness.frameworks.torch import TorchSubmission
from harness.frameworks.vectorized import trainer
from harness.frameworks.vectorized.optimizers import RULES, VectorizedOptimizer, record_schedule

IMAGES = SimpleNamespace(name="image-classification", classes=4)
ROWS = SimpleNamespace(name="sequence-classification", classes=4)


@pytest.fixture(autouse=True)
def groups_always_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the test for speed off: these tests are about correctness."""
    monkeypatch.setattr(trainer, "MAX_TIME_RATIO", float("inf"))


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
    """Network without weight decay on biases, as is usual for transformers."""

    def optimizer(self) -> optim.Optimizer:
        weights = [weight for weight in self.module.parameters() if weight.dim() > 1]
        biases = [weight for weight in self.module.parameters() if weight.dim() == 1]
        decays = {"params": weights, "weight_decay": self.params["weight_decay"]}
        return optim.AdamW([decays, {"params": biases, "weight_decay": 0.0}], lr=self.params["learning_rate"])


class Columns(TorchSubmission):
    """Linear layer on a three-dimensional input with permuted strides."""

    kind = "sequence-classification"
    epochs, batch_size = 4, 32

    def build(self, train: Split) -> nn.Module:
        return nn.Sequential(
            Transposed(), nn.Linear(12, 5, bias=False), nn.Linear(5, 4), nn.Flatten(), nn.Linear(12, 4)
        )


class Transposed(nn.Module):
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
        seeding.seed_everything(0)
        model = submission(params, seed=0, device="cpu")
        model.task_kind = kind
        return model

    return [partial(make, params) for params in members]


def fit_vectorized(
    submission: type[TorchSubmission],
    members: Sequence[Mapping[str, Any]],
    kind: SimpleNamespace = IMAGES,
    stopped: Callable[[int, int], bool] = lambda number, epoch: False,
    max_members: int = 99,
) -> tuple[FitManyResult[TorchSubmission], list[list[float]]]:
    """Result of `fit_many`, and the reported losses of each member. ``stopped(number, epoch)`` stops a member early."""
    losses: list[list[float]] = [[] for _ in members]

    def report(found: Mapping[int, float]) -> set[int]:
        for number, loss in found.items():
            losses[number].append(loss)
        return {number for number in found if stopped(number, len(losses[number]))}

    result = submission.fit_many(makers(submission, members, kind), *splits(kind), report, max_members)
    return result, losses


def fit_single(
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
def test_vectorized_fits_equal_single_fits(
    submission: type[TorchSubmission], members: Sequence[Mapping[str, Any]], kind: SimpleNamespace
) -> None:
    """Losses of all epochs are equal to 1e-5, and so are predictions of the best epoch, with dropout and moving averages."""
    (fitted, rejected, postponed), losses = fit_vectorized(submission, members, kind)
    assert not rejected and not postponed and set(fitted) == set(range(len(members)))
    x = splits(kind)[1].x
    for number, params in enumerate(members):
        model, expected = fit_single(submission, params, kind)
        np.testing.assert_allclose(losses[number], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(fitted[number].predict(x), model.predict(x), atol=1e-4)
    assert len({round(rows[-1], 4) for rows in losses}) == len(members), "the members did not differ"


def test_a_stopped_member_does_not_affect_the_others() -> None:
    (fitted, rejected, _), losses = fit_vectorized(
        Dense, DROPOUT, stopped=lambda number, epoch: number in (0, 2) and epoch == 2
    )
    assert set(fitted) == {1, 3} and not rejected
    assert [len(rows) for rows in losses] == [2, 4, 2, 4]
    for number in fitted:
        np.testing.assert_allclose(losses[number], fit_single(Dense, DROPOUT[number])[1], rtol=1e-5)


def test_patience_ends_a_member() -> None:
    members = [
        {"learning_rate": rate, "patience": 1, "epochs": 12, "schedule": "constant"} for rate in (1e-3, 0.5, 1.0)
    ]
    _, losses = fit_vectorized(Dense, members)
    assert [len(rows) for rows in losses] == [len(fit_single(Dense, params)[1]) for params in members]
    assert len({len(rows) for rows in losses}) > 1, "patience made no difference"


def test_a_member_that_diverges_harms_no_other() -> None:
    members = [{"learning_rate": 1e-2}, {"learning_rate": 1e30}, {"learning_rate": 1e-3}]
    (fitted, _, _), losses = fit_vectorized(Dense, members)
    assert set(fitted) == {0, 1, 2} and not np.isfinite(losses[1]).all()
    for number in (0, 2):
        np.testing.assert_allclose(losses[number], fit_single(Dense, members[number])[1], rtol=1e-5)


def test_each_architecture_is_trained_separately() -> None:
    members = [{"width": width, **rates} for width, rates in zip((8, 16, 8, 16, 24), [*RATES, RATES[0]])]
    (fitted, rejected, _), losses = fit_vectorized(Dense, members)
    assert set(fitted) == {0, 1, 2, 3} and rejected == {4: "no other has its architecture"}
    for number in fitted:
        np.testing.assert_allclose(losses[number], fit_single(Dense, members[number])[1], rtol=1e-5)


class Tempered(Dense):
    """Network whose loss reads a hyperparameter, so the members of a group must share it."""

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        return super().loss(answer / self.params["temperature"], y)


def test_hyperparameters_of_the_loss_are_shared_in_a_group() -> None:
    members = [{"temperature": heat, **rates} for heat, rates in zip((1.0, 2.0, 1.0, 2.0), RATES)]
    (fitted, rejected, _), losses = fit_vectorized(Tempered, members)
    assert set(fitted) == {0, 1, 2, 3} and not rejected
    for number in fitted:
        np.testing.assert_allclose(losses[number], fit_single(Tempered, members[number])[1], rtol=1e-5)


class Functional(Dense):
    """Network with functional dropout, so no module holds its rate."""

    def build(self, train: Split) -> nn.Module:
        class Network(nn.Module):
            def __init__(self, share: float) -> None:
                super().__init__()
                self.share, self.head = share, nn.Linear(64, 4)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(nn.functional.dropout(x.flatten(1), self.share, self.training))

        return Network(self.params["dropout"])


class Counting(Dense):
    """Network that replaces a buffer in its forward pass: vectorized training would lose the change."""

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
def test_submissions_that_cannot_be_vectorized_are_rejected(submission: type[TorchSubmission], reason: str) -> None:
    (fitted, rejected, _), _ = fit_vectorized(submission, DROPOUT)
    assert not fitted and set(rejected) == set(range(4)) and all(reason in why for why in rejected.values()), rejected


def test_an_unprofitable_group_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "MAX_TIME_RATIO", 0.0)
    (fitted, rejected, _), losses = fit_vectorized(Dense, RATES)
    assert not fitted and set(rejected) == {0, 1, 2, 3} and not any(losses)
    assert all("together takes" in why for why in rejected.values())


def test_slow_groups_are_limited_to_max_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts members of all groups, and the chosen ones train as if there were no others."""
    monkeypatch.setattr(trainer, "LONG_FIT_MANY_SECONDS", 0.0)
    members = [{"width": (8, 16)[number % 2], "learning_rate": 10**-2 / (number + 1)} for number in range(9)]
    (fitted, rejected, postponed), losses = fit_vectorized(Dense, members, max_members=4)
    assert set(fitted) == {0, 1, 2, 3} and not rejected and postponed == {4, 5, 6, 7, 8}
    for number, params in enumerate(members):
        assert losses[number] == pytest.approx(fit_single(Dense, params)[1] if number in fitted else [], rel=1e-5)
    (fitted, rejected, postponed), _ = fit_vectorized(Dense, members, max_members=3)
    assert set(fitted) == {0, 2} and rejected == {1: "no other has its architecture"}
    assert postponed == {3, 4, 5, 6, 7, 8}
    monkeypatch.setattr(trainer, "LONG_FIT_MANY_SECONDS", 1e9)
    assert len(fit_vectorized(Dense, members, max_members=4)[0].fitted) == 9


class ScaledValidation(Dense):
    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        found = super().loss(answer, y)
        return found if self.module.training else found * (1 + self.params["weight_decay"])


def test_postponed_members_stay_postponed_when_a_group_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LONG_FIT_MANY_SECONDS", 0.0)
    members = [{"weight_decay": (0.0, 0.5)[number % 2], "learning_rate": 10**-2 / (number + 1)} for number in range(6)]
    (fitted, rejected, postponed), losses = fit_vectorized(ScaledValidation, members, max_members=4)
    assert set(fitted) == {0, 1, 2, 3} and not rejected and postponed == {4, 5}
    for number in fitted:
        assert losses[number] == pytest.approx(fit_single(ScaledValidation, members[number])[1], rel=1e-5)


def test_an_own_training_loop_is_never_vectorized() -> None:
    class Own(Dense):
        def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
            super().fit(train, valid, report)

    assert can_fit_many(Dense) and not can_fit_many(Own)


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


def test_every_vectorized_optimizer_is_tested() -> None:
    assert set(OPTIMIZERS) == set(RULES)


@pytest.mark.parametrize("kind", list(OPTIMIZERS), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_vectorized_optimizer_matches_torch(kind: type[optim.Optimizer], data: st.DataObject) -> None:
    """Five steps of three members with random settings each, with and without clipping; one member leaves half-way."""
    rates = {"lr": st.floats(1e-4, 0.1), "weight_decay": st.sampled_from([0.0, 1e-3, 0.1])}
    settings_of_members = [data.draw(st.fixed_dictionaries({**rates, **OPTIMIZERS[kind]})) for _ in range(3)]
    clip = data.draw(st.sampled_from([None, 0.5]))
    width = data.draw(st.sampled_from([8, 70]), label="width")  # small parameters only, or a large and a small one
    torch.manual_seed(0)
    modules = [nn.Linear(width, width) for _ in settings_of_members]
    single = [kind(module.parameters(), **numbers) for module, numbers in zip(modules, settings_of_members)]  # type: ignore[call-arg]
    vectorized = VectorizedOptimizer(
        [kind(module.parameters(), **numbers) for module, numbers in zip(modules, settings_of_members)],
        dict(modules[0].named_parameters()),
    )  # type: ignore[call-arg]
    weights = vectorized.stack([dict(module.named_parameters()) for module in modules])
    vectorized.set_schedule(
        [record_schedule(single[0], lambda: optim.lr_scheduler.LambdaLR(single[0], lambda step: 1.0), 5)]
    )
    active = [0, 1, 2]
    for step in range(5):
        gradients = [[torch.randn_like(weight) for weight in module.parameters()] for module in modules]
        for member in active:
            for weight, gradient in zip(modules[member].parameters(), gradients[member]):
                weight.grad = gradient.clone()
            if clip is not None:
                nn.utils.clip_grad_norm_(modules[member].parameters(), clip)
            single[member].step()
        by_name = dict(zip(dict(modules[0].named_parameters()), zip(*[gradients[member] for member in active])))
        vectorized.step(weights, vectorized.gather([torch.stack(by_name[name]) for name in vectorized.names]), clip)
        if step == 2:
            active = [0, 2]
            vectorized.select(torch.tensor(active))
            weights = [array[active] for array in weights]
    for name, rows in zip(vectorized.names, vectorized.views(weights)):
        for member, row in zip(active, rows):
            torch.testing.assert_close(
                row, dict(modules[member].named_parameters())[name].detach(), rtol=1e-5, atol=1e-5
            )

"""Captured training steps: a replay is equal to the bit, or the change is detected."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import StepChanged
from harness.frameworks.vectorized.capture import CapturedStep, Recorder, Recording


def training_step(module: nn.Module) -> Callable[..., list[Tensor]]:
    """Make a step that computes gradients and losses of several copies of a module from weights, buffers and a batch."""
    names = [name for name, _ in module.named_parameters()]
    buffers = [name for name, _ in module.named_buffers()]

    def step(*given: Tensor) -> list[Tensor]:
        weights, held, x = given[: len(names)], given[len(names) : -1], given[-1]
        leaves = [one.detach().requires_grad_() for one in weights]

        def one(weights: dict[str, Tensor], held: dict[str, Tensor]) -> Tensor:
            return functional_call(module, {**weights, **held}, (x,)).square().mean()

        losses = vmap(one)(dict(zip(names, leaves)), dict(zip(buffers, held)))
        return [*torch.autograd.grad(losses.sum(), leaves), losses.detach()]

    return step


MODULES = {
    "dense": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), (7, 6)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=0.3), nn.Tanh()), (7, 6)),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)),
        (4, 1, 6, 6),
    ),
    "norm and splits": (lambda: nn.Sequential(nn.LayerNorm(6), nn.GLU(), nn.Linear(3, 2)), (7, 6)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_replay_is_the_same_to_the_bit(name: str) -> None:
    """A replay is equal on other inputs than the recorded ones, including its writes to the inputs."""
    torch.manual_seed(0)
    make, shape = MODULES[name]
    modules = [make() for _ in range(3)]
    tensors = [{**dict(one.named_parameters()), **dict(one.named_buffers())} for one in modules]
    captured, step = CapturedStep(training_step(modules[0])), training_step(modules[0])
    for number in range(6):
        inputs = [torch.stack([one[key].detach().clone() for one in tensors]) for key in tensors[0]]
        inputs = [one + number if one.is_floating_point() else one for one in inputs]
        x = torch.randn(shape)
        copies = [one.clone() for one in inputs]
        found, expected = captured(*copies, x), step(*inputs, x)
        assert all(torch.equal(a, b) for a, b in zip((*found, *copies), (*expected, *inputs), strict=True))
        assert captured.trusted == (number >= 2)


WORDS = [
    "add",
    "relu",
    "chunk",
    "index",
    "inplace",
    "cat",
    "detach",
    "twice",
    "turned",
    "shaped",
    "filled",
    "written",
    "drawn",
]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8))
def test_a_recording_repeats_any_program(words: list[str]) -> None:
    """A recording is equal to the program, also with repeated expressions, writes between them, and constants."""

    def run(x: Tensor, state: Tensor) -> list[Tensor]:
        torch.manual_seed(0)
        y = x * 2
        for word in words:
            if word == "twice":
                y = (y + state * 2).sin() + (y + state * 2).sin()
            elif word == "turned":
                y = y.t().t().view(3, 4).expand(3, 4).contiguous() + y.reshape(4, 3).t()[0, 0]
            elif word == "shaped":
                y = y * torch.ones_like(y) + torch.zeros_like(y).add_(1) - torch.zeros_like(y)
            elif word == "filled":
                empty, full = torch.zeros(3, 4), torch.zeros(3, 4)
                full.t()[1] = y.t()[1]
                y = y + full + empty
            elif word == "written":
                one, other = y * 0.5, y * 0.5
                one.view(-1)[3:].mul_(0.5)
                y = one - other + y * 0.5
            elif word == "drawn":
                y = y + torch.rand(3, 4) - torch.rand(3, 4)
            elif word == "add":
                y = y + state
            elif word == "relu":
                y = torch.relu(y - 0.5)
            elif word == "chunk":
                first, second = y.chunk(2, dim=1)
                y = torch.cat([second, first], dim=1)
            elif word == "index":
                y = y[:, [1, 0, 3, 2]] * torch.tensor([1.0, 2.0, 3.0, 4.0])
            elif word == "inplace":
                state[0].mul_(0.5)
                y = y.clone().add_(1)
            elif word == "cat":
                y = torch.stack([y, state]).sum(0)
            else:
                y = y.detach()
        return [y, y.mean(dim=0)]

    random = torch.Generator().manual_seed(1)

    def drawn() -> tuple[Tensor, Tensor]:
        return torch.randn(3, 4, generator=random), torch.randn(3, 4, generator=random)

    x, state = drawn()
    recorder = Recorder((x, state))
    with recorder:
        found = run(x, state)
    recording = Recording(recorder, found, 2)
    for _ in range(2):
        x, state = drawn()
        copy = state.clone()
        torch.manual_seed(0)
        found = recording(x, state)
        assert all(torch.equal(a, b) for a, b in zip(found, run(x, copy), strict=True))
        assert torch.equal(state, copy)


class Seen(TorchDispatchMode):
    """Mode that records the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(op.name())
        return op(*args, **(kwargs or {}))


def test_operations_without_effect_are_left_out() -> None:
    def run(x: Tensor) -> list[Tensor]:
        y = x.detach().view(x.shape).t().t().expand(3, 4)
        return [y * 2 + torch.zeros_like(y) + torch.scalar_tensor(1) + y * 2]

    recorder = Recorder([x := torch.randn(3, 4)])
    with recorder:
        found = run(x)
    recording = Recording(recorder, found, 1)
    with Seen() as seen:
        again = recording(x)
    assert torch.equal(again[0], found[0])
    # t().t() is recognised as x, so its operations have no effect.
    assert seen.names == ["aten::mul.Tensor", "aten::add.Tensor", "aten::add.Tensor", "aten::add.Tensor"]


def test_shared_memory_differs_from_equal_values() -> None:
    """Tensors that share memory change by writes to one another; copies with equal values do not."""
    memory = torch.arange(8.0)

    def run(x: Tensor, y: Tensor) -> list[Tensor]:
        before = x * 2
        y.add_(1)
        return [before, before + x * 2]

    captured = CapturedStep(run)
    for _ in range(5):
        copy = memory.clone()
        expected = run(copy[:6], copy[2:])
        found = captured(memory[:6], memory[2:])
        assert torch.equal(found[1], expected[1]) and torch.equal(memory, copy)


def test_a_changing_function_is_detected() -> None:
    """A change from call to call is detected at once, a later change at the next recheck."""
    calls = 0

    def counting(x: Tensor) -> list[Tensor]:
        nonlocal calls
        calls += 1
        return [x * calls]

    captured = CapturedStep(counting)
    one = torch.ones(2)
    assert [float(captured(one)[0][0]) for _ in range(5)] == [1, 2, 3, 4, 5] and captured.disabled

    factor = 1.0
    later = CapturedStep(lambda x: [x * factor])
    for _ in range(4):
        later(one)
    assert later.trusted
    factor = 2.0
    later.recheck()
    with pytest.raises(StepChanged):
        later(one)


def test_other_shapes_get_another_recording() -> None:
    captured = CapturedStep(lambda x: [x.sum(dim=0) / len(x)])
    for rows in (4, 4, 4, 4, 3, 3, 3, 3):
        x = torch.randn(rows, 2)
        assert torch.equal(captured(x)[0], x.sum(dim=0) / rows)


def test_diverged_members_are_no_change() -> None:
    captured = CapturedStep(lambda x: [x.log()])
    for _ in range(4):
        captured(torch.tensor([-1.0, 1.0]))
    assert captured.trusted


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAIN = """
import sys, torch
from harness.execution.child.lazy_dynamo import defer_dynamo
defer_dynamo()
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(model.parameters())
def step():
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
step()
"""


def test_training_imports_no_compiler() -> None:
    assert (
        run(TRAIN + "print('sympy' in sys.modules, 'torch._dynamo.symbolic_convert' in sys.modules)") == "False False\n"
    )


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("import torch._dynamo.config", marks=pytest.mark.slow),
        pytest.param("torch._dynamo.reset()", marks=pytest.mark.slow),
        "torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1))",
        pytest.param("assert torch.compiler.disable()(lambda x: x + 1)(1) == 2", marks=pytest.mark.slow),
    ],
)
def test_compiling_loads_the_compiler(asked: str) -> None:
    """A call of the compiler loads it, before training and in the middle of it."""
    after = f"{asked}\nstep()\nprint(type(sys.modules['torch._dynamo']).__name__, torch._dynamo is sys.modules['torch._dynamo'])"
    assert run(TRAIN + after) == "module True\n"
    assert run(TRAIN.replace("model =", f"{asked}\nmodel =") + "print(1)") == "1\n"

"""Every generator of random numbers that a submission may draw from: seeded, and put back to where it was."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

State = tuple[Any, ...]
"""Where the generators are, to be compared and restored."""


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def state(device: str) -> State:
    """Where the generators of Python, numpy and torch are, the one of a CUDA ``device`` among them."""
    numpy: Any = np.random.get_state(legacy=True)
    found: list[Any] = [random.getstate(), (numpy[0], numpy[1].tobytes(), *numpy[2:])]
    if torch := sys.modules.get("torch"):
        found.append(torch.get_rng_state().numpy().tobytes())
        if device.startswith("cuda"):
            found.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(found)


def restore(state: State, device: str) -> None:
    random.setstate(state[0])
    name, keys, *rest = state[1]
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))
    if torch := sys.modules.get("torch"):
        torch.set_rng_state(torch.frombuffer(bytearray(state[2]), dtype=torch.uint8))
        if device.startswith("cuda"):
            torch.cuda.set_rng_state(torch.frombuffer(bytearray(state[3]), dtype=torch.uint8), device)

"""Seeds and states of all random number generators that a submission may use."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

State = tuple[Any, ...]
"""States of the random number generators of Python, numpy and torch, which can be compared and restored."""


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def generator_state(device: str) -> State:
    """Return the states of the random number generators of Python, numpy and, if loaded, torch (CPU and a CUDA ``device``)."""
    numpy: Any = np.random.get_state(legacy=True)
    found: list[Any] = [random.getstate(), (numpy[0], numpy[1].tobytes(), *numpy[2:])]
    if torch := sys.modules.get("torch"):
        found.append(torch.get_rng_state().numpy().tobytes())
        if device.startswith("cuda"):
            found.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(found)


def restore_state(state: State, device: str) -> None:
    random.setstate(state[0])
    name, keys, *rest = state[1]
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))
    if torch := sys.modules.get("torch"):
        torch.set_rng_state(torch.frombuffer(bytearray(state[2]), dtype=torch.uint8))
        if device.startswith("cuda"):
            torch.cuda.set_rng_state(torch.frombuffer(bytearray(state[3]), dtype=torch.uint8), device)

"""Fuzzed predictions, in a submission's buffer or in a file, end in a finite score or in a refusal in a sentence.

A thousand cases of each in the suite, ten thousand in the long tests. Bytes are drawn three ways: at random, a valid answer with
pieces overwritten, and an unchanged valid answer, so that not all cases are refused at the first check.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import (
    Data,
    Forecasting,
    ImageClassification,
    ImageGeneration,
    InvalidPrediction,
    NextToken,
    SequenceClassification,
    Split,
    Task,
    Transduction,
    UsageError,
)
from harness.commands.submit import read
from harness.contract import Array
from harness.errors import TrialFailed
from harness.execution.shared.memory import SharedArray
from harness.scoring import Scorer

RNG = np.random.default_rng(0)
N = 12


def splits(make: Callable[[], Split]) -> Data:
    return Data(make(), make(), make())


def simplex(*shape: int) -> Array:
    return RNG.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)


def classes() -> Array:
    return np.arange(N) % 3


def tokens() -> Split:
    text = RNG.integers(0, 4, (N, 6))
    return Split(text[:, :-1], text[:, 1:])


CASES: dict[str, tuple[Task, Array]] = {}
"""Task of each kind with data of a dozen rows, and a valid answer to its test split."""


def case(kind: Any, metric: str, make: Callable[[], Split], answer: Array) -> None:
    data = splits(make)
    kind.check(data)
    CASES[kind.name] = (Task(kind.name, kind, lambda: data, metric), answer)


case(
    ImageClassification(classes=3),
    "log_loss",
    lambda: Split(RNG.integers(0, 256, (N, 2, 2, 1), dtype=np.uint8), classes()),
    simplex(N, 3),
)
case(
    SequenceClassification(classes=3),
    "accuracy",
    lambda: Split(RNG.normal(size=(N, 4, 1)).astype(np.float32), classes()),
    simplex(N, 3),
)
case(
    Forecasting(horizon=2),
    "mse",
    lambda: Split(RNG.normal(size=(N, 4, 1)).astype(np.float32), RNG.normal(size=(N, 2, 1)).astype(np.float32)),
    RNG.normal(size=(N, 2, 1)).astype(np.float32),
)
case(
    NextToken(vocabulary=4),
    "nats",
    tokens,
    np.log(simplex(N, 5, 4)),
)
case(
    Transduction(vocabulary=5, length=3, source_vocabulary=4),
    "exact_match",
    lambda: Split(RNG.integers(0, 4, (N, 6)), RNG.integers(0, 5, (N, 3))),
    RNG.integers(0, 5, (N, 3)),
)
case(
    ImageGeneration(8, 8, 1, classes=3, features="digits-v1"),
    "frechet_distance",
    lambda: Split(classes(), RNG.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)),
    RNG.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8),
)
SCORERS = {name: Scorer(task, task.load(), "fuzz") for name, (task, _) in CASES.items()}
REFUSALS = (UsageError, InvalidPrediction, TrialFailed)


def graded(name: str, answer: Array) -> bool:
    """Verify and score an answer. Return True for a finite score and False for a refusal; other errors propagate."""
    task, scorer = CASES[name][0], SCORERS[name]
    try:
        task.kind.verify(answer, scorer.data.test.x)
        scored = scorer.test(answer)
    except REFUSALS as error:
        assert str(error) and "\n" not in str(error)
        return False
    values = (scored.score, scored.public, scored.private, *scored.metrics.values())
    assert all(math.isfinite(value) for value in values), scored
    assert np.isfinite(scored.replicates).all() and np.isfinite(scored.losses).all()
    return True


def mangled(content: bytes) -> st.SearchStrategy[bytes]:
    """Strategy for bytes of the same length: random, or this content with pieces overwritten."""

    def overwrite(pieces: list[tuple[int, bytes]]) -> bytes:
        changed = bytearray(content)
        for place, piece in pieces:
            start = place % len(changed)
            changed[start : start + len(piece)] = piece[: len(changed) - start]
        return bytes(changed)

    odd = [np.array(value, dtype).tobytes() for value in (math.nan, math.inf, -math.inf, 1e30, -1e-9) for dtype in "fd"]
    odd += [np.int64(value).tobytes() for value in (-1, 2**62, -(2**63), 3)]
    piece = st.binary(min_size=1, max_size=16) | st.sampled_from(odd)
    pieces = st.lists(st.tuples(st.integers(0, 2**16), piece), max_size=6).map(overwrite)
    seeded = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).bytes(len(content)))
    return pieces | seeded


def fuzzed_buffers(name: str, count: int) -> None:
    task, valid = CASES[name]
    forms = task.kind.output_specs(SCORERS[name].data.test.x)
    seen = {True: 0, False: 0}

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def one(data: st.DataObject) -> None:
        form = data.draw(st.sampled_from(forms))
        fits = valid.shape == form.shape
        content = data.draw(mangled(valid.astype(form.dtype).tobytes() if fits else bytes(form.nbytes)))
        with SharedArray.blank(forms) as buffer:
            assert os.pwrite(buffer.fd, content, 0) == len(content) <= max(form.nbytes for form in forms)
            with pytest.raises(OSError, match="not permitted"):
                os.ftruncate(buffer.fd, 1)
            seen[graded(name, buffer.read(form))] += 1

    one()
    assert seen[True] and (seen[False] or name == "image-generation"), seen  # any bytes are valid pictures


def fuzzed_files(folder: Path, count: int) -> None:
    """Read damaged files, files of other tasks and random files for each task that takes files."""
    files: dict[str, list[tuple[str, bytes]]] = {}
    for name, (_, valid) in CASES.items():
        flat = pd.DataFrame(valid.reshape(N, -1)).add_prefix("p").assign(id=np.arange(N))
        array, table = io.BytesIO(), io.BytesIO()
        np.save(array, valid)
        flat.to_parquet(table, index=False)
        contents = {".npy": array.getvalue(), ".csv": flat.to_csv(index=False).encode(), ".parquet": table.getvalue()}
        files[name] = list(contents.items())
    seen = {True: 0, False: 0}

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def one(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["image-classification", "transduction", "sequence-classification"]))
        source = data.draw(st.sampled_from([name, name, name, *CASES]))
        ending, content = data.draw(st.sampled_from(files[source]))
        content = data.draw(st.just(content) | mangled(content) | st.binary(max_size=200))
        content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
        path = folder / f"predictions{data.draw(st.sampled_from([ending, ending, '.csv', '.npy', '.parquet']))}"
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # parsers warn about many of these files
                answer = read(path, CASES[name][0].kind.output_specs(SCORERS[name].data.test.x))
        except REFUSALS as error:
            assert str(error) and "\n" not in str(error)
            seen[False] += 1
            return
        seen[graded(name, answer)] += 1

    one()
    assert seen[True] and seen[False], seen


QUICK = [name for name in CASES if name != "image-generation"]


@pytest.mark.parametrize("name", CASES)
def test_a_buffer_of_any_bytes(name: str) -> None:
    """Fewer cases for pictures: any bytes are valid pictures, so each case takes a full scoring, a hundred times as long."""
    fuzzed_buffers(name, 1000 // len(QUICK) if name in QUICK else 10)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_ten_thousand_buffers(name: str) -> None:
    fuzzed_buffers(name, 10_000 // len(QUICK) if name in QUICK else 100)


def test_a_file_of_any_bytes(tmp_path: Path) -> None:
    fuzzed_files(tmp_path, 1000)


@pytest.mark.long
def test_ten_thousand_files(tmp_path: Path) -> None:
    fuzzed_files(tmp_path, 10_000)

"""The audit of tasks: ten planted leaks are each found by name, and nothing is found in the clean twin of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from conftest import Command, write
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from harness.commands import check, leakage
from harness.contract import Array, Data, Kind, Measure, Metric, OutputSpec, Split, Task
from harness.datasets import stratified, windows
from harness.kinds.image_classification import ImageClassification
from harness.kinds.image_generation import ImageGeneration
from harness.kinds.sequence_prediction import Forecasting, NextToken, SequenceClassification, Transduction

CLASSES = 4


def leaks(kind: Kind, data: Data, metric: str | None = None, known: dict[str, str] | None = None) -> dict[str, str]:
    """Findings of the leakage audit: name to message."""
    task = Task("planted", kind, lambda: data, metric or kind.metrics[0].name, accepted_findings=known or {})
    findings = check.leak_findings(task, data)
    assert not [finding for finding in findings if finding.says.startswith("skipped")], findings
    return {finding.what.split("[")[-1].rstrip("]"): finding.says for finding in findings if not finding.passed}


def pictures(seed: int = 0, n: int = 600, side: int = 12, signal: float = 1.0) -> Data:
    """Blurred noise of four classes: 300 train, 120 valid and 180 test pictures, with metadata unrelated to the classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    blurred = signal * rng.normal(size=(CLASSES, side, side))[y] + 2 * rng.normal(size=(n, side, side))
    blurred += np.roll(blurred, 1, axis=1) + np.roll(blurred, 1, axis=2)
    data = stratified((128 + 15 * blurred).clip(0, 255).astype(np.uint8)[..., None], y, valid=0.2, test=0.3, seed=seed)

    def about(split: Split) -> Split:
        n = len(split)
        ids = rng.permutation(10 * n)[:n]
        return replace(
            split,
            metadata={
                "id": ids,
                "file": np.array([f"pictures/{number:06d}.png" for number in rng.permutation(n)]),
                "size": rng.integers(1000, 2000, n),
                "time": np.datetime64("2024-01-01T00:00:00") + rng.integers(0, 10**7, n),
            },
        )

    return Data(about(data.train), about(data.valid), about(data.test))


IMAGES = ImageClassification(classes=CLASSES)


def test_clean_pictures_are_clean() -> None:
    assert leaks(IMAGES, pictures()) == {}


@pytest.mark.long
@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_clean_pictures_of_any_seed_are_clean(seed: int) -> None:
    assert leaks(IMAGES, pictures(seed)) == {}


# 1, 2: copies.


def copied(data: Data, among: str, rows: slice, change: Callable[[Array], Array] = lambda x: x) -> Data:
    """Replace the first test rows by changed copies of rows of another split."""
    source, x, y = getattr(data, among), data.test.x.copy(), data.test.labels.copy()
    x[: rows.stop - rows.start] = change(source.x[rows].astype(float)).clip(0, 255).astype(np.uint8)
    y[: rows.stop - rows.start] = source.labels[rows]
    return replace(data, test=replace(data.test, x=x, y=y))


@pytest.mark.parametrize("among", ["train", "valid"])
@pytest.mark.parametrize("copies", [4, 60])
def test_exact_duplicates(among: str, copies: int) -> None:
    found = leaks(IMAGES, copied(pictures(), among, slice(7, 7 + copies)))
    assert list(found) == ["exact duplicates"]
    assert f"{copies} of 180 test inputs" in found["exact duplicates"]
    assert f"test row 0 and {among} row 7" in found["exact duplicates"]


def noise(x: Array) -> Array:
    return x + np.random.default_rng(1).normal(0, 4, x.shape)


def brighter(x: Array) -> Array:
    return 0.8 * x + 20


def moved(x: Array) -> Array:
    return np.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)


@pytest.mark.parametrize("change", [noise, brighter, moved, lambda x: moved(brighter(noise(x)))])
def test_near_duplicates(change: Callable[[Array], Array]) -> None:
    found = leaks(IMAGES, copied(pictures(), "train", slice(30, 45), change))
    assert list(found) == ["near duplicates"] and "15 of 180 test inputs" in found["near duplicates"]


def test_copies_made_before_the_split_are_near() -> None:
    """Data augmented before the split: train holds as many near copies as test."""
    data = pictures()
    x = np.repeat(np.concatenate([split.x for split in (data.train, data.valid, data.test)])[:150], 4, axis=0)
    y = np.repeat(np.concatenate([split.labels for split in (data.train, data.valid, data.test)])[:150], 4)
    assert list(leaks(IMAGES, stratified(noise(x).clip(0, 255).astype(np.uint8), y, valid=0.2, test=0.3))) == [
        "near duplicates"
    ]


# 3 to 7: the order of rows, and metadata about them.


def ordered(split: Split, order: Array) -> Split:
    about = {name: values[order] for name, values in split.metadata.items()}
    return replace(split, x=split.x[order], y=split.labels[order], metadata=about)


def in_blocks(y: Array) -> Array:
    """Order of rows with five of a class in a row, as long as the class has so many."""
    rows = [np.flatnonzero(y == label) for label in range(CLASSES)]
    return np.concatenate([some[start : start + 5] for start in range(0, len(y), 5) for some in rows])


def in_turns(y: Array) -> Array:
    return np.lexsort((y, np.array([(y[:row] == label).sum() for row, label in enumerate(y)])))


@pytest.mark.parametrize("order", [lambda y: np.argsort(y, kind="stable"), in_blocks, in_turns])
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_row_order(order: Callable[[Array], Array], part: str) -> None:
    data = pictures()
    split = getattr(data, part)
    found = leaks(IMAGES, replace(data, **{part: ordered(split, order(split.labels))}))
    assert list(found) == ["row order"] and f"{part} targets" in found["row order"]


def knowing(data: Data, fact: str, make: Callable[[Array], Array], part: str = "test") -> Data:
    split = getattr(data, part)
    return replace(data, **{part: replace(split, metadata={**split.metadata, fact: make(split.labels)})})


def ranks(y: Array) -> Array:
    return np.argsort(np.argsort(y, kind="stable"))


FACTS: list[tuple[str, Callable[[Array], Array]]] = [
    ("id", lambda y: 70_000 + ranks(y)),
    ("id", lambda y: CLASSES * np.random.default_rng(0).permutation(len(y)) + y),
    ("file", lambda y: np.array([f"pictures/{'abcd'[label]}/{row:04d}.png" for row, label in enumerate(y)])),
    ("file", lambda y: np.array([f"pictures/{rank:06d}.png" for rank in ranks(y)])),
    ("file", lambda y: np.array([f"pictures/{row:04d}.{'jpg' if label else 'jpeg'}" for row, label in enumerate(y)])),
    ("size", lambda y: np.random.default_rng(0).integers(1000, 1500, len(y)) + 200 * y),
    ("time", lambda y: np.datetime64("2024-01-01T00:00:00") + 3000 * ranks(y)),
    ("time", lambda y: np.datetime64("2024-01-01T00") + 24 * np.random.default_rng(0).permutation(len(y)) + 6 * y),
]


@pytest.mark.parametrize(("fact", "make"), FACTS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_telling_metadata(fact: str, make: Callable[[Array], Array], part: str) -> None:
    found = leaks(IMAGES, knowing(pictures(), fact, make, part))
    assert f"about {fact}" in found and set(found) <= {f"about {fact}", "time overlap"}
    assert f"{fact} predicts" in found[f"about {fact}"] and f"{part} targets" in found[f"about {fact}"]


def test_metadata_is_not_blamed_for_the_order_of_rows() -> None:
    """Constant metadata is no finding, even if the rows are sorted."""
    data = pictures()
    test = ordered(data.test, np.argsort(data.test.labels, kind="stable"))
    test = replace(test, metadata={**test.metadata, "size": np.full(len(test), 7)})
    assert list(leaks(IMAGES, replace(data, test=test))) == ["row order"]


def test_the_false_alarm_rate_is_below_the_level() -> None:
    """Few of 300 random columns of metadata are found at a level of .05: the bound is on the safe side."""
    low = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.arange(120) % (2 + seed % 5))
        right, n, chance = leakage.held_out_hits(rng.integers(0, 1000, 120) if seed % 2 else np.arange(120), y)
        low += binom.sf(right - 1, n, chance) < 0.05
    assert low <= binom.ppf(0.999, 300, 0.05)


# 8: a single value.


@pytest.mark.parametrize("place", [(0, 0), (11, 4)])
def test_telltale_pixel(place: tuple[int, int]) -> None:
    data = pictures()

    def marked(split: Split) -> Split:
        x = split.x.copy()
        x[(split.labels == 2), place[0], place[1]] = 255
        return replace(split, x=x)

    found = leaks(IMAGES, Data(marked(data.train), marked(data.valid), marked(data.test)))
    assert (
        list(found) == ["telltale input"] and f"[{place[0]}, {place[1]}, 0] tells target 2" in found["telltale input"]
    )


def test_mark_on_some_of_a_class() -> None:
    """Two in three horses carry the photographer's name: not certain, but no natural pixel is so unusual."""
    data = pictures(n=3000, signal=0.2)

    def marked(split: Split) -> Split:
        x = split.x.copy()
        x[(split.labels == 2) & (np.random.default_rng(0).random(len(split)) < 0.67), 0, 0] = 255
        return replace(split, x=x)

    assert list(leaks(IMAGES, Data(marked(data.train), marked(data.valid), marked(data.test)))) == ["telltale input"]


def sequences(seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    y = np.arange(500) % 2
    x = rng.normal(size=(500, 20, 2)).cumsum(axis=1) + y[:, None, None] * np.linspace(0, 3, 20)[:, None]
    return stratified(x.astype(np.float32), y, valid=0.2, test=0.3, seed=seed)


def test_telltale_column() -> None:
    data, kind = sequences(), SequenceClassification(classes=2)
    assert leaks(kind, data) == {}

    def marked(split: Split) -> Split:
        x = split.x.copy()
        x[:, 7, 1] = np.where(split.labels == 1, x[:, 7, 1].round(), x[:, 7, 1].round() + 0.25)
        return replace(split, x=x)

    found = leaks(kind, Data(marked(data.train), marked(data.valid), marked(data.test)))
    assert list(found) == ["telltale input"] and "[7, 1]" in found["telltale input"]


def series(n: int = 400, variables: int = 2, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(n) / 6)[:, None] + 0.3 * rng.normal(size=(n, variables)).cumsum(axis=0)


def test_telltale_variable() -> None:
    """The second variable is the first one three steps ahead, as with the clock of another sensor."""
    values, kind = series(), Forecasting(horizon=6)
    data = windows(values, lookback=20, horizon=6, bounds=(200, 300, 400))
    assert leaks(kind, data) == {}
    values[:-3, 1] = 5 * values[3:, 0] + 2
    data = windows(values[:-3], lookback=20, horizon=6, bounds=(200, 300, 397))
    found = leaks(kind, data)
    assert list(found) == ["copied target"] and "the value at [17, 1] is the target at [0, 0]" in found["copied target"]


# 9: controls.


def unbalanced(data: Data) -> Data:
    """Drop pictures until one class has nine tenths of all rows."""

    def thin(split: Split) -> Split:
        others = np.random.default_rng(0).permutation(np.flatnonzero(split.labels != 0))
        kept = np.sort(np.concatenate([np.flatnonzero(split.labels == 0), others[: len(others) // 20]]))
        return ordered(split, kept)

    return Data(thin(data.train), thin(data.valid), thin(data.test))


def test_misleading_constant() -> None:
    data = unbalanced(pictures(n=4000))
    found = leaks(IMAGES, data)
    assert "constant control" in found and set(found) <= {"constant control", "shuffled control"}
    assert "balanced_accuracy" in found["constant control"]
    assert leaks(IMAGES, data, "balanced_accuracy") == {}


@dataclass(frozen=True)
class Regression(Kind):
    """Kind of a user: one number for each row of numbers."""

    careless: bool = False
    name: ClassVar[str] = "regression"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("mae", False),)

    def check(self, data: Data) -> None:
        pass

    def output_specs(self, x: Array) -> tuple[OutputSpec, ...]:
        return (OutputSpec("numbers", (len(x),), "float64"),)

    def verify(self, answer: Array, x: Array) -> None:
        pass

    def measure(self, answer: Array, split: Split, train: Split) -> dict[str, Measure]:
        y = split.labels
        return {"mae": Measure.mean_of(np.abs(np.sort(answer) - np.sort(y) if self.careless else answer - y))}


def plane(seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 20))
    y = x[:, :3].sum(axis=1) + rng.normal(scale=0.1, size=600)
    return Data(Split(x[:300], y[:300]), Split(x[300:400], y[300:400]), Split(x[400:], y[400:]))


def test_misleading_metric() -> None:
    """A metric that ignores the order of rows gives the shuffled truth a perfect score."""
    assert leaks(Regression(), plane()) == {}
    assert list(leaks(Regression(careless=True), plane())) == ["shuffled control"]


# 10: time.


def test_windows_that_overlap() -> None:
    values, kind = series(), Forecasting(horizon=6)
    clean = windows(values, lookback=20, horizon=6, bounds=(200, 300, 400))
    late = windows(values, lookback=20, horizon=6, bounds=(301, 350, 400))
    found = leaks(kind, Data(late.train, clean.valid, clean.test))
    assert list(found) == ["exact duplicates", "time overlap"] and "stand in train" in found["time overlap"]
    late = windows(values, lookback=20, horizon=6, bounds=(202, 300, 400))  # two steps of overlap
    found = leaks(kind, Data(late.train, clean.valid, clean.test))
    assert list(found) == ["time overlap"] and "2 of 95 valid rows" in found["time overlap"]
    found = leaks(kind, Data(clean.test, clean.valid, clean.train))
    assert list(found) == ["time overlap"]


def test_chunks_that_overlap() -> None:
    tokens = np.random.default_rng(0).integers(0, 20, 30_001)

    def chunks(start: int, end: int) -> Split:
        n = (end - start - 1) // 100
        return Split(
            tokens[start : start + 100 * n].reshape(n, 100), tokens[start + 1 : start + 100 * n + 1].reshape(n, 100)
        )

    kind = NextToken(vocabulary=20)
    assert leaks(kind, Data(chunks(0, 20_000), chunks(20_000, 25_000), chunks(25_000, 30_001))) == {}
    found = leaks(kind, Data(chunks(0, 20_000), chunks(20_000, 25_000), chunks(19_550, 30_001)))
    assert list(found) == ["time overlap"] and "4 of 104 test rows stand in train" in found["time overlap"]


@pytest.mark.parametrize("name", ["time", "date", "year_of_birth", "created at"])
def test_splits_against_time(name: str) -> None:
    data, rng = pictures(), np.random.default_rng(0)

    def at(split: Split, start: float) -> Split:
        return replace(split, metadata={name: start + rng.random(len(split))})

    assert leaks(IMAGES, Data(at(data.train, 0), at(data.valid, 1), at(data.test, 2))) == {}
    assert leaks(IMAGES, Data(at(data.train, 0), at(data.valid, 0), at(data.test, 0))) == {}  # at random
    assert list(leaks(IMAGES, Data(at(data.train, 2), at(data.valid, 1), at(data.test, 0)))) == ["time overlap"]
    assert list(leaks(IMAGES, Data(at(data.train, 0), at(data.valid, 0.5), at(data.test, 0.7)))) == ["time overlap"]


# The report, and how tasks accept findings.


def test_accepted_findings_are_reported_and_pass() -> None:
    data = copied(pictures(), "train", slice(0, 9))
    assert list(leaks(IMAGES, data, known={"exact duplicates": "the archive has them"})) == []
    task = Task(
        "known", IMAGES, lambda: data, "accuracy", accepted_findings={"exact duplicates": "the archive has them"}
    )
    (said,) = [finding for finding in check.leak_findings(task, data) if "[exact duplicates]" in finding.what]
    assert said.passed and said.says.startswith("known: the archive has them (9 of 180 test inputs stand in train")
    wrong = check.leak_findings(replace(task, accepted_findings={"copies": ""}), data)[-1]
    assert not wrong.passed and "'copies'" in wrong.says and "exact duplicates, near duplicates" in wrong.says


def test_conflicting_labels() -> None:
    data = pictures()
    x, y = data.train.x.copy(), data.train.labels.copy()
    x[:20], y[:20] = x[20:40], (y[20:40] + 1) % CLASSES
    found = leaks(IMAGES, replace(data, train=replace(data.train, x=x, y=y)))
    assert list(found) == ["conflicting labels"] and "train row 0 and train row 20" in found["conflicting labels"]


def test_targets_of_image_generation_are_checked() -> None:
    data = pictures(side=8)
    drawn = Data(*(Split(split.labels, split.x) for split in (data.train, data.valid, data.test)))
    kind = ImageGeneration(height=8, width=8, channels=1, classes=CLASSES, features="pixels")
    assert leaks(kind, drawn) == {}
    y = drawn.test.labels.copy()
    y[:10] = drawn.train.labels[:10]
    assert list(leaks(kind, replace(drawn, test=replace(drawn.test, y=y)))) == ["exact duplicates"]


def test_targets_of_token_sequences_are_checked() -> None:
    data, names = pictures(), np.array([[1, 2, 0], [2, 2, 1], [1, 1, 0], [3, 1, 2]])
    spelt = Data(*(replace(split, y=names[split.labels]) for split in (data.train, data.valid, data.test)))
    kind = Transduction(vocabulary=4, length=3)
    assert leaks(kind, spelt) == {}
    order = np.argsort(data.test.labels, kind="stable")
    assert list(leaks(kind, replace(spelt, test=ordered(spelt.test, order)))) == ["row order"]


def test_numeric_targets_are_checked() -> None:
    data = plane()
    order = np.argsort(data.test.labels)
    assert list(leaks(Regression(), replace(data, test=Split(data.test.x[order], data.test.labels[order])))) == [
        "row order"
    ]
    x = np.concatenate([data.train.x[:50], data.test.x[50:]])
    assert list(leaks(Regression(), replace(data, test=Split(x, data.test.labels)))) == ["exact duplicates"]


def test_strange_arrays_are_no_crash(tmp_path: Path, bakeoff: Command) -> None:
    """Unusual arrays end in no crash: words, ragged columns of objects, a target of one class, empty metadata."""
    write(
        tmp_path,
        "strange.py",
        """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from harness import Data, OutputSpec, Kind, Measure, Metric, Split, Task

@dataclass(frozen=True)
class Words(Kind):
    name: ClassVar[str] = "words"
    metrics: ClassVar = (Metric("rate", True),)
    def check(self, data): pass
    def output_specs(self, x): return (OutputSpec("words", (len(x), 8), "uint8"),)
    def verify(self, answer, x): pass
    def measure(self, answer, split, train):
        return {"rate": Measure.mean_of((answer[:, 0] == [ord(word[0]) for word in split.y]).astype(float))}

def part(start, n):
    words = np.array([f"word{number}" for number in range(start, start + n)])
    return Split(words, words[::-1], metadata={"odd": np.array([None, *range(n - 1)], dtype=object), "flat": np.full(n, np.nan)})

TASK = Task(name="strange", kind=Words(), load=lambda: Data(part(0, 40), part(40, 1), part(41, 30)), metric="rate")
""",
    )
    said = bakeoff("check", "strange.py").stdout
    assert "✗" not in said and "[row order]" in said and "skipped" in said

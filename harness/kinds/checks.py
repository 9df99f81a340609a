"""Checks of data and answers that several kinds share. Each raises an error that says what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.contract import Array, Data, Split
from harness.errors import DataError, InvalidPrediction


def named_splits(data: Data) -> Iterator[tuple[str, Split]]:
    """Yield pairs (name, split) of the train, valid and test split of a task's data. Raises DataError for an empty split."""
    for name in ("train", "valid", "test"):
        split: Split = getattr(data, name)
        if len(split) == 0:
            raise DataError(f"the {name} split is empty")
        yield name, split


def expect(array: Array, what: str, *, shape: tuple[int | None, ...], dtypes: str) -> None:
    """Raise DataError unless an array has the axes in ``shape`` (None is any size) and a dtype of one of the kinds in ``dtypes``.

    ``dtypes`` holds letters: "u" unsigned, "i" signed, "f" float. ``what`` names the array in the error.
    """
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in dtypes:
        wanted = (
            "("
            + ", ".join("n" if size is None else str(size) for size in shape)
            + ("," if len(shape) == 1 else "")
            + ")"
        )
        kinds = " or ".join({"u": "unsigned integer", "i": "integer", "f": "float"}[letter] for letter in dtypes)
        raise DataError(f"{what} should be {kinds} {wanted}; it is {array.dtype} {array.shape}")


def expect_range(array: Array, what: str, low: int, high: int) -> None:
    """Raise DataError unless all integers in an array lie in low..high, both included. ``what`` names the array in the error."""
    if array.size and (array.min() < low or array.max() > high):
        raise DataError(f"{what} should lie in {low}..{high}; they span {array.min()}..{array.max()}")


def expect_finite(array: Array, what: str) -> None:
    if not np.isfinite(array).all():
        raise DataError(f"{what} holds values that are not finite numbers; fill or drop them in load()")


def answer_finite(answer: Array) -> None:
    bad = int(np.size(answer) - np.isfinite(answer).sum())
    if bad:
        raise InvalidPrediction(
            f"predictions hold {bad} values that are not finite numbers (NaN, infinite, or never written)"
        )


def answer_range(answer: Array, low: int, high: int, what: str) -> None:
    if answer.size and (answer.min() < low or answer.max() > high):
        raise InvalidPrediction(f"{what} should lie in {low}..{high}; they span {answer.min()}..{answer.max()}")

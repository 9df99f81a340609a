"""Tasks in one line from common forms of data: a folder of images, a table of images, a CSV file of a series.

    TASK = harness.image_folder("pets")                        # pets/cat/1.jpg, pets/dog/2.jpg, ...
    TASK = harness.image_table("train.parquet", "test.parquet")  # the columns that hubs use
    TASK = harness.csv_series("load.csv", horizon=24, lookback=168, season=24)

A relative path starts from the folder of the file that the line stands in. Splits are the same at every load. File names, sizes and
times go into `Split.metadata`, where `bakeoff check` looks for leaks; no submission sees them.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import datasets
from harness.contract import Array, Data, Split, Task
from harness.errors import DataError
from harness.kinds.image_classification import ImageClassification
from harness.kinds.sequence_prediction import Forecasting

DEFAULT_SIDE = 64
"""Side in pixels of the squares that images are cropped and scaled to, if they differ in size and no ``size`` is given."""
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
TRAIN, VALID, TEST = ("train", "training"), ("valid", "val", "validation", "dev"), ("test", "testing")
MIN_IMAGES_PER_CLASS = 5
"""Least number of images of a class before images are drawn for missing splits. A small split may still lack a small class."""
PathLike = str | os.PathLike[str]
LabelledImages = tuple[Array, Mapping[str, Array], Sequence[Any]]
"""Images uint8 (n, height, width, channels), facts about them, (n,) by name, and the label of each as it was found."""


def image_folder(
    path: PathLike,
    *,
    name: str | None = None,
    size: int | None = None,
    metric: str = "accuracy",
    valid: float = 0.1,
    test: float = 0.2,
    **more: Any,
) -> Task:
    """Return an image-classification task from a folder with one folder per class, or with ``train`` and ``test`` of such folders.

    ``size`` is the side in pixels that images are cropped and scaled to. Without it, images of one size stay as they are; others
    become 64 x 64. ``valid`` and ``test`` are the shares of images to draw for a split that has no folder. Images have one channel
    if all are grey, else three. ``more`` holds further arguments of `Task`.

    Raises DataError if there is no such folder or fewer than two classes. Loading raises DataError for an image that cannot be read
    and for a class of fewer than five images.
    """
    folder = _resolve(path)
    if not folder.is_dir():
        raise DataError(f"{folder} should be a folder of images; image_table reads a Parquet table")
    parts = _split_folders(folder)
    classes = sorted({child.name for part in parts.values() for child in _subfolders(part)})
    if len(classes) < 2:
        raise DataError(
            f"{folder} should hold a folder of images for each class, two at least (or train/ and test/ with such "
            f"folders); it holds {', '.join(classes) or 'none'}"
        )
    return Task(
        name=name or folder.name,
        kind=ImageClassification(classes=len(classes)),
        load=partial(_load_folder, folder, classes, size, valid, test),
        metric=metric,
        **{"description": f"images to {_class_list(classes)}", **more},
    )


def image_table(
    train: PathLike,
    test: PathLike | None = None,
    *,
    name: str | None = None,
    image: str | None = None,
    label: str | None = None,
    size: int | None = None,
    metric: str = "accuracy",
    valid: float = 0.1,
    share: float = 0.2,
    **more: Any,
) -> Task:
    """Return an image-classification task from Parquet tables of labels and encoded images (bytes, or a struct with ``bytes``).

    ``image`` and ``label`` name the columns; without them the first column of a suitable type is taken. Labels are whole numbers or
    words. Without a ``test`` table, the test split is drawn from ``train``: a ``share`` of its rows; ``valid`` is the share of the
    validation split. ``size`` and ``more`` are as in `image_folder`. Raises DataError for a table without such columns.
    """
    tables = [_resolve(train), *([_resolve(test)] if test is not None else [])]
    classes = sorted(set().union(*(_labels(table, label) for table in tables)))
    return Task(
        name=name or tables[0].parent.name,
        kind=ImageClassification(classes=len(classes)),
        load=partial(_load_tables, tables, classes, image, label, size, valid, share),
        metric=metric,
        **{"description": f"images to {_class_list(classes)}", **more},
    )


def csv_series(
    path: PathLike,
    *,
    horizon: int,
    lookback: int,
    season: int = 1,
    columns: Sequence[str] | None = None,
    name: str | None = None,
    metric: str = "mse",
    valid: float = 0.1,
    test: float = 0.2,
    **more: Any,
) -> Task:
    """Return a forecasting task from a CSV file with one row per step, oldest first: ``lookback`` steps to the next ``horizon``.

    ``columns`` are the variables; without them, all columns of numbers. The last ``test`` share of the rows is the test split, the
    ``valid`` share before it the validation split. Values are standardised with the mean and deviation of the training rows. A
    column of dates must not go back in time. ``season`` is the period in steps for MASE and seasonal entries. ``more`` holds
    further arguments of `Task`. Loading raises DataError for gaps in the numbers.
    """
    file = _resolve(path)
    return Task(
        name=name or file.stem,
        kind=Forecasting(horizon=horizon, season=season),
        load=partial(_load_series, file, columns, lookback, horizon, valid, test),
        metric=metric,
        **{"description": f"{lookback} steps of {file.name} to the next {horizon}", **more},
    )


def _resolve(path: PathLike) -> Path:
    """Return an absolute path. A relative one starts from the folder of the file that called the public function.

    Raises DataError if nothing is there.
    """
    caller = sys._getframe(2).f_globals.get("__file__")
    placed = (Path(caller).parent if caller else Path.cwd()) / path  # an absolute path stays what it is
    if not placed.exists():
        raise DataError(f"there is no {placed}; a relative path starts from the file that names it")
    return placed.resolve()


def _class_list(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:4]))
    return f"{len(names)} classes ({shown}{', ...' if len(names) > 4 else ''})"


# Folders --------------------------------------------------------------------------------------------------------------------


def _subfolders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each split that a folder of images has; without train and test folders it is itself that of train."""
    named = {child.name.lower(): child for child in _subfolders(folder)}
    found = {
        part: named[alias]
        for part, aliases in (("train", TRAIN), ("valid", VALID), ("test", TEST))
        for alias in aliases
        if alias in named
    }
    return found if "train" in found and "test" in found else {"train": folder}


def _load_folder(folder: Path, classes: Sequence[str], size: int | None, valid: float, test: float) -> Data:
    parts = _split_folders(folder)
    files = {
        part: [
            file for child in _subfolders(root) for file in sorted(child.rglob("*")) if file.suffix.lower() in SUFFIXES
        ]
        for part, root in parts.items()
    }
    everything = [file for some in files.values() for file in some]
    if not everything:
        raise DataError(f"{folder} holds no image; known are {', '.join(sorted(SUFFIXES))}")
    images = _decoded([(str(file), file.read_bytes) for file in everything], size)
    stats = [file.stat() for file in everything]
    about = {
        "file_name": np.array([file.name for file in everything]),
        "file_size": np.array([stat.st_size for stat in stats]),
        "modified": np.array([stat.st_mtime for stat in stats]),
    }
    rows: dict[str, LabelledImages] = {}
    start = 0
    for part, some in files.items():
        end = start + len(some)
        own = [file.relative_to(parts[part]).parts[0] for file in some]
        rows[part] = images[start:end], {key: values[start:end] for key, values in about.items()}, own
        start = end
    return _split(rows, classes, valid, test, str(folder))


# Tables ---------------------------------------------------------------------------------------------------------------------


def _columns(file: Path, image: str | None, label: str | None) -> tuple[str, str]:
    """Return the names of the image and the label column of a Parquet file: the given ones, or the first of a suitable type.

    Raises DataError if there is no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as a Parquet table: {error}") from error

    def is_image(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def is_label(kind: Any) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))

    images = [field.name for field in schema if is_image(field.type)]
    labels = sorted((field.name for field in schema if is_label(field.type)), key=lambda name: "label" not in name)
    chosen = image or next(iter(images), None), label or next(iter(labels), None)
    for column, what in zip(chosen, ("images", "labels"), strict=True):
        if column is None or column not in schema.names:
            raise DataError(
                f"{file} should have a column of {what}{f' {column}' if column else ''}; it has {', '.join(schema.names)}"
            )
    return str(chosen[0]), str(chosen[1])


def _labels(file: Path, label: str | None) -> set[Any]:
    import pyarrow.parquet as pq

    column = _columns(file, None, label)[1]
    return set(pq.read_table(file, columns=[column])[column].to_pylist())


def _load_tables(
    files: Sequence[Path],
    classes: Sequence[Any],
    image: str | None,
    label: str | None,
    size: int | None,
    valid: float,
    test: float,
) -> Data:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded: list[tuple[str, Any]] = []
    found: list[tuple[int, Mapping[str, Array], Sequence[Any]]] = []
    for file in files:
        images, labels = _columns(file, image, label)
        table = pq.read_table(file, columns=[images, labels])
        column = table[images].combine_chunks()
        is_struct = pa.types.is_struct(column.type)
        contents = (column.field("bytes") if is_struct else column).to_pylist()
        about: dict[str, Array] = {"file_size": np.array([len(content or b"") for content in contents])}
        if is_struct and "path" in [field.name for field in column.type]:
            about["file_name"] = np.array([path or "" for path in column.field("path").to_pylist()])
        encoded += [
            (f"row {row} of {file.name}", partial(bytes, content or b"")) for row, content in enumerate(contents)
        ]
        found.append((len(contents), about, table[labels].to_pylist()))
    pictures = _decoded(encoded, size)
    rows: dict[str, LabelledImages] = {}
    start = 0
    for part, (count, facts, own) in zip(("train", "test"), found):
        rows[part] = pictures[start : start + count], facts, own
        start += count
    return _split(rows, classes, valid, test, files[0].name)


# Images ---------------------------------------------------------------------------------------------------------------------


def _decoded(sources: Sequence[tuple[str, Any]], size: int | None) -> Array:
    """Return decoded images, uint8 (n, height, width, channels), cropped and scaled to ``size`` pixels a side if it is not None.

    ``sources`` are pairs of a name for errors and a function that returns the encoded bytes. Raises DataError if one is unreadable.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    def decode(source: tuple[str, Any]) -> Any:
        what, read = source
        try:
            with Image.open(io.BytesIO(read())) as picture:
                upright: Any = ImageOps.exif_transpose(picture)
                grey = upright.mode in ("1", "L", "I", "F") or upright.mode.startswith("I;")
                plain = upright.convert("L" if grey else "RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
            raise DataError(f"{what} cannot be read as an image: {error}; mend it or take it out") from error
        return plain if size is None else ImageOps.fit(plain, (size, size), Image.Resampling.BICUBIC)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the interpreter's lock
        decoded = list(pool.map(decode, sources, chunksize=64))
        if len({picture.size for picture in decoded}) > 1:
            decoded = list(
                pool.map(
                    lambda picture: ImageOps.fit(picture, (DEFAULT_SIDE, DEFAULT_SIDE), Image.Resampling.BICUBIC),
                    decoded,
                )
            )
    if len({picture.mode for picture in decoded}) > 1:
        decoded = [picture.convert("RGB") for picture in decoded]
    stacked = np.stack([np.asarray(picture) for picture in decoded])
    return stacked[..., None] if stacked.ndim == 3 else stacked


def _split(rows: Mapping[str, LabelledImages], classes: Sequence[Any], valid: float, test: float, where: str) -> Data:
    """Return the data of a task: splits in ``rows`` as they are, missing ones drawn from train, with the same share of every class.

    ``valid`` and ``test`` are the shares to draw; ``where`` names the source in errors. Raises DataError for a class that is too
    small.
    """
    place = {label: number for number, label in enumerate(classes)}
    parts = {
        part: Split(x, np.array([place[label] for label in own], dtype=np.int64), None, about)
        for part, (x, about, own) in rows.items()
    }
    train = parts["train"]
    counts = np.bincount(train.labels, minlength=len(classes))
    if counts.min() < MIN_IMAGES_PER_CLASS:
        few = ", ".join(
            f"{classes[place]} ({counts[place]})" for place in np.flatnonzero(counts < MIN_IMAGES_PER_CLASS)[:5]
        )
        raise DataError(
            f"every class of {where} should have {MIN_IMAGES_PER_CLASS} images to learn from at least; these have fewer: {few}"
        )
    drawn = datasets.stratified(
        np.arange(len(train)),
        train.labels,
        valid=0.0 if "valid" in parts else valid,
        test=0.0 if "test" in parts else test,
    )
    made = {part: _take(train, getattr(drawn, part).x) for part in ("train", "valid", "test")}
    return Data(made["train"], parts.get("valid", made["valid"]), parts.get("test", made["test"]))


def _take(split: Split, rows: Array) -> Split:
    return Split(split.x[rows], split.labels[rows], None, {key: values[rows] for key, values in split.metadata.items()})


# Series ---------------------------------------------------------------------------------------------------------------------


def _load_series(
    file: Path, columns: Sequence[str] | None, lookback: int, horizon: int, valid: float, test: float
) -> Data:
    import pandas as pd

    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as CSV: {error}") from error
    for column in table.columns.difference(list(columns or ())):
        if not pd.api.types.is_numeric_dtype(table[column]):
            times = pd.to_datetime(table[column], errors="coerce", format="mixed")
            if times.notna().all() and not times.is_monotonic_increasing:
                row = int((times.diff() < pd.Timedelta(0)).to_numpy().argmax())
                raise DataError(
                    f"{file} should have its oldest row first; {column} goes back in time at row {row}; sort it"
                )
    missing = [column for column in columns or () if column not in table.columns]
    if missing:
        raise DataError(f"{file} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    chosen = table[list(columns)] if columns else table.select_dtypes("number")
    if not chosen.shape[1]:
        raise DataError(f"{file} should have columns of numbers; it has {', '.join(map(str, table.columns))}")
    try:
        series = chosen.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the columns {', '.join(chosen.columns)} of {file} should be numbers: {error}") from error
    if not np.isfinite(series).all():
        row, column = np.argwhere(~np.isfinite(series))[0]
        raise DataError(f"{file} has a gap at row {row}, column {chosen.columns[column]}; fill it or cut it off")
    rows = len(series)
    bounds = [round((1 - valid - test) * rows), round((1 - test) * rows), rows]
    train = series[: bounds[0]]
    scale = train.std(axis=0)
    return datasets.windows(
        (series - train.mean(axis=0)) / np.where(scale > 0, scale, 1.0),
        lookback=lookback,
        horizon=horizon,
        bounds=bounds,
    )

"""`bakeoff submit` and `bakeoff data`: score a file of predictions, and write the data that a competitor needs to make it.

A file is not trusted. Its rows are matched with the hidden test by id, and it is scored like any other entry.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.contract import Array, Kind, OutputSpec
from harness.dispatch import Progress
from harness.errors import InvalidPrediction, TrialFailed, UsageError
from harness.evaluation.provenance import versions
from harness.evaluation.task_data import TaskData
from harness.plugins import registry
from harness.plugins.source import title
from harness.scoring import ScoredAnswer
from leaderboard import Result, Store, rank
from leaderboard.result import Status, content_key
from leaderboard.statistics.ranking import score_interval
from leaderboard.store.secret import new_secret
from leaderboard.store.store import utc_timestamp

MAX_IDS_SHOWN = 5
MAX_BYTES_PER_VALUE = 64
"""Most bytes that a file of predictions may use for a value. A larger file is not read."""


def submit(
    task: str,
    file: str | Path,
    name: str,
    *,
    home: str | Path = ".bakeoff",
    store: str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Score a file of predictions, record it as the entry ``name``, and return a list of its row, like that of `harness.run`.

    Raises UsageError for a wrong name or file; nothing is recorded then. A file cannot be queried again, so kinds that verify
    answers by further queries, such as next-token tasks, take no files.
    """
    progress = progress or Progress()
    path = Path(file)
    wanted = re.sub(r"[^\w-]+", "-", title(name)).strip("-")
    if not name or name != wanted:
        raise UsageError(f"a name should be lower case with hyphens; did you mean {wanted or 'my-model'!r}?")
    if name in registry.submissions(progress.note):
        raise UsageError(f"{name} is the name of a submission that ships or is installed; choose another")
    found = registry.find_task(task, progress.note).task
    if type(found.kind).queries is not Kind.queries:
        raise UsageError(
            f"{found.name} verifies predictions by asking again with changed inputs, which a file cannot answer; submit a plug-in"
        )
    check_file(path)
    results, task_data = Store(Path(home), url=store), None
    try:
        task_data = TaskData(found, results.secret)
        test = task_data.data.test
        answer, digest = read_hashed(path, found.kind.output_specs(test.x))
        found.kind.verify(answer, test.x)
        scored = task_data.scorer.test(answer)
        result = scored_result(task_data, name, digest, scored, answer)
        results.add(result, scored.replicates)  # type: ignore[arg-type]  # a float32 array is a sequence of floats
        picture = found.kind.draw(answer, test)
        if picture:
            results.keep(result.result_id, "picture.png", picture)
        return [
            row
            for row in rank(results.standing(found.name, [result.result_id]), [result.result_id])
            if row["result_id"] == result.result_id
        ]
    except InvalidPrediction as error:
        raise UsageError(f"{path}: {error}") from error
    except TrialFailed as error:
        raise UsageError(f"{path}: {error}") from error
    finally:
        if task_data:
            task_data.close()
        results.close()


def scored_result(task_data: TaskData, name: str, digest: str, scored: ScoredAnswer, answer: Array) -> Result:
    """Return the complete result of a file's scored answer, to be recorded. ``digest`` is the SHA-256 of the file."""
    task = task_data.task
    key = content_key(task.name, task.version, task_data.sha256, name, digest)
    blank = Result(
        content_key(key, 0)[:12],
        key,
        task.name,
        task.version,
        task.kind.name,
        name,
        task.metric,
        task.ranking.higher_is_better,
        Status.COMPLETE,
        score=scored.score,
        seeds=[scored.score],
        units=max(len(task_data.data.test) // task.kind.block, 1),
    )
    low, high = score_interval(blank, scored.replicates, scored.losses)
    return replace(
        blank,
        score_std=0.0,
        ci_low=low,
        ci_high=high,
        public_score=scored.public,
        private_score=scored.private,
        metrics=scored.metrics,
        remarks=list(task.kind.flags(scored.metrics)),
        references=task_data.references,
        device="none",
        isolation="file",
        source_sha256=digest,
        data_sha256=task_data.sha256,
        secret_id=task_data.secret_id,
        versions=versions(),
        created_at=utc_timestamp(),
    )


def check_file(path: Path) -> Path:
    """Return the path of a file of predictions. Raises UsageError unless it is a readable .csv, .parquet or .npy file."""
    if path.suffix not in (".csv", ".parquet", ".npy"):
        raise UsageError(
            f"predictions should be a .csv, .parquet or .npy file; {path.name} ends in {path.suffix or 'nothing'!r}"
        )
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} should be a plain file{'; it is a link' if stat.S_ISLNK(mode) else ''}")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read: permission denied")
    return path


def read(path: Path, specs: Sequence[OutputSpec]) -> Array:
    """Return the predictions in a file as an array that matches one of the output ``specs``, in the order of ids.

    Raises UsageError, with what was expected and what came, if the file is too large, cannot be read or matches no spec.
    """
    return read_hashed(path, specs)[0]


def read_hashed(path: Path, specs: Sequence[OutputSpec]) -> tuple[Array, str]:
    """Return the predictions of `read` and the SHA-256 of the file. It is read once: what is hashed is what is scored."""
    values = max(int(np.prod(spec.shape, dtype=np.int64)) for spec in specs)
    content = read_bytes(path, values * MAX_BYTES_PER_VALUE + (1 << 20))
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit its dtype is refused by Kind.verify
            parse = _npy if path.suffix == ".npy" else _table
            return parse(path, content, specs), hashlib.sha256(content).hexdigest()
    except UsageError:
        raise
    except Exception as error:  # parsers raise what they like
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{path} cannot be read as {path.suffix[1:]}: {reason or type(error).__name__}") from error


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a plain file of at most ``limit`` bytes. Raises UsageError for a link too: it could lead to labels."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{path} should be a plain file")
        if size > limit:
            raise UsageError(f"{path} has {size:,} bytes; predictions for this task need at most {limit:,}")
        return file.read(limit)


def _npy(path: Path, content: bytes, specs: Sequence[OutputSpec]) -> Array:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are not read")
    given = np.broadcast_to(np.zeros((), dtype), shape)  # takes no memory, whatever shape the header claims
    for spec in specs:
        if spec.accepts(given):
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), dtype=spec.dtype)
    raise UsageError(f"{path} should hold {' or '.join(map(str, specs))}; it holds {dtype} {shape}")


def _table(path: Path, content: bytes, specs: Sequence[OutputSpec]) -> Array:
    import pandas as pd

    n = specs[0].shape[0]
    columns = 1 + max(int(np.prod(spec.shape[1:], dtype=np.int64)) for spec in specs)
    if path.suffix == ".parquet":
        _parquet_fits(path, content, n, columns)
        frame = pd.read_parquet(io.BytesIO(content))
    else:
        _csv_fits(path, content, n, columns)
        frame = pd.read_csv(io.BytesIO(content))
    if "id" not in frame.columns:
        raise UsageError(f"{path} should have a column called id; it has {', '.join(map(str, frame.columns[:8]))}")
    if frame.empty:
        raise UsageError(f"{path} has no rows; it should have one for each of the {specs[0].shape[0]} test inputs")
    ids = frame["id"]
    if not pd.api.types.is_integer_dtype(ids):
        raise UsageError(f"{path}: ids should be the whole numbers 0 to {n - 1}, none missing")
    present = ids.to_numpy(dtype=np.int64)
    _refuse_ids(path, "given twice", np.unique(present[frame["id"].duplicated().to_numpy()]))
    _refuse_ids(path, f"not of this task, whose ids are 0 to {n - 1}", np.setdiff1d(present, np.arange(n)))
    _refuse_ids(path, "missing", np.setdiff1d(np.arange(n), present))
    values = frame.drop(columns="id")
    text = [str(column) for column in values.columns if not pd.api.types.is_numeric_dtype(values[column])]
    if text:
        raise UsageError(f"{path}: column {text[0]!r} should hold numbers")
    empty = int(values.isna().to_numpy().sum())
    if empty:
        raise UsageError(f"{path} has {empty} empty or NaN values; every id needs a prediction")
    ordered = values.to_numpy()[np.argsort(present)]
    for spec in specs:
        if ordered.shape[1] == int(np.prod(spec.shape[1:], dtype=np.int64)):
            whole = np.dtype(spec.dtype).kind in "iu"
            if whole and not np.array_equal(ordered, np.trunc(ordered)):
                raise UsageError(f"{path}: {spec.name} should be whole numbers")
            if np.dtype(spec.dtype) == np.uint8 and (ordered.min() < 0 or ordered.max() > 255):
                raise UsageError(f"{path}: {spec.name} should lie in 0..255")
            return np.asarray(ordered.reshape(spec.shape), dtype=spec.dtype)
    wanted = " or ".join(f"{int(np.prod(spec.shape[1:], dtype=np.int64))} ({spec.name})" for spec in specs)
    raise UsageError(f"{path} should have {wanted} columns beside id; it has {ordered.shape[1]}")


def _csv_fits(path: Path, content: bytes, n: int, columns: int) -> None:
    """Raise UsageError if a CSV file has more than ``2 * n`` rows, for ``n`` ids, or far more than the expected ``columns``.

    A parser takes a hundred times the file's size for a line of commas.
    """
    rows = content.count(b"\n") + content.count(b"\r")
    if rows > 4 * n + 100:
        raise UsageError(f"{path} has {rows:,} lines; this task has {n:,} ids")
    widest = max((line.count(b",") for line in content.splitlines()), default=0) + 1
    if widest > 2 * columns + 100:
        raise UsageError(
            f"{path} has a line of {widest:,} cells; predictions for this task need at most {columns:,} columns"
        )


def _parquet_fits(path: Path, content: bytes, n: int, columns: int) -> None:
    """Raise UsageError if a Parquet file has more than ``2 * n`` rows, for ``n`` ids, or far more than the expected ``columns``.

    It is raised also for a column that does not hold numbers. Only the metadata are read: a small file could be large in memory, as
    a run of equal values takes no space in Parquet. Its parts are counted, because the sum that it states may be another.
    """
    import pyarrow.parquet as pq
    from pyarrow import types

    file = pq.ParquetFile(io.BytesIO(content))
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    rows = max(file.metadata.num_rows, sum(group.num_rows for group in groups))
    if rows > 2 * n:
        raise UsageError(f"{path} has {rows:,} rows; this task has {n:,} ids")
    if len(file.schema_arrow) > 2 * columns + 100:
        raise UsageError(
            f"{path} has {len(file.schema_arrow):,} columns; predictions for this task need at most {columns:,}"
        )
    for column in file.schema_arrow:
        if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
            raise UsageError(f"{path}: column {column.name!r} should hold numbers")
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    if any(chunk.num_values > 2 * n for chunk in chunks):
        raise UsageError(f"{path} has a column of more than {2 * n:,} values; this task has {n:,} ids")


def _refuse_ids(path: Path, what: str, ids: Array) -> None:
    """Raise UsageError that names the first of the wrong ``ids``, if there are any. ``what`` says what is wrong with them."""
    if len(ids):
        more = f" and {len(ids) - MAX_IDS_SHOWN:,} more" if len(ids) > MAX_IDS_SHOWN else ""
        raise UsageError(f"{path}: ids {what}: {', '.join(map(str, ids[:MAX_IDS_SHOWN]))}{more}")


def export(task: str, out: str | Path, *, progress: Progress | None = None) -> list[Path]:
    """Write the data of a task that a competitor may see as .npy files to the folder ``out``, and return their paths.

    The arrays are train and valid with targets, the test inputs, and a sample of predictions. Raises UsageError if it cannot write.
    """
    found = registry.find_task(task, (progress or Progress()).note).task
    task_data = TaskData(found, new_secret())  # nothing is scored here
    try:
        data, folder = task_data.data, Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        specs = found.kind.output_specs(data.test.x)
        arrays = {
            "train_x": data.train.x,
            "train_y": data.train.labels,
            "valid_x": data.valid.x,
            "valid_y": data.valid.labels,
            "test_x": data.test.x,
            "sample_predictions": np.zeros(specs[-1].shape, specs[-1].dtype),
        }
        written = []
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
            written.append(folder / f"{name}.npy")
        return written
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        task_data.close()

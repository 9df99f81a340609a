"""Time of boards by size: ``bakeoff leaderboard TASK`` on stores of 1,000 to 1,000,000 results; 20 boards of 1,000 entries ranked,
and their pages built.

``python benchmarks/boards.py [--largest 1000000]``. Results are made up, with rows of realistic size, on 20 tasks, of 100
submissions with many runs each. Times are of whole commands, the median of five.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import versus

from leaderboard import Result, Store, rank

TASKS, SUBMISSIONS, DRAWS, ROUNDS = 20, 100, 1000, 5
SQL = (
    "INSERT INTO results (result_id, entry, task, task_version, submission, status, score, row, replicates, created_at) "
    "VALUES (?, ?, ?, 1, ?, 'complete', ?, ?, ?, ?)"
)


def row(result_id: str, task: str, submission: str, score: float, at: str) -> Result:
    """Make a row of the size of a real one."""
    return Result(
        result_id,
        result_id,
        task,
        1,
        "image-classification",
        submission,
        "accuracy",
        True,
        "complete",
        score=score,
        ci_low=score - 0.02,
        ci_high=score + 0.02,
        seeds=[score - 0.003, score, score + 0.003],
        seed_interaction=1e-6,
        units=1000,
        valid_score=score,
        metrics={"accuracy": score, "balanced_accuracy": score, "log_loss": 0.3, "calibration_error": 0.02},
        params={"learning_rate": 0.001, "width": 128, "dropout": 0.1},
        summary="Sequential(...)\n" * 15,
        fit_seconds=1.0,
        predict_seconds=0.1,
        peak_memory_mb=200.0,
        n_parameters=10_000,
        versions={f"library-{number}": "1.2.3" for number in range(10)},
        source_sha256="0" * 64,
        data_sha256="0" * 64,
        created_at=at,
    )


def fill(home: Path, results: int, submissions: int) -> None:
    """Write a store of ``results`` results in one transaction."""
    rng = np.random.default_rng(0)
    with closing(Store(home)) as store:
        connection = store.database.connection  # type: ignore[attr-defined]
        connection.execute("BEGIN")
        for number in range(results):
            task, turn = f"task-{number % TASKS}", number // TASKS
            score = float(rng.uniform(0.5, 0.99))
            drawn = (score + 0.01 * rng.standard_normal(DRAWS, dtype=np.float32)).tobytes()
            made = row(f"{number:012d}", task, f"entry-{turn % submissions}", score, f"2026-01-01T{number:012d}")
            values = (
                made.result_id,
                made.entry,
                task,
                made.submission,
                made.score,
                json.dumps(made.row()),
                drawn,
                made.created_at,
            )
            connection.execute(SQL, values)
        connection.execute("COMMIT")


def command_seconds(home: Path) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "harness.cli", "leaderboard", "task-7", "--home", str(home)],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def rank_seconds(home: Path) -> tuple[float, float]:
    """Seconds to read all boards, and seconds to rank them."""
    with closing(Store(home)) as store:
        started = time.perf_counter()
        boards = [store.standing(f"task-{number}") for number in range(TASKS)]
        read = time.perf_counter() - started
        rank(boards[0][:10])  # warm up: this first call imports
        started = time.perf_counter()
        for results in boards:
            rank(results)
        return read, time.perf_counter() - started


def site_seconds(home: Path) -> tuple[float, float, int]:
    """Seconds of a first `bakeoff site`, seconds of a second one that lacks one page, and the number of pages."""
    command = [sys.executable, "-m", "harness.cli", "site", "--home", str(home), "--out", str(home / "site")]
    times = []
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
        pages = sorted((home / "site").rglob("*.html"))
        pages[0].unlink()
    return times[0], times[1], len(pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"## Boards of many results\n\n{versus.machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), 1000 * TASKS, 1000)
        read, ranked = rank_seconds(Path(folder))
        print(f"{TASKS} boards of 1,000 entries each: read in {read:.2f} s, ranked in {ranked:.2f} s.", flush=True)
        whole, again, pages = site_seconds(Path(folder))
    print(f"`bakeoff site` writes their {pages:,} pages in {whole:.1f} s; again, one missing, in {again:.1f} s.\n")
    print("| results in the store | entries on the board | `bakeoff leaderboard TASK` |\n|---|---|---|")
    sizes = [10**power for power in range(3, 7) if 10**power <= options.largest]
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), size, SUBMISSIONS)
            print(
                f"| {size:,} | {min(SUBMISSIONS, size // TASKS)} | {command_seconds(Path(folder)):.3f} s |", flush=True
            )


if __name__ == "__main__":
    main()

"""Cost of a sandbox: the start of one submission and one trial, in each tier of this machine, beside an ordinary process.

``python benchmarks/isolation.py [--rounds N]`` prints medians and quartiles in milliseconds, and the difference from tier "process"
of the same round. Tiers take turns, so that other load on the machine falls on all of them. The submission needs numpy alone
(``--torch`` imports torch as well); its fit and its predictions take microseconds, so a trial's time is the harness's own.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import Data, ImageClassification, Split
from harness.errors import UsageError
from harness.execution.parent import isolation
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.workers import Worker, WorkerConfig
from harness.plugins.bundle import bundle
from harness.plugins.source import read_submission

SUBMISSION = """
import numpy as np
from harness import Submission

class Zeros(Submission):
    kind = "image-classification"

    def fit(self, train, valid, report):
        pass

    def predict(self, x):
        return np.zeros(len(x), dtype=np.int64)
"""
TRIALS = 20


def data() -> Data:
    x, y = np.zeros((1000, 8, 8, 1), dtype=np.uint8), np.arange(1000) % 10
    return Data(Split(x, y), Split(x, y), Split(x, y))


def start_and_trials(
    path: Path, tier: isolation.Isolation, kind: ImageClassification, shared: SharedInputs
) -> tuple[float, float]:
    """Seconds until a new process has imported the submission, and seconds a trial: fork, fit, predict, end."""
    question = np.zeros((1000, 8, 8, 1), dtype=np.uint8)
    began = time.perf_counter()
    with Worker(bundle(read_submission(path)), WorkerConfig(tier)) as worker:
        worker.ready()
        ready = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(TRIALS):
            with worker.trial({}, shared, seed=0, device="cpu", time_limit=60) as trial:
                trial.fit()
                trial.predict(question, kind)
        return ready, (time.perf_counter() - began) / TRIALS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--torch", action="store_true")
    options = parser.parse_args()
    kind = ImageClassification(classes=10)
    inputs = data()
    shared = SharedInputs.of(inputs.train, inputs.valid, kind)
    tiers = [isolation.Isolation()]
    for name in isolation.TIERS[:2]:
        try:
            tiers.append(isolation.choose(name))
        except UsageError as error:
            print(f"{name}: {error}")
    times: dict[str, list[tuple[float, float]]] = {tier.name: [] for tier in tiers}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "zeros.py")
        path.write_text(("import torch\n" if options.torch else "") + SUBMISSION)
        for number in range(options.rounds + 1):
            for tier in tiers:
                measured = start_and_trials(path, tier, kind, shared)
                if number:  # the first round warms the caches of the machine
                    times[tier.name].append(measured)
    shared.close()
    print("## What a sandbox costs\n\n```")
    print(
        f"{platform.machine()}, {platform.platform()}, Python {platform.python_version()}; {options.rounds} rounds, ms"
    )
    print(f"{'tier':<12}{'start':>24}{'more than process':>20}{'one trial':>24}{'more than process':>20}")
    for name, rows in times.items():
        cells = [f"{name:<12}"]
        for column in (0, 1):
            values = [1000 * row[column] for row in rows]
            low, middle, high = statistics.quantiles(values, n=4)
            more = statistics.median(
                1000 * (a[column] - b[column]) for a, b in zip(rows, times["process"], strict=True)
            )
            cells += [f"{middle:>10.1f} ({low:.1f}–{high:.1f})".rjust(24), f"{more:+.1f}".rjust(20)]
        print("".join(cells))
    print("```")


if __name__ == "__main__":
    main()

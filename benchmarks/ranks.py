"""Simulate boards of equally good entries, to measure what ranks and intervals promise.

``python benchmarks/ranks.py [--boards 1000] [--only NAME ...] [--quick] [--keep FILE]``. Each regime is a kind of board: number
of entries, seeds and hidden samples, spread of the seeds, distribution and dependence of the losses. Losses are random and go
through the library's own functions: bootstrap samples, `score_interval`, `board_pairs`, `Pairs.significant_pairs`. Printed for
each regime, with one Monte Carlo standard error:

- FWER: share of boards on which any two entries count as different, although all are equally good. The promise is at most .05.
- coverage: share of 95 % intervals that contain the true score.
- power: share of the other entries that count as different from one that is ahead by 3.7 standard errors of a difference.

Results are appended to the JSON-lines file ``--keep`` in batches, with a hash of the code that made them. A second run continues.
Set OMP_NUM_THREADS=1: boards are small.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm

import harness.scoring
import leaderboard.statistics.inference
from harness.scoring import bootstrap_samples
from leaderboard import Result
from leaderboard.statistics.inference import seed_variances
from leaderboard.statistics.ranking import MIN_RANKED_UNITS, board_pairs, score_interval
from leaderboard.statistics.variance import independent_units

Array = NDArray[Any]

DRAWS = 1000
BATCH_VALUES = 1_000_000
"""Number of losses that are drawn at once."""
LEAD = 3.7
"""Lead of the best entry, where power is measured, in standard errors of a difference."""
PILOT_BOARDS = 400
"""Number of boards from which the standard error of a difference is computed."""
SCENE = 10
"""Number of neighbouring chunks of text that have something in common."""
HARDNESS, OWN = 1.0, 0.6
"""Standard deviations of the difficulty of a sample, which all entries share, and of an entry's own noise."""


@dataclass(frozen=True)
class Regime:
    """Boards of one kind. ``draw`` (generator, regime, boards) returns losses (boards, entries, seeds, n).

    ``seed_sds`` has the seed standard deviation of each entry; a single one is that of all. ``block`` is that of the task's kind.
    ``judged`` is the number of entries, from the first on, that are equally good; None for all.
    """

    name: str
    draw: Callable[[np.random.Generator, Regime, int], Array]
    truth: float = 1.0
    entries: int = 5
    seeds: int = 3
    n: int = 540
    seed_sds: tuple[float, ...] = (0.0,)
    block: int = 1
    horizon: int = 1
    correlation: float = 0.0
    judged: int | None = None

    @property
    def batch(self) -> int:
        """Number of boards in one batch."""
        return max(min(BATCH_VALUES // (self.entries * self.seeds * self.n), 100), 1)


# Losses ----------------------------------------------------------------------------------------------------------------------


def normals(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def seed_spread(regime: Regime) -> Array:
    """Return the seed standard deviations (entries, 1, 1) of a regime."""
    sds = np.array(regime.seed_sds, dtype=np.float32)
    return (np.repeat(sds, regime.entries) if len(sds) == 1 else sds[: regime.entries])[:, None, None]


def right_answers(rng: np.random.Generator, regime: Regime, boards: int, sds: Array | None = None) -> Array:
    """Draw zeros and ones by a probit model: difficulty of a sample, noise of an entry, quality of a seed."""
    entries, seeds, n = regime.entries, regime.seeds, regime.n
    sds = seed_spread(regime) if sds is None else sds
    latent = OWN * normals(rng, boards, entries, seeds, n)
    latent += HARDNESS * normals(rng, boards, 1, 1, n)
    latent += sds * normals(rng, boards, entries, seeds, 1)
    threshold = norm.ppf(regime.truth) * np.sqrt(HARDNESS**2 + OWN**2 + sds**2)
    return np.asarray(latent < threshold, dtype=np.float32)


def mixed_stability(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw zeros and ones from entries whose seed standard deviations are log-uniform between two bounds."""
    low, high = np.log(regime.seed_sds)
    sds = np.exp(rng.uniform(low, high, (boards, regime.entries, 1, 1))).astype(np.float32)
    return right_answers(rng, regime, boards, sds)


def skewed(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw log-normal losses of mean 1, with seeds that scale them."""
    entries, seeds, n = regime.entries, regime.seeds, regime.n
    losses = np.exp(0.7 * normals(rng, boards, 1, 1, n) + 0.2 * normals(rng, boards, entries, seeds, n) - 0.265)
    return np.asarray(losses * (1 + seed_spread(regime) * normals(rng, boards, entries, seeds, 1)))


def heavy(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw squared errors of mean 1 whose errors are sums of Student's t with 3 degrees of freedom."""
    shared = rng.standard_t(3, (boards, 1, 1, regime.n)) * math.sqrt(0.7 / 3)
    own = rng.standard_t(3, (boards, regime.entries, regime.seeds, regime.n)) * math.sqrt(0.3 / 3)
    return np.asarray(np.square(shared + own), dtype=np.float32)


def confident_errors(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw a log-loss of .02 on 98 % of the samples and of 8 on the others."""
    right = right_answers(rng, replace(regime, truth=0.98), boards)
    return np.where(right > 0, np.float32(0.02), np.float32(8.0))


def autoregressive(rng: np.random.Generator, correlation: float, *shape: int) -> Array:
    """Draw stationary AR(1) series of variance 1 along the last axis."""
    noise = normals(rng, *shape)
    noise[..., 1:] *= math.sqrt(1 - correlation**2)
    return np.asarray(lfilter([1.0], [1.0, -correlation], noise, axis=-1))


def windows(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw mean squared errors of overlapping windows, mean 1. Errors of two entries are correlated .8."""
    entries, seeds, horizon = regime.entries, regime.seeds, regime.horizon
    steps = regime.n + horizon - 1
    errors = math.sqrt(0.8) * autoregressive(rng, regime.correlation, boards, 1, 1, steps)
    own = 0.2 if seeds == 1 else 0.15
    errors = errors + math.sqrt(own) * autoregressive(rng, regime.correlation, boards, entries, 1, steps)
    if seeds > 1:
        errors = errors + math.sqrt(0.05) * autoregressive(rng, regime.correlation, boards, entries, seeds, steps)
    total = np.cumsum(np.square(errors, dtype=np.float64), axis=-1)
    total[..., horizon:] -= total[..., :-horizon].copy()
    return np.asarray(total[..., horizon - 1 :] / horizon, dtype=np.float32)


def chunks(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw losses of neighbouring chunks of text, mean 1, with autocorrelations near .69, .61, .53, which Kneser-Ney's have.

    They are .70, .62, .55, and 0 from lag 10 on; with a ``correlation`` of .88 they are .69, .60, .53, and do not end.
    """

    def series(*shape: int) -> Array:
        if regime.correlation:
            slow = autoregressive(rng, regime.correlation, *shape)
        else:
            total = np.cumsum(normals(rng, *shape[:-1], shape[-1] + SCENE), axis=-1)
            slow = (total[..., SCENE:] - total[..., :-SCENE]) / math.sqrt(SCENE)
        return np.asarray(math.sqrt(0.78) * slow + math.sqrt(0.22) * normals(rng, *shape))

    shared = math.sqrt(0.9) * series(boards, 1, 1, regime.n)
    own = math.sqrt(0.08) * series(boards, regime.entries, 1, regime.n)
    seeds = math.sqrt(0.02) * series(boards, regime.entries, regime.seeds, regime.n)
    return np.asarray(1 + 0.1 * (shared + own + seeds), dtype=np.float32)


def with_wild_entry(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw skewed losses; those of the last entry are 1e18 times as large."""
    losses = skewed(rng, regime, boards)
    losses[:, -1] *= np.float32(1e18) if regime.entries > (regime.judged or regime.entries) else 1
    return losses


def with_one_wild_sample(rng: np.random.Generator, regime: Regime, boards: int) -> Array:
    """Draw skewed losses; one loss of the last entry is 1e18."""
    losses = skewed(rng, regime, boards)
    if regime.entries > (regime.judged or regime.entries):
        losses[:, -1, :, 0] = 1e18
    return losses


# Regimes ---------------------------------------------------------------------------------------------------------------------

UNSTABLE = 0.5
"""Seed standard deviation of an unstable entry in the probit model; .05 is that of a stable one."""
USUAL = 0.087
"""Seed standard deviation in the probit model that moves an accuracy of .9 by .013."""


def regimes() -> Iterator[Regime]:
    """Yield all regimes, in the order of the table."""

    def accuracy(name: str, **changes: Any) -> Regime:
        settings: dict[str, Any] = {"truth": 0.9, "seed_sds": (USUAL,)} | changes
        return Regime(name, right_answers, **settings)

    for entries in (2, 3, 4, 5, 8, 12, 20, 50, 100):
        yield accuracy(f"accuracy .9, seed sd .013, {entries} entries", entries=entries)
    for seeds, entries in ((2, 3), (2, 5), (2, 8), (5, 5), (5, 12)):
        yield accuracy(f"accuracy .9, seed sd .013, {entries} entries, {seeds} seeds", entries=entries, seeds=seeds)
    for entries in (2, 5, 20):
        yield accuracy(f"accuracy .9, {entries} fits, 1 seed", entries=entries, seeds=1, seed_sds=(0.0,))
    for entries in (2, 5, 20):
        yield accuracy(f"seeds alike but for noise, {entries} entries", entries=entries, seed_sds=(0.0,))
        yield accuracy(f"seed sd .004, as their noise, {entries} entries", entries=entries, seed_sds=(0.027,))
    for entries, seeds in ((2, 3), (3, 3), (5, 2), (5, 3), (5, 5), (10, 2), (10, 3), (10, 5), (20, 3)):
        yield accuracy(
            f"{entries - 1} stable and 1 unstable, {seeds} seeds",
            entries=entries,
            seeds=seeds,
            seed_sds=(0.05,) * (entries - 1) + (UNSTABLE,),
        )
    yield accuracy("4 stable and 1 three times as unstable, 3 seeds", seed_sds=(0.05,) * 4 + (0.15,))
    yield accuracy("7 stable and 3 unstable, 3 seeds", entries=10, seed_sds=(0.05,) * 7 + (UNSTABLE,) * 3)
    for entries, seeds in ((5, 3), (20, 2), (20, 3), (20, 5)):
        yield Regime(
            f"seed sds log-uniform .01 to .5, {entries} entries, {seeds} seeds",
            mixed_stability,
            0.9,
            entries,
            seeds,
            seed_sds=(0.01, 0.5),
        )
    for n in (20, 100, 5000):
        yield accuracy(f"accuracy .9, n {n:,}", n=n)
    yield accuracy("accuracy .9, n 20, 1 seed", n=20, seeds=1, seed_sds=(0.0,))
    for truth, n in ((0.99, 200), (0.01, 200), (0.999, 1000), (0.5, 50)):
        yield accuracy(f"accuracy {truth:g}, n {n:,}".replace("0.", "."), truth=truth, n=n)
    yield Regime("log-normal losses, seed sd .03", skewed, seed_sds=(0.03,))
    yield Regime("log-normal losses, seed sd .03, 20 entries", skewed, entries=20, seed_sds=(0.03,))
    for n in (20, 540):
        yield Regime(f"squared t3 errors, n {n}", heavy, n=n, seeds=1)
        yield Regime(f"log-loss, 2 % confident errors, n {n}", confident_errors, 0.02 * 0.98 + 8 * 0.02, n=n, seeds=1)
    yield from dependent_regimes()
    yield Regime("one entry 1e18 times worse", with_wild_entry, entries=6, seed_sds=(0.03,), judged=5)
    yield Regime("one entry with one loss of 1e18", with_one_wild_sample, entries=6, seed_sds=(0.03,), judged=5)


def dependent_regimes() -> Iterator[Regime]:
    """Yield the regimes whose neighbouring samples depend on each other."""
    shapes = {"sunspots": (51, 11), "etth1-96": (2785, 96), "etth1-192": (2689, 192), "etth1-336": (2545, 336)}
    for shape, entries, correlation in (
        *(("sunspots", 2, value) for value in (0.0, 0.5, 0.9, 0.98)),
        ("sunspots", 5, 0.9),
        *(("etth1-96", 2, value) for value in (0.0, 0.5, 0.9, 0.98)),
        ("etth1-96", 14, 0.9),
        *(("etth1-192", 2, value) for value in (0.0, 0.9, 0.98)),
        ("etth1-192", 5, 0.9),
        *(("etth1-336", 2, value) for value in (0.9, 0.98)),
        ("etth1-336", 5, 0.9),
    ):
        n, horizon = shapes[shape]
        errors = f"AR {correlation:g}".replace("0.", ".") if correlation else "white"
        yield Regime(
            f"{shape} windows, {errors}, {entries} entries",
            windows,
            entries=entries,
            seeds=1,
            n=n,
            block=forecasting_block(horizon),
            horizon=horizon,
            correlation=correlation,
        )
    for entries, seeds, correlation in ((2, 1, 0.0), (5, 3, 0.0), (2, 1, 0.88)):
        yield Regime(
            f"108 chunks of text, {f'AR {correlation:g}'.replace('0.', '.') if correlation else 'scenes'}, {entries} entries",
            chunks,
            entries=entries,
            seeds=seeds,
            n=108,
            block=text_block(),
            correlation=correlation,
        )


def forecasting_block(horizon: int) -> int:
    from harness import Forecasting

    return Forecasting(horizon=horizon).block


def text_block() -> int:
    from harness import NextToken

    return NextToken(vocabulary=2).block


# Boards ----------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def weights(n: int, block: int) -> Array:
    """Return the weights (draws, n) of each sample in each bootstrap sample."""
    drawn = bootstrap_samples(n, block, DRAWS, "statistics")
    return np.array([np.bincount(index, minlength=n) for index in drawn], dtype=np.float32) / n


@lru_cache(maxsize=2)
def difference_error(regime: Regime) -> float:
    """Return the standard error of the difference of the first two entries, from `PILOT_BOARDS` boards."""
    rng = np.random.default_rng([zlib.crc32(regime.name.encode()), 2**31])
    two = replace(regime, entries=2, judged=2)
    gaps: list[float] = []
    while len(gaps) < PILOT_BOARDS:
        scores = regime.draw(rng, two, two.batch).mean(axis=(2, 3), dtype=np.float64)
        gaps += (scores[:, 0] - scores[:, 1]).tolist()
    return float(np.std(gaps))


def entry_result(regime: Regime, losses: Array) -> Result:
    """Return the result of an entry with these losses (seeds, n), as `harness.evaluation.entry` records it."""
    scores = losses.mean(axis=1, dtype=np.float64)
    return Result(
        *("id", "entry", "task", 1, "kind", "name", "metric", True, "complete"),
        score=float(scores.mean()),
        seeds=scores.tolist(),
        seed_interaction=seed_variances(losses, regime.block)[1],
        units=independent_units(regime.n, regime.block),
    )


def judge(regime: Regime, losses: Array) -> tuple[bool, float, float]:
    """Return of one board with these losses (entries, seeds, n): any false difference, coverage, power."""
    judged = regime.judged or regime.entries
    means = losses.mean(axis=1, dtype=np.float64).astype(np.float32)
    replicates = means @ weights(regime.n, regime.block).T
    results = [entry_result(regime, own) for own in losses]
    covered = 0
    for result, own, drawn in zip(results[:judged], losses, replicates, strict=False):
        low, high = score_interval(result, drawn, own)
        covered += low <= regime.truth <= high
    pairs = board_pairs(list(zip(results, replicates, strict=True)))
    assert pairs is not None
    false = bool(pairs.significant_pairs()[:judged, :judged].any())
    pairs.scores = pairs.scores.copy()
    pairs.scores[0] = pairs.scores[0] + LEAD * difference_error(regime)
    power = float(pairs.significant_pairs()[0, 1:judged].mean())
    return false, covered / judged, power


def run_batch(regime: Regime, number: int) -> dict[str, Any]:
    """Return the sums over one batch of boards, as they are kept."""
    rng = np.random.default_rng([zlib.crc32(regime.name.encode()), number])
    began = time.perf_counter()
    false, covered, power = np.array([judge(regime, losses) for losses in regime.draw(rng, regime, regime.batch)]).T
    return {
        "regime": regime.name,
        "batch": number,
        "code": code_version(),
        "boards": len(false),
        "false": int(false.sum()),
        "covered": [float(covered.sum()), float(np.square(covered).sum())],
        "power": [float(power.sum()), float(np.square(power).sum())],
        "seconds": time.perf_counter() - began,
    }


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return a hash of the code whose promises are measured: results of other code are not counted."""
    files = [
        Path(__file__),
        Path(harness.scoring.__file__),
        *sorted(Path(str(leaderboard.statistics.inference.__file__)).parent.glob("*.py")),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


# Table -----------------------------------------------------------------------------------------------------------------------


def decimal(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else "1.00"


def mean_and_error(sums: Iterable[Sequence[float]], boards: int) -> str:
    """Return a mean over boards with its standard error, given sums and sums of squares."""
    total, squares = np.sum(list(sums), axis=0)
    mean = total / boards
    return f"{decimal(mean)} ± {decimal(math.sqrt(max(squares / boards - mean**2, 0) / boards))}"


def table_row(regime: Regime, batches: Sequence[dict[str, Any]]) -> str:
    """Return the row of a regime in the Markdown table."""
    boards = sum(batch["boards"] for batch in batches)
    rate = sum(batch["false"] for batch in batches) / boards
    units = independent_units(regime.n, regime.block)
    cells = (
        regime.name,
        str(regime.seeds),
        f"{regime.n:,}",
        f"{units:,}{' (not ranked)' if units < MIN_RANKED_UNITS else ''}",
        f"{decimal(rate)} ± {decimal(math.sqrt(rate * (1 - rate) / boards))}",
        mean_and_error((batch["covered"] for batch in batches), boards),
        mean_and_error((batch["power"] for batch in batches), boards),
        f"{boards:,}",
    )
    return f"| {' | '.join(cells)} |"


HEAD = "| regime | seeds | samples | units | FWER | coverage | power | boards |\n|---|---|---|---|---|---|---|---|"


def kept(file: Path | None) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the kept batches of this code, by regime and number. A line cut off by a kill is left out."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for line in file.read_text().splitlines() if file and file.exists() else ():
        try:
            batch = json.loads(line)
        except json.JSONDecodeError:
            continue
        if batch["code"] == code_version():
            found.setdefault(batch["regime"], {})[batch["batch"]] = batch
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boards", type=int, default=1000, help="boards of each regime, at least")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="regimes whose names contain one of these texts")
    parser.add_argument("--quick", action="store_true", help="100 boards of each regime")
    parser.add_argument("--keep", type=Path, help="JSON-lines file of results, to continue a run")
    options = parser.parse_args()
    boards = 100 if options.quick else options.boards
    known = kept(options.keep)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, numpy {np.__version__}.\n\n{HEAD}",
        flush=True,
    )
    for regime in regimes():
        if options.only and not any(text in regime.name for text in options.only):
            continue
        batches = known.get(regime.name, {})
        for number in range(-(-boards // regime.batch)):
            if number not in batches:
                batches[number] = run_batch(regime, number)
                if options.keep:
                    with options.keep.open("a") as out:
                        out.write(json.dumps(batches[number]) + "\n")
        print(table_row(regime, list(batches.values())), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

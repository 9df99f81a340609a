"""Cost of the coordinator a trial, as a search grows: Bakeoff's sampler beside plain Optuna's TPE in memory.

``python benchmarks/sampler.py [--most 10000]``. No model is trained: a trial is a suggestion and its result. Five hyperparameters,
milliseconds a trial, the mean over 50 trials at each size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import optuna
import versus

from harness import Categorical, Float, Int
from harness.plugins.description import Description
from harness.search.sampler import Sampler
from leaderboard.store.store import Fit

SPACE = {
    "a": Float(1e-5, 1e-1, log=True),
    "b": Float(0, 1),
    "c": Float(0, 1),
    "d": Int(1, 8),
    "e": Categorical(("x", "y", "z")),
}
SIZES = (10, 100, 1000, 3000, 10_000)
TIMED = 50


def objective(params: dict[str, object]) -> float:
    return -float((np.log10(params["a"]) + 3) ** 2 + (params["b"] - 0.3) ** 2 + (params["c"] - 0.7) ** 2)  # type: ignore[operator,call-overload]


def bakeoff() -> Callable[[int, bool], None]:
    study = Sampler(Description(("kind",), SPACE, {}), higher_is_better=True)
    rng = np.random.default_rng(0)

    def trial(number: int, suggest: bool) -> None:
        params = study.suggest(number)[0]() if suggest else random_params(rng)
        study.tell(Fit("study", "search", number, params, 0, "complete", objective(params), {"losses": []}))

    return trial


def plain() -> Callable[[int, bool], None]:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, multivariate=True))
    rng = np.random.default_rng(0)

    def trial(number: int, suggest: bool) -> None:
        if suggest:
            suggested = study.ask(SPACE)
            study.tell(suggested, objective(suggested.params))
        else:
            params = random_params(rng)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=SPACE, value=objective(params)))

    return trial


def random_params(rng: np.random.Generator) -> dict[str, object]:
    """Draw a random configuration, for the history between the timed sizes."""
    return {
        "a": float(10 ** rng.uniform(-5, -1)),
        "b": float(rng.random()),
        "c": float(rng.random()),
        "d": int(rng.integers(1, 9)),
        "e": str(rng.choice(["x", "y", "z"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=SIZES[-1])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sizes = [size for size in SIZES if size <= options.most]
    print(f"## The coordinator's cost, ms a trial\n\n{versus.machine()}\n")
    print(f"| trials so far | {' | '.join(map(str, sizes))} |\n|---|{'---|' * len(sizes)}")
    costs: dict[str, list[float]] = {}
    for name, make in (("Optuna TPE, in memory", plain), ("bakeoff", bakeoff)):
        trial, number, costs[name] = make(), 0, []
        for size in sizes:
            while number < size:
                trial(number, False)
                number += 1
            started = time.perf_counter()
            for number in range(number, number + TIMED):  # noqa: B020
                trial(number, True)
            number += 1
            costs[name].append(1000 * (time.perf_counter() - started) / TIMED)
        print(f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs[name])} |")
    if sizes[-1] >= 10_000:
        at = dict(zip(sizes, costs["bakeoff"]))
        print(f"\nAt 10,000 trials `bakeoff` takes {at[10_000] / at[1000]:.2f} times as long a trial as at 1,000.")


if __name__ == "__main__":
    main()

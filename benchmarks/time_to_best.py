"""Time to the best validation score that plain Optuna finds in 64 full trials: `bakeoff tune` against Optuna.

``python benchmarks/time_to_best.py digits|fashion-10k|etth1-96 [--seeds 5] [--trials 64] [--more 4] [--beside 1]
[--keep FILE]``.

Each seed is a pair: plain Optuna's TPE runs all its trials to the end; then Bakeoff with its defaults, alone on the machine,
searches until it reaches that score or has run ``--more`` times as many trials. Both train with the same loop, one thread a
process, and the clock counts imports. The table has two times for Optuna: all of its trials, and until its own best. ``--beside``
runs Optuna's studies of so many seeds at once, on machines with several cores; with ``--keep`` an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import versus

from harness.contract import Task
from harness.dispatch import Progress
from harness.plugins import registry
from harness.scoring import Scorer

STARTED = time.perf_counter()
MODELS = Path(__file__).parent / "models"
CASES = {
    "digits": MODELS / "mlp.py",
    "fashion-10k": MODELS / "mlp.py",
    "etth1-96": registry.find_submission("dlinear").path,
}


def task_of(name: str) -> tuple[Task, str]:
    """Task, and its name or path on the command line."""
    if name == "fashion-10k":
        from classic import ten_thousand

        return ten_thousand(), str(Path(__file__).with_name("fashion_10k.py"))
    return registry.find_task(name).task, name


def optuna_side(name: str, trials: int, seed: int) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task, _ = task_of(name)
    submission, data, make = versus.prepared(str(CASES[name]), task)
    scorer = Scorer(task, data, "benchmark")
    at: list[float] = []

    def one(trial: optuna.Trial) -> float:
        model = make({key: trial._suggest(key, space) for key, space in submission.space.items()})
        model.fit(data.train, data.valid, lambda loss: None)
        return scorer.valid(model.predict(data.valid.x))

    study = optuna.create_study(
        direction="maximize" if task.ranking.higher_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    study.optimize(one, n_trials=trials, callbacks=[lambda study, trial: at.append(time.perf_counter() - STARTED)])
    return {"best": float(study.best_value), "until_best": at[study.best_trial.number]}


class Reached(Exception):
    """Raised to end a search that has reached the score."""


class Until(Progress):
    """Progress display that ends a search once it has reached a score."""

    def __init__(self, score: float, higher_is_better: bool) -> None:
        self.score, self.sign = score, 1 if higher_is_better else -1

    def trial(self, done: int, wanted: int, best: float | None) -> None:
        if best is not None and self.sign * best >= self.sign * self.score - 1e-12:
            raise Reached


def bakeoff_side(name: str, trials: int, seed: int, target: float) -> dict[str, float | None]:
    from harness.commands.tune import tune

    task, known_as = task_of(name)
    until = Until(target, task.ranking.higher_is_better)
    with tempfile.TemporaryDirectory() as home:
        try:
            found = tune(known_as, str(CASES[name]), trials=trials, seed=seed, home=home, progress=until)
        except Reached:
            return {"reached": time.perf_counter() - STARTED, "best": target}
    return {"reached": None, "best": found.valid}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--more", type=int, default=4)
    parser.add_argument("--beside", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a file of Optuna's studies: those in it are not run again")
    parser.add_argument("--side", choices=("optuna", "bakeoff"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float)
    options = parser.parse_args()
    if options.side == "optuna":
        print(json.dumps(optuna_side(options.case, options.trials, options.seed)))
        return
    if options.side == "bakeoff":
        print(json.dumps(bakeoff_side(options.case, options.more * options.trials, options.seed, options.target)))
        return
    print(f"## Time to the best of {options.trials} plain trials on {options.case}\n\n{versus.machine()}\n")
    print(
        "| seed | its best score | Optuna, all trials | until its best | `bakeoff` until there |\n|---|---|---|---|---|"
    )

    def arguments(seed: int) -> tuple[str, ...]:
        return (options.case, "--seed", str(seed), "--trials", str(options.trials))

    def plain_of(seed: int) -> dict[str, Any]:
        return kept.get(arguments(seed)) or versus.one(__file__, "optuna", *arguments(seed), label=f"seed {seed}, ")

    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else []
    kept = {tuple(about): study for about, study in known}
    with ThreadPoolExecutor(options.beside) as pool:
        for seed, study in enumerate(pool.map(plain_of, range(options.seeds))):
            kept[arguments(seed)] = study
            if options.keep:
                options.keep.write_text(json.dumps(list(kept.items())))
    shares = []
    for seed in range(options.seeds):
        plain = kept[arguments(seed)]
        target = ("--target", repr(plain["best"]), "--more", str(options.more))
        mine = versus.one(__file__, "bakeoff", *arguments(seed), *target, label=f"seed {seed}, ")
        reached = "not reached" if mine["reached"] is None else f"{mine['reached']:.1f} s"
        row = (seed, f"{plain['best']:.5g}", f"{plain['seconds']:.1f} s", f"{plain['until_best']:.1f} s", reached)
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        shares.append((mine["reached"] or float("inf")) / plain["seconds"])
    print(
        f"\n`bakeoff` is there in {versus.median(shares)} of the time of Optuna's trials (median and range over seeds)."
    )
    if options.beside > 1:
        print(f"{options.beside} of Optuna's studies ran at a time.")


if __name__ == "__main__":
    main()

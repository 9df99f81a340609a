"""Many small networks: `bakeoff tune` against plain Optuna, Ray Tune and KerasTuner, all with the same training.

``python benchmarks/tuners.py mlp|cnn|lstm [--trials 64] [--rounds 3] [--sides ...] [--device cuda:0]``. All sides draw from one
search space, train with the same loop (`TorchSubmission.fit`) on the same rows for as many epochs, and score validation; each is a
whole command, imports included, one thread a process. Side "bakeoff" ends no trial early (`--no-halving`), like its peers;
"bakeoff-halving" is the default of `bakeoff tune`. On a GPU (``--device``) the peers are one trial at a time, plain ("optuna-1")
and with `torch.compile` and CUDA graphs ("compiled"), and eight processes that share the GPU ("processes-8").
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import versus

from harness.execution.parent import slots
from harness.plugins import registry
from harness.plugins.loader import load_submission
from harness.scoring import Scorer

TASKS = {"mlp": "digits", "cnn": "digits", "lstm": "digit-rows"}
SIDES = ("optuna-1", "optuna-2", "ray", "keras-tuner", "bakeoff", "bakeoff-halving")
ON_GPU = ("optuna-1", "compiled", "processes-8", "bakeoff", "bakeoff-halving")
MODELS = Path(__file__).parent / "models"


def objective(
    model: str, device: str = "cpu", *, compiled: bool = False
) -> tuple[Any, Callable[[Mapping[str, Any]], float]]:
    """Search space, and a function that trains a configuration in this process and returns its validation score."""
    task = registry.find_task(TASKS[model]).task
    submission, data, make = versus.prepared(str(MODELS / f"{model}.py"), task, device)
    scorer = Scorer(task, data, "benchmark")

    def score(params: Mapping[str, Any]) -> float:
        fitted = make(params)
        if compiled:
            compile_module(fitted)
        fitted.fit(data.train, data.valid, lambda loss: None)
        return scorer.valid(fitted.predict(data.valid.x))

    return submission.space, score


def compile_module(model: Any) -> None:
    """Make a submission train and predict with its module compiled and its kernels recorded as CUDA graphs."""
    import torch

    begin = model.begin

    def begin_compiled(train: Any) -> Any:
        loop = begin(train)
        model.module = torch.compile(model.module, mode="reduce-overhead")
        return loop

    model.begin = begin_compiled


def optuna_side(model: str, trials: int, jobs: int, device: str, *, compiled: bool = False) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, score = objective(model, device, compiled=compiled)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))

    def one(trial: optuna.Trial) -> float:
        return score({name: trial._suggest(name, distribution) for name, distribution in space.items()})

    study.optimize(one, n_trials=trials, n_jobs=jobs)
    return float(study.best_value)


def one_of_many(model: str, device: str, params: Sequence[Mapping[str, Any]]) -> float:
    _, score = objective(model, device)
    return max(score(one) for one in params)


def processes_side(model: str, trials: int, device: str, count: int) -> float:
    """Best score of random configurations, shared out over processes with a GPU context each."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import optuna

    space = load_submission(MODELS / f"{model}.py").space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask(dict(space)).params for _ in range(trials)]
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [pool.submit(one_of_many, model, device, drawn[number::count]) for number in range(min(count, trials))]
        return max(one.result() for one in found)


def ray_side(model: str, trials: int) -> float:
    import ray
    from ray import tune

    ray.init("local", num_cpus=slots.cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    space, _ = objective(model)
    here = str(Path(__file__).parent)

    def trainable(config: dict[str, Any]) -> dict[str, float]:
        sys.path.insert(0, here)
        from tuners import objective

        return {"score": objective(model)[1](config)}

    drawn = {
        name: tune.loguniform(one.low, one.high) if one.log else tune.uniform(one.low, one.high)
        for name, one in space.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        found = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space=drawn,
            tune_config=tune.TuneConfig(num_samples=trials, metric="score", mode="max"),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        return float((found.get_best_result().metrics or {})["score"])


def keras_tuner_side(model: str, trials: int) -> float:
    import keras_tuner

    space, score = objective(model)

    class Tuner(keras_tuner.RandomSearch):
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            params = {
                name: trial.hyperparameters.Float(name, one.low, one.high, sampling="log" if one.log else "linear")
                for name, one in space.items()
            }
            return {"score": score(params)}

    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(
            hypermodel=lambda hp: None,
            objective=keras_tuner.Objective("score", "max"),
            max_trials=trials,
            directory=folder,
            project_name="benchmark",
            seed=0,
        )
        tuner.search(verbose=0)
        return float(tuner.oracle.get_best_trials(1)[0].score)


def bakeoff_side(model: str, trials: int, device: str, *, halving: bool) -> float:
    from harness.commands.tune import tune

    with tempfile.TemporaryDirectory() as home:
        path = str(MODELS / f"{model}.py")
        found = tune(TASKS[model], path, trials=trials, halving=halving, home=home, devices=device)
    return float(found.valid or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=TASKS)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    known = tuple(dict.fromkeys(SIDES + ON_GPU))
    parser.add_argument("--sides", nargs="+", choices=known)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", choices=known, help="run this one alone, here")
    options = parser.parse_args()
    device = options.device
    if options.side:
        run: dict[str, Callable[[str, int], float]] = {
            "optuna-1": lambda model, trials: optuna_side(model, trials, 1, device),
            "optuna-2": lambda model, trials: optuna_side(model, trials, 2, device),
            "compiled": lambda model, trials: optuna_side(model, trials, 1, device, compiled=True),
            "processes-8": lambda model, trials: processes_side(model, trials, device, 8),
            "ray": ray_side,
            "keras-tuner": keras_tuner_side,
            "bakeoff": lambda model, trials: bakeoff_side(model, trials, device, halving=False),
            "bakeoff-halving": lambda model, trials: bakeoff_side(model, trials, device, halving=True),
        }
        print(json.dumps({"best": run[options.side](options.model, options.trials)}))
        return
    sides = options.sides or (SIDES if device == "cpu" else ON_GPU)
    arguments = (options.model, "--trials", str(options.trials), "--device", device)
    found = versus.take_turns(__file__, sides, options.rounds, *arguments)
    where = "" if device == "cpu" else f", on {device}"
    print(f"## {options.trials} configurations of `{options.model}` on {TASKS[options.model]}{where}")
    print(f"\n{versus.machine()}\n")
    print(
        "| side | seconds | trials a second | best validation score | `bakeoff` is faster by |\n|---|---|---|---|---|"
    )
    for side, rows in found.items():
        faster = versus.ratios(rows, found["bakeoff"]) if "bakeoff" not in side and "bakeoff" in found else []
        cells = (
            side,
            versus.median([row["seconds"] for row in rows]),
            versus.median([options.trials / row["seconds"] for row in rows]),
            versus.median([row["best"] for row in rows]),
            f"{versus.median(faster)} x" if faster else "",
        )
        print(f"| {' | '.join(cells)} |")
    peers = [side for side in found if "bakeoff" not in side]
    for mine in ("bakeoff", "bakeoff-halving"):
        if peers and mine in found:
            fastest = min(peers, key=lambda side: sum(row["seconds"] for row in found[side]))
            times = versus.median(versus.ratios(found[fastest], found[mine]))
            print(f"\n`{mine}` is {times} times as fast as the fastest of them, {fastest}.")


if __name__ == "__main__":
    main()

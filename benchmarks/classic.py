"""SVM and random forest on Fashion-MNIST, 10,000 rows: `bakeoff tune` against plain scikit-learn with Optuna.

``python benchmarks/classic.py [--trials 20] [--rounds 3]``. All search the baseline's own space with TPE on the same rows and
score validation, one thread a fit; Optuna runs as many at once as there are cores (``n_jobs``). Side "accelerated" adds
scikit-learn-intelex, which the baselines use too. Needs the data (``BAKEOFF_DATA``, or a network).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import versus

from harness import Data, Split, Task
from harness.execution.parent import slots
from harness.plugins import registry
from harness.plugins.loader import load_submission

MODELS = ("svm", "random-forest")
SIDES = ("optuna", "optuna, accelerated", "bakeoff")


def ten_thousand() -> Task:
    """Task of 10,000 training, 2,000 validation and 2,000 test rows of Fashion-MNIST."""
    full = registry.find_task("fashion-mnist").task

    def load() -> Data:
        data = full.load()
        rng = np.random.default_rng(0)

        def some(split: Split, n: int) -> Split:
            index = np.sort(rng.permutation(len(split))[:n])
            return Split(split.x[index], split.labels[index])

        return Data(some(data.train, 10_000), some(data.valid, 2_000), some(data.test, 2_000))

    return Task(name="fashion-10k", kind=full.kind, load=load, metric=full.metric, time_limit=600)


def estimators() -> dict[str, Any]:
    """scikit-learn's own classes. Import them before any baseline: loading one accelerates later imports."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.svm import SVC

    return {"svm": SVC, "random-forest": RandomForestClassifier}


def made(estimator: Any, params: Mapping[str, Any], x: np.ndarray) -> Any:
    """Build the scikit-learn estimator of a configuration, for training rows x."""
    if "C" in params:
        return estimator(C=params["C"], gamma=params["gamma"] / (x.shape[1] * float(x.var())))
    names = {name: value for name, value in params.items() if name != "trees"}
    return estimator(params["trees"], n_jobs=1, random_state=1, **names)


def flat(split: Split) -> np.ndarray:
    return split.x.reshape(len(split), -1).astype(np.float32) / 255


def test_accuracy(model: str, params: Mapping[str, Any]) -> float:
    """Accuracy of the chosen configuration on all 10,000 test images: the best validation score of many trials is optimistic."""
    data, test = ten_thousand().load(), registry.find_task("fashion-mnist").task.load().test
    x = flat(data.train)
    fitted = made(estimators()[model], params, x).fit(x, data.train.labels)
    return float((fitted.predict(flat(test)) == test.labels).mean())


def optuna_side(model: str, trials: int, *, accelerated: bool) -> dict[str, Any]:
    """Search in plain scikit-learn and Optuna, as a user without Bakeoff would."""
    import optuna

    if accelerated:
        from sklearnex import patch_sklearn

        patch_sklearn(verbose=False)
    estimator = estimators()[model]
    assert estimator.__module__.startswith("sklearnex" if accelerated else "sklearn."), estimator
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_submission(registry.find_submission(model).path).space
    data = ten_thousand().load()
    x, valid = flat(data.train), flat(data.valid)

    def one(trial: optuna.Trial) -> float:
        params = {name: trial._suggest(name, distribution) for name, distribution in space.items()}
        fitted = made(estimator, params, x).fit(x, data.train.labels)
        return float((fitted.predict(valid) == data.valid.labels).mean())

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(one, n_trials=trials, n_jobs=slots.cores())
    return {"best": float(study.best_value), "params": study.best_params}


def bakeoff_side(model: str, trials: int) -> dict[str, Any]:
    from harness.commands.tune import tune

    task = Path(__file__).with_name("fashion_10k.py")
    with tempfile.TemporaryDirectory() as home:
        found = tune(str(task), model, trials=trials, home=home)
    return {"best": float(found.valid or 0.0), "params": found.params}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help=" or ".join(MODELS))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="run this one alone, here")
    options = parser.parse_args()
    if options.side:
        (model,) = options.models
        found = (
            bakeoff_side(model, options.trials)
            if options.side == "bakeoff"
            else optuna_side(model, options.trials, accelerated=options.side != "optuna")
        )
        print(json.dumps(found))
        return
    print(f"## SVM and forest, {options.trials} configurations on 10,000 rows of Fashion-MNIST\n\n{versus.machine()}\n")
    headings = (
        "model",
        "side",
        "seconds",
        "best validation accuracy",
        "test accuracy of that choice",
        "`bakeoff` is faster by",
    )
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for model in options.models:
        found = versus.take_turns(__file__, SIDES, options.rounds, model, "--trials", str(options.trials))
        for side, rows in found.items():
            faster = "" if side == "bakeoff" else f"{versus.median(versus.ratios(rows, found['bakeoff']))} x"
            seconds, best = (versus.median([row[key] for row in rows]) for key in ("seconds", "best"))
            worth = versus.median([test_accuracy(model, row["params"]) for row in rows])
            print(f"| {model} | {side} | {seconds} | {best} | {worth} | {faster} |")


if __name__ == "__main__":
    main()

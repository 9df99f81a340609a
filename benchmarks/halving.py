"""Savings and costs of early stopping: 64 trials of a search with halving and without, on the embedded tasks.

``python benchmarks/halving.py [--trials 64] [--seeds 3]``. Work is counted in epochs: those of the search with halving as a share
of those without. Both use the same sampler, each on its own trials. The best of more full fits is better by luck too, so the
configuration that each search chose is fitted again with three seeds and scored on the test split.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import versus

from harness.commands.tune import tune
from harness.plugins import registry
from harness.scoring import Scorer
from leaderboard import Store

MODELS = Path(__file__).parent / "models"
CASES = (
    ("digits", str(MODELS / "mlp.py")),
    ("digits", str(MODELS / "cnn.py")),
    ("digit-rows", str(MODELS / "lstm.py")),
    ("digits", "dense"),
    ("sunspots", "dlinear"),
    ("brackets", "gru"),
)
SIDES = ("whole", "halving")
FINALS = 3
"""Seeds for the final fits of the chosen configuration."""


def search(task: str, submission: str, trials: int, seed: int, *, halving: bool) -> dict[str, float]:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        found = tune(task, submission, trials=trials, seed=seed, halving=halving, home=home)
        with closing(Store(Path(home))) as store:
            facts = [json.loads(row[0]) for row in store.database.read("SELECT facts FROM fits")]
    seconds = time.perf_counter() - started
    assert found.valid is not None and found.params is not None, "a search that ends has found something"
    known = registry.find_task(task).task
    _, data, make = versus.prepared(str(registry.find_submission(submission).path), known)
    scorer, tests = Scorer(known, data, "benchmark"), []
    for final in range(FINALS):
        model = make(found.params, final)
        model.fit(data.train, data.valid, lambda loss: None)
        tests.append(scorer.test(model.predict(data.test.x)).score)
    epochs = sum(len(fact["losses"]) + sum(fact.get("tried", {}).values()) for fact in facts)
    return {"best": found.valid, "test": statistics.mean(tests), "epochs": epochs, "searched": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="+", default=range(len(CASES)), help="these alone, counted from 0")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--case", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.side:
        case = CASES[options.case]
        print(json.dumps(search(*case, options.trials, options.seed, halving=options.side == "halving")))
        return
    print(f"## {options.trials} trials with and without halving\n\n{versus.machine()}\n")
    print(
        "| task | submission | epochs trained | best, whole | halving | test, whole | halving | seconds, whole | halving |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for number in options.cases:
        task, submission = CASES[number]
        pairs = []
        for seed in range(options.seeds):
            arguments = ("--case", str(number), "--trials", str(options.trials), "--seed", str(seed))
            pairs.append(
                [versus.one(__file__, side, *arguments, label=f"case {number}, seed {seed}, ") for side in SIDES]
            )
        whole, halving = zip(*pairs)
        higher = registry.find_task(task).task.ranking.higher_is_better
        cells = (
            f"{task} ({'more' if higher else 'less'} is better)",
            Path(submission).stem,
            versus.median([one["epochs"] / other["epochs"] for one, other in zip(halving, whole)]),
            *(
                versus.median([one[what] for one in side])
                for what in ("best", "test", "searched")
                for side in (whole, halving)
            ),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

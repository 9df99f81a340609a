"""Scenarios of `searches_by_clock.py`: tasks, submissions that say how long they take, and the commands that search them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Submissions and tasks -------------------------------------------------------------------------------------------------------

HEAD = '''
import math
import numpy as np
from harness import Categorical, Float, Int, Split, Submission
from harness.execution.shared.channel import Channel

spent = 0.0
send = Channel.send

def spend(seconds):
    """Move the search's clock by so many seconds with the next message."""
    global spent
    spent += seconds

def send_and_spend(self, message, fds=()):
    global spent
    seconds, spent = spent, 0.0
    return send(self, {**message, "spent": seconds} if seconds else message, fds)

Channel.send = send_and_spend
'''

TASK = """
import numpy as np
from harness import Data, ImageClassification, Split, Task

def split(rows, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 255, (rows, 2, 2, 1)).astype(np.uint8)
    y = np.arange(rows) % 3
    x[:, 0, 0, 0] = y  # the plain submissions read their answers here
    return Split(x, y)

def load():
    return Data(split({rows}, 0), split(200, 1), split(100, 2))

TASK = Task(name="{name}", kind=ImageClassification(classes=3), load=load, metric="{metric}")
"""

PLAIN_KNOBS: dict[str, Any] = {
    "epochs": 20,
    "cost": 0.0,  # seconds of an epoch on all rows, alone
    "member_cost": 0.0,  # seconds of an epoch for each member of a vectorized fit
    "supports_budget": False,
    "ignores_budget": False,  # its fits are as long at a small budget
    "vectorized": False,
    "reports": True,
    "accuracy": False,  # predict right or wrong labels; otherwise the log loss is the quality
    "patience": 0,  # epochs after which a fit stops early
    "unreliable": 0.0,  # share of a short fit's score that says nothing of the full fit
    "rate_bias": 0.0,  # how much short fits favour high rates
    "early_noise": 0.0,  # noise in early losses
    "postpones": False,  # a vectorized fit postpones members above max_members
    # Expressions of x, rate, depth, how, budget and share, the share of the rows:
    "fails": "False",
    "nan": "False",  # losses of the second half are NaN
    "invalid": "False",  # predictions are NaN
    "rejected": "False",  # not in a vectorized fit
}
PLAIN = """
class Plain(Submission):
    kind = "image-classification"
    space = {
        "x": Float(0, 1), "rate": Float(1e-4, 1e-1, log=True), "depth": Int(1, 5), "how": Categorical(("a", "b", "c")),
    }
    defaults = {"x": 0.9, "how": "b"}

    @classmethod
    def supports_budget(cls):
        return KNOBS["supports_budget"]

    @classmethod
    def supports_fit_many(cls):
        return KNOBS["vectorized"]

    def holds(self, knob):
        return eval(KNOBS[knob], {**self.params, "budget": self.budget, "share": self.share})

    def quality(self):
        p = self.params
        rate = math.log10(p["rate"])
        base = 0.05 + (p["x"] - 0.37) ** 2 + 0.1 * (rate + 2.3) ** 2 + 0.03 * (p["depth"] - 3) ** 2 + "abc".index(p["how"]) / 20
        missing = 1 - self.budget * self.share
        noise = 0.3 + 0.25 * math.sin(400 * self.budget * p["x"] + 3 * rate) if missing else base
        base += KNOBS["rate_bias"] * missing * (-1 - rate) ** 2
        return (1 - KNOBS["unreliable"]) * base + KNOBS["unreliable"] * noise + 0.1 * missing

    def loss(self, done):
        if done > 0.5 and self.holds("nan"):
            return math.nan
        x = self.params["x"]
        early = 0.7 + 0.1 * math.sin(9 * x + 5 * done) + KNOBS["early_noise"] * math.sin(97 * x)
        return self.quality() + (1 - done) * early

    @property
    def length(self):
        return KNOBS["epochs"] if KNOBS["ignores_budget"] else max(round(KNOBS["epochs"] * self.budget), 1)

    def begin(self, train):
        self.share = min(len(train) / ROWS, 1.0)
        if self.holds("fails"):
            raise ValueError("not these")

    def fit(self, train, valid, report):
        self.begin(train)
        for epoch in range(1, self.length + 1):
            spend(KNOBS["cost"] * self.share)
            if KNOBS["reports"]:
                report(self.loss(epoch / self.length))
            if epoch == KNOBS["patience"]:
                break

    @classmethod
    def fit_many(cls, makers, train, valid, report, max_members):
        models, rejected, postponed = {}, {}, set()
        for member, make in enumerate(makers):
            model = make()
            model.begin(train)
            if model.holds("rejected"):
                rejected[member] = "it is unlike the others"
            elif KNOBS["postpones"] and member >= max_members:
                postponed.add(member)
            else:
                models[member] = model
        length = max((model.length for model in models.values()), default=0)
        for epoch in range(1, length + 1):
            spend(KNOBS["member_cost"] * (len(models) + 0.25))
            for member in report({member: model.loss(epoch / length) for member, model in models.items()}):
                del models[member]
            if not models:
                break
        return models, rejected, postponed

    def predict(self, x):
        y = x[:, 0, 0, 0]
        right = np.arange(len(x)) >= min(self.quality(), 0.9) * len(x)
        sure = np.where(right, 0.9, 0.04) if KNOBS["accuracy"] else np.full(len(x), math.exp(-self.quality()))
        p = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
        p[np.arange(len(x)), y] = np.nan if self.holds("invalid") else sure
        return p.astype(np.float32)
"""

TORCH_KNOBS: dict[str, Any] = {
    "epochs": 6,
    "cost": 0.0,  # seconds of an epoch
    "tick": 0.001,  # seconds that a timed step takes, by the trainer of vectorized fits
}
TORCH = """
import torch
from torch import nn
from harness.frameworks.torch import TorchSubmission
from harness.frameworks.vectorized import trainer

torch.set_num_threads(1)  # threads that wait for each other are slow on busy cores

class Ticks:
    now = 0.0

    def perf_counter(self):
        self.now += KNOBS["tick"]
        return self.now

trainer.time = Ticks()

class Network(TorchSubmission):
    kind = "image-classification"
    space = {
        "learning_rate": Float(1e-4, 0.1, log=True), "dropout": Float(0, 0.6), "weight_decay": Float(1e-6, 1e-1, log=True),
        "width": Categorical((16, 24)),
    }
    defaults = {"width": 16}
    epochs = KNOBS["epochs"]
    batch_size = 256

    def build(self, train):
        width = self.params["width"]
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(self.params["dropout"]), nn.Linear(width, 10)
        )

    def batches(self, x, y, size):
        spend(KNOBS["cost"])
        yield from super().batches(x, y, size)
"""

SKLEARN = """
from sklearn.neighbors import KNeighborsClassifier
from harness.frameworks.sklearn import SklearnSubmission

class Neighbours(SklearnSubmission):
    kind = "image-classification"
    space = {"k": Int(1, 60), "weights": Categorical(("uniform", "distance")), "p": Int(1, 2), "rows": Float(0.05, 1)}

    def build(self):
        return KNeighborsClassifier(self.params["k"], weights=self.params["weights"], p=self.params["p"])

    def fit(self, train, valid, report):
        rows = int(self.params["rows"] * len(train))
        super().fit(Split(train.x[:rows], train.y[:rows]), valid, report)
"""

# Scenarios -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskFile:
    """Task that is written for a scenario."""

    name: str
    rows: int
    """Rows of the training split. Trials run on subsets only where there are many."""
    metric: str

    def write(self, folder: Path) -> str:
        path = folder / f"{self.name}.py"
        path.write_text(TASK.format(name=self.name, rows=self.rows, metric=self.metric))
        return str(path)


SMALL, LARGE = TaskFile("small", 300, "log_loss"), TaskFile("large", 2700, "log_loss")
ACCURACY = TaskFile("shares", 300, "accuracy")


@dataclass(frozen=True)
class Command:
    """One call of `tune`. ``task`` replaces the scenario's."""

    trials: int
    task: TaskFile | None = None
    warm_start: TaskFile | None = None
    options: dict[str, Any] = field(default_factory=dict)


def command(trials: int, task: TaskFile | None = None, warm_start: TaskFile | None = None, **options: Any) -> Command:
    return Command(trials, task, warm_start, options)


@dataclass(frozen=True)
class Scenario:
    """Commands that search in the same store, one after the other."""

    purpose: str
    commands: tuple[Command, ...]
    submission: str
    knobs: dict[str, Any]
    task: TaskFile | None = None
    """The task digits if None."""
    workers: int = 1
    few_observations: bool = False
    """True to search under `FEW_OBSERVATIONS`."""
    recorded: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Trials that another command records, by the number of messages of progress before it does."""
    leased: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Trials that another command leases, likewise. Once the search waits for them, every second one is recorded."""
    losses: tuple[int, ...] = ()
    """Messages at which the slot is lost, see `Clock`."""

    def source(self) -> str:
        """Return the text of the submission."""
        rows = self.task.rows if self.task else 0
        return f"{HEAD}\nKNOBS = {self.knobs!r}\nROWS = {rows}\n{self.submission}"


SETTINGS = ("workers", "few_observations", "recorded", "leased", "losses")


def plain(purpose: str, *commands: Command, task: TaskFile = SMALL, **knobs: Any) -> Scenario:
    """Make a scenario of the plain submission; ``knobs`` may also hold fields of `Scenario`."""
    settings = {name: knobs.pop(name) for name in SETTINGS if name in knobs}
    assert knobs.keys() <= PLAIN_KNOBS.keys(), f"unknown knobs in {sorted(knobs)}"
    return Scenario(purpose, commands, PLAIN, PLAIN_KNOBS | knobs, task, **settings)


def many(purpose: str, *commands: Command, **knobs: Any) -> Scenario:
    """Make a scenario of the plain submission with a vectorized fit."""
    return plain(purpose, *commands, vectorized=True, **knobs)


def torch(purpose: str, *commands: Command, workers: int = 1, **knobs: Any) -> Scenario:
    return Scenario(purpose, commands, TORCH, TORCH_KNOBS | knobs, workers=workers)


SLOW_SILENT: dict[str, Any] = {"task": LARGE, "reports": False, "cost": 0.5}
"""Slow trials without reports on many rows: they start on subsets of the rows."""
LOW: dict[str, Any] = {"supports_budget": True}
FULL_FIT_FAILS = "budget == 1 and x < 0.45"

SCENARIOS = {
    # Vectorized blocks
    "block-torch": torch("a block on two slots without halving", command(20, halving=False), workers=2),
    "block-torch-rungs": torch(
        "a block too small for a low fidelity: rungs in a vectorized fit", command(11), epochs=8
    ),
    "block-torch-postponed": torch(
        "slow steps: some members are postponed", command(14, halving=False), epochs=4, tick=0.45
    ),
    "block-rungs": many("blocks of 64 with rungs in the vectorized fits", command(100), nan="x > 0.93"),
    "block-partly-rejected": many(
        "some members run alone, some of them fail", command(30, halving=False), rejected="how == 'c'", fails="x > 0.95"
    ),
    "block-invalid": many("invalid predictions of some members", command(20), invalid="how == 'c' and depth > 2"),
    "block-rejected": many("all members are rejected: from then on alone", command(24), rejected="True"),
    "block-postponed": many("all but a few members are postponed", command(40, halving=False), postpones=True),
    "block-accuracy": many("higher is better, and ties", command(70), task=ACCURACY, accuracy=True),
    # Low fidelity in blocks
    "low-fidelity-torch": torch("torch with a low fidelity", command(40), epochs=20),
    "low-fidelity-block": many("full fits teach what short fits predict", command(140), **LOW, rate_bias=0.05),
    "low-fidelity-block-failures": many(
        "full fits fail: the next trials are promoted", command(70), **LOW, fails=FULL_FIT_FAILS
    ),
    "low-fidelity-block-rejected": many(
        "vectorized short fits are rejected: on to cohorts", command(30), **LOW, rejected="True"
    ),
    "low-fidelity-block-partly-rejected": many("some short fits run alone", command(40), **LOW, rejected="how == 'c'"),
    "low-fidelity-block-unreliable": many("short fits do not predict full fits", command(40), **LOW, unreliable=1.0),
    # Slow vectorized trials in chunks
    "chunks": many("the Gaussian process, and rungs in chunks", command(76), member_cost=0.125),
    "chunks-no-halving": many(
        "full fits in chunks, some alone", command(84, halving=False), member_cost=0.25, rejected="how == 'c'"
    ),
    "chunks-low-fidelity": many("short fits in chunks", command(60), **LOW, member_cost=1.0, rate_bias=0.05),
    "chunks-low-fidelity-failures": many(
        "full fits fail after short fits in chunks", command(52), **LOW, member_cost=0.5, cost=0.5, fails=FULL_FIT_FAILS
    ),
    "chunks-torch": torch("slow torch in chunks", command(72, halving=False), epochs=4, cost=32.0),
    # Alone
    "alone-sklearn": Scenario("no epochs, few rows", (command(20),), SKLEARN, {}),
    "alone-slow": plain("the Gaussian process for every second trial", command(26), reports=False, cost=0.125),
    "alone-one": plain("one trial", command(1), reports=False),
    "alone-no-halving": plain("neither budget nor reports are used", command(12, halving=False), **LOW),
    # Low fidelity in cohorts
    "cohorts": plain("short fits alone", command(60), **LOW, rate_bias=0.05),
    "cohorts-slow": plain("the Gaussian process on predicted values", command(44), **LOW, cost=0.5, rate_bias=0.05),
    "cohorts-failures": plain("full fits fail", command(60), **LOW, fails=FULL_FIT_FAILS),
    "cohorts-low-fidelity-failures": plain("short fits fail", command(24), **LOW, fails="x < 0.5"),
    "cohorts-accuracy": plain("higher is better", command(40), **LOW, task=ACCURACY, accuracy=True),
    # A low fidelity that is not used
    "unreliable": plain("short fits do not predict full fits", command(24), **LOW, unreliable=1.0),
    "ignores-budget": plain("short fits are as long as full fits", command(16), **LOW, ignores_budget=True),
    "early-stopping": plain("short fits save nothing: patience ends full fits", command(24), **LOW, patience=6),
    # Rungs
    "rungs": plain("asynchronous halving", command(60), epochs=40, nan="x > 0.93"),
    "rungs-slow": plain("asynchronous halving and the Gaussian process", command(30), epochs=40, cost=0.0625),
    "rungs-unreliable": plain("early losses do not predict the last", command(24), epochs=40, early_noise=5.0),
    # Subsets of the rows
    "subsets": plain("slow and silent on many rows", command(30), **SLOW_SILENT),
    "subsets-failures": plain(
        "some fail on a subset, some on all rows",
        command(40),
        **SLOW_SILENT,
        fails="x > 0.9 or (share == 1 and x < 0.1)",
    ),
    "subsets-few": plain("fewer trials than a cohort", command(6), **SLOW_SILENT),
    "subsets-two-cohorts": plain("a cohort and one more trial", command(11), **SLOW_SILENT),
    "subsets-fast": plain("silent and fast: no subsets", command(14), task=LARGE, reports=False),
    "subsets-reporting": plain("reports: no subsets", command(24), task=LARGE, cost=0.25),
    "subsets-low-fidelity": plain("a budget: no subsets", command(24), task=LARGE, **LOW, cost=0.25),
    # Resumed and extended
    "resumed-cohorts": plain("cohorts", command(20), command(64), **LOW, rate_bias=0.05),
    "resumed-block": many("low fidelity in blocks", command(20), command(64), **LOW, rate_bias=0.05),
    "resumed-chunks": many("low fidelity in chunks", command(24), command(64), **LOW, member_cost=0.5),
    "resumed-rungs": plain("rungs", command(20), command(50), epochs=40),
    "resumed-block-rungs": many("rungs in vectorized fits", command(20), command(64), epochs=40),
    "resumed-subsets": plain("subsets", command(15), command(36), **SLOW_SILENT),
    "resumed-subsets-few": plain("one more trial, fewer than a cohort", command(5), command(6), **SLOW_SILENT),
    "resumed-torch": torch("torch with a low fidelity", command(16), command(32), epochs=20),
    "resumed-alone": plain(
        "failed trials run again", command(14), command(24), reports=False, cost=0.125, fails="x > 0.9"
    ),
    "resumed-done": plain("no trial is left", command(12), command(12), command(6), epochs=10),
    # Failures
    "gives-up": plain("all trials fail, twice", command(20), command(20), fails="True"),
    "gives-up-block": many("all members fail", command(20), fails="True"),
    "gives-up-low-fidelity": plain("all short fits fail", command(20), **LOW, fails="True"),
    "gives-up-subsets": plain("all fits on subsets fail", command(20), **SLOW_SILENT, fails="True"),
    "full-fits-fail": plain("all full fits fail", command(20), **LOW, fails="budget == 1"),
    # More trials than the sampler keeps
    "subsampled": plain("full fits", command(160), epochs=4, few_observations=True),
    "subsampled-low-fidelity": many("short fits", command(200), **LOW, rate_bias=0.05, few_observations=True),
    # Warm start
    "warm-start": plain("from another task, another seed", command(16), command(30, LARGE, SMALL, seed=3), **LOW),
    "warm-start-block": many("in a block", command(12), command(24, LARGE, SMALL, seed=7, halving=False)),
    # Timeout, and the rest by a second command
    "timeout-alone": plain("in trials that run alone", command(20, timeout=11.0), command(20), cost=0.0625),
    "timeout-block": many("in a vectorized fit", command(30, timeout=3.0), command(30), member_cost=0.0078125),
    "timeout-cohorts": plain("in short fits", command(26, timeout=6.0), command(26), **LOW, cost=0.25),
    "timeout-cohorts-late": plain("after some full fits", command(26, timeout=40.0), command(26), **LOW, cost=0.25),
    "timeout-low-fidelity-block": many(
        "in vectorized short fits", command(40, timeout=2.0), command(40), **LOW, member_cost=0.125
    ),
    "timeout-chunks": many("in chunks", command(76, timeout=200.0), command(76), member_cost=0.125),
    "timeout-chunks-low-fidelity": many(
        "in short fits in chunks", command(64, timeout=250.0), command(64), **LOW, member_cost=0.5
    ),
    "timeout-subsets": plain("on subsets", command(24, timeout=31.0), command(24), **SLOW_SILENT),
    "timeout-nothing": plain("before the first trial ends", command(20, timeout=0.25), cost=0.5, fails="x > 0.85"),
    # Two commands at once
    "shared-alone": plain(
        "another command records trials", command(24), cost=0.125, recorded={4: (7, 8, 9), 9: (15, 16)}
    ),
    "shared-cohorts": plain("the same in cohorts", command(40), **LOW, cost=0.125, recorded={15: (21, 22, 23)}),
    "shared-chunks": many(
        "the same in chunks", command(88), member_cost=0.125, recorded={10: (20, 21, 30), 68: (75, 76, 85)}
    ),
    "leased-cohorts": plain(
        "another command leases trials and leaves some", command(40), **LOW, leased={15: (21, 22, 23, 24, 25, 26)}
    ),
    "leased-running": plain("another command takes over a running trial", command(30), **LOW, leased={15: (12,)}),
    "leased-subsets": plain("leases on subsets", command(24), **SLOW_SILENT, leased={4: (11, 12, 13, 14, 15, 16)}),
    # Lost slots
    "lost-alone": plain("a trial that lost three slots fails", command(14), cost=0.03125, losses=(5, 30, 31, 32, 100)),
    "lost-block": many(
        "chunks run again, one too often", command(20), **LOW, member_cost=0.001953125, losses=(2, 8, 9, 10, 30)
    ),
    "lost-subsets": plain("fits on subsets run again", command(16), **SLOW_SILENT, losses=(2, 12, 16, 20)),
}

FAST = "block-accuracy"
"""Scenario of the everyday test."""
RECORDED = (
    "block-accuracy",
    "block-rungs",
    "low-fidelity-block",
    "low-fidelity-block-unreliable",
    "cohorts-accuracy",
    "subsets-two-cohorts",
    "resumed-block-rungs",
    "full-fits-fail",
    "warm-start-block",
    "timeout-low-fidelity-block",
    "leased-running",
)
"""Scenarios whose trials are on record in `RECORD`: neither torch nor the Gaussian process, whose last digits differ by machine."""
REPEATED = (*RECORDED, "chunks-low-fidelity", "rungs-slow", "shared-alone")
"""Scenarios that the slow test runs twice: all kinds but torch, which `test_vectorized_search.py` compares with single fits."""

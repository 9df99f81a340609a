"""The contract suite: what a task or submission must do to be run, tried on it, each finding with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from harness import plugins
from harness.contract import Array, BakeoffError, Data, Kind, PluginError, Split, Task
from harness.entry import Progress, load
from harness.execution import isolation, slots
from harness.execution.pool import Setting, Worker
from harness.execution.trial import FitData, TrialFailed
from harness.kinds.sequence_prediction import NextToken
from harness.plugins import Source
from harness.scoring import Scorer
from harness.search import first_guess
from leaderboard import StoreError

ROWS = 200
TIME_LIMIT = 120.0
PROVERB = "the quick brown fox jumps over the lazy dog. "
STANDARD_TASKS = {
    "image-classification": "digits",
    "sequence-classification": "digit-rows",
    "forecasting": "sunspots",
    "transduction": "digit-spelling",
    "image-generation": "digit-images",
}
"""The embedded task that each kind is tried on; next-token models read a proverb."""


@dataclass(frozen=True)
class Finding:
    """One thing tried. ``says`` is the reason where it failed."""

    what: str
    passed: bool
    says: str = ""

    def __str__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.what}" + (f": {self.says}" if self.says else "")


def check(reference: str) -> list[Finding]:
    """Try a plug-in. A file may hold a task or a submission; a name is looked up among both."""
    path, _ = plugins.as_path(reference)
    if path is not None and not path.is_file():
        raise PluginError(f"there is no file {path}")
    is_task = reference in plugins.tasks(lambda message: None) if path is None else not has_submission(reference)
    return check_task(reference) if is_task else check_submission(plugins.find_submission(reference))


def has_submission(reference: str) -> bool:
    """Whether a file looks like one with a submission in it rather than a task: it defines a class with a ``kind``."""
    try:
        return bool(plugins.find_submission(reference).kinds)
    except PluginError as error:
        if "not valid Python" in str(error):
            raise
        return False


class Findings(list[Finding]):
    """Findings so far; `trying` adds one, whatever happens inside."""

    @contextmanager
    def trying(self, what: str) -> Iterator[Callable[[str], None]]:
        notes: list[str] = []
        try:
            yield notes.append
            self.append(Finding(what, True, "; ".join(notes)))
        except (BakeoffError, TrialFailed, StoreError, AssertionError) as error:
            self.append(Finding(what, False, str(error)))
        except Exception as error:
            self.append(Finding(what, False, f"{type(error).__name__}: {error}"))

    @property
    def failed(self) -> bool:
        return any(not finding.passed for finding in self)


def check_task(reference: str) -> list[Finding]:
    findings = Findings()
    task = plugins.find_task(reference).task
    data: Data | None = None
    with findings.trying(f"{task.name} loads, and its arrays are those of {task.kind.name}") as note:
        data = load(task)
        note(f"{len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test")
    if data is None:
        return findings
    with findings.trying("loading again gives the same data"):
        assert load(task).sha256() == data.sha256(), (
            "the arrays differ from one load() to the next; fix the random seed in it"
        )
    with findings.trying("no test input stands in train or valid as it is") as note:
        test = rows_seen(data.test.x)
        twins = len(test & (rows_seen(data.train.x) | rows_seen(data.valid.x)))
        if task.kind.name == "image-generation":
            note("does not apply: inputs are labels")
        else:
            assert twins <= 0.01 * len(data.test), (
                f"{twins} of {len(data.test)} test inputs do; drop the copies in load()"
            )
            note(f"{twins} of {len(data.test)} do" if twins else "")
    with findings.trying("the truth scores better than zeros"):
        scorer = Scorer(task, data, "")
        truth, zeros = (scorer.test(as_answer(task.kind, data.test, fill)) for fill in (None, 0))
        better = truth.score > zeros.score if task.ranking.higher_is_better else truth.score < zeros.score
        assert better, f"{task.metric} is {truth.score:.4g} for the truth and {zeros.score:.4g} for zeros"
    return findings


def rows_seen(x: Array) -> set[bytes]:
    return {np.ascontiguousarray(row).tobytes() for row in x}


def as_answer(kind: Kind, split: Split, fill: float | None) -> Array:
    """The truth, or a constant, in the last form that the kind takes (labels rather than probabilities)."""
    form = kind.forms(split.x)[-1]
    if form.shape == split.labels.shape:
        return split.labels.astype(form.dtype) if fill is None else np.full(form.shape, fill, form.dtype)
    uniform = np.full(form.shape, -np.log(form.shape[-1]), form.dtype)  # log-probabilities of tokens
    if fill is None:
        np.put_along_axis(uniform, split.labels[..., None], 0.0, axis=-1)
    return uniform


def check_submission(source: Source) -> list[Finding]:
    findings = Findings()
    setting = Setting(isolation.choose("auto", plugins.warn_on_stderr), threads=slots.cores())
    with Worker(plugins.bundle(source), setting) as worker:
        kinds: tuple[str, ...] = ()
        with findings.trying(f"{source.path.name} can be imported and describes itself") as note:
            description = worker.ready()
            kinds = description.kinds
            note(f"{source.name}, for {' and '.join(kinds)}, {len(description.space)} hyperparameters")
        for kind in kinds:
            try:
                task = standard_task(kind)
            except UnknownKind as error:
                findings.append(Finding(f"there is a task to try {kind} on", False, str(error)))
                continue
            check_kind(findings, worker, task, cut(load(task)), first_guess(description))
    return findings


def standard_task(kind: str) -> Task:
    if kind == NextToken.name:
        return Task(
            "proverb", NextToken(vocabulary=len(set(PROVERB)), alphabet="".join(sorted(set(PROVERB)))), proverb, "nats"
        )
    if kind not in STANDARD_TASKS:
        raise UnknownKind(
            f"{kind!r} is no kind of Bakeoff's own; `bakeoff run YOUR_TASK.py -s YOUR_SUBMISSION.py` tries it"
        )
    return plugins.find_task(STANDARD_TASKS[kind], Progress().note).task


class UnknownKind(BakeoffError):
    """A kind that no embedded task has."""


def proverb() -> Data:
    """A sentence over and over, in chunks of 32 tokens."""
    letters = sorted(set(PROVERB))
    tokens = np.array([letters.index(letter) for letter in PROVERB * 100])
    count = (len(tokens) - 1) // 32
    x, y = tokens[: count * 32].reshape(count, 32), tokens[1 : count * 32 + 1].reshape(count, 32)
    return Data(Split(x[:100], y[:100]), Split(x[100:120], y[100:120]), Split(x[120:140], y[120:140]))


def cut(data: Data) -> Data:
    """At most `ROWS` of each part."""
    return Data(*(Split(part.x[:ROWS], part.labels[:ROWS]) for part in (data.train, data.valid, data.test)))


def check_kind(findings: Findings, worker: Worker, task: Task, data: Data, params: dict[str, object]) -> None:
    kind, shared = task.kind, FitData(data, task.kind)
    scorer = Scorer(task, data, "")
    answers: list[Array] = []

    def fit_once() -> list[Array]:
        with worker.trial(params, shared, seed=1, device="cpu", time_limit=TIME_LIMIT) as trial:
            trial.fit()
            return [
                scorer.ask(trial, data.test, "check")[0],
                trial.predict(data.test.x, kind)[0],
                trial.predict(data.test.x, kind)[0],
                trial.predict(data.test.x[:1], kind)[0],
            ]

    try:
        with findings.trying(f"{task.name}: fits {len(data.train)} rows and answers in a valid form") as note:
            answers = fit_once()
            note(f"{task.metric} {scorer.test(answers[0]).score:.4g}")
        if not answers:
            return
        with findings.trying(f"{task.name}: the same question has the same answer"):
            assert np.array_equal(answers[1], answers[2]), (
                "two calls of predict on the same rows differ; use no chance in predict"
            )
        if kind.name != "image-generation":
            with findings.trying(f"{task.name}: an answer does not depend on the other rows"):
                moved = float(np.abs(answers[3].astype(float) - answers[1][:1].astype(float)).max())
                assert moved < 1e-3, f"predicting a row alone moves its answer by {moved:.3g}"
        with findings.trying(f"{task.name}: the same seed gives the same model"):
            again = fit_once()
            moved = float(np.abs(again[1].astype(float) - answers[1].astype(float)).max())
            assert moved < 1e-2, (
                f"a second fit with the same seed moves an answer by {moved:.3g}; take all chance from self.seed"
            )
    finally:
        shared.close()

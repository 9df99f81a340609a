"""Contract suite, `bakeoff check`: tries whether a task or submission can be run, and gives a reason with each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.commands import leakage
from harness.commands.run import hidden_paths
from harness.contract import Array, Data, Kind, Split, Task
from harness.dispatch import Progress
from harness.errors import BakeoffError, CheckFailed, Leak, PluginError, Skip, TrialFailed, UnknownKind
from harness.evaluation.task_data import load_data
from harness.execution.parent import isolation, slots
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.workers import Worker, WorkerConfig
from harness.kinds.sequence_prediction import NextToken
from harness.plugins import registry
from harness.plugins.bundle import bundle
from harness.plugins.source import Source
from harness.scoring import Scorer
from harness.search.sampler import default_params
from leaderboard import StoreError

ROWS = 200
"""Most rows of each split that a submission is tried on."""
SHUFFLED = 5_000
"""Most train rows that the tree of `shuffled_control` is fitted to."""
TIME_LIMIT = 120.0
PROVERB = "the quick brown fox jumps over the lazy dog. "
STANDARD_TASKS = {
    "image-classification": "digits",
    "sequence-classification": "digit-rows",
    "forecasting": "sunspots",
    "transduction": "digit-spelling",
    "image-generation": "digit-images",
}
"""Shipped task on which submissions of each kind are tried. Next-token submissions are tried on `proverb`."""


@dataclass(frozen=True)
class Finding:
    """Result of one check of a plug-in. ``what`` is the claim that was checked; ``says`` is a note, or the reason of a failure."""

    what: str
    passed: bool
    says: str = ""

    def __str__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.what}" + (f": {self.says}" if self.says else "")


def check(reference: str) -> list[Finding]:
    """Check the task or submission that a path or name refers to, and return the findings.

    A file may hold a task or a submission; a name is looked up among both. Raises UsageError for an unknown name, PluginError for a
    file that is missing or no valid plug-in.
    """
    path, _ = registry.as_path(reference)
    if path is not None and not path.is_file():
        raise PluginError(f"there is no file {path}")
    is_task = reference in registry.tasks(lambda message: None) if path is None else not has_submission(reference)
    return check_task(reference) if is_task else check_submission(registry.find_submission(reference))


def has_submission(reference: str) -> bool:
    """Tell whether a file defines a class with a literal ``kind``, as a submission does and a task does not.

    Raises PluginError if the file is not valid Python.
    """
    try:
        return bool(registry.find_submission(reference).kinds)
    except PluginError as error:
        if "not valid Python" in str(error):
            raise
        return False


class Findings(list[Finding]):
    """Findings so far in the check of a plug-in. A block ``with findings.trying(claim)`` adds one, failed if the block raises."""

    @contextmanager
    def trying(self, what: str) -> Iterator[Callable[[str], None]]:
        notes: list[str] = []
        try:
            yield notes.append
            self.append(Finding(what, True, "; ".join(notes)))
        except (BakeoffError, CheckFailed, TrialFailed, StoreError) as error:
            self.append(Finding(what, False, str(error)))
        except Exception as error:
            self.append(Finding(what, False, f"{type(error).__name__}: {error}"))

    @property
    def failed(self) -> bool:
        return any(not finding.passed for finding in self)


def require(holds: bool, message: str) -> None:
    """Raise CheckFailed with ``message`` unless ``holds`` is true. An ``assert`` would be skipped under ``python -O``."""
    if not holds:
        raise CheckFailed(message)


def check_task(reference: str) -> list[Finding]:
    findings = Findings()
    task = registry.find_task(reference).task
    data: Data | None = None
    with findings.trying(f"{task.name} loads, and its arrays are those of {task.kind.name}") as note:
        data = load_data(task)
        note(f"{len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test")
    if data is None:
        return findings
    with findings.trying("loading again gives the same data"):
        require(
            load_data(task).sha256() == data.sha256(),
            "the arrays differ from one load() to the next; fix the random seed in it",
        )
    with findings.trying("the truth scores better than zeros") as note:
        scorer = Scorer(task, data, "")
        truth, zeros = (answer_of_truth(task.kind, data.test, fill) for fill in (None, 0))
        if truth is None or zeros is None:
            note("does not apply: answers are of another form than targets")
        else:
            best, worst = scorer.test(truth).score, scorer.test(zeros).score
            sign = task.ranking.loss_sign
            require(sign * best < sign * worst, f"{task.metric} is {best:.4g} for the truth and {worst:.4g} for zeros")
    return [*findings, *leak_findings(task, data)]


def leak_findings(task: Task, data: Data) -> list[Finding]:
    """Run every leak check on a task's data and return the findings.

    A finding has in brackets the name under which `Task.accepted_findings` can accept it. An unknown name in
    `Task.accepted_findings` is a failed finding too.
    """
    checks = {**leakage.checks(data), **CONTROL_CHECKS}
    findings = [run_leak_check(name, claim, leak_check, task, data) for (name, claim), leak_check in checks.items()]
    names = [name for name, _ in checks]
    for name in sorted(set(task.accepted_findings) - set(names)):
        says = f"accepted_findings has {name!r}, which is none of {', '.join(names)}"
        findings.append(Finding("what is known is looked for", False, says))
    return findings


def run_leak_check(name: str, claim: str, leak_check: leakage.LeakCheck, task: Task, data: Data) -> Finding:
    """Run one leak check on a task's data and return its finding.

    Only a leak fails the check. A leak that the task declares as unavoidable (`Task.accepted_findings`) is noted and does not.
    """
    what = f"{claim} [{name}]"
    try:
        return Finding(what, True, leak_check(task, data))
    except Leak as leak:
        known = task.accepted_findings.get(name)
        return Finding(what, known is not None, f"known: {known} ({leak})" if known else str(leak))
    except Skip as reason:
        return Finding(what, True, f"does not apply: {reason}")
    except Exception as error:  # a stranger's kind may have arrays that no check was made for
        return Finding(what, True, f"skipped: {type(error).__name__}: {error}")


def answer_of_truth(kind: Kind, split: Split, fill: float | None) -> Array | None:
    """Return the targets of a split as an answer, or an answer with the constant ``fill``; None if targets have another form.

    The answer matches the last output spec of the kind: labels rather than probabilities. If it holds log-probabilities of tokens,
    the constant answer is the uniform one.
    """
    spec = kind.output_specs(split.x)[-1]
    if spec.shape == split.labels.shape:
        return split.labels.astype(spec.dtype) if fill is None else np.full(spec.shape, fill, spec.dtype)
    if spec.shape[:-1] != split.labels.shape or split.labels.dtype.kind not in "iu":
        return None
    uniform = np.full(spec.shape, -np.log(spec.shape[-1]), spec.dtype)  # log-probabilities of tokens
    if fill is None:
        np.put_along_axis(uniform, split.labels[..., None], 0.0, axis=-1)
    return uniform


def agreeing_targets(task: Task, data: Data) -> str:
    """Return a note on equal inputs with different targets, which no answer gets right; "" if there are none.

    Raises Leak if they are more than 1 % of the rows, Skip if targets are no classes.
    """
    if data.train.labels.dtype.kind not in "iu" or leakage.is_text(data) or data.train.x[:1].size < 2:
        raise Skip("targets are no classes of inputs")
    first: dict[int, tuple[int, str]] = {}
    torn = []
    for name, split in leakage.named_splits(data):
        for row, (key, target) in enumerate(
            zip(*(leakage.row_hashes(part).tolist() for part in (split.x, split.labels)), strict=True)
        ):
            before, where = first.setdefault(key, (target, f"{name} row {row}"))
            if before != target:
                torn.append(f"{where} and {name} row {row}")
    n = sum(len(split) for _, split in leakage.named_splits(data))
    says = f"{len(torn)} of {n} inputs have another target than before, such as {torn[0]}" if torn else ""
    return leakage.report_leaks([says] if len(torn) > leakage.MAX_COPY_SHARE * n else [], "drop them in load()", says)


def copied_target(task: Task, data: Data) -> str:
    """Raise Leak if an input value is a numeric target up to offset and scale, in rows of train and of test; else return "".

    Raises Skip if targets are no numbers or rows are too few.
    """
    if data.train.labels.dtype.kind != "f":
        raise Skip("targets are no numbers")
    found: list[dict[int, int]] = []
    for split in (data.train, data.test):
        rows = np.random.default_rng(0).permutation(len(split))[:50]
        if len(rows) < 20:
            raise Skip("there are fewer than 20 rows")
        inputs, goals = (scaled_columns(part[rows].reshape(len(rows), -1)) for part in (split.x, split.labels))
        column = {key: at for at, key in enumerate(inputs) if key}
        found.append({goal: column[key] for goal, key in enumerate(goals) if key in column})
    same = [(goal, column) for goal, column in found[0].items() if goal in found[1]]
    shapes = data.train.labels.shape[1:] or (1,), data.train.x.shape[1:]
    places = [[[*map(int, np.unravel_index(*at))] for at in zip(pair, shapes, strict=True)] for pair in same[:1]]
    says = [f"the value at {column} is the target at {goal}" for goal, column in places]
    return leakage.report_leaks(says, "drop that input, or move it to its own time")


def scaled_columns(table: Array) -> list[bytes]:
    """Return a key for each column of a table (n, columns). Columns that differ in offset and scale alone have the same key.

    A constant column has an empty key.
    """
    z = table.astype(np.float64) - table.mean(axis=0)
    spread = z.std(axis=0)
    z = np.round(z / np.maximum(spread, 1e-12) * np.where(z[0] < 0, -1, 1), 2) + 0.0
    return [values.tobytes() if wide else b"" for values, wide in zip(z.T, spread > 1e-9, strict=True)]


def constant_control(task: Task, data: Data) -> str:
    """Return a note on the score of constant answers, beside those of random guesses and of the truth.

    Raises Leak if a constant comes 50 % of the way from guesses to the truth (90 % for numbers): such scores mislead, as nothing
    was learned. Raises Skip if answers are not made of classes or numbers.
    """
    control = Control(task, data)
    y = control.y.reshape(len(control.y), -1)
    if control.numbers:
        constants = [y.mean(axis=0), np.median(y, axis=0)]
    else:
        rows, counts = np.unique(y, axis=0, return_counts=True)
        constants = [rows[counts.argmax()], np.array([np.bincount(column).argmax() for column in y.T])]
    shares = None if control.numbers else np.bincount(y.ravel()) / y.size
    answers = [answer for one in constants for answer in control.answers(one.reshape(control.y.shape[1:]), shares)]
    return control.report(
        answers,
        "a constant",
        0.9 if control.numbers else 0.5,
        "rank by a metric that weighs classes alike, such as balanced_accuracy, or balance the test split",
    )


def shuffled_control(task: Task, data: Data) -> str:
    """Return a note on the score of a tree fitted to shuffled targets; if targets are no classes, of the truth in another order.

    Raises Leak if the tree is right more often than by chance, or if the score comes half of the way from random guesses to the
    truth. Raises Skip if answers are not made of classes or numbers.
    """
    from scipy.stats import binom
    from sklearn.tree import ExtraTreeClassifier

    control, codes, rng = Control(task, data), leakage.class_codes(data), np.random.default_rng(0)
    advice = "the metric rewards answers that know nothing; look at Kind.measure"
    if codes is None or leakage.is_text(data) or data.train.x.ndim < 2:
        if control.numbers:  # a test split that lies elsewhere than train is no excuse
            control.guess = control.best(control.answers(data.test.labels.mean(axis=0)))
        moved = control.answers(rng.permutation(data.test.labels))
        return control.report(moved, "the truth in another order", 0.5, advice)
    rows = rng.permutation(len(data.train))[:SHUFFLED]
    x, z = (split.x.reshape(len(split), -1) for split in (data.train, data.test))
    answer = ExtraTreeClassifier(random_state=0).fit(x[rows], rng.permutation(codes["train"][rows])).predict(z)
    n, right = len(answer), int((answer == codes["test"]).sum())
    said, true = (np.bincount(some, minlength=int(codes["test"].max()) + 1) / n for some in (answer, codes["test"]))
    chance = float(said[: len(true)] @ true[: len(said)])
    if binom.sf(right - 1, n, chance) < leakage.FALSE_ALARM_RATE:
        raise Leak(f"a tree fitted to shuffled targets has {right} of {n} right, {chance * n:.0f} by chance: {advice}")
    first = {code: row for row, code in reversed(list(enumerate(codes["train"])))}
    return control.report(
        control.answers(data.train.labels[[first[code] for code in answer]]),
        "what learned from shuffled targets",
        0.5,
        advice,
    )


class Control:
    """Scale of a task's ranking metric from random guesses (0) to the truth (1), on which answers that know nothing are placed.

    Raises Skip if answers are not made of classes or numbers.
    """

    def __init__(self, task: Task, data: Data) -> None:
        self.task, self.data, self.y = task, data, data.train.labels
        self.numbers = self.y.dtype.kind == "f"
        if self.y.ndim > 3 or self.y.dtype.kind not in "iuf":
            raise Skip("answers are not made of classes or numbers")
        rng, n = np.random.default_rng(0), len(data.test)
        guess = self.y[rng.integers(0, len(self.y), n)]
        if not self.numbers:
            guess = rng.choice(np.unique(self.y), data.test.labels.shape)
        classes = 1 if self.numbers else int(self.y.max()) + 1
        self.guess = self.best(self.answers(guess, np.full(classes, 1 / classes)))
        self.truth = self.best(self.answers(data.test.labels))

    def answers(self, targets: Array, shares: Array | None = None) -> list[Array]:
        """Return ``targets``, one for each test row or one for all rows, as answers: one for each output spec that fits.

        Class probabilities are ``shares``, or without them 1 for the target. Raises Skip if no spec fits.
        """
        found, shape, rng = [], self.data.test.labels.shape, np.random.default_rng(0)
        for spec in self.task.kind.output_specs(self.data.test.x):
            if spec.shape == shape:
                found.append(np.broadcast_to(targets, shape).astype(spec.dtype))
            elif spec.shape[:-1] == shape and not self.numbers:
                answer = np.zeros(spec.shape, spec.dtype)
                if shares is None:
                    np.put_along_axis(answer, np.broadcast_to(targets, shape)[..., None], 1, axis=-1)
                else:
                    # Equal shares are no guess: the first class would always win them.
                    answer[..., : len(shares)] = shares * (1 + 1e-5 * rng.random((*shape, len(shares))))
                found.append(np.log(np.maximum(answer, 1e-15)) if "log" in spec.name else answer)
        if not found:
            raise Skip("answers are of another form than targets")
        return found

    def best(self, answers: list[Array]) -> float:
        scores = []
        for answer in answers:
            self.task.kind.verify(answer, self.data.test.x)
            measures = self.task.kind.measure(answer, self.data.test, self.data.train)
            scores.append(float(measures[self.task.metric].of(np.arange(len(answer)))))
        return min(scores, key=lambda score: self.task.ranking.loss_sign * score)

    def report(self, answers: list[Array], what: str, most: float, advice: str) -> str:
        score = self.best(answers)
        way = (score - self.guess) / (self.truth - self.guess) if self.truth != self.guess else np.inf
        says = f"{what} has {self.task.metric} {score:.4g}, guesses {self.guess:.4g}, the truth {self.truth:.4g}"
        return leakage.report_leaks([says] if way > most else [], advice, says)


CONTROL_CHECKS: dict[tuple[str, str], leakage.LeakCheck] = {
    ("conflicting labels", "the same input has the same target"): agreeing_targets,
    ("copied target", "no input value is a target but for its scale"): copied_target,
    ("constant control", "a constant answer is far from right"): constant_control,
    ("shuffled control", "what knows nothing is far from right"): shuffled_control,
}


def check_submission(source: Source) -> list[Finding]:
    findings = Findings()
    setting = WorkerConfig(
        isolation.choose("auto", registry.warn_on_stderr, hidden=hidden_paths(Path(".bakeoff"))), threads=slots.cores()
    )
    with Worker(bundle(source), setting) as worker:
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
            check_kind(findings, worker, task, first_rows(load_data(task)), default_params(description))
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
    return registry.find_task(STANDARD_TASKS[kind], Progress().note).task


def proverb() -> Data:
    """Return the data of a next-token task: a sentence, repeated, in chunks of 32 tokens."""
    letters = sorted(set(PROVERB))
    tokens = np.array([letters.index(letter) for letter in PROVERB * 100])
    count = (len(tokens) - 1) // 32
    x, y = tokens[: count * 32].reshape(count, 32), tokens[1 : count * 32 + 1].reshape(count, 32)
    return Data(Split(x[:100], y[:100]), Split(x[100:120], y[100:120]), Split(x[120:140], y[120:140]))


def first_rows(data: Data) -> Data:
    """Return the data with at most the first `ROWS` rows of each split."""
    return Data(*(Split(part.x[:ROWS], part.labels[:ROWS]) for part in (data.train, data.valid, data.test)))


def check_kind(findings: Findings, worker: Worker, task: Task, data: Data, params: dict[str, object]) -> None:
    kind, shared = task.kind, SharedInputs.of(data.train, data.valid, task.kind)
    scorer = Scorer(task, data, "")
    answers: list[Array] = []

    def fit_once() -> list[Array]:
        with worker.trial(params, shared, seed=1, device="cpu", time_limit=TIME_LIMIT) as trial:
            trial.fit()
            return [
                scorer.ask(trial, data.test)[0],
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
            require(
                np.array_equal(answers[1], answers[2]),
                "two calls of predict on the same rows differ; use no chance in predict",
            )
        if kind.name != "image-generation":
            with findings.trying(f"{task.name}: an answer does not depend on the other rows"):
                moved = float(np.abs(answers[3].astype(float) - answers[1][:1].astype(float)).max())
                require(moved < 1e-3, f"predicting a row alone moves its answer by {moved:.3g}")
        with findings.trying(f"{task.name}: the same seed gives the same model"):
            again = fit_once()
            moved = float(np.abs(again[1].astype(float) - answers[1].astype(float)).max())
            require(
                moved < 1e-2,
                f"a second fit with the same seed moves an answer by {moved:.3g}; take all chance from self.seed",
            )
    finally:
        shared.close()

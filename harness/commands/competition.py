"""`bakeoff competition`: reads and scores the files of a competition. `leaderboard.competition.competition` keeps its events."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.commands.submit import check_file, read_hashed
from harness.contract import Array, Kind, Task
from harness.errors import InvalidPrediction, TrialFailed, UsageError
from harness.evaluation.task_data import TaskData
from harness.plugins import registry
from leaderboard import Store
from leaderboard.competition.competition import Competition, format_utc
from leaderboard.competition.entries import ScoredEntry
from leaderboard.competition.events import Event
from leaderboard.competition.rules import Rules
from leaderboard.formatting import align_columns, format_number
from leaderboard.result import Status
from leaderboard.store.secret import new_secret

BOOTSTRAP_DRAWS = 200
"""Number of bootstrap draws for the standard error of a metric that is not a mean over samples."""


@dataclass(frozen=True)
class OpenCompetition:
    """Competition that an action works on: its rules, its task, and its record of events (``competition``)."""

    rules: Rules
    task: Task
    competition: Competition

    def score_entry(self, path: Path, team: str) -> ScoredEntry:
        """Return the scores of a team's file of predictions on the public and the private samples.

        Raises Refused, after the refusal is recorded, if the rules do not allow the entry or the file is wrong.
        """
        self.competition.check(team)
        try:
            graded = self.score_file(path)
        except (InvalidPrediction, TrialFailed, UsageError) as error:
            said = f"{path.name}: {error}".replace(f"{path}: ", "").replace(str(path), path.name)
            self.competition.refuse(team, said)
            raise
        self.competition.check(team, graded.sha256)
        return graded

    def score_file(self, path: Path) -> ScoredEntry:
        """Return the scores of a file of predictions on the public and the private samples, and record nothing.

        Raises UsageError or InvalidPrediction for a wrong file, TrialFailed for a score that is not finite.
        """
        with closing(TaskData(self.task, new_secret())) as task_data:
            test = task_data.data.test
            answer, digest = read_hashed(path, self.task.kind.output_specs(test.x))
            self.task.kind.verify(answer, test.x)
            return score_answer(task_data, answer, *self.competition.split(len(test)), digest)


def score_answer(task_data: TaskData, answer: Array, public: Array, private: Array, digest: str) -> ScoredEntry:
    """Return the scores of a verified answer on the public and the private samples (arrays of indices).

    They come with the losses and the standard error that the Ladder needs. ``digest`` is the SHA-256 of the answer's file.
    """
    measure = task_data.scorer.measured(answer)
    scores = [float(measure.of(part)) for part in (public, private)]
    if not all(map(math.isfinite, scores)):
        raise TrialFailed(
            Status.INVALID, f"the {task_data.task.metric} of these predictions is {scores[0]}; use ordinary sizes"
        )
    if measure.values is None:
        rng = np.random.default_rng(0)
        error = float(np.std([measure.of(rng.choice(public, len(public))) for _ in range(BOOTSTRAP_DRAWS)]))
        return ScoredEntry(scores[0], scores[1], None, error, digest)
    values = np.asarray(measure.values, dtype=np.float32)
    error = float(values[public].std(ddof=1)) / len(public) ** 0.5 if len(public) > 1 else 0.0
    return ScoredEntry(scores[0], scores[1], values, error, digest)


@contextmanager
def open_competition(options: argparse.Namespace) -> Iterator[OpenCompetition]:
    rules = Rules.read(options.rules)
    beside = options.rules.parent / rules.task.partition(":")[0]
    task = registry.find_task(str(options.rules.parent / rules.task) if beside.is_file() else rules.task).task
    if type(task.kind).queries is not Kind.queries:
        raise UsageError(
            f"{task.name} verifies answers by asking again, which a file cannot answer: it cannot be competed on by files"
        )
    with closing(Store(options.home, url=options.store)) as store:
        yield OpenCompetition(
            rules,
            task,
            Competition(rules, store, higher_is_better=task.ranking.higher_is_better, block=task.kind.block),
        )


# Commands --------------------------------------------------------------------------------------------------------------------


def start(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        event = opened.competition.start()
        return print_result(
            options,
            event_record(event),
            f"{opened.rules.name} is open from {format_utc(opened.rules.opens)} to {format_utc(opened.rules.closes)}",
        )


def amend(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        return print_result(
            options,
            event_record(opened.competition.amend(options.reason)),
            f"{opened.rules.name} goes on under the rules in {options.rules}",
        )


def enter(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        path, team = check_file(options.predictions), options.team
        event = opened.competition.enter(team, opened.score_entry(path, team))
        (row,) = (row for row in opened.competition.public_board() if row["team"] == team)
        left = opened.rules.in_all - row["entries"]
        text = f"entry {event.number} of {team} is in; {left} more may follow"
        if row["score"] is not None:
            moved = row["since"] == event.at
            text = (
                f"entry {event.number} of {team}: public {opened.task.metric} {format_number(row['score'])}, "
                f"{'rank ' + str(row['rank']) if moved else 'not better than before by more than noise'}; {left} more may follow"
            )
        return print_result(options, event_record(event) | {"public": row}, text)


def pick(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        event = opened.competition.pick(options.team, options.entries)
        return print_result(
            options,
            event_record(event),
            f"in the end {', '.join(map(str, event.content['entries']))} count for {options.team}",
        )


def withdraw(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        event = opened.competition.withdraw(options.team, options.entry, options.reason)
        return print_result(options, event_record(event), f"entry {options.entry} of {options.team} is withdrawn")


def rescore(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        path = check_file(options.predictions)
        scores = opened.score_file(path)
        event = opened.competition.rescore(options.entry, scores, options.reason)
        return print_result(options, event_record(event), f"entry {options.entry} has been scored again")


def reveal(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        opened.competition.reveal()
        return print_board(options, opened, opened.competition.final_board(), FINAL)


def board(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        opened.competition.opening_event()
        if any(event.kind == "revealed" for event in opened.competition.event_log.events()):
            return print_board(options, opened, opened.competition.final_board(), FINAL)
        return print_board(options, opened, opened.competition.public_board(), PUBLIC)


def history(options: argparse.Namespace) -> int:
    with open_competition(options) as opened:
        events = [event_record(event) for event in opened.competition.event_log.events()]
        lines = [
            f"{event['number']:>4}  {event['at'][:19]}  {event['kind']:<10} {event['team']:<20} {summary(event)}".rstrip()
            for event in events
        ]
        return print_result(
            options, {"events": events}, "\n".join(lines) or f"nothing has happened in {opened.rules.name}"
        )


def event_record(event: Event) -> dict[str, Any]:
    """Return the parts of an event that everybody may see, by name: all but the sealed scores."""
    return {
        "number": event.number,
        "at": event.at,
        "kind": event.kind,
        "team": event.team,
        "content": dict(event.content),
        "seal": event.seal,
        "hash": event.hash,
    }


def summary(event: Mapping[str, Any]) -> str:
    content = event["content"]
    said = [
        f"entry {content['entry']}" if "entry" in content else "",
        f"entries {', '.join(map(str, content['entries']))}" if "entries" in content else "",
        str(content.get("reason", "")),
        f"file {content['sha256'][:12]}" if "sha256" in content else "",
        f"seal {event['seal'][:12]}" if event["seal"] else "",
    ]
    return "; ".join(filter(None, said))


PUBLIC = {"rank": "rank", "team": "team", "public score": "score", "entries": "entries", "since": "since"}
FINAL = {
    "rank": "place",
    "team": "team",
    "private score": "score",
    "public score": "public_score",
    "shake-up": "shake_up",
    "entry": "entry",
}


def print_board(
    options: argparse.Namespace, opened: OpenCompetition, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> int:
    order = "higher" if opened.task.ranking.higher_is_better else "lower"
    lines = [f"{opened.rules.name}: {opened.task.name}, {opened.task.metric}, {order} is better"]
    lines += align_columns([list(columns), *([format_cell(row, key) for key in columns.values()] for row in rows)])
    if columns is PUBLIC and opened.rules.release == "ladder":
        lines.append("  a public score moves only when an entry is better by more than noise")
    return print_result(options, {"rows": list(rows)}, "\n".join(lines))


def format_cell(row: Mapping[str, Any], key: str) -> str:
    if key == "place":
        low, high = row["rank_low"], row["rank_high"]
        return str(row["rank"]) if low == high else f"{row['rank']} ({low}–{high})"
    value = row[key]
    if value is None:
        return "–"
    if key == "shake_up":
        return f"+{value}" if value > 0 else str(value)
    if key == "since":
        return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    return format_number(value) if isinstance(value, float) else str(value)


def print_result(options: argparse.Namespace, document: Mapping[str, Any], text: str) -> int:
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False), file=sys.__stdout__)
    else:
        print(text)
    return 0

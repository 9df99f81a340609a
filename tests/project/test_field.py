"""Figures in the headers of the baselines agree with the recorded run of the whole field (`make field`, docs/field.json)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import REPOSITORY

from harness.plugins import registry

FIELD = json.loads((REPOSITORY / "docs" / "field.json").read_text())
ROWS: Mapping[tuple[str, str], Mapping[str, Any]] = {(row["submission"], row["task"]): row for row in FIELD["rows"]}
TASKS = dict.fromkeys(row["task"] for row in FIELD["rows"])
PROMISE = re.compile(r"(-?\d*\.\d+|\d+) on ([a-z][a-z0-9-]*[a-z0-9])")
"""Pattern of ``.976 on digits``: a score of the task's ranking metric."""
WIDTH = 2 * 1.96
"""Width of a 95 % interval in standard errors."""


def promises(name: str) -> dict[str, str]:
    """Scores in a baseline's header by task, as text; the first score of a task counts."""
    text = ast.get_docstring(ast.parse(registry.submissions()[name].path.read_text())) or ""
    found: dict[str, str] = {}
    for score, task in PROMISE.findall(" ".join(text.split())):
        found.setdefault(task, score)
    return found


def test_the_field_is_complete() -> None:
    """Every baseline has a score on every embedded task of its kinds."""
    kinds = {name: registry.find_task(name).task.kind.name for name in TASKS}
    wanted = {
        (name, task)
        for name, source in registry.submissions().items()
        for task, kind in kinds.items()
        if kind in source.kinds
    }
    assert set(ROWS) == wanted
    assert {key: row["error"] for key, row in ROWS.items() if row["status"] != "complete"} == {}


@pytest.mark.parametrize("name", sorted(registry.submissions()))
def test_a_header_promises_what_the_field_shows(name: str) -> None:
    """A header names every embedded task, with a score within three standard errors (samples and seeds) of the run's."""
    said = promises(name)
    assert set(said) >= {task for submission, task in ROWS if submission == name}
    for task, score in said.items():
        if row := ROWS.get((name, task)):
            error = 3 * (row["ci_high"] - row["ci_low"]) / WIDTH
            rounding = 0.5 * 10.0 ** -len(score.partition(".")[2])
            assert abs(float(score) - row["score"]) <= error + rounding, (
                f"{task}: the header says {score}, the run {row['score']:.4g}"
            )

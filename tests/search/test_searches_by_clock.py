"""Searches under a fixed clock (`searches_by_clock.py`): the same twice, and the same as on record in `searches.json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from scenarios import FAST, RECORDED, REPEATED, SCENARIOS

SCRIPT = Path(__file__).with_name("searches_by_clock.py")
RECORD: dict[str, list[str]] = json.loads(SCRIPT.with_name("searches.json").read_text())
CHANGED = """The search suggests, promotes or prunes other trials than those on record:
{differences}
To see all of it, run this before and after your change, and compare:
    python tests/search/searches_by_clock.py --out before.json --only {names}
    python tests/search/searches_by_clock.py --compare before.json after.json
If the change is meant, or a new version of Optuna or numpy made it, renew the record and say in the commit what changed:
    python tests/search/searches_by_clock.py --renew"""


@dataclass(frozen=True)
class Run:
    """One run of the script. ``found`` holds its trials and messages by scenario."""

    code: int
    output: str
    found: dict[str, Any]


def run_searches(out: Path, *arguments: str) -> Run:
    """Run scenarios in a process of their own, where the search's clock can be replaced."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", out, "--only", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "BAKEOFF_HOME": "", "BAKEOFF_STORE": ""},
    )
    assert out.exists(), done.stdout + done.stderr
    return Run(done.returncode, done.stdout + done.stderr, json.loads(out.read_text()))


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of scenarios of all kinds, each twice."""
    return run_searches(tmp_path_factory.mktemp("searches") / "found.json", *REPEATED, "--twice")


def assert_on_record(found: dict[str, Any], *names: str) -> None:
    from searches_by_clock import trial_lines  # loads the engine

    changed = {}
    for name in names:
        now, recorded = trial_lines(found[name]), RECORD[name]
        differing = [pair for pair in zip(recorded, now) if pair[0] != pair[1]]
        if now != recorded:
            first = "; the first: {!r} on record, {!r} now".format(*differing[0]) if differing else ""
            changed[name] = (
                f"    {name}: {len(recorded)} trials on record, {len(now)} now, {len(differing)} differ{first}"
            )
    assert not changed, CHANGED.format(differences="\n".join(changed.values()), names=" ".join(changed))


def test_a_vectorized_search_is_as_on_record(tmp_path: Path) -> None:
    run = run_searches(tmp_path / "found.json", FAST)
    assert run.code == 0, run.output
    assert_on_record(run.found, FAST)


@pytest.mark.slow
def test_searches_are_deterministic(repeated: Run) -> None:
    """Two searches in one process come to the same trials, results and messages."""
    assert repeated.found.keys() == set(REPEATED), repeated.output
    assert repeated.code == 0, repeated.output


@pytest.mark.slow
def test_searches_are_as_on_record(repeated: Run) -> None:
    assert RECORD.keys() == set(RECORDED)
    assert_on_record(repeated.found, *RECORDED)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REPEATED if SCENARIOS[name].recorded or SCENARIOS[name].leased])
def test_two_commands_at_once_miss_no_trial(name: str, repeated: Run) -> None:
    """Each trial is recorded once, by one of the commands."""
    (trials,) = repeated.found[name]["studies"]
    assert sorted(trial["number"] for trial in trials) == list(range(SCENARIOS[name].commands[-1].trials))

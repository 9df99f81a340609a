"""The command line: its output, its exit codes, and that a wrong request loses nothing."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY_MODEL, TINY_TASK, Command, hostile, write

import harness
from leaderboard import Store


@pytest.fixture
def board(tiny: Path, bakeoff: Command) -> Path:
    """A home with two complete entries and a failed one."""
    hostile(tiny, "bad", "raise ValueError('no | luck')")
    write(
        tiny,
        "constant.py",
        (tiny / "nearest.py")
        .read_text()
        .replace("return np.square", "return np.ones(len(x), dtype=int)\n        return np.square"),
    )
    bakeoff(
        "run", "tiny.py", "-s", "nearest.py", "-s", "constant.py", "-s", "bad.py", "--trials", 2, "--home", "h", code=1
    )
    return tiny / "h"


def test_run_json_is_one_document_and_messages_go_elsewhere(tiny: Path, bakeoff: Command) -> None:
    done = bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 2, "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["submission"] == "nearest" and "nearest" in done.stderr
    assert (tiny / ".bakeoff" / "bakeoff.sqlite").exists()


def test_leaderboard_in_every_format(board: Path, bakeoff: Command, tmp_path: Path) -> None:
    text = bakeoff("leaderboard", "tiny", "--home", board).stdout
    *lines, note = text.splitlines()[2:]
    assert [line.split()[1] for line in lines] == ["nearest", "constant", "bad"]
    assert note.startswith("  differences below about ")
    rows = json.loads(bakeoff("leaderboard", "--home", board, "--format", "json").stdout)
    assert [(row["rank"], row["tie_group"], row["status"]) for row in rows] == [
        (1, 1, "complete"),
        (2, 2, "complete"),
        (None, None, "failed"),
    ]
    listed = list(csv.DictReader(io.StringIO(bakeoff("leaderboard", "--home", board, "--format", "csv").stdout)))
    assert list(listed[0]) == list(rows[0]) and json.loads(listed[0]["metrics"]) == rows[0]["metrics"]
    assert r"no \| luck" in bakeoff("leaderboard", "--home", board, "--format", "markdown").stdout
    bakeoff("leaderboard", "--home", board, "--format", "parquet", "--out", "board.parquet")
    assert list(pd.read_parquet(tmp_path / "board.parquet").columns) == list(rows[0])
    page = bakeoff("leaderboard", "--home", board, "--format", "html").stdout
    assert "data:image/png;base64," in page and "http://" not in page and "https://" not in page and "no | luck" in page


def test_the_page_escapes_what_entries_say(tiny: Path, bakeoff: Command) -> None:
    hostile(tiny, "bad", "raise ValueError('<script>alert(1)</script>')")
    bakeoff("run", "tiny.py", "-s", "bad.py", code=1)
    page = bakeoff("leaderboard", "--format", "html").stdout
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_show_compare_and_replay(board: Path, bakeoff: Command) -> None:
    rows = json.loads(bakeoff("leaderboard", "--home", board, "--format", "json").stdout)
    assert rows[0]["source_sha256"] in bakeoff("show", rows[0]["result_id"][:6], "--home", board).stdout
    assert (
        "nearest is better than constant" in bakeoff("compare", "tiny", "constant", "nearest", "--home", board).stdout
    )
    assert (
        "cannot tell nearest and nearest apart"
        in bakeoff("compare", "tiny", "nearest", "nearest", "--home", board).stdout
    )


@pytest.mark.slow
def test_replay_gives_the_same_score(bakeoff: Command, tmp_path: Path) -> None:
    bakeoff("new", "submission", "forest")
    (row,) = json.loads(bakeoff("run", "digits", "-s", "forest.py", "--trials", 0, "--seeds", 2, "--json").stdout)[
        "rows"
    ]
    assert row["n_trials"] == 0 and row["params"]["C"] == pytest.approx(1.0)
    said = bakeoff("replay", row["result_id"]).stdout
    assert "the same scores" in said and "seed 1" in said


def test_tune_shows_the_best_and_extends(tiny: Path, bakeoff: Command) -> None:
    first = json.loads(bakeoff("tune", "tiny.py", "nearest.py", "--trials", 3, "--json").stdout)
    more = json.loads(bakeoff("tune", "tiny.py", "nearest.py", "--trials", 6, "--json").stdout)
    assert (first["n_trials"], more["n_trials"]) == (3, 6) and more["valid"] >= first["valid"]
    assert "best validation score" in bakeoff("tune", "tiny.py", "nearest.py", "--trials", 6).stdout


def test_replay_of_a_task_given_by_its_path(tiny: Path, bakeoff: Command) -> None:
    """Replay works with helper modules beside the plug-in and a named object: the result keeps all of it."""
    (tiny / "helper.py").write_text("SHRINK = 0.1\n")
    text = (tiny / "nearest.py").read_text().replace("import numpy as np", "import helper\nimport numpy as np")
    (tiny / "nearest.py").write_text(text + "\n\nclass Other(Nearest):\n    pass\n")
    (row,) = json.loads(bakeoff("run", "tiny.py", "-s", "nearest.py:Nearest", "--trials", "2", "--json").stdout)["rows"]
    for name in ("helper.py", "nearest.py"):
        (tiny / name).unlink()
    assert "--task PATH" in bakeoff("replay", row["result_id"], code=2).stderr
    assert "the same scores" in bakeoff("replay", row["result_id"], "--task", "tiny.py").stdout
    (tiny / "tiny.py").write_text(
        (tiny / "tiny.py").read_text().replace('metric="accuracy"', 'metric="accuracy", version=2')
    )
    assert "now tiny, version 2" in bakeoff("replay", row["result_id"], "--task", "tiny.py", code=2).stderr


def test_doctor_reports_what_works(bakeoff: Command) -> None:
    answers = json.loads(bakeoff("doctor", "--json").stdout)
    assert answers["torch"]["works"] and answers["isolation"]["works"]
    assert "cores" in bakeoff("doctor").stdout


def test_version_is_printed_without_loading_any_library(bakeoff: Command) -> None:
    """The version is read from one place, and printing it imports none of the libraries that take long to load."""
    for arguments in (("--version",), ("--debug", "--version")):
        assert bakeoff(*arguments).stdout == f"bakeoff {harness.__version__}\n"
    code = "import sys; from harness.cli import main; main(['--version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "harness" in loaded and not loaded & {"numpy", "optuna", "torch", "pandas", "sqlite3", "leaderboard"}


BAD = {
    "unknown task": (["run", "digts"], "did you mean digits"),
    "unknown submission": (["run", "tiny.py", "-s", "random-forrest"], "did you mean random-forest"),
    "task in capitals": (["run", "DIGITS"], "did you mean digits"),
    "file without its ending": (["run", "tiny.py", "-s", "nearest"], "did you mean nearest.py"),
    "no such file": (["run", "no.py"], "there is no file no.py"),
    "no such plug-in": (["run", "tiny.py", "-s", "no.py"], "there is no file no.py"),
    "no such object": (["run", "tiny.py", "-s", "nearest.py:Nobody"], "no class Nobody"),
    "no such task object": (["run", "tiny.py:OTHER"], "no Task called OTHER"),
    "empty plug-in": (["run", "tiny.py", "-s", "empty.py"], "defines no class"),
    "broken plug-in": (["run", "tiny.py", "-s", "broken.py"], "not valid Python (line 2)"),
    "empty task": (["run", "empty.py"], "holds no Task"),
    "broken task": (["run", "broken.py"], "SyntaxError"),
    "raising task": (["run", "raising.py"], "ZeroDivisionError"),
    "wrong data": (["run", "wrong.py"], "should be unsigned integer"),
    "wrong kind": (["run", "sunspots", "-s", "svm"], "sunspots is forecasting"),
    "unknown device": (["run", "tiny.py", "-s", "nearest.py", "--devices", "cuda:99"], "device 'cuda:99' is not here"),
    "silly device": (["run", "tiny.py", "-s", "nearest.py", "--devices", "gpu"], "device 'gpu' is not here"),
    "no processes": (["run", "tiny.py", "-s", "nearest.py", "--process-limit", "0"], "should be more than 0"),
    "no workers": (["run", "tiny.py", "-s", "nearest.py", "--workers", "0"], "--workers should be at least 1"),
    "no seeds": (["run", "tiny.py", "-s", "nearest.py", "--seeds", "0"], "seeds at least 1"),
    "no time": (["run", "tiny.py", "-s", "nearest.py", "--time-limit", "-1"], "more than 0 seconds"),
    "unwritable home": (["run", "tiny.py", "-s", "nearest.py", "--home", "tiny.py/home"], "cannot be opened"),
    "no results": (["leaderboard"], "there are no results"),
    "no such board": (["leaderboard", "mars", "--home", "h"], "no results for mars"),
    "no such result": (["show", "zzz", "--home", "h"], "no result has an id"),
    "no such entry": (["compare", "tiny", "nearest", "ghost", "--home", "h"], "no complete result of 'ghost'"),
    "unwritable page": (
        ["leaderboard", "--home", "h", "--format", "html", "--out", "no/such/folder.html"],
        "cannot be written",
    ),
    "bad name": (["new", "task", "../x"], "a name should be letters"),
    "taken name": (["new", "task", "tiny"], "is there already"),
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad plug-ins, and results of an earlier run in its home ``h``."""
    folder = tmp_path_factory.mktemp("used")
    write(folder, "tiny.py", TINY_TASK)
    write(folder, "nearest.py", TINY_MODEL)
    write(folder, "empty.py", "")
    write(folder, "broken.py", "x = 1\nclass:\n")
    write(folder, "raising.py", "1 / 0\n")
    write(folder, "wrong.py", TINY_TASK.replace("astype(np.uint8)", "astype(np.float32)").replace('"tiny"', '"wrong"'))
    harness.run(str(folder / "tiny.py"), [str(folder / "nearest.py")], trials=0, seeds=1, home=folder / "h")
    return folder


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_request_is_one_line_and_loses_nothing(case: str, used: Path) -> None:
    arguments, words = BAD[case]
    before = Store(used / "h").results()
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=used,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == "" and words in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert Store(used / "h").results() == before


def test_debug_shows_where(bakeoff: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", "no-such", "--debug"], capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr


@pytest.mark.long
def test_new_plugins_pass_their_check(tmp_path: Path, bakeoff: Command) -> None:
    for framework in ("sklearn", "torch", "keras"):
        bakeoff("new", "submission", f"my-{framework}", "--framework", framework)
        assert "✗" not in bakeoff("check", f"my_{framework}.py").stdout
    bakeoff("new", "task", "stripes")
    assert "✓ stripes loads" in bakeoff("check", "stripes.py").stdout


@pytest.mark.slow
def test_check_finds_what_is_wrong(tiny: Path, bakeoff: Command) -> None:
    text = (tiny / "nearest.py").read_text()
    write(
        tiny,
        "chancy.py",
        text.replace("flat = x", "x = x + np.random.default_rng().integers(0, 99, x.shape)\n        flat = x"),
    )
    assert "✗ digits: the same question has the same answer" in bakeoff("check", "chancy.py", code=1).stdout
    write(
        tiny,
        "mixing.py",
        text.replace(
            "flat = x.reshape(len(x), -1)",
            "flat = x.reshape(len(x), -1) - x.mean()\n        if len(x) == 1: return np.full(1, 9)",
        ),
    )
    assert "✗ digits: an answer does not depend on the other rows" in bakeoff("check", "mixing.py", code=1).stdout
    write(
        tiny,
        "leaky.py",
        (tiny / "tiny.py")
        .read_text()
        .replace("return stratified(", "d = stratified(")
        .replace("\nTASK", "\n    from harness import Data\n    return Data(d.train, d.valid, d.train)\n\nTASK"),
    )
    assert "✗ no test input stands in train or valid" in bakeoff("check", "leaky.py", code=1).stdout
    hostile(tiny, "bad", top="raise RuntimeError('no import')")
    assert "no import" in bakeoff("check", "bad.py", code=1).stdout

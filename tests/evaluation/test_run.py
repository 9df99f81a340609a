"""Runs: search, seeds, record and board, and that an interrupted run gives the same results."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import REPOSITORY, TINY_TASK, Command, hostile, table, write

import harness
import leaderboard
from harness.commands.tune import tune
from harness.dispatch import Progress
from harness.errors import PluginError, TrialFailed
from leaderboard import Store


def test_a_row_has_every_key_of_the_interface(tiny: Path) -> None:
    (row,) = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], trials=4, home=tiny / "home")
    wanted = """rank tie_group task task_version kind submission status error metric higher_is_better score score_std
        ci_low ci_high seeds public_score private_score valid_score metrics params n_trials n_pruned n_failed
        fit_seconds predict_seconds search_seconds
        peak_memory_mb n_parameters device isolation result_id source_sha256 data_sha256 versions commit created_at"""
    assert set(wanted.split()) <= set(row)
    assert row["status"] == "complete" and row["rank"] == 1 and row["n_trials"] == 4 and len(row["seeds"]) == 3
    assert row["ci_low"] <= row["score"] <= row["ci_high"]
    assert 0 <= row["params"]["shrink"] <= 0.9
    assert set(row["metrics"]) == {"accuracy", "balanced_accuracy", "log_loss", "calibration_error"}
    assert row["score"] == pytest.approx((row["public_score"] + row["private_score"]) / 2)
    json.dumps(row, allow_nan=False)
    folder = tiny / "home" / "artefacts" / row["result_id"]
    assert (folder / "source" / "nearest.py").read_text() == (tiny / "nearest.py").read_text()
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_rows_are_dicts_with_a_frame_and_a_table_for_notebooks(tiny: Path) -> None:
    write(
        tiny,
        "broken.py",
        (tiny / "nearest.py").read_text().replace("return np.sq", "raise ValueError('<b>')\n        np.sq"),
    )
    names = [str(tiny / "nearest.py"), str(tiny / "broken.py")]
    rows = harness.run(str(tiny / "tiny.py"), names, trials=0, seeds=1, home=tiny / "home")
    assert list(rows.frame["submission"]) == ["nearest", "broken"] and list(rows.frame.columns) == list(rows[0])
    page = rows._repr_html_()
    assert page.count("<tr>") == 3 and "nearest" in page and "&lt;b&gt;" in page and "<b>" not in page
    again = leaderboard.load(tiny / "home")
    assert again == rows == leaderboard.load(tiny / "home", "tiny") and again.boards.keys() == {"tiny"}
    assert leaderboard.load(tiny / "home", "other") == [] and "no results" in leaderboard.Rows()._repr_html_()
    with pytest.raises(leaderboard.StoreError):
        leaderboard.load(tiny / "nowhere")


def test_the_search_sees_validation_and_takes_the_best(tiny: Path) -> None:
    """The search finds the only setting under which the model is right, and tries the default first."""
    write(
        tiny,
        "picky.py",
        (tiny / "nearest.py")
        .read_text()
        .replace(
            "return np.square",
            "if self.params['shrink'] < 0.3: return np.zeros(len(x), dtype=int)\n        return np.square",
        ),
    )
    (row,) = harness.run(str(tiny / "tiny.py"), [str(tiny / "picky.py")], trials=12, home=tiny / "home")
    store = Store(tiny / "home")
    fits = store.fits(row_study(tiny / "home"), "search")
    store.close()
    values = {fit.number: fit.value for fit in fits}
    assert fits[0].params == {"shrink": 0.0} and values[0] == pytest.approx(1 / 3)
    assert row["valid_score"] == max(values.values()) > 0.7 and row["params"]["shrink"] >= 0.3


def row_study(home: Path) -> str:
    return str(table(home, "study")[0][0])


def test_running_again_does_nothing_again(tiny: Path) -> None:
    def go(**more: int) -> dict[str, object]:
        return harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], home=tiny / "home", **more)[0]  # type: ignore[arg-type]

    first = go(trials=3)
    before = table(tiny / "home", "created_at")
    assert go(trials=3) == first
    assert table(tiny / "home", "created_at") == before
    more = go(trials=5)
    assert more["n_trials"] == 5 and more["result_id"] != first["result_id"]
    assert set(before) <= set(table(tiny / "home", "created_at"))
    assert table(tiny / "home", "phase").count(("search",)) == 5


def test_a_changed_source_is_another_entry(tiny: Path) -> None:
    first = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], trials=1, home=tiny / "home")[0]
    (tiny / "nearest.py").write_text((tiny / "nearest.py").read_text() + "\n# a change\n")
    again = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], trials=1, home=tiny / "home")[0]
    assert again["result_id"] != first["result_id"] and again["source_sha256"] != first["source_sha256"]


def test_a_failed_entry_is_tried_again(tiny: Path) -> None:
    flag = tiny / "flag"
    bad = hostile(tiny, "bad", f"assert os.path.exists({str(flag)!r}), 'no flag'")
    trusted = {"isolation_tier": "process", "home": tiny / "home"}  # the flag is a file, invisible in a sandbox
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], seeds=1, **trusted)
    assert row["status"] == "failed" and "no flag" in row["error"]
    flag.touch()
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], seeds=1, **trusted)
    assert row["status"] == "complete"


def test_failed_trials_are_counted_and_do_not_win(tiny: Path) -> None:
    shaky = hostile(tiny, "shaky", "if self.params['a'] > 0.5: raise ValueError('unlucky')", space="{'a': Float(0, 1)}")
    (row,) = harness.run(str(tiny / "tiny.py"), [str(shaky)], trials=8, seeds=1, home=tiny / "home")
    assert row["status"] == "complete" and 1 <= row["n_failed"] <= 7 and row["params"]["a"] <= 0.5


def test_hopeless_entries_are_given_up_early(tiny: Path) -> None:
    bad = hostile(tiny, "bad", "raise ValueError('never')", space="{'a': Float(0, 1)}")
    (row,) = harness.run(str(tiny / "tiny.py"), [str(bad)], trials=50, seeds=1, workers=1, home=tiny / "home")
    assert row["status"] == "failed" and len(table(tiny / "home", "number")) == 3


RACER = """
for epoch in range(30):
    report(self.params['a'])
"""


def test_bad_trials_are_pruned_and_cannot_win(tiny: Path) -> None:
    """Reported losses end trials; false ones win nothing, because the score is computed from predictions."""
    racer = hostile(tiny, "racer", RACER, space="{'a': Float(0, 1)}")
    (row,) = harness.run(str(tiny / "tiny.py"), [str(racer)], trials=15, seeds=1, workers=1, home=tiny / "home")
    assert row["n_pruned"] >= 5 and row["n_failed"] == 0
    store = Store(tiny / "home")
    fits = store.fits(row_study(tiny / "home"), "search")
    store.close()
    pruned = [fit for fit in fits if fit.status == "pruned"]
    assert all(fit.value is None and len(fit.facts["losses"]) < 30 for fit in pruned)
    assert min(fit.params["a"] for fit in fits) not in [fit.params["a"] for fit in pruned]


def test_a_resumed_tune_equals_an_uninterrupted_one(tiny: Path) -> None:
    """A resumed search makes the same suggestions and prunes the same trials at the same epochs."""
    hostile(tiny, "racer", RACER, space="{'a': Float(0, 1)}")

    def go(home: str, trials: int) -> object:
        return tune(str(tiny / "tiny.py"), str(tiny / "racer.py"), trials=trials, workers=1, home=tiny / home)

    go("pieces", 5)
    go("pieces", 12)
    go("whole", 12)
    columns = ("number", "params", "status", "value", "json_extract(facts, '$.losses')")
    assert table(tiny / "pieces", *columns) == table(tiny / "whole", *columns)
    assert ("pruned",) in table(tiny / "whole", "status")


def slow(folder: Path) -> Path:
    return hostile(folder, "slow", "time.sleep(0.4)", space="{'a': Float(0, 1)}")


def restore_interrupts() -> None:
    """Restore the default for SIGINT: a shell makes background processes, maybe these tests, and their children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_resumed_run_gives_the_same_table(how: signal.Signals, tiny: Path, bakeoff: Command) -> None:
    slow(tiny)
    command = [
        sys.executable,
        "-m",
        "harness.cli",
        "run",
        "tiny.py",
        "-s",
        "slow.py",
        "--trials",
        "8",
        "--workers",
        "2",
        "--home",
        "h",
    ]
    process = subprocess.Popen(
        command,
        cwd=tiny,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore_interrupts,  # noqa: PLW1509, it allocates nothing
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tiny / "h" / "bakeoff.sqlite").exists() and len(table(tiny / "h", "number")) >= 3:
            break
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130 and "what is done is kept" in said and "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "nothing survives the run"
    kept = table(tiny / "h", "phase", "number", "created_at")
    assert 3 <= len(kept) < 11
    rows = json.loads(
        bakeoff("run", "tiny.py", "-s", "slow.py", "--trials", "8", "--workers", "2", "--home", "h", "--json").stdout
    )["rows"]
    assert rows[0]["status"] == "complete" and rows[0]["n_trials"] == 8 and rows[0]["n_failed"] == 0
    after = table(tiny / "h", "phase", "number", "created_at")
    assert set(kept) <= set(after) and len(after) == 8 + 3


def test_two_runs_at_once_share_a_home(tiny: Path) -> None:
    write(tiny, "other.py", (tiny / "nearest.py").read_text())
    commands = [
        [sys.executable, "-m", "harness.cli", "run", "tiny.py", "-s", f"{name}.py", "--trials", "3", "--home", "h"]
        for name in ("nearest", "other")
    ]
    running = [
        subprocess.Popen(command, cwd=tiny, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL)
        for command in commands
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    store = Store(tiny / "h")
    assert {result.submission for result, _ in store.results("tiny")} == {"nearest", "other"}
    store.close()


def test_a_reply_that_looks_ahead_is_invalid(tmp_path: Path) -> None:
    """Check causality end to end with a next-token model that reads the answer from its input."""
    write(
        tmp_path,
        "echo.py",
        """
import numpy as np
from harness import Data, NextToken, Split, Task

def load():
    tokens = np.random.default_rng(0).integers(0, 5, 20 * 16 * 3 + 1)
    x, y = tokens[:-1].reshape(-1, 16), tokens[1:].reshape(-1, 16)
    return Data(Split(x[:20], y[:20]), Split(x[20:40], y[20:40]), Split(x[40:], y[40:]))

TASK = Task(name="echo", kind=NextToken(vocabulary=5), load=load, metric="nats")
""",
    )
    write(
        tmp_path,
        "peek.py",
        """
import numpy as np
from harness import Submission

class Peek(Submission):
    kind = "next-token"

    def fit(self, train, valid, report): ...

    def predict(self, x):
        p = np.full((*x.shape, 5), 0.05, dtype=np.float32)
        np.put_along_axis(p, np.roll(x, -1, axis=1)[..., None], 0.8, axis=2)
        return np.log(p)
""",
    )
    (row,) = harness.run(str(tmp_path / "echo.py"), [str(tmp_path / "peek.py")], seeds=1, home=tmp_path / "home")
    assert row["status"] == "invalid" and "depend on tokens that come later" in row["error"]


def test_the_requested_version_is_returned(tiny: Path) -> None:
    """The requested version is returned even if the board has a newer result of the submission."""

    def go(seeds: int) -> tuple[object, object]:
        (row,) = harness.run(
            str(tiny / "tiny.py"), [str(tiny / "nearest.py")], trials=1, seeds=seeds, home=tiny / "home"
        )
        return row["result_id"], len(row["seeds"])

    first, second = go(1), go(2)
    assert go(1) == first and go(2) == second and (first[1], second[1]) == (1, 2)


def test_another_metric_needs_another_result(tiny: Path) -> None:
    """A new metric needs a new result, also in the same process: an edited file is read again."""

    def go() -> dict[str, object]:
        return harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], trials=1, seeds=1, home=tiny / "home")[0]

    assert go()["metric"] == "accuracy"
    text = (tiny / "tiny.py").read_text()
    write(tiny, "tiny.py", text.replace('metric="accuracy"', 'metric="log_loss"'))
    assert go()["metric"] == "log_loss"


def test_one_task_that_cannot_load_does_not_cost_the_others(tiny: Path, bakeoff: Command) -> None:
    write(
        tiny,
        "lost.py",
        (tiny / "tiny.py")
        .read_text()
        .replace("rng = ", "raise OSError('no disk')\n    rng = ")
        .replace('"tiny"', '"lost"'),
    )
    done = bakeoff("run", "lost.py", "tiny.py", "-s", "nearest.py", "--trials", 1, "--seeds", 1, "--json", code=1)
    rows = {row["task"]: row for row in json.loads(done.stdout)["rows"]}
    assert (
        rows["tiny"]["status"] == "complete"
        and rows["lost"]["status"] == "failed"
        and "no disk" in rows["lost"]["error"]
    )


def test_json_stays_one_document_whatever_a_task_prints(tiny: Path, bakeoff: Command) -> None:
    write(tiny, "tiny.py", (tiny / "tiny.py").read_text().replace("rng = ", "print('loading')\n    rng = "))
    done = bakeoff("run", "tiny.py", "-s", "nearest.py", "--trials", 1, "--seeds", 1, "--json")
    assert json.loads(done.stdout)["rows"] and "loading" in done.stderr


def test_the_hashed_source_is_the_one_that_runs_and_is_kept(tiny: Path) -> None:
    """Editing a file during the run has no effect: its content is read once."""
    other = hostile(tiny, "other")
    before = other.read_bytes()
    hostile(tiny, "editor", f"open({str(other)!r}, 'a').write('\\nraise ValueError')\ntime.sleep(1)")
    rows = harness.run(
        str(tiny / "tiny.py"),
        [str(tiny / "editor.py"), str(other)],
        seeds=1,
        isolation_tier="process",
        home=tiny / "home",
    )
    by_name = {row["submission"]: row for row in rows}
    assert other.read_bytes() != before
    assert by_name["editor"]["status"] == by_name["other"]["status"] == "complete"
    assert by_name["other"]["source_sha256"] == hashlib.sha256(before).hexdigest()
    kept = tiny / "home" / "artefacts" / by_name["other"]["result_id"] / "source" / "other.py"
    assert kept.read_bytes() == before


HELPER = """
import numpy as np
from folder.deeper import ANSWER

def answer(n):
    return np.full(n, ANSWER)
"""


def test_helpers_and_named_files_come_along_and_are_hashed(tiny: Path) -> None:
    """A plug-in brings the modules that it imports from its folder, their imports, and its named files; nothing else."""
    (tiny / "helper.py").write_text(HELPER)
    (tiny / "folder").mkdir()
    (tiny / "folder" / "__init__.py").touch()
    (tiny / "folder" / "deeper.py").write_text("ANSWER = 1\n")
    (tiny / "numpy.py").write_text("raise ValueError('shadowed')")
    np.save(tiny / "weights.npy", np.arange(3))
    nosy = (
        "here = os.path.dirname(__file__)\n"
        "assert sorted(os.listdir(here)) == ['folder', 'helper.py', 'model.py', 'weights.npy'], os.listdir(here)\n"
        "assert np.load(os.path.join(here, 'weights.npy')).sum() == 3"
    )
    model = hostile(tiny, "model", nosy, predict="return helper.answer(len(x))", top="import helper")
    model.write_text(model.read_text().replace("    space", "    files = ('weights.npy',)\n    space"))
    (row,) = harness.run(str(tiny / "tiny.py"), [str(model)], seeds=1, home=tiny / "home")
    assert row["error"] is None
    (tiny / "folder" / "deeper.py").write_text("ANSWER = 2\n")
    (again,) = harness.run(str(tiny / "tiny.py"), [str(model)], seeds=1, home=tiny / "home")
    assert again["result_id"] != row["result_id"] and again["source_sha256"] != row["source_sha256"]


@pytest.mark.parametrize("name", ["../tiny.py", "/etc/passwd", "missing.npy"])
def test_files_outside_the_folder_or_missing_are_refused(name: str, tiny: Path) -> None:
    model = hostile(tiny, "model")
    model.write_text(model.read_text().replace("    space", f"    files = ({name!r},)\n    space"))
    with pytest.raises(PluginError, match=r"beside the plug-in|cannot be read"):
        harness.run(str(tiny / "tiny.py"), [str(model)], home=tiny / "home")


def test_a_tune_that_failed_is_tried_again(tiny: Path) -> None:
    flag = tiny / "flag"
    bad = hostile(tiny, "bad", f"assert os.path.exists({str(flag)!r}), 'no flag'", space="{'a': Float(0, 1)}")
    with pytest.raises(TrialFailed, match="no flag"):
        tune(str(tiny / "tiny.py"), str(bad), trials=2, isolation_tier="process", home=tiny / "home")
    flag.touch()
    again = tune(str(tiny / "tiny.py"), str(bad), trials=2, isolation_tier="process", home=tiny / "home")
    assert again.n_failed == 0


def test_a_board_says_who_ran_without_a_sandbox(tiny: Path, bakeoff: Command) -> None:
    shown = bakeoff("run", "tiny.py", "-s", "nearest.py", "--isolation", "process", "--trials", "0").stdout
    words = "ran without a sandbox, where code could have read the labels: nearest"
    assert words in shown and words in bakeoff("leaderboard", "--format", "html").stdout
    assert words in bakeoff("leaderboard", "--format", "markdown").stdout
    (row,) = json.loads(bakeoff("leaderboard", "--format", "json").stdout)
    assert row["isolation"] == "process" and row["probe"] == {}


SEMI_SUPERVISED = """
import numpy as np
from dataclasses import replace
from harness import Data, ImageClassification, Split, Task, stratified

def load():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = rng.normal(60 * y[:, None] + 50, 25, (300, 4)).clip(0, 255).astype(np.uint8).reshape(300, 2, 2, 1)
    data = stratified(x, y, valid=0.3, test=0.4)
    names = {"file_name": np.array([f"{label}.png" for label in data.train.y[:9]])}
    return replace(data, train=Split(data.train.x[:9], data.train.y[:9], data.train.x[9:], names))

TASK = Task(name="few-labels", kind=ImageClassification(classes=3), load=load, metric="accuracy")
"""


def test_inputs_without_labels_and_losses_go_their_ways(tiny: Path) -> None:
    """Unlabelled inputs reach a submission, metadata of rows does not, and reported losses are kept with the fit."""
    task = write(tiny, "few.py", SEMI_SUPERVISED)
    checks = """assert train.unlabelled.shape == (81, 2, 2, 1) and valid.unlabelled is None and len(train) == 9
assert not train.metadata and not valid.metadata
for loss in (3.0, float("nan"), 1.0):
    report(loss)"""
    (row,) = harness.run(str(task), [str(hostile(tiny, "curious", checks))], trials=0, seeds=1, home=tiny / "home")
    assert row["status"] == "complete", row["error"]
    ((facts,),) = table(tiny / "home", "facts")
    assert json.loads(str(facts))["curve"] == [3.0, None, 1.0]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_number_of_channels_are_run_and_shown(tiny: Path, channels: int) -> None:
    shape = f"np.repeat(x.reshape(300, 2, 2, 1), {channels}, axis=3)"
    write(tiny, "tiny.py", TINY_TASK.replace("x.reshape(300, 2, 2, 1)", shape))
    (row,) = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], trials=0, seeds=1, home=tiny / "home")
    assert row["status"] == "complete"
    kept = tiny / "home" / "artefacts" / f"data-{row['data_sha256'][:12]}"
    assert (kept / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert f"uint8 (2, 2, {channels})" in (kept / "about.txt").read_text()


def test_data_that_cannot_be_drawn_cost_no_run(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.ImageClassification, "examples", lambda self, train: 1 / 0)
    said: list[str] = []
    watching = Progress()
    watching.note = said.append  # type: ignore[method-assign]
    given = {"trials": 0, "seeds": 1, "home": tiny / "home", "progress": watching}
    (row,) = harness.run(str(tiny / "tiny.py"), [str(tiny / "nearest.py")], **given)
    assert row["status"] == "complete"
    assert "no picture of the data of tiny: ZeroDivisionError: division by zero" in said

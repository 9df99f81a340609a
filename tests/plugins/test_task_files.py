"""Submissions bring along what is their own: neither a task's files, nor other plug-ins, nor packages with tasks."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_MODEL, TINY_TASK, write

import harness
from harness.errors import PluginError
from harness.plugins import registry, task_files

READS_LABELS = TINY_TASK.replace(
    "def load():", "from pathlib import Path\n\ndef load():\n    np.load(Path(__file__).parent / 'y.npy')"
)


def model(folder: Path, top: str = "", files: str = "()") -> Path:
    return write(folder, "model.py", f"{top}\n{TINY_MODEL}\n    files = {files}\n")


def run(task: Path, submission: Path) -> dict[str, object]:
    (row,) = harness.run(
        str(task), [str(submission)], trials=0, seeds=1, isolation_tier="process", home=task.parent / "home"
    )
    return row


def test_a_task_and_a_submission_in_one_folder_work_and_helpers_come_along(tmp_path: Path) -> None:
    task = write(tmp_path, "one_task.py", READS_LABELS)
    np.save(tmp_path / "y.npy", np.arange(3))
    write(tmp_path, "own_helper.py", "VALUE = 1\n")
    (tmp_path / "weights.bin").write_bytes(b"mine")
    assert run(task, model(tmp_path, "import own_helper", "('weights.bin',)"))["status"] == "complete"


@pytest.mark.parametrize(
    ("top", "files"),
    [
        ("import one_task", "()"),
        ("", "('one_task.py',)"),
        ("", "('y.npy',)"),
        ("", "('hard_link.npy',)"),
        ("", "('linked.npy',)"),
        ("import labels_of_one_task", "()"),
    ],
)
def test_what_a_task_is_made_of_is_refused(top: str, files: str, tmp_path: Path) -> None:
    labels = (
        "labels_of_one_task" if top == "import labels_of_one_task" else f"labels_{tmp_path.name}"
    )  # a module is imported once
    write(tmp_path, f"{labels}.py", "LABELS = [1, 2, 0]\n")
    task = write(tmp_path, "one_task.py", READS_LABELS.replace("import numpy", f"import {labels}\nimport numpy", 1))
    np.save(tmp_path / "y.npy", np.arange(3))
    os.link(tmp_path / "y.npy", tmp_path / "hard_link.npy")
    (tmp_path / "linked.npy").symlink_to("y.npy")
    with pytest.raises(PluginError, match="would bring"):
        run(task, model(tmp_path, top, files))


def test_files_that_a_library_opens_unseen_are_refused_by_their_names(tmp_path: Path) -> None:
    write(tmp_path, "unseen_task.py", TINY_TASK + "\nLABELS = 'truth.parquet'\nPICTURES = 'images/*.png'\n")
    registry.read_tasks(tmp_path / "unseen_task.py")
    (tmp_path / "images").mkdir()
    for name in ("truth.parquet", "images/1.png"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(PluginError, match="file of the task"):
            task_files.refuse_task_files("model", [tmp_path / name])


def test_an_entry_does_not_bring_another_entry_along(tmp_path: Path) -> None:
    task = write(tmp_path, "tiny_task.py", TINY_TASK)
    alice = write(tmp_path, "alice.py", TINY_MODEL)
    bob = write(tmp_path, "bob.py", f"import alice\n{TINY_MODEL}")
    home = tmp_path / "home"
    with pytest.raises(PluginError, match=r"bob would bring alice\.py along, which is the entry alice of this run"):
        harness.run(str(task), [str(alice), str(bob)], trials=0, seeds=1, isolation_tier="process", home=home)
    assert run(task, bob)["status"] == "complete", "a model of one's own may build on another"


def test_helpers_of_a_task_serve_nobody_else(tmp_path: Path) -> None:
    """A library that looks for an optional module must not find a file that lies beside a task."""
    task = write(tmp_path, "helped_task.py", "import helps_the_task\n" + TINY_TASK)
    write(tmp_path, "helps_the_task.py", "import helps_the_helper\n")
    write(tmp_path, "helps_the_helper.py", "")
    write(tmp_path, "optional_dependency.py", "raise SystemExit('a stranger ran in the parent')\n")
    registry.read_tasks(task)
    assert "helps_the_helper" in sys.modules and str(tmp_path) not in sys.path
    with pytest.raises(ModuleNotFoundError):
        __import__("optional_dependency")


def test_pipes_and_large_files_are_refused_without_being_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(PluginError, match="plain file"):
        registry.find_submission(str(tmp_path / "pipe.py"))
    with (tmp_path / "hole.py").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(PluginError, match="at most"):
        registry.find_submission(str(tmp_path / "hole.py"))
    write(tmp_path, "unhashable.py", TINY_MODEL.replace('kind = "image-classification"', "kind = {[]: 1}"))
    assert registry.find_submission(str(tmp_path / "unhashable.py")).kinds == ()


def test_a_package_with_tasks_and_submissions_shows_its_modules_without_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "strangers_of_both"
    (package / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "trees.py", "task.py", "labels.npy", "__pycache__/task.cpython-311.pyc"):
        (package / name).write_text("")
    points = EntryPoints([EntryPoint("three", "strangers_of_both.task:TASK", task_files.TASK_GROUP)])
    monkeypatch.setattr(task_files, "entry_points", lambda group: points.select(group=group))
    hidden = {path.relative_to(package).as_posix() for path in task_files.task_parts(package)}
    assert hidden == {"task.py", "labels.npy", "__pycache__/task.cpython-311.pyc"}
    assert task_files.task_parts(tmp_path) == []

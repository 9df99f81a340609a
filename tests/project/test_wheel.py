"""The wheel, installed without the rest of this repository and used from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY_MODEL, write

FULL_INSTALL = "BAKEOFF_TEST_INSTALL"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, REPOSITORY],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (built,) = out.glob("*.whl")
    return built


def use(python: Path, folder: Path) -> None:
    """Run `bakeoff list`, a shipped submission and a user's submission in an empty folder."""
    command = python.parent / "bakeoff"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def bakeoff(*arguments: str) -> str:
        return subprocess.run(
            [command, *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=300
        ).stdout

    listed = json.loads(bakeoff("list", "--json"))
    assert {"digits", "sunspots"} <= {task["name"] for task in listed["tasks"]}
    site = str(python.parent.parent)
    assert all(plug["path"].startswith(site) for what in ("tasks", "submissions") for plug in listed[what]), (
        "nothing from the checkout"
    )
    write(folder, "nearest.py", TINY_MODEL)
    rows = json.loads(
        bakeoff("run", "digits", "-s", "svm", "-s", "nearest.py", "--trials", "1", "--seeds", "1", "--json")
    )["rows"]
    assert [row["submission"] for row in rows] == ["svm", "nearest"] and rows[0]["score"] >= 0.98
    bakeoff("leaderboard", "--format", "html", "--out", "board.html")
    assert "svm" in (folder / "board.html").read_text()
    scores = {"digit-images": "noise", "sunspots": "last-value"}
    rows = json.loads(bakeoff("run", *scores, "-s", "noise", "-s", "last-value", "--seeds", "1", "--json"))["rows"]
    assert {row["task"]: row["submission"] for row in rows} == scores


@pytest.mark.slow
def test_the_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    """Use an environment with the libraries of this one and without the checkout. Needs no network."""
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    write(site, "libraries.pth", sysconfig.get_path("purelib") + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--ignore-installed",
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    folder = tmp_path / "empty"
    folder.mkdir()
    use(python, folder)


@pytest.mark.skipif(
    not os.environ.get(FULL_INSTALL), reason=f"a full install needs a package index; set {FULL_INSTALL}=1 to try it"
)
def test_the_wheel_installs_with_everything_it_needs(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    pip = [environment / "bin" / "pip", "install", "-q", "-c", REPOSITORY / "constraints.txt"]
    subprocess.run([*pip, "torch"], check=True, capture_output=True, timeout=900)
    subprocess.run([*pip, wheel], check=True, capture_output=True, timeout=900)
    folder = tmp_path / "empty"
    folder.mkdir()
    use(environment / "bin" / "python", folder)

"""The README is executed: its files are written, its commands run in order, and their output matches.

``PYTHONPATH=tests python tests/project/test_readme.py`` writes today's output into the README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import REPOSITORY

README = REPOSITORY / "README.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"[a-z][a-z-]{3,}")


def run(command: str, folder: Path) -> str:
    """Run a command; return both of its output streams in one, as on a terminal."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BAKEOFF_HOME": str(folder / ".bakeoff"),
    }
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=env,
        check=False,
        text=True,
        timeout=600,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout.replace(f"{folder}/", "")


def lines(code: str) -> int:
    """Count the lines of a file that are neither empty nor its name."""
    return len([line for line in code.splitlines()[1:] if line.strip()])


def execute(folder: Path) -> list[tuple[str, str, str]]:
    """Write the files and run every console block but make's; return (command, shown output, real output) for each."""
    found = []
    for language, body in BLOCK.findall(README.read_text()):
        if language == "python":
            name = body.splitlines()[0].removeprefix("# ")
            (folder / name).write_text(body)
        elif not body.startswith("$ make"):
            command, _, shown = body.removeprefix("$ ").partition("\n")
            found.append((command, shown, run(command, folder)))
    return found


@pytest.mark.long
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    commands = execute(tmp_path)
    assert len(commands) >= 8
    for command, shown, came in commands:
        assert shown, f"{command} shows nothing"
        missing = set(WORD.findall(shown)) - set(WORD.findall(came))
        assert not missing, f"{command} does not print {missing}:\n{came}"
    assert "svm" in run(f"{sys.executable} notebook.py", tmp_path)


def test_plugins_are_as_short_as_promised() -> None:
    sizes = {
        body.splitlines()[0].removeprefix("# "): lines(body)
        for language, body in BLOCK.findall(README.read_text())
        if language == "python"
    }
    assert (
        sizes["my_svm.py"] <= 10
        and sizes["my_keras.py"] <= 15
        and sizes["my_torch.py"] <= 18
        and sizes["three_or_eight.py"] <= 15
    )


def refresh() -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = README.read_text()
        for command, _, came in execute(Path(folder)):
            block = re.compile(rf"^```console\n\$ {re.escape(command)}\n.*?^```$", re.MULTILINE | re.DOTALL)
            shown = f"```console\n$ {command}\n{came.rstrip()}\n```"
            text = block.sub(lambda _, shown=shown: shown, text)
        README.write_text(text)


if __name__ == "__main__":
    refresh()

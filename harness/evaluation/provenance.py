"""Provenance of a score: versions of libraries, and the commit of the code."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("numpy", "scikit-learn", "scikit-learn-intelex", "torch", "keras", "optuna", "statsmodels")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that scores may depend on, by name."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit(folder: Path) -> str | None:
    """Return the hash of the git commit that is checked out in a folder; None outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()

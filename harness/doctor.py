"""What works on this machine: Python, libraries, devices, isolation, data cache. Nothing heavy is imported to find out."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from harness import datasets
from harness.execution import isolation, slots
from harness.provenance import LIBRARIES

Answer = tuple[str, bool, str]


def examine() -> list[Answer]:
    """(what, whether it works, what was found), in the order in which a person would ask."""
    answers: list[Answer] = [
        ("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}")
    ]
    for name in LIBRARIES:
        try:
            answers.append((name, True, version(name)))
        except PackageNotFoundError:
            why = (
                "not installed: SVM and forests run several times slower without it"
                if name == "scikit-learn-intelex"
                else "not installed"
            )
            answers.append((name, False, why))
    answers.append(("cpu", True, f"{slots.cores()} cores"))
    there = slots.gpus()
    answers.append(
        (
            "gpu",
            bool(there),
            "; ".join(f"cuda:{place} {name}" for place, name in enumerate(there)) or "none; everything runs on the CPU",
        )
    )
    planned = slots.plan()
    answers.append(
        ("slots", True, f"{len(planned.devices)} trials at once on {planned.device}, {planned.threads} threads each")
    )
    answers.append(
        (
            "isolation",
            True,
            f"tier {isolation.choose('auto').name!r}: own process group, environment and scratch folder; no sandbox yet, "
            "so run only code that you trust",
        )
    )
    given = os.environ.get("BAKEOFF_DATA")
    answers.append(("BAKEOFF_DATA", bool(given), given or "not set; data are downloaded when needed"))
    folder = datasets.cache()
    parent = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    answers.append(
        (
            "data cache",
            os.access(parent, os.W_OK),
            f"{folder}{'' if os.access(parent, os.W_OK) else ' cannot be written'}",
        )
    )
    return answers

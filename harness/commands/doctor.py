"""`bakeoff doctor`: report on Python, libraries, devices, isolation and data cache of this machine. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from harness import datasets
from harness.evaluation.provenance import LIBRARIES
from harness.execution.parent import cgroups, isolation, slots

Answer = tuple[str, bool, str]
"""Answer of `bakeoff doctor` about one thing: its name, whether it works, and details."""


def examine() -> list[Answer]:
    """Return an answer about each thing of this machine that Bakeoff uses, in the order in which a person would ask."""
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
    answers += examine_isolation()
    given = os.environ.get("BAKEOFF_DATA")
    answers.append(("BAKEOFF_DATA", bool(given), given or "not set; data are downloaded when needed"))
    folder = datasets.cache_folder()
    parent = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    answers.append(
        (
            "data cache",
            os.access(parent, os.W_OK),
            f"{folder}{'' if os.access(parent, os.W_OK) else ' cannot be written'}",
        )
    )
    return answers


def examine_isolation() -> list[Answer]:
    """Return answers about isolation: the tier that a run takes here, the findings of its probe, and why no tier is better."""
    answers: list[Answer] = []
    reasons = []
    for tier in isolation.TIERS[:2]:
        found, why = isolation.probed(tier)
        if found:
            held = [hole for hole, state in found.answers.items() if state == "closed"]
            left = [hole for hole, state in found.answers.items() if state != "closed"]
            answers.append(("isolation", True, f"{tier}; closed to submissions: {', '.join(held)}"))
            answers.append(("left open", not left, ", ".join(left) or "nothing that the probe tries"))
            break
        reasons.append(f"{tier} is not to be had: {why}")
    else:
        answers.append(("isolation", False, "process: submissions can read what you can; run only code that you trust"))
    answers += [("better isolation", False, reason) for reason in reasons]
    groups = cgroups.parent_groups()
    answers.append(
        (
            "control groups",
            bool(groups),
            "memory and processes of a trial are counted by the kernel"
            if groups
            else "none can be made here; memory and processes of a trial are looked at ten times a second",
        )
    )
    return answers

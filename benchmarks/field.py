"""Run every baseline on every embedded task, with its defaults and three seeds. `make field` writes docs/field.*.

`tests/project/test_field.py` compares the headers of the baselines with docs/field.json; docs/field.md and docs/field.html are for
readers. Results on record in ``--home`` are not run again, so an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import harness
from harness.commands.terminal import Terminal
from harness.execution.parent import slots
from leaderboard.site import html
from leaderboard.tables import render

DOCS = Path(__file__).parent.parent / "docs"
TASKS = (
    "digits",
    "digits-40",
    "digit-rows",
    "adding",
    "sunspots",
    "brackets",
    "digit-spelling",
    "dates",
    "digit-images",
)
"""Embedded tasks: their data come with the libraries or are generated from a seed."""
KEPT = (
    "task",
    "submission",
    "status",
    "error",
    "score",
    "ci_low",
    "ci_high",
    "valid_score",
    "fit_seconds",
    "metrics",
    "remarks",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path(".bakeoff") / "field")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument(
        "--same-as",
        type=Path,
        metavar="JSON",
        help="an earlier field.json of this machine, to be met to the last digit",
    )
    options = parser.parse_args()
    started, at = time.monotonic(), datetime.now(UTC).isoformat()
    rows = harness.run(TASKS, trials=0, home=options.home, progress=Terminal())
    seconds = time.monotonic() - started
    boards = {task: [row for row in rows if row["task"] == task] for task in TASKS}
    cores, devices = slots.cores(), ", ".join(sorted({row["device"] for row in rows}))
    new = sum(row["created_at"] >= at for row in rows)
    which = "all" if new == len(rows) else f"{new} of them"
    said = (
        f"{len(rows)} entries on {len(TASKS)} tasks, {which} run in {seconds / 60:.1f} minutes "
        f"on {cores} {platform.machine()} cores ({devices})"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    kept = [{name: row[name] for name in KEPT} for row in rows]
    (options.out / "field.json").write_text(json.dumps({"said": said, "rows": kept}, indent=1, allow_nan=False) + "\n")
    top = f"# The whole field\n\n{said}: defaults, three seeds. `make field` runs it again."
    (options.out / "field.md").write_text(f"{top}\n\n{render.markdown(boards)}\n")
    (options.out / "field.html").write_text(html(boards, options.home / "artefacts"))
    print(render.table(boards))
    print(f"\n{said}")
    failed = [row for row in rows if row["status"] != "complete"]
    for row in failed:
        print(f"{row['submission']} on {row['task']}: {row['status']}, {row['error']}", file=sys.stderr)
    moved: list[tuple[str, str]] = []
    if options.same_as:
        before = {
            (row["submission"], row["task"]): row["score"] for row in json.loads(options.same_as.read_text())["rows"]
        }
        scores = {(row["submission"], row["task"]): row["score"] for row in rows}
        moved = [key for key in before if key in scores and scores[key] != before[key]]
        print(f"{len(before) - len(moved)} of {len(before)} scores are the same to the last digit")
        for key in moved:
            print(f"{' on '.join(key)}: {before[key]} and {scores[key]}", file=sys.stderr)
    return 1 if failed or moved else 0


if __name__ == "__main__":
    sys.exit(main())

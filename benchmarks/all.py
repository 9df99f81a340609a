"""Run every benchmark in turn; write their output to docs/benchmarks.md and draw its picture. `make bench`.

The machine must do nothing else, or that is measured too. A benchmark without its data is skipped and named at the end.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import picture

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
ALL = (
    ("tuners.py", "mlp"),
    ("tuners.py", "cnn"),
    ("tuners.py", "lstm"),
    ("time_to_best.py", "digits"),
    ("time_to_best.py", "fashion-10k"),
    ("time_to_best.py", "etth1-96"),
    ("halving.py",),
    ("classic.py", "svm"),
    ("classic.py", "random-forest"),
    ("isolation.py", "--torch"),
    ("sampler.py",),
    ("boards.py",),
    ("simulation.py",),
    ("complexity.py",),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", metavar="COMMAND", help="these alone, 'tuners.py mlp --rounds 1' say; other sections stay"
    )
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks.md")
    options = parser.parse_args()
    known = sections(options.out) if options.only else {}
    skipped = []
    for command in options.only or [" ".join(one) for one in ALL]:
        print(command, file=sys.stderr, flush=True)
        file, *arguments = command.split()
        done = subprocess.run(
            [sys.executable, str(HERE / file), *arguments], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            skipped.append(command)
            continue
        known[key(command)] = f"{done.stdout.strip()}\n\n`python benchmarks/{command}`, {datetime.now(UTC):%Y-%m-%d}."
        order = [*(key(" ".join(one)) for one in ALL), *known]  # sections outside the list come last
        text = [known[name] for name in dict.fromkeys(order) if name in known]
        options.out.write_text("\n\n".join(["# Benchmarks", *text]) + "\n")
    if options.out == DOCS / "benchmarks.md" and options.out.exists():
        picture.draw(picture.panels(options.out.read_text()), DOCS / "pictures" / "speed.svg")
    if skipped:
        print(f"not run: {', '.join(skipped)}", file=sys.stderr)
    return 1 if skipped else 0


def key(command: str) -> str:
    """Key of a section: the benchmark's file, its subject and its device, without the other options."""
    words = command.split()
    device = words[words.index("--device") : words.index("--device") + 2] if "--device" in words else []
    return " ".join([*(word for word in words[:2] if not word.startswith("-")), *device])


def sections(path: Path) -> dict[str, str]:
    """Sections of an earlier run, by `key`."""
    if not path.exists():
        return {}
    pieces = re.split(r"\n(?=## )", path.read_text())[1:]
    return {
        key(command[1]): piece.strip()
        for piece in pieces
        if (command := re.search(r"`python benchmarks/(.*?)`", piece))
    }


if __name__ == "__main__":
    sys.exit(main())

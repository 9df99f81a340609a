"""Every benchmark, one after the other; what they print becomes docs/benchmarks.md. `make bench`.

A machine that does other work beside them measures that work. Benchmarks whose data are not here are left out, and named.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
ALL = (
    ("tuners.py", "mlp"),
    ("tuners.py", "cnn"),
    ("tuners.py", "lstm"),
    ("time_to_best.py", "digits"),
    ("time_to_best.py", "fashion-10k"),
    ("time_to_best.py", "etth1-96"),
    ("classic.py",),
    ("isolation.py", "--torch"),
    ("study.py",),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="FILE", help="these alone, such as tuners.py")
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks.md")
    options = parser.parse_args()
    parts, left_out = [], []
    for file, *arguments in ALL:
        if options.only and file not in options.only:
            continue
        name = " ".join([file, *arguments])
        print(name, file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / file), *arguments], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            left_out.append(name)
        else:
            parts.append(f"{done.stdout.strip()}\n\n`python benchmarks/{name}`, {datetime.now(UTC):%Y-%m-%d}.")
    if left_out:
        parts.append(f"Not run here: {', '.join(left_out)}.")
    options.out.write_text("# Benchmarks\n\n" + "\n\n".join(parts) + "\n")
    print(options.out)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())

"""A process that records rows and says so: ``python writer.py HOME URL|- STUDY FIRST LAST``. To be killed at any moment.

Each number that it prints is acknowledged: the row of its own study and the row that all writers share were both recorded.
"""

import sys
from pathlib import Path

from leaderboard.store.store import Fit, Store


def fit(study: str, number: int) -> Fit:
    """A row whose value follows from its number, as wide as a final one."""
    return Fit(study, "search", number, {"a": number}, 0, "complete", number / 7, {"seconds": 0.1}, [0.5] * 500)


def main(home: str, url: str, study: str, first: str, last: str) -> None:
    store = Store(Path(home), url=None if url == "-" else url)
    for number in range(int(first), int(last)):
        store.add_fit(fit(study, number))
        store.add_fit(fit("shared", number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

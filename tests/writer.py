"""Record rows and print their numbers: ``python writer.py HOME URL|- STUDY FIRST LAST``. Tests kill it at any moment.

A printed number is acknowledged: the row of the writer's own study and the row that all writers share were both recorded.
"""

import sys
from pathlib import Path

from leaderboard.store.store import Fit, Store


def fit(study: str, number: int) -> Fit:
    """Make a row with a value computed from its number, as wide as a row of a final fit."""
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

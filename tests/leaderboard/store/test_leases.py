"""Several commands on one store: no two run the same trial, and a command without its lease records nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import REPOSITORY, write
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import server

from leaderboard import Store
from leaderboard.store import leases
from leaderboard.store.store import Fit


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str | None]:
    return tmp_path / "h", server().database() if request.param == "postgres" else None


@pytest.fixture
def store(place: tuple[Path, str | None]) -> Iterator[Store]:
    home, url = place
    with closing(Store(home, url=url)) as opened:
        yield opened


def fit(number: int, value: float | None = 1.0) -> Fit:
    return Fit("study", "search", number, {"a": value}, 0, "complete" if value is not None else "pruned", value)


def test_a_leased_number_belongs_to_one_command(store: Store) -> None:
    mine, theirs = store.leases("study", "search"), store.leases("study", "search")
    assert mine.claim(range(5)) == set(range(5)) and theirs.claim(range(3, 8)) == {5, 6, 7}
    assert mine.claim([0, 7]) == {0}, "again is no more than once"
    assert store.leases("study", "final").claim([0]) == {0} and store.leases("other", "search").claim([0]) == {0}
    mine.close()
    assert theirs.claim(range(8)) == set(range(8)), "what is given back is free at once"


def test_an_expired_lease_records_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fencing: a lease expires, another command takes it over, and the first one returns with its result."""
    monkeypatch.setattr(leases, "TERM_SECONDS", 0.2)
    monkeypatch.setattr(leases, "RENEWALS_PER_TERM", 0.001)  # the holder sleeps
    mine, theirs = store.leases("study", "search"), store.leases("study", "search")
    mine.claim([0, 1])
    kept = mine[1]
    time.sleep(0.3)
    assert theirs.claim([0]) == {0} and theirs[0].token == mine[0].token + 1
    assert not store.add_fit(fit(0, 0.5), mine[0]) and store.fits("study", "search") == []
    assert store.add_fit(fit(0, None), theirs[0]) and store.add_fit(fit(0, None), theirs[0]), "twice is as once"
    assert store.add_fit(fit(1), kept), "ran out, but nobody wanted it"
    assert [(one.number, one.value) for one in store.fits("study", "search")] == [(0, None), (1, 1.0)]


def test_leases_are_renewed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TERM_SECONDS", 0.8)
    mine, theirs = store.leases("study", "search"), store.leases("study", "search")
    mine.claim([0])
    time.sleep(2)
    assert theirs.claim([0]) == set()
    mine.close()


def test_a_holder_that_was_killed_is_not_waited_for(place: tuple[Path, str | None]) -> None:
    home, url = place
    code = f"""
import pathlib, time
from leaderboard import Store
held = Store(pathlib.Path({str(home)!r}), url={url!r}).leases("study", "search")
print(held.claim([0]), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "{0}\n"
        with closing(Store(home, url=url)) as store:
            mine = store.leases("study", "search")
            assert mine.claim([0]) == set()
            other.send_signal(signal.SIGKILL)
            other.wait()
            assert mine.claim([0]) == {0}


def test_a_holder_elsewhere_is_not_taken_for_dead() -> None:
    where, process, since, tail = leases.new_holder().split(":")
    assert not leases.is_dead(leases.new_holder()) and not leases.is_dead(f":{process}:{since}:{tail}")
    assert not leases.is_dead(f"another machine:{process}:0:{tail}") and leases.is_dead(f"{where}:{process}:0:{tail}")


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 9), min_size=1)), max_size=12))
def test_at_no_time_do_two_hold_one(claims: list[tuple[int, set[int]]]) -> None:
    with tempfile.TemporaryDirectory() as home, closing(Store(Path(home))) as store:
        three = [store.leases("study", "search") for _ in range(3)]
        for who, numbers in claims:
            three[who].claim(numbers)
            held = [set(one.held) for one in three]
            assert sum(map(len, held)) == len(set().union(*held)) and numbers <= set().union(*held)
        for one in three:
            one.close()


def test_eight_at_once_share_a_hundred(place: tuple[Path, str | None]) -> None:
    home, url = place
    got: Counter[int] = Counter()

    def work() -> None:
        with closing(Store(home, url=url)) as store:
            held = store.leases("study", "search")
            for number in range(100):
                got.update(held.claim([number]))
            barrier.wait()
            held.close()

    with closing(Store(home, url=url)):
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == Counter(range(100))


SLOW = """
import time
from pathlib import Path
from nearest import Nearest

class Slow(Nearest):
    def fit(self, train, valid, report):
        time.sleep(0.4)
        super().fit(train, valid, report)
"""


def test_two_commands_share_a_search(place: tuple[Path, str | None], tiny: Path) -> None:
    """Two commands finish one search together; one of them is killed half-way and started again."""
    home, url = place
    write(tiny, "slow.py", SLOW)
    command = [
        sys.executable,
        "-m",
        "harness.cli",
        "tune",
        "tiny.py",
        "slow.py",
        "--trials",
        "24",
        "--workers",
        "1",
        "--json",
    ]
    command += ["--home", str(home), *(("--store", url) if url else ())]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=tiny,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "BAKEOFF_STORE": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def recorded() -> int:
        with closing(Store(home, url=url)) as store:
            ((count,),) = store.database.read("SELECT count(*) FROM fits")
            return int(count)

    running = [start(), start()]
    while recorded() < 6:
        time.sleep(0.1)
    running[0].kill()
    running[0].communicate()
    running[0] = start()
    said = [one.communicate(timeout=120) for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    assert said[0][0].partition('"seconds"')[0] == said[1][0].partition('"seconds"')[0]
    with closing(Store(home, url=url)) as store:
        numbers = [number for (number,) in store.database.read("SELECT number FROM fits ORDER BY number")]
        holders = store.database.read("SELECT count(DISTINCT holder) FROM leases")
    assert numbers == list(range(24)) and holders[0][0] >= 2, "each once, and not all by one"

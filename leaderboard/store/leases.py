"""Who is at work on which trial, where several commands share a store: leases that run out, and are fenced.

A command claims a number before it runs it, and renews what it holds as long as it lives. A lease that has run out, or whose
holder on this machine is known to be dead, is anybody's; taking it over raises its token, and a fit is recorded under the token
that it was run under or not at all (Kleppmann 2016). Time is the database's, so that clocks need not agree.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from leaderboard.errors import StoreError
from leaderboard.store.databases import Database

TERM_SECONDS = 60.0
"""Seconds for which a lease holds where it is not renewed."""
RENEWALS_PER_TERM = 4
"""How often a lease is renewed in its term."""


@dataclass(frozen=True)
class Lease:
    """One number of a study, held by one command. ``token`` is higher for each next holder."""

    study: str
    phase: str
    number: int
    holder: str
    token: int


class Leases:
    """What this command holds of one phase of a study. Thread-safe; close it, so that others need not wait."""

    def __init__(self, database: Database, study: str, phase: str) -> None:
        self.database, self.study, self.phase = database, study, phase
        self.holder = new_holder()
        self.held: dict[int, Lease] = {}
        self.closed = threading.Event()
        self.renewing: threading.Thread | None = None
        self.lock = threading.Lock()

    def claim(self, numbers: Iterable[int]) -> set[int]:
        """Those of these numbers that are ours from now on. One may have been finished by its last holder: look after claiming."""
        wanted = sorted(set(numbers))
        claimed = self._claim(wanted, ())
        remaining = [number for number in wanted if number not in claimed]
        if remaining and (dead := [holder for holder in self._holders(remaining) if is_dead(holder)]):
            claimed |= self._claim(remaining, dead)
        with self.lock:
            for number, token in claimed.items():
                self.held[number] = Lease(self.study, self.phase, number, self.holder, token)
            if claimed and self.renewing is None:
                self.renewing = threading.Thread(target=self._renew, daemon=True)
                self.renewing.start()
        return set(claimed)

    def __getitem__(self, number: int) -> Lease:
        with self.lock:
            return self.held[number]

    def close(self) -> None:
        """Give back what is held."""
        self.closed.set()
        with self.lock:
            held, self.held = self.held, {}
        if held:
            with suppress(StoreError):  # then it runs out by itself
                self.database.write("UPDATE leases SET expires = 0 WHERE holder = ?", (self.holder,))

    def _claim(self, numbers: list[int], dead: Iterable[str]) -> dict[int, int]:
        if not numbers:
            return {}
        dead = list(dead)
        claimable = f"leases.expires < {self.database.clock_sql} OR leases.holder = excluded.holder"
        if dead:
            claimable += f" OR leases.holder IN ({', '.join('?' * len(dead))})"
        rows = self.database.write(
            "INSERT INTO leases (study, phase, number, holder, token, expires) VALUES "  # noqa: S608
            + ", ".join([f"(?, ?, ?, ?, 1, {self.database.clock_sql} + {TERM_SECONDS})"] * len(numbers))
            + " ON CONFLICT (study, phase, number) DO UPDATE SET holder = excluded.holder, expires = excluded.expires, "
            "token = CASE WHEN leases.holder = excluded.holder THEN leases.token ELSE leases.token + 1 END "
            f"WHERE {claimable} RETURNING number, token",
            [value for number in numbers for value in (self.study, self.phase, number, self.holder)] + dead,
        )
        return dict(rows)

    def _holders(self, numbers: list[int]) -> list[str]:
        rows = self.database.read(
            "SELECT DISTINCT holder FROM leases WHERE study = ? AND phase = ? "  # noqa: S608
            f"AND number IN ({', '.join('?' * len(numbers))})",
            (self.study, self.phase, *numbers),
        )
        return [holder for (holder,) in rows]

    def _renew(self) -> None:
        while not self.closed.wait(TERM_SECONDS / RENEWALS_PER_TERM):
            with suppress(StoreError):  # if it stays away, others take over, and what is recorded here is refused
                self.database.write(
                    f"UPDATE leases SET expires = {self.database.clock_sql} + {TERM_SECONDS} WHERE holder = ? AND expires > 0",  # noqa: S608
                    (self.holder,),
                )


def new_holder() -> str:
    """A name that no other holder has, and that tells on its own machine whether its process lives."""
    return f"{machine_id()}:{os.getpid()}:{start_ticks(os.getpid())}:{uuid.uuid4().hex}"


def machine_id() -> str:
    """This machine since it was started, and the space that its process numbers count in; empty where that cannot be told."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return ""


def start_ticks(process: int) -> str:
    """When a process was started, in ticks of its machine; empty for none."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def is_dead(holder: str) -> bool:
    """Whether a holder's process is known to have ended: it was of this machine, and is there no more."""
    holder_machine, process, ticks, _ = holder.split(":")
    return bool(holder_machine) and holder_machine == machine_id() and start_ticks(int(process)) != ticks

"""Leases on trials and seeds, for several commands that share a store. Leases expire and have fencing tokens (Kleppmann 2016).

A command claims the number of a trial before it runs the trial, and renews its leases while it lives. A lease may be taken over
when it has expired, or when its holder on this machine is dead. A takeover raises the token. A fit is recorded only under the
current token. Times come from the database, so the clocks of machines need not agree.
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
"""Time in seconds until a lease expires if it is not renewed."""
RENEWALS_PER_TERM = 4
"""Number of renewals in the term of a lease."""


@dataclass(frozen=True)
class Lease:
    """Lease of one command, ``holder``, on trial or final seed ``number`` of a study. ``phase`` is ``search`` or ``final``.

    ``token`` increases with each new holder of the number.
    """

    study: str
    phase: str
    number: int
    holder: str
    token: int


class Leases:
    """Leases of this command on the trials or the final seeds of a study; ``phase`` is ``search`` or ``final``. Thread-safe.

    A thread renews the leases until `close`, which releases them at once.
    """

    def __init__(self, database: Database, study: str, phase: str) -> None:
        self.database, self.study, self.phase = database, study, phase
        self.holder = new_holder()
        self.held: dict[int, Lease] = {}
        self.closed = threading.Event()
        self.renewing: threading.Thread | None = None
        self.lock = threading.Lock()

    def claim(self, numbers: Iterable[int]) -> set[int]:
        """Claim trials or seeds by their numbers, and return the numbers of those that this command now holds.

        Read the store again after a claim: the last holder may have recorded a trial or seed.
        """
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
        """Release all leases at once and stop their renewal."""
        self.closed.set()
        with self.lock:
            held, self.held = self.held, {}
        if held:
            with suppress(StoreError):  # then they expire by themselves
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
            with suppress(StoreError):  # without renewal others take over, and fits of this command are refused
                self.database.write(
                    f"UPDATE leases SET expires = {self.database.clock_sql} + {TERM_SECONDS} WHERE holder = ? AND expires > 0",  # noqa: S608
                    (self.holder,),
                )


def new_holder() -> str:
    """Return a unique name for a holder of leases; it contains the machine, process number and start time of this process."""
    return f"{machine_id()}:{os.getpid()}:{start_ticks(os.getpid())}:{uuid.uuid4().hex}"


def machine_id() -> str:
    """Return the boot id of this machine with the id of its namespace of process numbers; empty if unknown."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return ""


def start_ticks(process: int) -> str:
    """Return the start time of a process in clock ticks since boot, as text; empty if there is no such process."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def is_dead(holder: str) -> bool:
    """Return True if the holder's process ran on this machine and has ended. ``holder`` is a name as from `new_holder`."""
    holder_machine, process, ticks, _ = holder.split(":")
    return bool(holder_machine) and holder_machine == machine_id() and start_ticks(int(process)) != ticks

"""What happens in a competition, in order and for good: nothing is overwritten, and each event's hash covers all before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leaderboard.errors import StoreError
from leaderboard.store.store import Store


@dataclass(frozen=True)
class Event:
    """``content`` is for everybody. ``sealed`` is for nobody before its time: a line that is committed to, and what is with it."""

    kind: str
    team: str
    content: Mapping[str, Any]
    sealed: bytes = b""
    number: int = -1
    at: str = ""
    hash: str = ""

    @property
    def seal(self) -> str:
        """The SHA-256 of the sealed line, for everybody and part of the event's hash: what the host has committed to."""
        return hashlib.sha256(self.line).hexdigest() if self.sealed else ""

    @property
    def line(self) -> bytes:
        return self.sealed.partition(b"\n")[0]


@dataclass
class EventLog:
    """The events of one competition in a store. Several processes may append to it at once."""

    store: Store
    competition: str
    verified: list[Event] = field(default_factory=list)

    def events(self) -> list[Event]:
        """All of them. Raises StoreError where one is not what it was when it was written."""
        rows = self.store.database.read(
            "SELECT number, at, kind, team, content, sealed, hash FROM events "
            "WHERE competition = ? AND number >= ? ORDER BY number",
            (self.competition, len(self.verified)),
        )
        for number, at, kind, team, content, sealed, stored_hash in rows:
            sealed_bytes = (
                sealed.encode() if isinstance(sealed, str) else bytes(sealed)
            )  # text, if somebody has been at it
            event = Event(kind, team, json.loads(content), sealed_bytes, number, at, stored_hash)
            if number != len(self.verified) or stored_hash != self.digest(event):
                raise StoreError(
                    f"event {number} of {self.competition} is not what was written, or one before it is missing: "
                    "somebody has changed the store by hand"
                )
            self.verified.append(event)
        return list(self.verified)

    def digest(self, event: Event) -> str:
        """The hash of an event that follows those that are known."""
        before = self.verified[-1].hash if self.verified else ""
        hashed = [before, self.competition, event.number, event.at, event.kind, event.team, event.content, event.seal]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def append(self, decide: Callable[[list[Event]], Event], at: Callable[[], str]) -> Event:
        """Record what ``decide`` makes of the events so far, asked again where another came in between.

        What it chose from among them is on record already, and is returned.
        """
        while True:
            events = self.events()
            decided = decide(events)
            if decided.number >= 0:
                return decided
            event = Event(decided.kind, decided.team, decided.content, decided.sealed, len(events), at())
            values = (self.competition, event.number, event.at, event.kind, event.team)
            content = json.dumps(event.content, sort_keys=True, allow_nan=False)
            inserted = self.store.database.write(
                "INSERT INTO events (competition, number, at, kind, team, content, sealed, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING RETURNING number",
                (*values, content, event.sealed, self.digest(event)),
            )
            if inserted or self.is_ours(event):
                return self.events()[event.number]

    def is_ours(self, event: Event) -> bool:
        """Whether an insertion that said nothing was ours after all: a lost connection may have hidden its answer."""
        stored = self.store.database.read(
            "SELECT hash FROM events WHERE competition = ? AND number = ?", (self.competition, event.number)
        )
        return bool(stored) and stored[0][0] == self.digest(event)

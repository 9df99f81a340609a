"""Append-only event log of a competition. The hash of each event covers all events before it."""

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
    """Event of a competition. ``content`` is public; ``sealed``, a line and the bytes behind it, is secret until the reveal."""

    kind: str
    team: str
    content: Mapping[str, Any]
    sealed: bytes = b""
    number: int = -1
    at: str = ""
    hash: str = ""

    @property
    def seal(self) -> str:
        """SHA-256 of the sealed line. It is public and part of the event's hash: the commitment of the host."""
        return hashlib.sha256(self.line).hexdigest() if self.sealed else ""

    @property
    def line(self) -> bytes:
        """Sealed line, without the bytes after it."""
        return self.sealed.partition(b"\n")[0]


@dataclass
class EventLog:
    """Events of one competition in a store. Several processes may append at the same time."""

    store: Store
    competition: str
    verified: list[Event] = field(default_factory=list)

    def events(self) -> list[Event]:
        """Read all events and verify the hashes of new ones. Raises StoreError if one has been changed."""
        rows = self.store.database.read(
            "SELECT number, at, kind, team, content, sealed, hash FROM events "
            "WHERE competition = ? AND number >= ? ORDER BY number",
            (self.competition, len(self.verified)),
        )
        for number, at, kind, team, content, sealed, stored_hash in rows:
            sealed_bytes = (
                sealed.encode() if isinstance(sealed, str) else bytes(sealed)
            )  # text only if the store was changed by hand
            event = Event(kind, team, json.loads(content), sealed_bytes, number, at, stored_hash)
            if number != len(self.verified) or stored_hash != self.digest(event):
                raise StoreError(
                    f"event {number} of {self.competition} is not what was written, or one before it is missing: "
                    "somebody has changed the store by hand"
                )
            self.verified.append(event)
        return list(self.verified)

    def digest(self, event: Event) -> str:
        """Hash of the event that follows the verified ones."""
        before = self.verified[-1].hash if self.verified else ""
        hashed = [before, self.competition, event.number, event.at, event.kind, event.team, event.content, event.seal]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def append(self, decide: Callable[[list[Event]], Event], at: Callable[[], str]) -> Event:
        """Append the event that ``decide`` makes from the events so far; call it again if another process appends first.

        An event that ``decide`` takes from the log is returned as it is.
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
        """Check if an insertion without a returned row was ours: a lost connection may have hidden its result."""
        stored = self.store.database.read(
            "SELECT hash FROM events WHERE competition = ? AND number = ?", (self.competition, event.number)
        )
        return bool(stored) and stored[0][0] == self.digest(event)

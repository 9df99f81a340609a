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
    """Event of a competition: an action of a team, or of the host if ``team`` is empty.

    ``kind`` is the action, such as ``entered``. ``content`` is public. ``sealed`` is a line, secret until the reveal, and bytes
    behind it. ``number``, ``at`` (ISO 8601) and ``hash`` are set when the event is appended to its log.
    """

    kind: str
    team: str
    content: Mapping[str, Any]
    sealed: bytes = b""
    number: int = -1
    at: str = ""
    hash: str = ""

    @property
    def seal(self) -> str:
        """Hexadecimal SHA-256 of the sealed line, empty if nothing is sealed. It is public and commits the host to the line."""
        return hashlib.sha256(self.line).hexdigest() if self.sealed else ""

    @property
    def line(self) -> bytes:
        """Sealed line, without the bytes behind it."""
        return self.sealed.partition(b"\n")[0]


@dataclass
class EventLog:
    """Event log of one competition in a store. Several processes may append at the same time.

    ``verified`` holds the events that have been read and whose hashes are correct.
    """

    store: Store
    competition: str
    verified: list[Event] = field(default_factory=list)

    def events(self) -> list[Event]:
        """Return all events in order, after a check of the hashes of new ones. Raises StoreError if an event has been changed."""
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
        """Return the SHA-256 of ``event`` as the next event after the verified ones. It covers the hash of the event before."""
        before = self.verified[-1].hash if self.verified else ""
        hashed = [before, self.competition, event.number, event.at, event.kind, event.team, event.content, event.seal]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def append(self, decide: Callable[[list[Event]], Event], at: Callable[[], str]) -> Event:
        """Append the event that ``decide`` makes from all events so far, and return it with its number, time and hash.

        ``at`` returns the time as text. If another process appends first, ``decide`` is called again. If ``decide`` returns an
        event of the log, nothing is appended, and that event is returned.
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
        """Return True if ``event`` is in the store. A lost connection may have hidden the result of its insertion."""
        stored = self.store.database.read(
            "SELECT hash FROM events WHERE competition = ? AND number = ?", (self.competition, event.number)
        )
        return bool(stored) and stored[0][0] == self.digest(event)

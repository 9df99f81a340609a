"""State of a competition, computed from its events: entries with sealed scores, picks, and whether they are revealed."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leaderboard.competition.events import Event
from leaderboard.errors import StoreError
from leaderboard.statistics.inference import Array


@dataclass(frozen=True)
class ScoredEntry:
    """Scores of a submitted file.

    ``losses`` are the contributions of hidden samples to the metric (samples,), None if the metric is not a mean. ``error`` is the
    standard error of the public score, ``sha256`` the hash of the file.
    """

    public: float
    private: float
    losses: Array | None
    error: float
    sha256: str


@dataclass
class CompetitionEntry:
    """Entry of a team, with its sealed scores. No board shows the private score before the reveal."""

    number: int
    team: str
    at: str
    sha256: str
    public: float
    private: float
    losses: Array | None
    error: float
    withdrawn: bool = False


@dataclass
class CompetitionState:
    """Entries by number, picks by team, and whether the scores are revealed."""

    entries: dict[int, CompetitionEntry] = field(default_factory=dict)
    picks: dict[str, list[int]] = field(default_factory=dict)
    revealed: bool = False

    def active_entries(self, team: str) -> list[CompetitionEntry]:
        """Entries of a team that are not withdrawn, in order."""
        return [entry for entry in self.entries.values() if entry.team == team and not entry.withdrawn]

    @property
    def teams(self) -> list[str]:
        """Teams in the order of their first entries."""
        return list(dict.fromkeys(entry.team for entry in self.entries.values()))


def seal(graded: ScoredEntry) -> bytes:
    """Sealed bytes of an entry: a line of JSON, then the losses as float32; the line holds the hash of the losses.

    The nonce prevents guesses of the score from the public hash of the line.
    """
    losses = b"" if graded.losses is None else np.asarray(graded.losses, dtype="<f4").tobytes()
    line = {
        "nonce": secrets.token_hex(16),
        "public": graded.public,
        "private": graded.private,
        "error": graded.error,
        "losses": hashlib.sha256(losses).hexdigest() if losses else None,
    }
    return json.dumps(line, sort_keys=True, allow_nan=False).encode() + b"\n" + losses


def replay(events: Sequence[Event]) -> CompetitionState:
    """Compute the state of a competition from its events."""
    state = CompetitionState()
    for event in events:
        content = event.content
        match event.kind:
            case "entered":
                state.entries[event.number] = CompetitionEntry(
                    event.number, event.team, event.at, content["sha256"], **unseal(event)
                )
            case "rescored":
                entry = state.entries[content["entry"]]
                for name, value in unseal(event).items():
                    setattr(entry, name, value)
            case "withdrawn":
                state.entries[content["entry"]].withdrawn = True
            case "picked":
                state.picks[event.team] = list(content["entries"])
            case "revealed":
                state.revealed = True
    return state


def unseal(event: Event) -> dict[str, Any]:
    """Read the sealed scores of an event. Raises StoreError if the losses do not match their sealed hash."""
    line, _, losses = event.sealed.partition(b"\n")
    scores = json.loads(line)
    if losses and hashlib.sha256(losses).hexdigest() != scores["losses"]:
        raise StoreError(f"the losses of entry {event.number} are not those that were sealed")
    values = np.frombuffer(losses, dtype="<f4") if losses else None
    return {"public": scores["public"], "private": scores["private"], "error": scores["error"], "losses": values}

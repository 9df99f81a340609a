"""State of a competition, computed from its events: entries with sealed scores, picks, and if the scores are revealed."""

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
    """Scores of a submitted file of predictions. ``public`` and ``private`` are the metric on the two parts of the hidden samples.

    ``losses`` (samples,) are the contributions of all hidden samples to the metric, None if the metric is not a mean. ``error`` is
    the standard error of the public score, ``sha256`` the hash of the file.
    """

    public: float
    private: float
    losses: Array | None
    error: float
    sha256: str


@dataclass
class CompetitionEntry:
    """Entry of a team, with its sealed scores (see `ScoredEntry`). No board shows the private score before the reveal.

    ``number`` and ``at`` (ISO 8601) are those of the event that recorded the entry.
    """

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
    """State of a competition: entries by number, picks (numbers of entries) by team, and ``revealed``, True after the reveal."""

    entries: dict[int, CompetitionEntry] = field(default_factory=dict)
    picks: dict[str, list[int]] = field(default_factory=dict)
    revealed: bool = False

    def active_entries(self, team: str) -> list[CompetitionEntry]:
        """Return the entries of a team that are not withdrawn, in the order of entry."""
        return [entry for entry in self.entries.values() if entry.team == team and not entry.withdrawn]

    def all_entries(self, team: str) -> list[CompetitionEntry]:
        """Entries of a team, withdrawn ones too, in order."""
        return [entry for entry in self.entries.values() if entry.team == team]

    @property
    def teams(self) -> list[str]:
        """Names of the teams, in the order of their first entries."""
        return list(dict.fromkeys(entry.team for entry in self.entries.values()))


def seal(graded: ScoredEntry) -> bytes:
    """Return the sealed bytes of an entry's scores: a line of JSON, then the losses as float32.

    The line holds the hash of the losses, and a random nonce that prevents guesses of the score from the public hash of the line.
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
    """Return the state of a competition after ``events``, all its events from the first one on."""
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
    """Return the sealed scores of an event as a dict with the keys public, private, error and losses (float32 array or None).

    Raises StoreError if the losses do not match the hash in the sealed line.
    """
    line, _, losses = event.sealed.partition(b"\n")
    scores = json.loads(line)
    if losses and hashlib.sha256(losses).hexdigest() != scores["losses"]:
        raise StoreError(f"the losses of entry {event.number} are not those that were sealed")
    values = np.frombuffer(losses, dtype="<f4") if losses else None
    return {"public": scores["public"], "private": scores["private"], "error": scores["error"], "losses": values}

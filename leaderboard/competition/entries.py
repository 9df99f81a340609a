"""What a competition's events come to: entries with their sealed scores, picks, and whether all has been revealed."""

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
    """An entry that has been scored.

    ``losses`` is what each hidden sample contributes to the metric (samples,), None where it is no mean; ``error`` is the standard
    error of the public score. ``sha256`` is that of the file that came.
    """

    public: float
    private: float
    losses: Array | None
    error: float
    sha256: str


@dataclass
class CompetitionEntry:
    """An entry as the events have it. What is ``sealed`` is known here, and told by no board before the close."""

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
    """What the events come to."""

    entries: dict[int, CompetitionEntry] = field(default_factory=dict)
    picks: dict[str, list[int]] = field(default_factory=dict)
    revealed: bool = False

    def active_entries(self, team: str) -> list[CompetitionEntry]:
        """A team's entries that have not been withdrawn, in order."""
        return [entry for entry in self.entries.values() if entry.team == team and not entry.withdrawn]

    @property
    def teams(self) -> list[str]:
        return list(dict.fromkeys(entry.team for entry in self.entries.values()))


def seal(graded: ScoredEntry) -> bytes:
    """What is sealed of an entry: a line of JSON, and the losses that it has the hash of.

    The nonce keeps a score from being guessed from the line's hash.
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
    """What has come of it all."""
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
    """The scores that an event holds under seal. Raises StoreError where the losses are not those that were sealed."""
    line, _, losses = event.sealed.partition(b"\n")
    scores = json.loads(line)
    if losses and hashlib.sha256(losses).hexdigest() != scores["losses"]:
        raise StoreError(f"the losses of entry {event.number} are not those that were sealed")
    values = np.frombuffer(losses, dtype="<f4") if losses else None
    return {"public": scores["public"], "private": scores["private"], "error": scores["error"], "losses": values}

"""A task with rules and a deadline: who may enter what and when, what the public board tells, and what is revealed in the end.

Everything that happens is an event, also what is refused. Scores on the private part of the hidden samples are sealed when an entry
comes in, under a hash that is public from then on, and opened after the close: nobody, the host included, can have chosen them.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from leaderboard import ladder
from leaderboard.errors import StoreError
from leaderboard.events import Event, History
from leaderboard.inference import Array, Pairs, Spread
from leaderboard.ladder import Climb
from leaderboard.store import Store

RELEASES = ("ladder", "scores", "ranks", "nothing")
TEAM = re.compile(r"[^\W_][\w .+&'-]{0,39}")
DRAWS = 1000
"""Bootstrap draws of private samples behind the ranks of the final board."""


def utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Rules:
    """What a competition's file says; all but the first four have defaults.

    ``public`` is the share of the hidden samples whose scores the public board goes by; ``picks`` how many entries of a team count
    in the end; ``release`` what the public board tells: scores by the Ladder, scores as they are, ranks alone, or nothing;
    ``teams`` who may enter, anybody where it is empty.
    """

    name: str
    task: str
    opens: datetime
    closes: datetime
    public: float = 0.5
    per_day: int = 5
    in_all: int = 100
    picks: int = 2
    release: str = "ladder"
    teams: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The rules in a TOML file. Raises StoreError with what was expected and what came."""
        try:
            found = tomllib.loads(path.read_text())
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{path} is no TOML: {error}") from error
        known = {field.name for field in fields(cls)}
        for name in found:
            if name not in known:
                raise StoreError(f"{path}: there is no rule called {name!r}; there are {', '.join(sorted(known))}")
        for name in ("name", "task", "opens", "closes"):
            if name not in found:
                raise StoreError(f"{path}: {name} is missing")
        rules = cls(**found)
        rules.check(str(path))
        return rules

    def check(self, where: str) -> None:
        def ask(holds: bool, what: str, value: Any) -> None:
            if not holds:
                raise StoreError(f"{where}: {what}; it is {value!r}")

        for name in ("name", "task"):
            value = getattr(self, name)
            ask(isinstance(value, str) and bool(value.strip()), f"{name} should be a text", value)
        for name in ("opens", "closes"):
            value = getattr(self, name)
            aware = isinstance(value, datetime) and value.tzinfo is not None
            ask(aware, f"{name} should be a time with its offset, such as 2026-12-01T09:00:00Z", str(value))
        ask(self.closes > self.opens, f"closes should be after opens, {self.opens}", str(self.closes))
        ask(is_number(self.public) and 0 < self.public < 1, "public should be between 0 and 1", self.public)
        for name in ("per_day", "in_all", "picks"):
            value = getattr(self, name)
            ask(
                isinstance(value, int) and not isinstance(value, bool) and value > 0,
                f"{name} should be 1 or more",
                value,
            )
        ask(self.release in RELEASES, f"release should be one of {', '.join(RELEASES)}", self.release)
        listed = isinstance(self.teams, (list, tuple)) and all(isinstance(team, str) for team in self.teams)
        ask(listed, "teams should be a list of names", self.teams)

    def record(self) -> dict[str, Any]:
        """For events and JSON."""
        times = {"opens": self.opens.isoformat(), "closes": self.closes.isoformat(), "teams": list(self.teams)}
        return asdict(self) | times


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Graded:
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
class Entry:
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
    rescored: int = 0


@dataclass
class State:
    """What the events come to."""

    entries: dict[int, Entry] = field(default_factory=dict)
    picks: dict[str, list[int]] = field(default_factory=dict)
    revealed: bool = False

    def of(self, team: str) -> list[Entry]:
        """A team's entries that have not been withdrawn, in order."""
        return [entry for entry in self.entries.values() if entry.team == team and not entry.withdrawn]

    @property
    def teams(self) -> list[str]:
        return list(dict.fromkeys(entry.team for entry in self.entries.values()))


@dataclass(frozen=True)
class Standing:
    """A team on the public board: its score, None for none, since when, and how many entries it has made."""

    team: str
    score: float | None
    since: str
    entries: int


class Refused(StoreError):
    """What was asked for is against the rules. It has been recorded, and the message says why."""


class Competition:
    """Rules, and what has happened under them in a store.

    ``block`` hidden samples at a time depend on each other, as windows that overlap do; ``clock`` tells the time, with its zone.
    """

    def __init__(
        self,
        rules: Rules,
        store: Store,
        *,
        higher_is_better: bool,
        block: int = 1,
        clock: Callable[[], datetime] = utc,
    ) -> None:
        self.rules, self.clock, self.higher, self.block = rules, clock, higher_is_better, block
        self.history = History(store, rules.name)

    def append(self, decide: Callable[[list[Event]], Event]) -> Event:
        """Record an event. Raises Refused where it is a refusal."""
        event = self.history.append(decide, lambda: self.clock().astimezone(UTC).isoformat(timespec="microseconds"))
        if event.kind == "refused":
            raise Refused(event.content["reason"])
        return event

    # What the host does ---------------------------------------------------------------------------------------------------------

    def start(self) -> Event:
        """Make the rules known. To do it again changes nothing. Raises StoreError where they are others than those made known."""
        events = self.history.events()
        if events:
            self.check_rules(events)
            return events[0]
        secret = secrets.token_hex(32).encode()
        return self.append(
            lambda events: events[0] if events else Event("opened", "", {"rules": self.rules.record()}, secret)
        )

    def amend(self, reason: str) -> Event:
        """Go on under other rules, from now on and for all to see. The name and the split of the samples stay."""
        self.opened()
        return self.append(lambda events: Event("amended", "", {"rules": self.rules.record(), "reason": reason}))

    def opened(self) -> Event:
        events = self.history.events()
        if not events:
            raise StoreError(f"{self.rules.name} has not been started; bakeoff competition start RULES.toml")
        return events[0]

    def check_rules(self, events: Sequence[Event]) -> None:
        told = [event.content["rules"] for event in events if event.kind in ("opened", "amended")][-1]
        ours = self.rules.record()
        other = [name for name in ours if ours[name] != told.get(name)]
        if other:
            raise StoreError(
                f"the rules of {self.rules.name} that were made known have another {', '.join(other)}; "
                "put the file back, or make the change known with bakeoff competition amend RULES.toml --reason TEXT"
            )

    def split(self, n: int) -> tuple[Array, Array]:
        """The public and the private ones of n hidden samples, int64 indices; where neighbours overlap the public ones come first.

        Drawn from a secret that is sealed when the competition starts.
        """
        rng = np.random.default_rng(int(self.opened().sealed, 16))
        order = np.arange(n) if self.block > 1 else rng.permutation(n)
        count = min(max(round(self.rules.public * n), 1), n - 1)
        return np.sort(order[:count]), np.sort(order[count:])

    def rescore(self, number: int, graded: Graded, reason: str) -> Event:
        """Give an entry other scores, because labels or the metric were wrong. The old ones stay on record."""
        self.opened()

        def decide(events: list[Event]) -> Event:
            state = replay(events)
            made = Event("rescored", self.entry(state, number).team, {"entry": number, "reason": reason}, seal(graded))
            # What comes after the reveal is open from the start.
            return replace(made, content={**made.content, "line": made.line.decode()}) if state.revealed else made

        return self.append(decide)

    def reveal(self) -> Event:
        """Open what is sealed, for all to see. Raises Refused before the close; to do it again changes nothing."""
        self.opened()

        def decide(events: list[Event]) -> Event:
            done = [event for event in events if event.kind == "revealed"]
            if done:
                return done[0]
            if self.clock() < self.rules.closes:
                return refusal("", f"{self.rules.name} closes at {told(self.rules.closes)}; nothing is revealed before")
            return Event("revealed", "", {"lines": {str(e.number): e.line.decode() for e in events if e.sealed}})

        events = self.history.events()
        done = [event for event in events if event.kind == "revealed"]
        return done[0] if done else self.append(decide)

    # What teams do --------------------------------------------------------------------------------------------------------------

    def may_enter(self, events: Sequence[Event], team: str, sha256: str | None) -> str | None:
        """Why a team may not enter now, None where it may."""
        rules, now, state = self.rules, self.clock(), replay(events)
        if now < rules.opens:
            return f"{rules.name} opens at {told(rules.opens)}; it is {told(now)}"
        if now >= rules.closes:
            return f"{rules.name} closed at {told(rules.closes)}; it is {told(now)}"
        if rules.teams and team not in rules.teams:
            return f"{team!r} is none of the teams of {rules.name}"
        if not TEAM.fullmatch(team):
            return f"a team's name should be 1 to 40 letters, digits, spaces and .+&'-; it is {team!r}"
        twins = [other for other in state.teams if other != team and other.casefold() == team.casefold()]
        if twins:
            return f"there is a team called {twins[0]!r} already; write it the same way, or choose another name"
        mine = [entry for entry in state.entries.values() if entry.team == team]
        same = [entry.number for entry in mine if entry.sha256 == sha256]
        if same:
            return f"this is the same file as entry {same[0]} of {team}"
        if len(mine) >= rules.in_all:
            return f"{team} has made its {rules.in_all} entries"
        today = now.astimezone(UTC).date()
        if sum(datetime.fromisoformat(entry.at).date() == today for entry in mine) >= rules.per_day:
            return f"{team} has made its {rules.per_day} entries of {today}; the next day begins at 00:00 UTC"
        return None

    def check(self, team: str, sha256: str | None = None) -> None:
        """Before anything is scored. Raises Refused, which is then on record."""
        self.check_rules([self.opened(), *self.history.events()])
        reason = self.may_enter(self.history.events(), team, sha256)
        if reason:
            self.refuse(team, reason)

    def refuse(self, team: str, reason: str) -> None:
        """Record that something was refused, and raise Refused."""
        self.opened()
        self.append(lambda events: refusal(team, reason))

    def enter(self, team: str, graded: Graded) -> Event:
        """Record an entry; its number is the event's. Raises Refused."""
        self.check_rules([self.opened(), *self.history.events()])

        def decide(events: list[Event]) -> Event:
            reason = self.may_enter(events, team, graded.sha256)
            return refusal(team, reason) if reason else Event("entered", team, {"sha256": graded.sha256}, seal(graded))

        return self.append(decide)

    def pick(self, team: str, numbers: Sequence[int]) -> Event:
        """Choose the entries that count in the end. Raises Refused."""
        self.opened()

        def decide(events: list[Event]) -> Event:
            mine = [entry.number for entry in replay(events).of(team)]
            if self.clock() >= self.rules.closes:
                return refusal(
                    team, f"{self.rules.name} closed at {told(self.rules.closes)}; picks stay what they were"
                )
            if not 0 < len(set(numbers)) <= self.rules.picks:
                return refusal(
                    team,
                    f"{self.rules.picks} entries may be picked at most, one at least; these are {len(set(numbers))}",
                )
            other = [number for number in numbers if number not in mine]
            if other:
                have = ", ".join(map(str, mine)) or "none"
                return refusal(team, f"{team} has no entry {other[0]}; it has {have}")
            return Event("picked", team, {"entries": sorted(set(numbers))})

        return self.append(decide)

    def withdraw(self, team: str, number: int, reason: str) -> Event:
        """Take an entry back: it stands on no board from then on, and still counts as one that was made. Raises Refused."""
        self.opened()

        def decide(events: list[Event]) -> Event:
            state = replay(events)
            if state.revealed:
                return refusal(team, f"{self.rules.name} has been revealed; nothing is withdrawn any more")
            if number not in [entry.number for entry in state.of(team)]:
                return refusal(team, f"{team} has no entry {number}")
            return Event("withdrawn", team, {"entry": number, "reason": reason})

        return self.append(decide)

    @staticmethod
    def entry(state: State, number: int) -> Entry:
        if number not in state.entries:
            raise StoreError(f"there is no entry {number}; there are {', '.join(map(str, state.entries)) or 'none'}")
        return state.entries[number]

    # What everybody sees --------------------------------------------------------------------------------------------------------

    def climbs(self, entries: Sequence[Entry]) -> list[tuple[float, bool]]:
        """A team's public score after each of its entries, and whether that moved it."""
        if self.rules.release == "ladder":
            taken = [Climb(entry.public, self.public_losses(entry), entry.error) for entry in entries]
            return ladder.released(taken, higher_is_better=self.higher)
        found: list[tuple[float, bool]] = []
        for entry in entries:
            better = not found or self.key(entry.public) < self.key(found[-1][0])
            found.append((entry.public if better else found[-1][0], better))
        return found

    def public_losses(self, entry: Entry) -> Array | None:
        return None if entry.losses is None else entry.losses[self.split(len(entry.losses))[0]]

    def key(self, score: float) -> float:
        """Sorts the best first."""
        return -score if self.higher else score

    def public_board(self) -> list[dict[str, Any]]:
        """One row a team, the best first; what the rules do not release is None. Teams of equal scores share a rank."""
        found = self.standings(replay(self.history.events()))
        scores = [standing.score for standing in found]
        release = self.rules.release
        rows = [
            {
                "rank": scores.index(one.score) + 1 if one.score is not None and release != "nothing" else None,
                "team": one.team,
                "score": one.score if release in ("ladder", "scores") else None,
                "since": one.since if release != "nothing" else None,
                "entries": one.entries,
            }
            for one in found
        ]
        return sorted(rows, key=lambda row: str(row["team"]).casefold()) if release == "nothing" else rows

    def standings(self, state: State) -> list[Standing]:
        """All teams by their public scores, the best first, of equals the one that has had it longer."""
        found = []
        for team in state.teams:
            entries = state.of(team)
            climbed = self.climbs(entries)
            moved = [entry.at for entry, (_, better) in zip(entries, climbed) if better]
            made = sum(entry.team == team for entry in state.entries.values())
            found.append(Standing(team, climbed[-1][0] if climbed else None, moved[-1] if moved else "", made))
        return sorted(found, key=lambda one: (one.score is None, self.key(one.score or 0.0), one.since))

    def final_board(self) -> list[dict[str, Any]]:
        """One row a team by its best picked entry on the private part; ``shake_up`` is by how many ranks it rose since the public.

        Who picked nothing has picked the last entries that moved its public score. Raises StoreError before the reveal.
        """
        events = self.history.events()
        state = replay(events)
        if not state.revealed:
            raise StoreError(f"{self.rules.name} has not been revealed; it closes at {told(self.rules.closes)}")
        public = {standing.team: standing for standing in self.standings(state)}
        chosen: list[Entry] = []
        for team in state.teams:
            entries = state.of(team)
            picked = [entry for entry in entries if entry.number in state.picks.get(team, [])]
            moved = [entry for entry, (_, better) in zip(entries, self.climbs(entries)) if better]
            candidates = picked or moved[-self.rules.picks :]
            if candidates:
                chosen.append(min(candidates, key=lambda entry: self.key(entry.private)))
        chosen.sort(key=lambda entry: (self.key(entry.private), entry.at))
        sets = self.rank_sets(chosen)
        before = sorted(chosen, key=lambda entry: list(public).index(entry.team))
        return [
            {
                "rank": place,
                "rank_low": low,
                "rank_high": high,
                "team": entry.team,
                "score": entry.private,
                "public_score": entry.public,
                "shake_up": before.index(entry) + 1 - place,
                "entry": entry.number,
                "picked": entry.number in state.picks.get(entry.team, []),
                "entries": public[entry.team].entries,
            }
            for place, (entry, (low, high)) in enumerate(zip(chosen, sets), start=1)
        ]

    def rank_sets(self, chosen: Sequence[Entry]) -> list[tuple[int, int]]:
        """The ranks that each may really have, from the private samples; see `ranking.rank`."""
        count = len(chosen)
        losses = [entry.losses for entry in chosen]
        if count < 2 or any(one is None for one in losses):
            return [(place, place) for place in range(1, count + 1)]
        values = np.array(losses)
        private = values[:, self.split(values.shape[1])[1]].astype(np.float64)
        n = private.shape[1]
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
        replicates = private @ weights.T
        spreads = [Spread(float(own.var(ddof=1)), n) for own in replicates]
        differ = Pairs(private.mean(axis=1), replicates, spreads).separated()
        return [
            (1 + int(differ[place, :place].sum()), count - int(differ[place, place + 1 :].sum()))
            for place in range(count)
        ]


def told(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def refusal(team: str, reason: str) -> Event:
    return Event("refused", team, {"reason": reason})


def seal(graded: Graded) -> bytes:
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


def replay(events: Sequence[Event]) -> State:
    """What has come of it all."""
    state = State()
    for event in events:
        content = event.content
        match event.kind:
            case "entered":
                state.entries[event.number] = Entry(
                    event.number, event.team, event.at, content["sha256"], **opened(event)
                )
            case "rescored":
                entry = state.entries[content["entry"]]
                for name, value in opened(event).items():
                    setattr(entry, name, value)
                entry.rescored += 1
            case "withdrawn":
                state.entries[content["entry"]].withdrawn = True
            case "picked":
                state.picks[event.team] = list(content["entries"])
            case "revealed":
                state.revealed = True
    return state


def opened(event: Event) -> dict[str, Any]:
    """The scores that an event holds under seal. Raises StoreError where the losses are not those that were sealed."""
    line, _, losses = event.sealed.partition(b"\n")
    held = json.loads(line)
    if losses and hashlib.sha256(losses).hexdigest() != held["losses"]:
        raise StoreError(f"the losses of entry {event.number} are not those that were sealed")
    values = np.frombuffer(losses, dtype="<f4") if losses else None
    return {"public": held["public"], "private": held["private"], "error": held["error"], "losses": values}


def refusals(events: Sequence[Event]) -> Counter[str]:
    """How often each team was refused something."""
    return Counter(event.team for event in events if event.kind == "refused")

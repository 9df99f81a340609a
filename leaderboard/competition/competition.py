"""Competitions: entry checks, a public board, and private scores that are revealed after the close.

Everything that happens is an event, refusals too. Scores on the private hidden samples are sealed when an entry is made. The hash
of the sealed line is public at once; the line itself is revealed after the close. So nobody, not even the host, can change a score
in between without a public event.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from leaderboard.competition import ladder
from leaderboard.competition.entries import CompetitionEntry, CompetitionState, ScoredEntry, replay, seal
from leaderboard.competition.events import Event, EventLog
from leaderboard.competition.ladder import LadderEntry
from leaderboard.competition.names import is_single_script, skeleton
from leaderboard.competition.rules import Rules
from leaderboard.errors import StoreError
from leaderboard.statistics.inference import Array, Pairs
from leaderboard.statistics.ranking import rank_sets
from leaderboard.statistics.variance import SIGNIFICANCE_LEVEL, ScoreVariance, quantile
from leaderboard.store.store import Store

TEAM = re.compile(r"[^\W_][\w .+&'-]{0,39}")
OPEN_TEAMS = 20
"""Teams that have a public score under the Ladder where anybody may enter."""
LARGE_SAMPLE = 1e6
"""Degrees of freedom of a normal distribution."""
RANK_DRAWS = 1000
"""Number of bootstrap draws of private samples for the ranks of the final board."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Standing:
    """Row of a team on the public board.

    ``score`` is the team's public score, None without an active entry. ``since`` is the time (ISO 8601) of the entry that last
    changed the score, empty for none. ``entries`` is the team's number of entries, withdrawn ones included.
    """

    team: str
    score: float | None
    since: str
    entries: int


class Refused(StoreError):
    """Refusal of an action that breaks the rules of a competition. It is recorded as an event, and the message gives the reason."""


class Competition:
    """One competition: its rules, its events in a store, and the actions of its host and its teams.

    ``block`` is the number of neighbouring hidden samples that depend on each other (overlapping windows), 1 for independent
    samples. ``clock`` returns the current time with its time zone.
    """

    def __init__(
        self,
        rules: Rules,
        store: Store,
        *,
        higher_is_better: bool,
        block: int = 1,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.rules, self.clock, self.higher_is_better, self.block = rules, clock, higher_is_better, block
        self.event_log = EventLog(store, rules.name)

    def append(self, decide: Callable[[list[Event]], Event]) -> Event:
        """Append the event that ``decide`` makes from all events so far, and return it. Raises Refused if it records a refusal."""
        event = self.event_log.append(decide, lambda: self.clock().astimezone(UTC).isoformat(timespec="microseconds"))
        if event.kind == "refused":
            raise Refused(event.content["reason"])
        return event

    # Actions of the host ---------------------------------------------------------------------------------------------------------

    def start(self) -> Event:
        """Publish the rules and return the opening event.

        A second call changes nothing. Raises StoreError if other rules are published.
        """
        secret = secrets.token_hex(32).encode()
        opening = Event("opened", "", {"rules": self.rules.record()}, secret)
        event = self.append(lambda events: events[0] if events else opening)
        self.check_rules(self.event_log.events())
        return event

    def amend(self, reason: str) -> Event:
        """Publish changed rules, which apply from now on, and return the event.

        The name and the split of the hidden samples stay the same. Raises StoreError for a competition that has not been started,
        and for another share of public samples: the scores of entries are sealed for the split of the start.
        """
        share = self.opening_event().content["rules"]["public"]
        if self.rules.public != share:
            raise StoreError(
                f"the share of public samples is fixed at the start: it is {share}; the changed rules have {self.rules.public}"
            )
        return self.append(lambda events: Event("amended", "", {"rules": self.rules.record(), "reason": reason}))

    def opening_event(self) -> Event:
        """Return the first event of the competition. Raises StoreError if the competition has not been started."""
        events = self.event_log.events()
        if not events:
            raise StoreError(f"{self.rules.name} has not been started; bakeoff competition start RULES.toml")
        return events[0]

    def check_rules(self, events: Sequence[Event]) -> None:
        """Raise StoreError if the rules published last in ``events`` differ from ``self.rules``."""
        published = [event.content["rules"] for event in events if event.kind in ("opened", "amended")][-1]
        ours = self.rules.record()
        changed = [name for name in ours if ours[name] != published.get(name)]
        if changed:
            raise StoreError(
                f"the rules of {self.rules.name} that were made known have another {', '.join(changed)}; "
                "put the file back, or make the change known with bakeoff competition amend RULES.toml --reason TEXT"
            )

    def split(self, n: int) -> tuple[Array, Array]:
        """Split ``n`` hidden samples into public and private ones; return the sorted indices of both (int64 arrays).

        The split is drawn from a secret that is sealed at the start of the competition. If neighbours overlap (``block`` above 1),
        the first samples are public instead. Raises StoreError if the competition has not been started.
        """
        rng = np.random.default_rng(int(self.opening_event().sealed, 16))
        order = np.arange(n) if self.block > 1 else rng.permutation(n)
        count = min(max(round(self.rules.public * n), 1), n - 1)
        return np.sort(order[:count]), np.sort(order[count:])

    def rescore(self, number: int, graded: ScoredEntry, reason: str) -> Event:
        """Record the corrected scores ``graded`` of entry ``number``, after a mistake in labels or metric, and return the event.

        The old scores stay on record. Raises StoreError if there is no such entry.
        """
        self.opening_event()

        def decide(events: list[Event]) -> Event:
            state = replay(events)
            event = Event(
                "rescored", self.find_entry(state, number).team, {"entry": number, "reason": reason}, seal(graded)
            )
            # After the reveal nothing is sealed.
            return replace(event, content={**event.content, "line": event.line.decode()}) if state.revealed else event

        return self.append(decide)

    def reveal(self) -> Event:
        """Publish the sealed lines of all events, with the private scores, and return the event. A second call changes nothing.

        Raises Refused before the close of the competition.
        """
        self.opening_event()

        def decide(events: list[Event]) -> Event:
            reveals = [event for event in events if event.kind == "revealed"]
            if reveals:
                return reveals[0]
            if self.clock() < self.rules.closes:
                return refusal(
                    "", f"{self.rules.name} closes at {format_utc(self.rules.closes)}; nothing is revealed before"
                )
            return Event(
                "revealed", "", {"lines": {str(event.number): event.line.decode() for event in events if event.sealed}}
            )

        return self.append(decide)

    # Actions of teams ------------------------------------------------------------------------------------------------------------

    def refusal_reason(self, events: Sequence[Event], team: str, sha256: str | None) -> str | None:
        """Return the reason to refuse an entry of a team now, None if the rules allow the entry.

        ``events`` are all events of the competition, ``sha256`` is the hash of the file; None skips the test for duplicates.
        """
        rules, now, state = self.rules, self.clock(), replay(events)
        if now < rules.opens:
            return f"{rules.name} opens at {format_utc(rules.opens)}; it is {format_utc(now)}"
        if now >= rules.closes:
            return f"{rules.name} closed at {format_utc(rules.closes)}; it is {format_utc(now)}"
        if rules.teams and team not in rules.teams:
            return f"{team!r} is none of the teams of {rules.name}"
        if not TEAM.fullmatch(team):
            return f"a team's name should be 1 to 40 letters, digits, spaces and .+&'-; it is {team!r}"
        if team != team.strip() or not is_single_script(team):
            return f"a team's name should be in one script, without a space at its ends; it is {team!r}"
        twins = [other for other in state.teams if other != team and skeleton(other) == skeleton(team)]
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
        """Check if a team may enter the file with hash ``sha256`` now, before the file is scored.

        Raises Refused, after the refusal is recorded, if not. Raises StoreError if other rules are published, or none.
        """
        self.check_rules([self.opening_event(), *self.event_log.events()])
        reason = self.refusal_reason(self.event_log.events(), team, sha256)
        if reason:
            self.refuse(team, reason)

    def refuse(self, team: str, reason: str) -> None:
        """Record that an action of a team is refused, and raise Refused with the reason."""
        self.opening_event()
        self.append(lambda events: refusal(team, reason))

    def enter(self, team: str, graded: ScoredEntry) -> Event:
        """Record an entry of a team with its scores, and return the event. The number of the event is the number of the entry.

        Raises Refused if the rules do not allow the entry, and StoreError if other rules are published, or none.
        """
        self.check_rules([self.opening_event(), *self.event_log.events()])

        def decide(events: list[Event]) -> Event:
            reason = self.refusal_reason(events, team, graded.sha256)
            return refusal(team, reason) if reason else Event("entered", team, {"sha256": graded.sha256}, seal(graded))

        return self.append(decide)

    def pick(self, team: str, numbers: Sequence[int]) -> Event:
        """Record the ``numbers`` of the entries that a team wants to count on the final board, and return the event.

        A later choice replaces an earlier one. Raises Refused after the close, for no or too many numbers, and for a number that is
        no active entry of the team.
        """
        self.opening_event()

        def decide(events: list[Event]) -> Event:
            mine = [entry.number for entry in replay(events).active_entries(team)]
            if self.clock() >= self.rules.closes:
                return refusal(
                    team, f"{self.rules.name} closed at {format_utc(self.rules.closes)}; picks stay what they were"
                )
            if not 0 < len(set(numbers)) <= self.rules.picks:
                return refusal(
                    team,
                    f"{self.rules.picks} entries may be picked at most, one at least; these are {len(set(numbers))}",
                )
            unknown = [number for number in numbers if number not in mine]
            if unknown:
                have = ", ".join(map(str, mine)) or "none"
                return refusal(team, f"{team} has no entry {unknown[0]}; it has {have}")
            return Event("picked", team, {"entries": sorted(set(numbers))})

        return self.append(decide)

    def withdraw(self, team: str, number: int, reason: str) -> Event:
        """Remove entry ``number`` of a team from all boards and return the event.

        The entry still counts towards the limits on entries. Raises Refused after the reveal, and if the team has no such entry.
        """
        self.opening_event()

        def decide(events: list[Event]) -> Event:
            state = replay(events)
            if state.revealed:
                return refusal(team, f"{self.rules.name} has been revealed; nothing is withdrawn any more")
            if number not in [entry.number for entry in state.active_entries(team)]:
                return refusal(team, f"{team} has no entry {number}")
            return Event("withdrawn", team, {"entry": number, "reason": reason})

        return self.append(decide)

    @staticmethod
    def find_entry(state: CompetitionState, number: int) -> CompetitionEntry:
        """Return the entry with this number. Raises StoreError if there is none."""
        if number not in state.entries:
            raise StoreError(f"there is no entry {number}; there are {', '.join(map(str, state.entries)) or 'none'}")
        return state.entries[number]

    # Boards ----------------------------------------------------------------------------------------------------------------------

    def released_scores(self, entries: Sequence[CompetitionEntry]) -> list[tuple[float, bool]]:
        """Return one pair for each of a team's ``entries``: the public score after the entry, and True if the entry changed it."""
        if self.rules.release != "scores":  # the order of two teams tells which of two answers is better
            ladder_entries = [LadderEntry(entry.public, self.public_losses(entry), entry.error) for entry in entries]
            return ladder.release_scores(ladder_entries, higher_is_better=self.higher_is_better)
        scores: list[tuple[float, bool]] = []
        for entry in entries:
            better = not scores or self.sort_key(entry.public) < self.sort_key(scores[-1][0])
            scores.append((entry.public if better else scores[-1][0], better))
        return scores

    def is_told(self, team: str, state: CompetitionState) -> bool:
        """Tell if a team has a public score: teams that the rules name, or the first `OPEN_TEAMS` where anybody may enter.

        Whoever makes up a thousand teams gets a thousand first scores, which together tell the labels.
        """
        return bool(self.rules.teams) or self.rules.release == "scores" or team in state.teams[:OPEN_TEAMS]

    def public_losses(self, entry: CompetitionEntry) -> Array | None:
        """Return an entry's losses on the public samples (public samples,); None for a metric that is not a mean over samples."""
        return None if entry.losses is None else entry.losses[self.split(len(entry.losses))[0]]

    def sort_key(self, score: float) -> float:
        """Return a sort key that puts the best score first."""
        return -score if self.higher_is_better else score

    def public_board(self) -> list[dict[str, Any]]:
        """Return the public board: one dict per team, best first, or by name if the rules release nothing.

        Values that the rules do not release are None. Equal scores share a rank.
        """
        standings = self.standings(replay(self.event_log.events()))
        scores = [standing.score for standing in standings]
        release = self.rules.release
        rows = [
            {
                "rank": scores.index(standing.score) + 1
                if standing.score is not None and release != "nothing"
                else None,
                "team": standing.team,
                "score": standing.score if release in ("ladder", "scores") else None,
                "since": standing.since if release in ("ladder", "scores") else None,
                "entries": standing.entries,
            }
            for standing in standings
        ]
        return sorted(rows, key=lambda row: str(row["team"]).casefold()) if release == "nothing" else rows

    def standings(self, state: CompetitionState) -> list[Standing]:
        """Return the standings of all teams, sorted by public score, best first; of equal scores the older one is first."""
        standings = []
        for team in state.teams:
            entries = state.all_entries(team)
            told = [
                (entry.at, score)
                for entry, (score, moved) in zip(entries, self.released_scores(entries), strict=True)
                if moved and not entry.withdrawn
            ]
            since, score = told[-1] if told and self.is_told(team, state) else ("", None)
            standings.append(Standing(team, score, since, len(entries)))
        return sorted(standings, key=lambda row: (row.score is None, self.sort_key(row.score or 0.0), row.since))

    def final_board(self) -> list[dict[str, Any]]:
        """Return the final board: one dict per team, sorted by the private score of the team's best picked entry.

        A team without picks is ranked by its best among the last entries that changed its public score. ``shake_up`` is the number
        of ranks gained since the public board. Raises StoreError before the reveal.
        """
        events = self.event_log.events()
        state = replay(events)
        if not state.revealed:
            raise StoreError(f"{self.rules.name} has not been revealed; it closes at {format_utc(self.rules.closes)}")
        public_standings = {standing.team: standing for standing in self.standings(state)}
        chosen: list[CompetitionEntry] = []
        for team in state.teams:
            every = state.all_entries(team)
            picked = [entry for entry in state.active_entries(team) if entry.number in state.picks.get(team, [])]
            moved = [
                entry
                for entry, (_, better) in zip(every, self.released_scores(every), strict=True)
                if better and not entry.withdrawn
            ]
            candidates = picked or moved[-self.rules.picks :] or state.active_entries(team)[-self.rules.picks :]
            if candidates:
                chosen.append(min(candidates, key=lambda entry: self.sort_key(entry.private)))
        chosen.sort(key=lambda entry: (self.sort_key(entry.private), entry.at))
        rank_sets = self.rank_sets(chosen)
        before = sorted(chosen, key=lambda entry: list(public_standings).index(entry.team))
        return [
            {
                "rank": rank,
                "rank_low": low,
                "rank_high": high,
                "team": entry.team,
                "score": entry.private,
                "public_score": entry.public,
                "shake_up": before.index(entry) + 1 - rank,
                "entry": entry.number,
                "picked": entry.number in state.picks.get(entry.team, []),
                "entries": public_standings[entry.team].entries,
            }
            for rank, (entry, (low, high)) in enumerate(zip(chosen, rank_sets), start=1)
        ]

    def rank_sets(self, chosen: Sequence[CompetitionEntry]) -> list[tuple[int, int]]:
        """Return the 95 % confidence set (lowest, highest) of the rank of each ``chosen`` entry; they are sorted best first.

        The sets come from bootstrap draws of the private samples. If the metric is not a mean, each set holds one rank only.
        """
        count = len(chosen)
        losses = [entry.losses for entry in chosen]
        if count < 2:
            return [(rank, rank) for rank in range(1, count + 1)]
        if any(entry.losses is None for entry in chosen):
            return rank_sets(self.clear_differences(chosen))
        values = np.array(losses)
        private = values[:, self.split(values.shape[1])[1]].astype(np.float64)
        n = private.shape[1]
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RANK_DRAWS) / n
        replicates = private @ weights.T
        variances = [ScoreVariance(float(entry_replicates.var(ddof=1)), n) for entry_replicates in replicates]
        return rank_sets(Pairs(private.mean(axis=1), replicates, variances).significant_pairs())

    def clear_differences(self, chosen: Sequence[CompetitionEntry]) -> list[list[bool]]:
        """Differences (entries, entries) that stand out where the metric is no mean over samples.

        Only the standard error of each public score is known. It is carried over to the private samples, and the entries count as
        independent, which is the careful side; the level is divided by the number of pairs (Bonferroni).
        """
        share = self.rules.public / (1 - self.rules.public)
        errors = [entry.error * share**0.5 for entry in chosen]
        pairs = len(chosen) * (len(chosen) - 1) / 2
        limit = quantile(LARGE_SAMPLE, SIGNIFICANCE_LEVEL / pairs)
        return [
            [abs(a.private - b.private) > limit * math.hypot(x, y) for b, y in zip(chosen, errors, strict=True)]
            for a, x in zip(chosen, errors, strict=True)
        ]


def format_utc(when: datetime) -> str:
    """Format a time as ``2026-12-01 09:00:00 UTC``."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def refusal(team: str, reason: str) -> Event:
    """Return the event that records why an action is refused; ``team`` is empty for an action of the host."""
    return Event("refused", team, {"reason": reason})

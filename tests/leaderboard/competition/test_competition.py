"""Competitions: rules, a public board that resists probing, sealed scores, and an append-only history."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from servers import server

from leaderboard import Store, StoreError
from leaderboard.competition import ladder
from leaderboard.competition.competition import Competition, Refused
from leaderboard.competition.entries import ScoredEntry, replay
from leaderboard.competition.events import Event, EventLog
from leaderboard.competition.ladder import LadderEntry
from leaderboard.competition.rules import Rules

if TYPE_CHECKING:
    from conftest import Command

OPENS = datetime(2026, 12, 1, 9, tzinfo=UTC)
RULES = Rules("cup", "digits", OPENS, OPENS + timedelta(days=5), public=0.5, per_day=3, in_all=10)
N = 400


class Clock:
    """Clock that a test sets."""

    def __init__(self) -> None:
        self.now = OPENS

    def __call__(self) -> datetime:
        return self.now

    def later(self, **more: float) -> None:
        self.now += timedelta(**more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "home")) as store:
        yield store


@pytest.fixture
def cup(store: Store, clock: Clock) -> Competition:
    cup = Competition(RULES, store, higher_is_better=True, clock=clock)
    cup.start()
    return cup


def answer(cup: Competition, right: np.ndarray, name: str) -> ScoredEntry:
    """Score a file of predictions that are right where ``right`` is True."""
    public, private = cup.split(len(right))
    values = right.astype(np.float32)
    return ScoredEntry(float(values[public].mean()), float(values[private].mean()), values, 0.0, name)


def guess(skill: float, seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < skill


# The Ladder ------------------------------------------------------------------------------------------------------------------


def boosted(scores: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Labels by a vote of all answers: those that score above one half vote for, the others against (Blum and Hardt 2015)."""
    votes = np.sign(scores - 0.5) @ (2 * answers - 1)
    return (votes > 0).astype(int)


def test_probing_overfits_a_plain_board_but_not_the_ladder() -> None:
    """Vote of 1,000 random answers to 1,000 yes-or-no questions: on other data it is no better than chance."""
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 2, 1000), rng.integers(0, 2, (1000, 1000))
    right = (answers == labels).astype(np.float64)
    plain = right.mean(axis=1)
    voted = (boosted(plain, answers) == labels).astype(np.float64)
    assert voted.mean() - 0.5 >= 0.2

    climbs = [LadderEntry(float(own.mean()), own, 0.0) for own in right]
    seen = np.array([score if moved else 0.5 for score, moved in ladder.release_scores(climbs, higher_is_better=True)])
    best = (boosted(seen, answers) == labels).astype(np.float64)
    shown = ladder.release_scores([*climbs, LadderEntry(float(best.mean()), best, 0.0)], higher_is_better=True)
    assert abs(shown[-1][0] - 0.5) <= 0.04
    assert sum(moved for _, moved in shown) < 10


def test_the_ladder_follows_real_improvements() -> None:
    climbs = [
        LadderEntry(float(own.mean()), own, 0.0)
        for own in (guess(skill, seed, 2000).astype(float) for seed, skill in enumerate((0.5, 0.6, 0.7, 0.8)))
    ]
    assert [moved for _, moved in ladder.release_scores(climbs, higher_is_better=True)] == [True] * 4
    down = [replace(climb, score=1 - climb.score, losses=1 - climb.losses) for climb in climbs]  # type: ignore[operator]
    released = ladder.release_scores(down, higher_is_better=False)
    assert [moved for _, moved in released] == [True] * 4
    assert released[-1][0] == pytest.approx(0.2, abs=0.03) and released[-1][0] == round(released[-1][0], 3), (
        "without the noise's digits"
    )


def test_without_losses_the_standard_error_is_the_noise() -> None:
    climbs = [LadderEntry(score, None, 0.5) for score in (10.0, 9.6, 9.4, 8.0)]
    assert [moved for _, moved in ladder.release_scores(climbs, higher_is_better=False)] == [True, False, False, True]


# Rules -----------------------------------------------------------------------------------------------------------------------


def test_entries_against_the_rules_are_refused_with_a_sentence_and_recorded(cup: Competition, clock: Clock) -> None:
    def refused(team: str, graded: ScoredEntry, said: str) -> None:
        with pytest.raises(Refused, match=said):
            cup.enter(team, graded)
        assert cup.event_log.events()[-1].kind == "refused" and cup.event_log.events()[-1].team == team

    clock.now = OPENS - timedelta(hours=1)
    refused("a", answer(cup, guess(0.5, 0), "0"), "cup opens at 2026-12-01 09:00:00 UTC; it is 2026-12-01 08:00:00 UTC")
    clock.now = OPENS
    for number in range(3):
        cup.enter("a", answer(cup, guess(0.5, number), str(number)))
    refused(
        "a", answer(cup, guess(0.5, 9), "9"), "a has made its 3 entries of 2026-12-01; the next day begins at 00:00 UTC"
    )
    refused("a", answer(cup, guess(0.5, 1), "1"), "the same file as entry")
    refused("A", answer(cup, guess(0.5, 9), "9"), "there is a team called 'a' already")
    refused("<b>", answer(cup, guess(0.5, 9), "9"), "a team's name should be")
    for day in range(1, 4):
        clock.later(days=1)
        for number in range(3 if day < 3 else 1):
            cup.enter("a", answer(cup, guess(0.5, 10 * day + number), f"{day}-{number}"))
    refused("a", answer(cup, guess(0.5, 99), "99"), "a has made its 10 entries")
    cup.enter("b", answer(cup, guess(0.5, 1), "1"))
    clock.now = RULES.closes
    refused("b", answer(cup, guess(0.5, 2), "2"), "cup closed at 2026-12-06")
    with pytest.raises(Refused, match="picks stay what they were"):
        cup.pick("b", [1])


def test_only_listed_teams_enter_where_teams_are_listed(store: Store, clock: Clock) -> None:
    cup = Competition(replace(RULES, teams=("a", "b")), store, higher_is_better=True, clock=clock)
    cup.start()
    cup.enter("b", answer(cup, guess(0.5, 0), "0"))
    with pytest.raises(Refused, match="'c' is none of the teams of cup"):
        cup.enter("c", answer(cup, guess(0.5, 0), "0"))


def test_other_rules_have_to_be_made_known(cup: Competition, store: Store, clock: Clock) -> None:
    other = Competition(
        replace(RULES, per_day=9, closes=RULES.closes + timedelta(days=1)), store, higher_is_better=True, clock=clock
    )
    for act in (other.start, lambda: other.check("a")):
        with pytest.raises(StoreError, match="another closes, per_day; put the file back, or make the change known"):
            act()
    other.amend("a holiday")
    assert other.start().kind == "opened"
    np.testing.assert_array_equal(other.split(N)[0], cup.split(N)[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x'", "task is missing"),
        ("name = 'x'\nodd = 1", "there is no rule called 'odd'"),
        (
            "name = 'x'\ntask = 't'\nopens = 2026-01-01T00:00:00\ncloses = 2026-01-02T00:00:00Z",
            "opens should be a time with its offset",
        ),
        (
            "name = 'x'\ntask = 't'\nopens = 2026-01-03T00:00:00Z\ncloses = 2026-01-02T00:00:00Z",
            "closes should be after opens",
        ),
        (
            "name = 'x'\ntask = 't'\nopens = 2026-01-01T00:00:00Z\ncloses = 2026-01-02T00:00:00Z\npublic = 1.5",
            "public should be between 0 and 1; it is 1.5",
        ),
        (
            "name = 'x'\ntask = 't'\nopens = 2026-01-01T00:00:00Z\ncloses = 2026-01-02T00:00:00Z\nper_day = 0",
            "per_day should be 1 or more",
        ),
        (
            "name = 'x'\ntask = 't'\nopens = 2026-01-01T00:00:00Z\ncloses = 2026-01-02T00:00:00Z\nrelease = 'all'",
            "release should be one of ladder",
        ),
        ("name = 'x", "is no TOML"),
    ],
)
def test_invalid_rules_say_why(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(StoreError, match=said):
        Rules.read(tmp_path / "rules.toml")


@pytest.mark.parametrize(
    ("release", "shown"), [("ladder", True), ("scores", True), ("ranks", False), ("nothing", False)]
)
def test_the_public_board_shows_what_the_rules_release(release: str, shown: bool, store: Store, clock: Clock) -> None:
    cup = Competition(replace(RULES, release=release), store, higher_is_better=True, clock=clock)
    cup.start()
    for team, skill in (("worse", 0.5), ("best", 0.9), ("good", 0.7)):
        cup.enter(team, answer(cup, guess(skill, 1), team))
    rows = cup.public_board()
    assert [row["score"] is not None for row in rows] == [shown] * 3
    ranks = {row["team"]: row["rank"] for row in rows}
    assert ranks == dict.fromkeys(ranks) if release == "nothing" else ranks == {"best": 1, "good": 2, "worse": 3}
    assert "private" not in json.dumps(rows)


# Sealed, and for good --------------------------------------------------------------------------------------------------------


def test_private_scores_are_sealed_until_the_close_and_open_unchanged(cup: Competition, clock: Clock) -> None:
    entered = cup.enter("a", answer(cup, guess(0.8, 0), "0"))
    assert set(entered.content) == {"sha256"} and len(entered.seal) == 64
    with pytest.raises(StoreError, match="has not been revealed"):
        cup.final_board()
    with pytest.raises(Refused, match="nothing is revealed before"):
        cup.reveal()
    clock.now = RULES.closes
    lines = cup.reveal().content["lines"]
    assert cup.reveal().number == cup.event_log.events()[-1].number, "once is enough"
    seals = {str(event.number): event.seal for event in cup.event_log.events() if event.sealed}
    assert {number: Event("", "", {}, line.encode()).seal for number, line in lines.items()} == seals
    (row,) = cup.final_board()
    assert row["score"] == json.loads(lines[str(entered.number)])["private"]


def test_a_withdrawal_and_a_new_score_are_events(cup: Competition, clock: Clock) -> None:
    first = cup.enter("a", answer(cup, guess(0.6, 0), "0")).number
    second = cup.enter("a", answer(cup, guess(0.9, 1), "1")).number
    cup.enter("b", answer(cup, guess(0.7, 2), "2"))
    cup.withdraw("a", second, "trained on the test")
    assert [row["team"] for row in cup.public_board()] == ["b", "a"]
    with pytest.raises(Refused, match=f"a has no entry {second}"):
        cup.pick("a", [second])
    cup.rescore(first, answer(cup, guess(0.95, 3), "0"), "wrong labels")
    assert [row["team"] for row in cup.public_board()] == ["a", "b"]
    with pytest.raises(StoreError, match="there is no entry 99"):
        cup.rescore(99, answer(cup, guess(0.9, 3), "0"), "no")
    clock.now = RULES.closes
    cup.reveal()
    assert (cup.final_board()[0]["team"], cup.final_board()[0]["entry"]) == ("a", first)
    with pytest.raises(Refused, match="nothing is withdrawn any more"):
        cup.withdraw("a", first, "late")
    late = cup.rescore(first, answer(cup, guess(0.5, 3), "0"), "wrong again")
    assert Event("", "", {}, late.content["line"].encode()).seal == late.seal, "open from the start"
    assert cup.final_board()[0]["team"] == "b"
    kinds = [event.kind for event in cup.event_log.events()]
    assert kinds.count("entered") == 3 and kinds.count("withdrawn") == 1 and kinds.count("rescored") == 2


def test_the_store_takes_no_change_of_history(cup: Competition, store: Store) -> None:
    for change in ("UPDATE events SET team = 'c'", "DELETE FROM events"):
        with pytest.raises(StoreError, match="append-only"):
            store.database.write(change)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET team = 'c' WHERE number = 1",
        "UPDATE events SET at = '2026-12-05T00:00:00' WHERE number = 1",
        """UPDATE events SET sealed = '{"private": 1}' WHERE number = 1""",
        "DELETE FROM events WHERE number = 1",
    ],
)
def test_tampering_with_the_history_is_detected(change: str, cup: Competition, store: Store, tmp_path: Path) -> None:
    for number, team in enumerate("ab"):
        cup.enter(team, answer(cup, guess(0.6, number), str(number)))
    file = sqlite3.connect(tmp_path / "home" / "bakeoff.sqlite")
    file.executescript(f"DROP TRIGGER events_no_update; DROP TRIGGER events_no_delete; {change}")
    file.close()
    with pytest.raises(StoreError, match="of cup is not what was written, or one before it is missing"):
        EventLog(store, "cup").events()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_hosts_at_once_lose_nothing_and_keep_the_rules(kind: str, tmp_path: Path, clock: Clock) -> None:
    """Both have read the same history when they write: one of them must decide again, and then the quota is full."""
    url = server().database() if kind == "postgres" else None
    stores = [Store(tmp_path / "home", url=url) for _ in range(2)]
    rules = replace(RULES, per_day=1)
    one, two = (Competition(rules, store, higher_is_better=True, clock=clock) for store in stores)
    one.start()
    assert two.start().hash == one.event_log.events()[0].hash
    two.event_log.events()
    one.enter("a", answer(one, guess(0.5, 0), "0"))
    with pytest.raises(Refused, match="has made its 1 entries"):
        two.enter("a", answer(two, guess(0.5, 1), "1"))
    two.enter("b", answer(two, guess(0.5, 1), "1"))
    assert [event.kind for event in one.event_log.events()] == ["opened", "entered", "refused", "entered"]
    for store in stores:
        store.close()


# From start to end -----------------------------------------------------------------------------------------------------------


def test_a_competition_of_twenty_teams_from_start_to_end(store: Store, clock: Clock) -> None:
    """Fifteen teams improve a little every day; five probe the public board and end at chance, like their models."""
    rng, n = np.random.default_rng(0), 2000
    rules = replace(RULES, per_day=4, in_all=20, picks=2, public=0.3)
    cup = Competition(rules, store, higher_is_better=True, clock=clock)
    cup.start()
    labels = rng.integers(0, 2, n)
    probed: dict[str, list[tuple[float, np.ndarray]]] = {f"probing {number}": [] for number in range(5)}
    refusals = 0
    while clock.now < rules.closes:
        for number in range(15):
            skill = 0.55 + 0.02 * number + 0.01 * (clock.now - OPENS).days
            for file in range(2):
                name = f"{number}-{clock.now}-{file}"
                cup.enter(f"honest {number}", answer(cup, rng.random(n) < skill, name))
        for team, seen in probed.items():
            for file in range(rules.per_day + 1):
                answers = rng.integers(0, 2, n)
                try:
                    cup.enter(team, answer(cup, answers == labels, f"{team}-{clock.now}-{file}"))
                except Refused:
                    refusals += 1
                    continue
                seen.append((next(row["score"] for row in cup.public_board() if row["team"] == team), answers))
        clock.later(days=1)
    assert refusals == 25, "one a day and team too many"
    public = {row["team"]: row for row in cup.public_board()}
    assert len(public) == 20 and all(
        row["entries"] == (20 if "probing" in team else 10) for team, row in public.items()
    )
    for team, seen in probed.items():
        assert public[team]["score"] - 0.5 < 0.08, "a thousandth of what voting gains on a plain board"
        assert max(score for score, _ in seen) == public[team]["score"]
    with pytest.raises(Refused, match="closed"):
        cup.enter("honest 0", answer(cup, rng.random(n) < 0.99, "late"))
    cup.reveal()
    final = cup.final_board()
    assert [row["rank"] for row in final] == list(range(1, 21)) and sum(row["shake_up"] for row in final) == 0
    assert {row["team"] for row in final[15:]} <= {*probed, "honest 0", "honest 1"}
    assert final[0]["team"] in ("honest 14", "honest 13") and final[0]["rank_low"] == 1
    assert all(row["rank_low"] <= row["rank"] <= row["rank_high"] for row in final)
    assert all(row["score"] - 0.5 < 0.06 for row in final if row["team"] in probed)
    assert len(replay(cup.event_log.events()).entries) == 15 * 10 + 5 * 20


@pytest.mark.slow
def test_the_command_from_rules_to_boards(tmp_path: Path, bakeoff: Command) -> None:
    times = {"opens": datetime.now(UTC) - timedelta(hours=1), "closes": datetime.now(UTC) + timedelta(hours=1)}
    text = "\n".join(
        [
            'name = "cup"',
            'task = "digits"',
            "per_day = 3",
            *(f"{name} = {when.isoformat()}" for name, when in times.items()),
        ]
    )
    (tmp_path / "cup.toml").write_text(text)
    bakeoff("data", "digits", "--out", "d")
    sample = np.load(tmp_path / "d" / "sample_predictions.npy")
    rng = np.random.default_rng(0)
    files = [
        rng.dirichlet(np.ones(sample.shape[1]), len(sample)).astype(sample.dtype)
        if sample.ndim == 2
        else rng.integers(0, 10, len(sample))
        for _ in range(2)
    ]
    for number, predictions in enumerate(files):
        np.save(tmp_path / f"{number}.npy", predictions)
    np.save(tmp_path / "bad.npy", sample[:5])

    def act(*words: object, code: int = 0) -> str:
        done = bakeoff("competition", *words, "--home", "h", code=code)
        return done.stderr if code else done.stdout

    assert "has not been started" in act("enter", "cup.toml", "0.npy", "--team", "a", code=2)
    act("start", "cup.toml")
    assert "public accuracy" in act("enter", "cup.toml", "0.npy", "--team", "a")
    assert "same file as entry" in act("enter", "cup.toml", "0.npy", "--team", "a", code=2)
    assert "should hold" in act("enter", "cup.toml", "bad.npy", "--team", "a", code=2)
    entry = json.loads(act("enter", "cup.toml", "1.npy", "--team", "b", "--json"))
    assert entry["kind"] == "entered" and "private" not in json.dumps(entry)
    act("pick", "cup.toml", entry["number"], "--team", "b")
    rows = json.loads(act("board", "cup.toml", "--json"))["rows"]
    assert {row["team"] for row in rows} == {"a", "b"} and "private" not in json.dumps(rows)
    assert "a public score moves only" in act("board", "cup.toml")
    assert "nothing is revealed before" in act("reveal", "cup.toml", code=2)
    act("withdraw", "cup.toml", entry["number"], "--team", "b", "--reason", "a mistake")
    kinds = [event["kind"] for event in json.loads(act("history", "cup.toml", "--json"))["events"]]
    assert kinds == ["opened", "entered", "refused", "refused", "entered", "picked", "refused", "withdrawn"]
    assert "a mistake" in act("history", "cup.toml")
    (tmp_path / "cup.toml").write_text(
        text.replace(times["closes"].isoformat(), (datetime.now(UTC) - timedelta(minutes=1)).isoformat())
    )
    assert "amend" in act("enter", "cup.toml", "1.npy", "--team", "c", code=2)
    act("amend", "cup.toml", "--reason", "over early")
    assert "private score" in act("reveal", "cup.toml") and "shake-up" in act("board", "cup.toml")

"""Climb the public board of a competition without a model, in every way that is known here, and print how far each gets.

``python benchmarks/ladder.py [--repeats 20]``. The question of each hidden sample is yes or no, and the truth is a coin: nobody can
be right more often than in half of them but by what the board tells. Printed is the share of *public* samples that the attacker's
last answer gets right, less a half; on other samples it is chance. The board is `TeamLadder` itself, with the rules of
`leaderboard.competition`: a team whose entries are withdrawn keeps its ladder, and of teams that nobody invited the first
`OPEN_TEAMS` are told scores.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from leaderboard.competition.competition import OPEN_TEAMS
from leaderboard.competition.ladder import LadderEntry, TeamLadder

Answer = NDArray[np.int64]
BOARDS = ((1000, 1000), (1000, 100), (162, 50))
"""Public samples and entries: a long competition, the default of `in_all`, and the cup of docs/competitions.md."""
TEAMS = 10
"""Teams of one attacker that pools what it is told."""


class Board:
    """Public board: it takes answers and tells what the rules allow."""

    def __init__(self, truth: Answer, entries: int) -> None:
        self.truth, self.left = truth, entries
        self.teams: dict[int, TeamLadder] = {}

    def enter(self, answer: Answer, team: int = 0) -> tuple[float | None, bool]:
        """Return the team's public score after this entry (None if it is told none), and whether it has moved."""
        self.left -= 1
        right = (answer == self.truth).astype(np.float64)
        ladder = self.teams.setdefault(team, TeamLadder(higher_is_better=True))
        moved = ladder.add(LadderEntry(float(right.mean()), right, 0.0))
        told = list(self.teams).index(team) < OPEN_TEAMS
        return (ladder.released, moved) if told else (None, False)


def guess(n: int, rng: np.random.Generator) -> Answer:
    return rng.integers(0, 2, n)


def by_vote(board: Board, n: int, rng: np.random.Generator, teams: int = 1) -> Answer:
    """Let random answers vote: those that moved a score for, the others against (Blum and Hardt 2015)."""
    votes = np.zeros(n)
    while board.left:
        answer, team = guess(n, rng), board.left % teams
        told, moved = board.enter(answer, team)
        if told is not None:
            votes += (2 * answer - 1) * ((told - 0.5) if moved else -0.002)
    return np.asarray(votes > 0, dtype=np.int64)


def by_flips(board: Board, n: int, rng: np.random.Generator, flips: int = 2) -> Answer:
    """Flip some answers at random, and keep the flips if the score moved."""
    best = guess(n, rng)
    board.enter(best)
    while board.left:
        tried = best.copy()
        tried[rng.choice(n, flips, replace=False)] ^= 1
        if board.enter(tried)[1]:
            best = tried
    return best


def by_adaptive_flips(board: Board, n: int, rng: np.random.Generator) -> Answer:
    """Flip more answers while nothing moves, and fewer after a move; use a third of the entries to find a good start."""
    best, budget = guess(n, rng), board.left
    board.enter(best)
    while board.left > 2 * budget // 3:
        tried = guess(n, rng)
        if board.enter(tried)[1]:
            best = tried
    flips = n // 20
    while board.left:
        tried = best.copy()
        tried[rng.choice(n, flips, replace=False)] ^= 1
        if board.enter(tried)[1]:
            best, flips = tried, max(flips // 2, 2)
        else:
            flips = min(flips + max(n // 100, 1), n // 2)
    return best


def by_best(board: Board, n: int, rng: np.random.Generator) -> Answer:
    """Enter random answers and keep the last that moved the score."""
    best = guess(n, rng)
    while board.left:
        tried = guess(n, rng)
        if board.enter(tried)[1]:
            best = tried
    return best


def by_withdrawal(board: Board, n: int, rng: np.random.Generator) -> Answer:
    """Enter, read the score, withdraw, enter again: the ladder goes on, so only what moves it is told."""
    return by_vote(board, n, rng)


def by_pooled_teams(board: Board, n: int, rng: np.random.Generator) -> Answer:
    """Vote of the answers of several teams, each with its own first score."""
    return by_vote(board, n, rng, TEAMS)


def by_pooled_climbs(board: Board, n: int, rng: np.random.Generator) -> Answer:
    """Let several teams climb by many flips, each with its share of the entries, and let their last answers vote."""
    share, climbed = board.left // TEAMS, []
    for team in range(TEAMS):
        best = guess(n, rng)
        score, _ = board.enter(best, team)
        for _ in range(share - 1):
            tried = best.copy()
            tried[rng.choice(n, n // 4, replace=False)] ^= 1
            told, moved = board.enter(tried, team)
            if moved:
                best, score = tried, told
        climbed.append((2 * best - 1) * ((score or 0.5) - 0.45))
    return np.asarray(np.sum(climbed, axis=0) > 0, dtype=np.int64)


def by_teams_of_one_entry(board: Board, n: int, rng: np.random.Generator) -> Answer:
    """A new team for each entry: a first entry always tells something."""
    return by_vote(board, n, rng, board.left)


ATTACKERS: dict[str, Callable[[Board, int, np.random.Generator], Answer]] = {
    "vote": by_vote,
    "two flips": by_flips,
    "sixteen flips": lambda board, n, rng: by_flips(board, n, rng, 16),
    "adaptive flips": by_adaptive_flips,
    "best of random answers": by_best,
    "withdrawal": by_withdrawal,
    f"{TEAMS} teams, one vote": by_pooled_teams,
    f"{TEAMS} teams, one climb each": by_pooled_climbs,
    "teams of one entry": by_teams_of_one_entry,
}


def climb(name: str, n: int, entries: int, repeats: int) -> tuple[float, float]:
    """Return the mean and the standard error of what an attacker gains on the public samples."""
    gains = []
    for seed in range(repeats):
        rng = np.random.default_rng([seed, n, entries])
        truth = guess(n, rng)
        answer = ATTACKERS[name](Board(truth, entries), n, rng)
        gains.append(float((answer == truth).mean()) - 0.5)
    return float(np.mean(gains)), float(np.std(gains, ddof=1) / repeats**0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    print("## Climbing a public board\n")
    print(
        f"{repeats} repeats, numpy {np.__version__}, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}\n"
    )
    print(f"| attacker | {' | '.join(f'{entries} entries, {n} public samples' for n, entries in BOARDS)} |")
    print(f"|---|{'---|' * len(BOARDS)}")
    for name in ATTACKERS:
        cells = [
            f"{gain:+.3f} ± {error:.3f}" for gain, error in (climb(name, n, entries, repeats) for n, entries in BOARDS)
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

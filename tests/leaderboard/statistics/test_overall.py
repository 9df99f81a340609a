"""Rankings over many tasks, against known answers and other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leaderboard import Result, Store
from leaderboard.statistics.overall import FIXED_FIELD_ENTRIES, Overall, elo, format_overall, games_won, overall, ranks

if TYPE_CHECKING:
    from conftest import Command

# Table 6 of Demšar (2006): areas under the curve of four variants of C4.5 on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
).T
NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


def of(scores: np.ndarray, names: list[str] | None = None) -> Overall:
    entries, tasks = scores.shape
    return Overall(
        names or [f"e{number}" for number in range(entries)],
        [f"t{number}" for number in range(tasks)],
        scores,
        scores[None],
    )


def test_demsars_own_example() -> None:
    """Mean ranks, Friedman's test and the critical difference are those of section 3.2.2 of the paper."""
    found = of(DEMSAR, NAMES)
    assert found.mean_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=0.001)
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*DEMSAR).pvalue)
    assert found.friedman < 0.05
    assert [[NAMES[place] for place in group] for group in found.alike] == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]]


def test_nemenyis_test_is_that_of_scikit_posthocs() -> None:
    posthocs = pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed")
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 12)) + np.arange(5)[:, None] * 0.7
    found = of(scores)
    theirs = posthocs.posthoc_nemenyi_friedman(scores.T).to_numpy() < 0.05
    ours = np.abs(found.mean_ranks[:, None] - found.mean_ranks) > found.critical_difference
    np.testing.assert_array_equal(ours, theirs)
    assert ours.any() and not ours.all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=2, max_size=8))
def test_ranks_are_scipys(scores: list[list[int]]) -> None:
    array = np.array(scores, dtype=np.float64)
    np.testing.assert_array_equal(ranks(array), stats.rankdata(-array, axis=0))


def test_elo_finds_the_odds_that_made_the_games() -> None:
    """Elo ratings recover the known strengths of four players from many games."""
    strength = np.array([1600.0, 1520.0, 1480.0, 1400.0])
    chance = 1 / (1 + 10 ** ((strength - strength[:, None]) / 400))
    np.fill_diagonal(chance, 0.0)
    assert elo(100_000 * chance.sum(axis=1), 100_000) == pytest.approx(strength, abs=0.5)
    assert elo(np.array([10.0, 0.0]), 10)[0] < 2100, "a clean sweep is no infinity"


def test_many_entries_have_the_intervals_of_few() -> None:
    """Large fields compare each draw with the real field, and not with the draw itself."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(FIXED_FIELD_ENTRIES + 1, 12)) + np.linspace(0, 3, FIXED_FIELD_ENTRIES + 1)[:, None]
    draws = scores + 0.3 * rng.normal(size=(50, *scores.shape))
    names = [f"e{number}" for number in range(FIXED_FIELD_ENTRIES + 1)]
    many = Overall(names, [f"t{number}" for number in range(12)], scores, draws)
    exact = np.quantile(elo(games_won(many.resampled_ranks), 12), (0.025, 0.975), axis=0).T
    widths = exact[:, 1] - exact[:, 0]
    assert np.abs(many.elo_intervals - exact).max() < 0.25 * np.median(widths)


def test_wins_and_profiles_are_shares_of_tasks() -> None:
    found = of(np.array([[3.0, 3.0, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0], [0.0, 1.0, 0.0, 0.0]]))
    assert found.wins[0, 1] == 0.625 and found.wins[1, 0] == 0.375 and found.wins[2].max() == 0.5
    profile = found.profile([0, 1, 10])
    assert profile[:, 0].tolist() == [0.75, 0.5, 0.0] and profile[:, 2].tolist() == [1.0] * 3


def entry(
    task: str, name: str, score: float, rng: np.random.Generator, higher: bool = True
) -> tuple[Result, list[float]]:
    result = Result(
        f"{task}-{name}", name, task, 1, "k", name, "m", higher, "complete", score=score, units=500, data_sha256="d"
    )
    return result, (score + 0.01 * rng.normal(size=200)).tolist()


def test_entries_that_stand_on_every_task_are_ranked_whatever_the_metric_prefers() -> None:
    rng = np.random.default_rng(0)
    boards = {
        "up": [
            entry("up", name, score, rng) for name, score in (("a", 0.9), ("b", 0.8), ("c", 0.7), ("only here", 1.0))
        ],
        "down": [entry("down", name, score, rng, False) for name, score in (("a", 1.0), ("b", 2.0), ("c", 3.0))],
    }
    found = overall(boards)
    assert found is not None and sorted(found.entries) == ["a", "b", "c"]
    record = found.record()
    assert [row["submission"] for row in record["rows"]] == ["a", "b", "c"]
    assert [row["mean_rank"] for row in record["rows"]] == [1, 2, 3]
    assert all(row["mean_rank_low"] <= row["mean_rank"] <= row["mean_rank_high"] for row in record["rows"])
    assert record["rows"][0]["win_rate"] == 1 and "mean ranks less than" in format_overall("k", found)
    assert overall({"up": boards["up"][:1], "down": boards["down"]}) is None


def test_the_command(tmp_path: Path, bakeoff: Command) -> None:
    rng = np.random.default_rng(0)
    store = Store(tmp_path / "h")
    for task in ("one", "two"):
        for name, score in (("a", 0.9), ("b", 0.7)):
            result, replicates = entry(task, name, score, rng)
            store.add(result, replicates)
    store.close()
    found = json.loads(bakeoff("overall", "--home", "h", "--json").stdout)
    assert [row["submission"] for row in found["k"]["rows"]] == ["a", "b"]
    assert "k: 2 entries that stand on all of one, two" in bakeoff("overall", "--home", "h").stdout
    assert "at least two tasks of a kind" in bakeoff("overall", "one", "--home", "h", code=2).stderr
    assert "no results for three" in bakeoff("overall", "one", "three", "--home", "h", code=2).stderr

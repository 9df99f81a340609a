"""Scores that can be believed: hidden parts, bootstrap draws, intervals that cover the truth, and ranks that say what is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Data, Forecasting, ImageClassification, Split, Task
from harness.execution.trial import TrialFailed
from harness.scoring import Scorer, draws, hidden_parts
from leaderboard import Result, rank
from leaderboard.ranking import difference, interval, quantile

keys, blocks = st.text(max_size=8), st.integers(1, 30)


# Hidden parts and draws ------------------------------------------------------------------------------------------------------


@given(st.integers(2, 300), blocks, keys)
def test_public_and_private_are_two_disjoint_halves_that_cover_everything(n, block, key):
    public, private = hidden_parts(n, block, key)
    assert sorted([*public, *private]) == list(range(n))
    assert len(public) == n // 2
    for again, before in zip(hidden_parts(n, block, key), (public, private), strict=True):
        np.testing.assert_array_equal(again, before)
    if block > 1:  # neighbours overlap, so the halves touch at one place alone
        assert public.max() < private.min()


def test_another_key_has_other_halves_and_other_draws():
    assert not np.array_equal(hidden_parts(100, 1, "a")[0], hidden_parts(100, 1, "b")[0])
    assert not np.array_equal(next(draws(100, 1, 1, "a")), next(draws(100, 1, 1, "b")))


@given(st.integers(1, 200), blocks, keys)
def test_draws_are_of_whole_blocks_and_the_same_for_the_same_key(n, block, key):
    drawn, again = (np.array(list(draws(n, block, 5, key))) for _ in range(2))
    np.testing.assert_array_equal(drawn, again)
    assert drawn.shape == (5, n)
    assert drawn.min() >= 0
    assert drawn.max() < n
    whole = min(block, max(n // 2, 1))
    for draw in drawn:
        for start in range(0, n, whole):
            piece = draw[start : start + whole]
            np.testing.assert_array_equal(piece, (piece[0] + np.arange(len(piece))) % n)


@pytest.mark.parametrize("block", [1, 7])
def test_every_sample_is_drawn_equally_often(block):
    n, count = 50, 4000
    times = np.bincount(np.concatenate(list(draws(n, block, count, "key"))), minlength=n) / count
    # A sample is drawn about once a draw; its number of times has a variance of at most `block`.
    assert np.abs(times - 1).max() < 4.5 * np.sqrt(block / count)


# Intervals -------------------------------------------------------------------------------------------------------------------


def scorer(kind, metric, test, key=""):
    return Scorer(Task("simulated", kind, lambda: data, metric), data := Data(test, test, test), key)


def test_the_interval_covers_the_true_accuracy_of_19_boards_in_20():
    """Of 200 simulated boards, each of 200 samples, 95 % should cover; their share has a standard error of .015."""
    rng, n, boards = np.random.default_rng(0), 200, 200
    test = Split(np.zeros((n, 1, 1, 1), np.uint8), np.zeros(n, np.int64))
    covered = widths = 0.0
    for board in range(boards):
        accuracy = rng.uniform(0.6, 0.9)
        answer = (rng.random(n) > accuracy).astype(np.int64)
        scored = scorer(ImageClassification(classes=2), "accuracy", test, str(board)).test(answer)
        low, high = interval(scored.replicates.tolist())
        covered += low <= accuracy <= high
        widths += (high - low) / (2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / n))
    assert 0.9 <= covered / boards <= 0.985
    assert widths / boards == pytest.approx(1, abs=0.05)


def test_the_interval_allows_for_overlapping_windows():
    """Errors of neighbours that share most of their horizon: drawn one by one they would look too certain."""
    rng, n, horizon, boards = np.random.default_rng(0), 400, 8, 80
    test = Split(np.zeros((n, 20, 1), np.float32), np.zeros((n, horizon, 1), np.float32))
    test.x[:, ::2] = 1  # a history that moves, so that MASE has a scale
    covered = naive = 0
    for board in range(boards):
        noise = rng.normal(size=n + horizon - 1).astype(np.float32)
        answer = np.lib.stride_tricks.sliding_window_view(noise, horizon)[..., None]
        scored = scorer(Forecasting(horizon=horizon), "mse", test, str(board)).test(answer)
        low, high = interval(scored.replicates.tolist())
        covered += low <= 1 <= high  # the mean of a squared standard normal
        by_one = [scored.losses[index].mean() for index in draws(n, 1, 200, str(board))]
        low, high = interval(by_one)
        naive += low <= 1 <= high
    assert covered / boards > 0.85
    assert naive / boards < 0.7


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_scores_of_an_answer_fit_together(seed):
    rng = np.random.default_rng(seed)
    test = Split(np.zeros((20, 1, 1, 1), np.uint8), rng.integers(0, 3, 20))
    board = scorer(ImageClassification(classes=3), "accuracy", test)
    answer = rng.integers(0, 3, 20)
    scored = board.test(answer)
    assert scored.score == scored.metrics["accuracy"] == np.mean(answer == test.labels)
    assert (scored.public + scored.private) / 2 == pytest.approx(scored.score)
    np.testing.assert_allclose(scored.losses, answer == test.labels)
    assert board.valid(answer) == scored.score
    np.testing.assert_array_equal(board.test(answer).replicates, scored.replicates)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "log_loss", "calibration_error"])
def test_replicates_surround_the_score_for_means_and_others_alike(metric):
    rng = np.random.default_rng(0)
    test = Split(np.zeros((200, 1, 1, 1), np.uint8), rng.integers(0, 3, 200))
    answer = rng.dirichlet(np.ones(3), 200).astype(np.float32)
    scored = scorer(ImageClassification(classes=3), metric, test).test(answer)
    assert np.abs(scored.replicates.mean() - scored.score) < scored.replicates.std()
    assert (len(scored.losses) > 0) == (metric in ("accuracy", "log_loss"))


@pytest.mark.parametrize("size", [1e25, 3e38])
def test_forecasts_whose_errors_overflow_are_refused(size):
    test = Split(np.zeros((10, 4, 1), np.float32), np.zeros((10, 2, 1), np.float32))
    with pytest.raises(TrialFailed, match="they should be of ordinary size") as failed:
        scorer(Forecasting(horizon=2), "mse", test).test(np.full((10, 2, 1), size, np.float32))
    assert failed.value.status == "invalid"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values, share):
    assert quantile(sorted(values), share) == pytest.approx(np.quantile(values, share), abs=1e-6)


# Ranks -----------------------------------------------------------------------------------------------------------------------

START = datetime(2025, 1, 1, tzinfo=UTC)


def entry(name, score=0.5, minute=0, replicates=None, **changes):
    """A complete result made at this minute, with replicates around its score unless given."""
    result = Result(
        result_id=f"{name}-{minute}",
        entry=name,
        task="t",
        task_version=1,
        kind="k",
        submission=name,
        metric="m",
        higher_is_better=True,
        status="complete",
        score=score,
        data_sha256="d",
        created_at=(START + timedelta(minutes=minute)).isoformat(),
    )
    shared = np.random.default_rng(0).normal(0, 0.01, 200)  # the same samples for all, so a paired difference is exact
    return replace(result, **changes), (score + shared if replicates is None else replicates).tolist()


def failed(name, minute=0, **changes):
    result, _ = entry(name, minute=minute)
    return replace(result, **{"status": "failed", "score": None, "error": "broke", **changes}), []


def board(*results):
    return [(row["rank"], row["tie_group"], row["submission"], row["score"]) for row in rank(results)]


def test_identical_entries_share_a_tie_group_and_clearly_different_ones_do_not():
    rows = board(entry("worse", 0.7), entry("one", 0.9), entry("two", 0.9, minute=1))
    assert rows == [(1, 1, "one", 0.9), (2, 1, "two", 0.9), (3, 2, "worse", 0.7)]


def test_differences_within_chance_are_ties_though_scores_differ():
    rng = np.random.default_rng(1)
    apart = [
        entry(name, score, replicates=score + rng.normal(0, 0.02, 500))
        for name, score in (("a", 0.90), ("b", 0.89), ("c", 0.7))
    ]
    assert [row[:3] for row in board(*apart)] == [(1, 1, "a"), (2, 1, "b"), (3, 2, "c")]


def test_a_pair_is_compared_sample_by_sample():
    """A difference far smaller than both intervals is significant where it has the same sign in every resample."""
    a, b = entry("a", 0.900), entry("b", 0.899)
    low, high = interval(a[1])
    assert low < b[0].score < high
    assert difference(a[1], b[1]) == pytest.approx((0.001, 0.001))
    assert [row[1] for row in board(a, b)] == [1, 2]


def test_a_tie_group_is_about_its_best_entry_so_that_ties_do_not_chain():
    rng = np.random.default_rng(2)
    scores = {"a": 0.92, "b": 0.90, "c": 0.88, "d": 0.86}
    close = [entry(name, score, replicates=score + rng.normal(0, 0.01, 500)) for name, score in scores.items()]
    assert [row[1] for row in board(*close)] == [1, 1, 2, 2]


def test_lower_is_better_is_sorted_from_the_lowest():
    losses = [entry(name, score, higher_is_better=False) for name, score in (("b", 2.0), ("a", -1.0), ("c", 30.0))]
    assert [row[2] for row in board(*losses)] == ["a", "b", "c"]
    assert [row[1] for row in board(*losses)] == [1, 2, 3]


def test_entries_that_failed_stand_last_without_a_rank():
    rows = board(failed("broken"), entry("bad", 0.0), failed("also", status="timeout"))
    assert rows == [(1, 1, "bad", 0.0), (None, None, "also", None), (None, None, "broken", None)]


def test_the_newest_complete_result_of_a_submission_stands():
    assert board(entry("a", 0.9, minute=1), entry("a", 0.8, minute=2)) == [(1, 1, "a", 0.8)]
    assert board(failed("a", minute=1), entry("a", 0.8, minute=2)) == [(1, 1, "a", 0.8)]
    newer_failure = board(entry("a", 0.8, minute=1), failed("a", minute=2))
    assert newer_failure == [(1, 1, "a", 0.8), (None, None, "a", None)]


def test_older_versions_and_other_data_are_left_out():
    old = entry("old", 0.9, minute=3, task_version=1)
    new = entry("new", 0.5, minute=1, task_version=2, data_sha256="e")
    assert [row[2] for row in board(old, new)] == ["new"]
    other = entry("other", 0.9, minute=1, data_sha256="before")
    assert [row[2] for row in board(other, entry("now", 0.5, minute=2))] == ["now"]


@given(st.permutations(range(6)))
def test_a_board_does_not_depend_on_the_order_in_which_results_come(order):
    results = [
        entry("a", 0.9, 1),
        entry("b", 0.9, 2),
        entry("a", 0.7, 3),
        failed("c", 4),
        entry("d", 0.8, 5),
        entry("e", 0.1, 0, task_version=0),
    ]
    assert board(*(results[place] for place in order)) == board(*results)


def test_a_board_of_nothing_is_empty():
    assert rank([]) == []

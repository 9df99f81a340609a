"""Scoring: public and private halves, bootstrap draws, and the coverage of intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Data, Forecasting, ImageClassification, Split, Task
from harness.errors import TrialFailed
from harness.scoring import Scorer, bootstrap_samples, public_private_split
from leaderboard.statistics.inference import interval
from leaderboard.statistics.variance import ScoreVariance

keys, blocks = st.text(max_size=8), st.integers(1, 30)


# Hidden parts and draws ------------------------------------------------------------------------------------------------------


@given(st.integers(2, 300), blocks, keys)
def test_public_and_private_are_two_disjoint_halves_that_cover_everything(n, block, key):
    public, private = public_private_split(n, block, key)
    assert sorted([*public, *private]) == list(range(n))
    assert len(public) == n // 2
    for again, before in zip(public_private_split(n, block, key), (public, private), strict=True):
        np.testing.assert_array_equal(again, before)
    if block > 1:  # neighbours overlap, so the halves may touch at one place only
        assert public.max() < private.min()


def test_another_key_has_other_halves_and_other_draws():
    assert not np.array_equal(public_private_split(100, 1, "a")[0], public_private_split(100, 1, "b")[0])
    assert not np.array_equal(next(bootstrap_samples(100, 1, 1, "a")), next(bootstrap_samples(100, 1, 1, "b")))


@given(st.integers(1, 200), blocks, keys)
def test_draws_are_of_whole_blocks_and_the_same_for_the_same_key(n, block, key):
    drawn, again = (np.array(list(bootstrap_samples(n, block, 5, key))) for _ in range(2))
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
    times = np.bincount(np.concatenate(list(bootstrap_samples(n, block, count, "key"))), minlength=n) / count
    # A sample occurs once a draw on average; the variance of its count is at most `block`.
    assert np.abs(times - 1).max() < 4.5 * np.sqrt(block / count)


# Intervals -------------------------------------------------------------------------------------------------------------------


def scorer(kind, metric, test, key=""):
    return Scorer(Task("simulated", kind, lambda: data, metric), data := Data(test, test, test), key)


def test_the_interval_covers_the_true_accuracy_of_19_boards_in_20():
    """Coverage on 200 simulated boards of 200 samples each should be 95 %; its standard error is .015."""
    rng, n, boards = np.random.default_rng(0), 200, 200
    test = Split(np.zeros((n, 1, 1, 1), np.uint8), np.zeros(n, np.int64))
    covered = widths = 0.0
    for board in range(boards):
        accuracy = rng.uniform(0.6, 0.9)
        answer = (rng.random(n) > accuracy).astype(np.int64)
        scored = scorer(ImageClassification(classes=2), "accuracy", test, str(board)).test(answer)
        low, high = interval(scored.score, ScoreVariance(float(scored.replicates.var(ddof=1)), n), proportion=True)
        covered += low <= accuracy <= high
        widths += (high - low) / (2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / n))
    assert 0.9 <= covered / boards <= 0.985
    assert widths / boards == pytest.approx(1, abs=0.05)


def test_the_interval_allows_for_overlapping_windows():
    """Neighbouring windows share most of their horizon: a bootstrap of single windows would give too short intervals."""
    rng, n, horizon, boards = np.random.default_rng(0), 400, 8, 80
    test = Split(np.zeros((n, 20, 1), np.float32), np.zeros((n, horizon, 1), np.float32))
    test.x[:, ::2] = 1  # a history that varies, so that MASE has a scale
    covered = naive = 0
    for board in range(boards):
        noise = rng.normal(size=n + horizon - 1).astype(np.float32)
        answer = np.lib.stride_tricks.sliding_window_view(noise, horizon)[..., None]
        scored = scorer(Forecasting(horizon=horizon), "mse", test, str(board)).test(answer)
        low, high = interval(scored.score, ScoreVariance(float(scored.replicates.var(ddof=1)), n // horizon))
        covered += low <= 1 <= high  # 1: the mean of a squared standard normal
        by_one = [scored.losses[index].mean() for index in bootstrap_samples(n, 1, 200, str(board))]
        low, high = interval(scored.score, ScoreVariance(float(np.var(by_one, ddof=1)), n))
        naive += low <= 1 <= high
    assert covered / boards > 0.85
    assert naive / boards < 0.7


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_scores_of_an_answer_are_consistent(seed):
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

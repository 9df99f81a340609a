"""Metrics: against scikit-learn, against sums done by hand, and for properties that every metric should have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss

from harness import metrics

CLASSES = 4
seeds = st.integers(0, 2**32 - 1)
tokens = arrays(np.int64, (5, 6), elements=st.integers(0, 3))


def classified(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Random probabilities float32 (n, CLASSES), some of them exactly 0, and labels (n,)."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(CLASSES, 0.3), size=n).astype(np.float32)
    return p, rng.integers(0, CLASSES, n)


# Against scikit-learn --------------------------------------------------------------------------------------------------------


@given(seeds)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_classification_metrics_agree_with_scikit_learn(seed):
    p, y = classified(seed)
    said = p.argmax(axis=1)
    assert metrics.accuracy(p, y).mean() == pytest.approx(accuracy_score(y, said))
    assert metrics.balanced_accuracy(p, y) == pytest.approx(balanced_accuracy_score(y, said))
    exact = p.astype(np.float64) / p.astype(np.float64).sum(axis=1, keepdims=True)
    exact = np.maximum(exact, metrics.SMALLEST_PROBABILITY)  # the floor: scikit-learn has a lower one
    expected = sklearn_log_loss(y, exact, labels=range(CLASSES))
    assert metrics.log_loss(p, y, CLASSES).mean() == pytest.approx(expected, rel=1e-6)


@given(seeds)
def test_hard_labels_score_like_certain_probabilities(seed):
    p, y = classified(seed)
    labels = p.argmax(axis=1)
    certain = np.eye(CLASSES, dtype=np.float32)[labels]
    for metric in (metrics.log_loss, metrics.calibration_error):
        np.testing.assert_allclose(metric(labels, y, CLASSES), metric(certain, y, CLASSES))
    assert metrics.balanced_accuracy(labels, y) == metrics.balanced_accuracy(certain, y)


# By hand ---------------------------------------------------------------------------------------------------------------------


def test_balanced_accuracy_by_hand():
    y = np.array([0, 0, 0, 0, 2, 2])  # class 1 does not occur, so it does not count
    assert metrics.balanced_accuracy(np.array([0, 0, 0, 1, 2, 1]), y) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_log_loss_by_hand():
    p = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    costs = metrics.log_loss(p, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(costs, [np.log(2), np.log(4), 34.538776], rtol=1e-6)  # the last is clipped at 1e-15


def test_calibration_error_by_hand():
    # Two answers at confidence .9, one of them right: gap |.5 - .9|; two at .7, both right: gap |1 - .7|; half the answers each.
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    y = np.array([0, 1, 1, 1])
    assert metrics.calibration_error(p, y, 2) == pytest.approx((0.4 + 0.3) / 2)
    assert metrics.calibration_error(np.array([0, 1, 1, 1]), y, 2) == 0.0
    last = np.array([[1.0, 0.0], [0.05, 0.95]])  # certainty shares the last bin, which reaches from 14/15 to 1
    assert metrics.calibration_error(last, np.array([1, 1]), 2) == pytest.approx((1.95 - 1) / 2)


def test_mase_by_hand():
    history = np.array([[[0.0], [2.0], [4.0], [6.0]]])  # moves by 2 a step, by 4 in two
    y, answer = np.array([[[8.0], [10.0]]]), np.array([[[9.0], [13.0]]])  # errors 1 and 3
    assert metrics.scaled_error(answer, y, history, season=1) == pytest.approx([2 / 2])
    assert metrics.scaled_error(answer, y, history, season=2) == pytest.approx([2 / 4])
    flat = np.zeros_like(history)
    assert metrics.scaled_error(answer, y, flat, season=1) == pytest.approx([2.0])


def test_mase_scales_each_variable_by_its_own_history():
    history = np.array([[[0.0, 0.0], [1.0, 100.0], [2.0, 200.0]]])
    y = np.zeros((1, 1, 2))
    assert metrics.scaled_error(np.array([[[1.0, 100.0]]]), y, history, season=1) == pytest.approx([1.0])


def test_seasonal_naive_forecast_has_mase_one_on_its_own_history():
    series = np.random.default_rng(0).normal(size=(1, 40, 3))
    naive, truth = series[:, :-7], series[:, 7:]
    assert metrics.scaled_error(naive, truth, series, season=7) == pytest.approx([1.0])


def test_errors_by_hand():
    y, answer = np.array([[[1.0], [2.0]]]), np.array([[[2.0], [5.0]]], dtype=np.float32)
    assert metrics.squared_error(answer, y) == pytest.approx([(1 + 9) / 2])
    assert metrics.absolute_error(answer, y) == pytest.approx([(1 + 3) / 2])


def test_token_nats_by_hand():
    with np.errstate(divide="ignore"):
        answer = np.log(np.array([[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.0, 1.0]]], dtype=np.float32))
    costs = metrics.token_nats(answer, np.array([[0, 0], [0, 0]]))
    np.testing.assert_allclose(costs, [(np.log(2) + np.log(4)) / 2, 34.538776 / 2], rtol=1e-6)


def test_exact_match_and_token_accuracy_by_hand():
    y = np.array([[1, 2, 0, 0], [1, 2, 3, 0], [0, 0, 0, 0]])
    answer = np.array([[1, 2, 0, 0], [1, 3, 3, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(metrics.exact_match(answer, y), [1, 0, 1])
    np.testing.assert_allclose(metrics.token_accuracy(answer, y, pad=0), [1, 2 / 4, 1])
    late = np.array([[1, 2, 0, 1]])  # right but for one letter too many: padding counts against it
    assert metrics.token_accuracy(late, y[:1], pad=0) == pytest.approx([2 / 3])


# Properties ------------------------------------------------------------------------------------------------------------------


@given(seeds)
def test_classification_metrics_do_not_depend_on_the_order_of_samples(seed):
    p, y = classified(seed)
    order = np.random.default_rng(seed).permutation(len(y))
    for metric in (metrics.accuracy, metrics.balanced_accuracy):
        assert np.mean(metric(p[order], y[order])) == pytest.approx(np.mean(metric(p, y)))
    for of_classes in (metrics.log_loss, metrics.calibration_error):
        assert np.mean(of_classes(p[order], y[order], CLASSES)) == pytest.approx(np.mean(of_classes(p, y, CLASSES)))


@given(seeds)
def test_classification_metrics_stay_within_their_bounds(seed):
    p, y = classified(seed)
    assert 0 <= metrics.balanced_accuracy(p, y) <= 1
    assert 0 <= metrics.calibration_error(p, y, CLASSES) <= 1
    assert set(metrics.accuracy(p, y)) <= {0.0, 1.0}
    costs = metrics.log_loss(p, y, CLASSES)
    assert (costs >= 0).all() and (costs <= -np.log(metrics.SMALLEST_PROBABILITY) + 1e-9).all()


@given(arrays(np.int64, 20, elements=st.integers(0, CLASSES - 1)))
def test_perfect_classification(y):
    for answer in (y, np.eye(CLASSES, dtype=np.float32)[y]):
        assert metrics.accuracy(answer, y).all()
        assert metrics.balanced_accuracy(answer, y) == 1
        assert metrics.log_loss(answer, y, CLASSES) == pytest.approx(0)
        assert metrics.calibration_error(answer, y, CLASSES) == pytest.approx(0)


@given(seeds, st.floats(0.1, 10))
def test_mase_does_not_depend_on_the_unit(seed, unit):
    rng = np.random.default_rng(seed)
    answer, y, history = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3, 2)), rng.normal(size=(2, 9, 2))
    plain = metrics.scaled_error(answer, y, history, season=2)
    np.testing.assert_allclose(
        metrics.scaled_error(answer * unit, y * unit, history * unit, season=2), plain, rtol=1e-9
    )
    np.testing.assert_array_equal(metrics.scaled_error(y, y, history, season=2), 0)


@given(seeds)
def test_squared_error_is_never_less_than_absolute_error_squared(seed):
    answer, y = np.random.default_rng(seed).normal(size=(2, 5, 4, 3))
    assert (metrics.squared_error(answer, y) >= metrics.absolute_error(answer, y) ** 2 - 1e-12).all()


@given(tokens, tokens, st.integers(0, 3))
def test_token_metrics_agree_on_a_perfect_answer(answer, y, pad):
    shares, matches = metrics.token_accuracy(answer, y, pad), metrics.exact_match(answer, y)
    assert (shares >= 0).all() and (shares <= 1).all()
    np.testing.assert_array_equal(shares == 1, matches == 1)
    np.testing.assert_array_equal(metrics.token_accuracy(y, answer, pad), shares)


@given(tokens, tokens)
def test_padding_that_both_have_changes_no_token_accuracy(answer, y):
    longer = ((0, 0), (0, 3))
    padded = metrics.token_accuracy(np.pad(answer, longer), np.pad(y, longer), pad=0)
    np.testing.assert_allclose(padded, metrics.token_accuracy(answer, y, pad=0))

"""Scores of generated images, and the feature networks behind them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import Split
from harness.kinds import features
from harness.plugins.registry import find_task

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def drawn():
    """Kind and data of digit-images, and a function that scores images as answers to test.x with every metric."""
    task = find_task("digit-images").task
    data = task.load()
    task.kind.check(data)

    def scored(answer, split=data.test):
        measures = task.kind.measure(answer, split, data.train)
        return {name: measure.of(np.arange(len(split))) for name, measure in measures.items()}

    return data, scored


def noise_like(images):
    return np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)


def test_noise_is_worse_than_other_real_images_in_every_score(drawn):
    data, scored = drawn
    real = scored(data.train.labels[: len(data.test)])
    noise = scored(noise_like(data.test.labels))
    assert real["frechet_distance"] < noise["frechet_distance"] / 10
    assert real["kernel_distance"] < noise["kernel_distance"] / 10
    for share in ("precision", "recall"):
        assert noise[share] < 0.3
        assert real[share] > 0.6


def test_the_truth_itself_is_at_no_distance(drawn):
    data, scored = drawn
    truth = scored(data.test.labels)
    assert truth["frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert truth["kernel_distance"] == pytest.approx(0, abs=1e-3)
    assert truth["precision"] == truth["recall"] == 1


def test_memorisation_is_one_for_copies_and_a_twentieth_for_held_out_images(drawn):
    data, scored = drawn
    assert scored(data.train.labels[: len(data.test)])["memorisation"] == 1
    assert scored(data.test.labels)["memorisation"] == pytest.approx(0.05, abs=0.005)
    assert scored(data.valid.labels, data.valid)["memorisation"] == pytest.approx(0.05, abs=0.005)
    apart = Split(data.test.x[: len(data.valid)], data.test.labels[: len(data.valid)])
    assert scored(data.valid.labels, apart)["memorisation"] == pytest.approx(0.05, abs=0.05)
    assert scored(noise_like(data.test.labels))["memorisation"] == 0


def test_a_collapsed_answer_has_precision_and_no_recall(drawn):
    data, scored = drawn
    collapsed = scored(data.test.labels[np.arange(len(data.test)) % 3])
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.1
    one_class = data.test.labels[data.test.x == 0]
    some = scored(one_class[np.arange(len(data.test)) % len(one_class)])
    assert some["recall"] < 0.3
    assert some["frechet_distance"] > 2 * scored(data.train.labels[: len(data.test)])["frechet_distance"]


def test_the_references_frame_the_scores(drawn):
    data, scored = drawn
    kind = find_task("digit-images").task.kind
    figures = kind.references(data)
    assert 0 < figures["frechet_distance_floor"] < figures["frechet_distance_noise"] / 10
    noise = scored(noise_like(data.test.labels))["frechet_distance"]
    assert figures["frechet_distance_noise"] == pytest.approx(noise, rel=0.1)


def test_kernel_distance_is_the_unbiased_estimator_on_any_resample(drawn):
    """Equal to the textbook sums over a ≠ b, on distinct samples and with one drawn twice."""
    data, _ = drawn
    kind = find_task("digit-images").task.kind
    answer = noise_like(data.test.labels)
    measure = kind.measure(answer, data.test, data.train)["kernel_distance"]
    fake, real = (features.extract(side, "digits-v1").astype(np.float64) for side in (answer, data.test.labels))
    for index in (np.arange(40), np.random.default_rng(0).choice(len(real), 60, replace=False)):
        a, b, n = fake[index], real[index], len(index)
        aa, bb, ab = ((u @ v.T / u.shape[1] + 1) ** 3 for u, v in ((a, a), (b, b), (a, b)))
        off = ~np.eye(n, dtype=bool)
        assert measure.of(index) == pytest.approx((aa + bb - ab - ab.T)[off].mean(), rel=1e-4)


@pytest.mark.parametrize("name", features.NETWORKS)
def test_the_numpy_network_computes_what_torch_does(name):
    torch = pytest.importorskip("torch")
    from harness.kinds.weights import train

    side, channels = features.NETWORKS[name].side, features.NETWORKS[name].channels
    some = np.random.default_rng(0).integers(
        0, 256, (features.IMAGES_PER_BATCH + 3, side, side, channels), dtype=np.uint8
    )
    with torch.no_grad():
        expected = train.frozen(name)(train.tensor(some)).numpy()
    found = features.extract(some, name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@given(seeds)
def test_features_of_an_image_do_not_depend_on_the_others(seed):
    some = np.random.default_rng(seed).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    for name in ("digits-v1", "pixels"):
        batch = features.extract(some, name)
        alone = features.extract(some[2:3], name)
        np.testing.assert_allclose(alone[0], batch[2], rtol=1e-4, atol=1e-4)


def test_pixels_keep_the_mean_of_an_image():
    some = np.random.default_rng(0).integers(0, 256, (4, 24, 16, 3), dtype=np.uint8)
    found = features.pixels(some)
    assert found.shape == (4, 8 * 8 * 3)
    np.testing.assert_allclose(found.mean(axis=1), some.mean(axis=(1, 2, 3)) / 255, rtol=1e-5)

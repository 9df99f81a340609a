"""Kinds: valid and invalid data, valid and invalid answers, and the detection of lookahead."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import (
    Data,
    DataError,
    Forecasting,
    ImageClassification,
    ImageGeneration,
    InvalidPrediction,
    NextToken,
    SequenceClassification,
    Split,
    Transduction,
)

ROWS = {"train": 12, "valid": 6, "test": 8}
seeds = st.integers(0, 2**32 - 1)


def made(x, y):
    """Make data with splits of x(rng, n) and y(rng, n)."""
    rng = np.random.default_rng(0)
    return Data(*(Split(x(rng, n), y(rng, n)) for n in ROWS.values()))


def labels(classes):
    return lambda rng, n: rng.integers(0, classes, n)


def images(*shape):
    return lambda rng, n: rng.integers(0, 256, (n, *shape), dtype=np.uint8)


def series(*shape):
    return lambda rng, n: rng.normal(size=(n, *shape)).astype(np.float32)


def tokens(vocabulary, *shape):
    return lambda rng, n: rng.integers(0, vocabulary, (n, *shape))


def text(vocabulary=5, length=7):
    rng = np.random.default_rng(0)
    running = (rng.integers(0, vocabulary, (n, length + 1)) for n in ROWS.values())
    return Data(*(Split(chunk[:, :-1], chunk[:, 1:]) for chunk in running))


GOOD = {
    "image-classification": (ImageClassification(classes=3), made(images(4, 5, 1), labels(3))),
    "sequence-classification": (SequenceClassification(classes=3), made(series(6, 2), labels(3))),
    "forecasting": (Forecasting(horizon=3, season=4), made(series(8, 2), series(3, 2))),
    "next-token": (NextToken(vocabulary=5), text()),
    "transduction": (Transduction(vocabulary=4, length=3, source_vocabulary=6), made(tokens(6, 5), tokens(4, 3))),
    "transduction of images": (Transduction(vocabulary=4, length=3), made(images(4, 4, 1), tokens(4, 3))),
    "image-generation": (ImageGeneration(8, 8, 1, classes=3, features="digits-v1"), made(labels(3), images(8, 8, 1))),
}


def answers(kind, x):
    """Yield a valid answer in each output format of a kind."""
    rng = np.random.default_rng(1)
    for form in kind.output_specs(x):
        if form.name == "probabilities":
            yield rng.dirichlet(np.ones(form.shape[-1]), form.shape[:-1]).astype(form.dtype)
        elif form.name == "log-probabilities":
            yield np.log(rng.dirichlet(np.ones(form.shape[-1]), form.shape[:-1])).astype(form.dtype)
        elif form.dtype == "uint8":
            yield rng.integers(0, 256, form.shape, dtype=np.uint8)
        else:
            low, high = (0, 3) if np.dtype(form.dtype).kind == "i" else (-2, 2)
            yield rng.uniform(low, high, form.shape).astype(form.dtype)


# Data ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_good_data_and_good_answers_are_accepted(name):
    kind, data = GOOD[name]
    kind.check(data)
    for answer in answers(kind, data.test.x):
        kind.verify(answer, data.test.x)
        measures = kind.measure(answer, data.test, data.train)
        assert set(measures) == {metric.name for metric in kind.metrics}
        assert math.isfinite(measures[kind.metrics[0].name].of(np.arange(len(data.test))))


def changed(name, part="train", x=None, y=None):
    """Apply a function to x or y of one split of a kind's good data."""
    _, data = GOOD[name]
    split = getattr(data, part)
    return replace(data, **{part: Split(x(split.x) if x else split.x, y(split.labels) if y else split.labels)})


def put(value):
    """Make a function that copies an array and sets its last element."""

    def function(array):
        array = array.copy()
        array.flat[-1] = value
        return array

    return function


def as_float(array):
    return array.astype(np.float32)


BAD = {
    "images without channels": ("image-classification", {"x": lambda x: x[..., 0]}, "train.x should be"),
    "images as floats": ("image-classification", {"x": as_float}, "float32"),
    "test images of another size": (
        "image-classification",
        {"part": "test", "x": lambda x: x[:, 1:]},
        "test.x should be",
    ),
    "labels one-hot": ("image-classification", {"y": lambda y: np.eye(3, dtype=np.int64)[y]}, "train.y should be"),
    "labels as floats": ("image-classification", {"y": as_float}, "float32"),
    "a label too high": ("image-classification", {"part": "valid", "y": put(3)}, "valid.y should lie in 0..2"),
    "a negative label": ("image-classification", {"part": "test", "y": put(-1)}, "test.y should lie in 0..2"),
    "sequences without variables": ("sequence-classification", {"x": lambda x: x[..., 0]}, "train.x should be"),
    "sequences of whole numbers": ("sequence-classification", {"x": lambda x: x.astype(np.int64)}, "int64"),
    "a class too high": ("sequence-classification", {"y": put(7)}, "train.y should lie in 0..2; they span 0..7"),
    "series without variables": ("forecasting", {"x": lambda x: x[..., 0]}, "train.x should be"),
    "targets of another horizon": (
        "forecasting",
        {"part": "test", "y": lambda y: y[:, 1:]},
        "test.y should be float (n, 3, 2)",
    ),
    "series with a NaN": (
        "forecasting",
        {"part": "valid", "x": put(np.nan)},
        "valid.x holds values that are not finite",
    ),
    "targets with infinity": ("forecasting", {"y": put(np.inf)}, "train.y holds values that are not finite"),
    "tokens as floats": ("next-token", {"x": as_float}, "float32"),
    "a token too high": ("next-token", {"y": put(5)}, "train.y should lie in 0..4"),
    "targets not shifted": (
        "next-token",
        {"part": "test", "y": lambda y: np.roll(y, 1, axis=1)},
        "moved by one position",
    ),
    "test chunks shorter": (
        "next-token",
        {"part": "test", "x": lambda x: x[:, 1:], "y": lambda y: y[:, 1:]},
        "test.x should be integer (n, 7)",
    ),
    "source token too high": ("transduction", {"x": put(6)}, "train.x should lie in 0..5"),
    "target token too high": ("transduction", {"part": "test", "y": put(4)}, "test.y should lie in 0..3"),
    "targets too short": ("transduction", {"y": lambda y: y[:, :2]}, "train.y should be integer (n, 3)"),
    "source images as floats": ("transduction of images", {"x": as_float}, "float32"),
    "class wanted too high": ("image-generation", {"x": put(3)}, "train.x should lie in 0..2"),
    "real images as floats": ("image-generation", {"y": as_float}, "float32"),
    "real images of another size": ("image-generation", {"part": "test", "y": lambda y: y[:, :7]}, "(n, 8, 8, 1)"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_data_is_refused_with_a_line_about_the_input(what):
    name, change, says = BAD[what]
    with pytest.raises(DataError) as refused:
        GOOD[name][0].check(changed(name, **change))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ROWS)
@pytest.mark.parametrize("name", GOOD)
def test_an_empty_split_is_refused(name, part):
    with pytest.raises(DataError, match=f"the {part} split is empty"):
        GOOD[name][0].check(changed(name, part, x=lambda x: x[:0], y=lambda y: y[:0]))


def test_a_season_as_long_as_the_look_back_is_refused():
    with pytest.raises(DataError, match=r"look-back \(8 steps\) should be longer than the season \(8\)"):
        Forecasting(horizon=3, season=8).check(GOOD["forecasting"][1])


def test_features_that_do_not_fit_the_images_are_refused():
    data = made(labels(3), images(9, 9, 1))
    with pytest.raises(DataError, match="digits-v1"):
        ImageGeneration(9, 9, 1, classes=3, features="digits-v1").check(data)
    with pytest.raises(DataError, match="no-such"):
        ImageGeneration(9, 9, 1, classes=3, features="no-such").check(data)
    ImageGeneration(9, 9, 1, classes=3, features="pixels").check(data)


def test_a_split_needs_as_many_targets_as_inputs():
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        Split(np.zeros(3), np.zeros(2))


# Answers ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image-classification", "sequence-classification"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -0.5, 0.5 + 1e9])
def test_invalid_probabilities_are_refused(name, wrong):
    kind, data = GOOD[name]
    answer, _ = answers(kind, data.test.x)
    with pytest.raises(InvalidPrediction):
        kind.verify(put(wrong)(answer), data.test.x)


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.0])
def test_rows_that_do_not_sum_to_one_are_refused(factor):
    kind, data = GOOD["image-classification"]
    answer, _ = answers(kind, data.test.x)
    answer[3] *= factor
    with pytest.raises(InvalidPrediction, match="should sum to 1"):
        kind.verify(answer, data.test.x)


def test_negative_probabilities_are_refused_though_their_row_sums_to_one():
    kind, data = GOOD["image-classification"]
    answer, _ = answers(kind, data.test.x)
    answer[0] = (1.5, -0.5, 0.0)
    with pytest.raises(InvalidPrediction, match="negative"):
        kind.verify(answer, data.test.x)


@pytest.mark.parametrize("label", [-1, 3, np.iinfo(np.int64).min])
def test_labels_out_of_range_are_refused(label):
    kind, data = GOOD["image-classification"]
    with pytest.raises(InvalidPrediction, match=r"0\.\.2"):
        kind.verify(put(label)(np.zeros(8, dtype=np.int64)), data.test.x)


@pytest.mark.parametrize("token", [-1, 4])
def test_tokens_out_of_range_are_refused(token):
    kind, data = GOOD["transduction"]
    with pytest.raises(InvalidPrediction, match=r"0\.\.3"):
        kind.verify(put(token)(np.zeros((8, 3), dtype=np.int64)), data.test.x)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_forecasts_that_are_not_finite_are_refused(wrong):
    kind, data = GOOD["forecasting"]
    with pytest.raises(InvalidPrediction, match="1 values that are not finite"):
        kind.verify(put(wrong)(np.zeros((8, 3, 2), dtype=np.float32)), data.test.x)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.0])
def test_invalid_log_probabilities_are_refused(wrong):
    kind, data = GOOD["next-token"]
    (answer,) = answers(kind, data.test.x)
    with pytest.raises(InvalidPrediction):
        kind.verify(put(wrong)(answer), data.test.x)


def test_a_log_probability_of_minus_infinity_is_a_certainty_and_valid():
    kind, data = GOOD["next-token"]
    with np.errstate(divide="ignore"):
        answer = np.log(np.eye(5, dtype=np.float32))[data.test.labels]
    kind.verify(answer, data.test.x)
    assert kind.measure(answer, data.test, data.train)["nats"].of(np.arange(8)) == 0


# Measures --------------------------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, ROWS["test"] - 1), min_size=2, max_size=20))
def test_a_measure_of_some_samples_is_the_mean_of_their_values(name, index):
    kind, data = GOOD[name]
    index = np.array(index)
    for answer in answers(kind, data.test.x):
        for measure in kind.measure(answer, data.test, data.train).values():
            if measure.values is not None:
                assert measure.values.shape == (len(data.test),)
                assert measure.of(index) == pytest.approx(measure.values[index].mean())


@given(seeds, st.integers(1, 40))
def test_the_default_query_is_a_permutation_that_is_read_back_in_order(seed, n):
    x = np.arange(3 * n).reshape(n, 3)
    (asked,), read = GOOD["image-classification"][0].queries(x, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(asked, axis=0), x)
    np.testing.assert_array_equal(read([asked]), x)


def replies(model, queries):
    """Answers of a model to queries, each in a process that remembers nothing but the steps of its own query."""
    return [
        model(query) if isinstance(query, np.ndarray) else [np.asarray(model(step)) for step in query]
        for query in queries
    ]


def windows_of(n=200, lookback=12, horizon=4):
    """Stride-1 windows of a random walk: later windows hold the future of earlier ones."""
    walk = np.random.default_rng(0).normal(size=(n + lookback + horizon, 2)).cumsum(axis=0).astype(np.float32)
    return np.stack([walk[start : start + lookback] for start in range(n)]), Forecasting(horizon=horizon)


def forecast_of_last(x, horizon=4):
    return np.repeat(x[:, -1:], horizon, axis=1)


def forecast_looked_up(x, horizon=4):
    """Forecast by lookup: find the window that continues this one and copy its end."""
    answer = forecast_of_last(x, horizon)
    where = {row[-1 - horizon].tobytes(): place for place, row in enumerate(x)}
    for place, row in enumerate(x):
        later = where.get(row[-1].tobytes())
        if later is not None:
            answer[place] = x[later, -horizon:]
    return answer


@pytest.mark.parametrize("seed", range(5))
def test_a_forecast_copied_from_other_windows_is_refused(seed):
    x, kind = windows_of()
    questions, read = kind.queries(x, np.random.default_rng(seed))
    np.testing.assert_array_equal(read(replies(forecast_of_last, questions)), forecast_of_last(x))
    with pytest.raises(InvalidPrediction, match="depends on other windows"):
        read(replies(forecast_looked_up, questions))


class RemembersSteps:
    """Forecaster that looks ahead in all windows that its process has seen so far, for one window in five."""

    def __init__(self, salt, all_windows):
        self.salt, self.all_windows, self.seen = salt, all_windows, []

    def __call__(self, x):
        self.seen += list(x)
        answer = forecast_of_last(x)
        rng = np.random.default_rng(self.salt)
        chosen = {
            row[-1].tobytes() for row in sorted(self.all_windows, key=lambda row: row.tobytes()) if rng.random() < 0.2
        }
        where = {row[-5].tobytes(): row for row in self.seen}
        for place, row in enumerate(x):
            later = where.get(row[-1].tobytes())
            if later is not None and row[-1].tobytes() in chosen:
                answer[place] = later[-4:]
        return answer


def test_looking_ahead_for_a_fifth_of_fifty_windows_is_refused_in_99_of_100_runs():
    """The second process is asked window by window, the oldest first: what it remembers never holds a window's future."""
    x, kind = windows_of(n=50)
    refused = 0
    for seed in range(300):
        queries, read = kind.queries(x, np.random.default_rng(seed))
        answers = []
        for query in queries:  # a process of its own for each
            answers += replies(RemembersSteps(seed % 7, x), [query])
        try:
            read(answers)
        except InvalidPrediction:
            refused += 1
    assert refused >= 297


def test_forecasts_may_differ_by_rounding_whatever_the_level_of_the_series():
    x, kind = windows_of()
    for level in (0.0, 1e3, 1e6):
        queries, read = kind.queries((x + level).astype(np.float32), np.random.default_rng(0))
        true = [forecast_of_last(query) for query in queries[:1]]
        again = [[np.nextafter(forecast_of_last(step), np.float32(np.inf)) for step in queries[1]]]
        read(true + again)
    queries, read = kind.queries((x + 1e3).astype(np.float32), np.random.default_rng(0))
    moved = [[forecast_of_last(step) + 0.3 for step in queries[1]]]  # small beside the level, large beside the changes
    with pytest.raises(InvalidPrediction, match="depends on other windows"):
        read([forecast_of_last(queries[0]), *moved])


# Causality -------------------------------------------------------------------------------------------------------------------

VOCABULARY, LENGTH = 6, 24
READER = NextToken(vocabulary=VOCABULARY)


def distributions(scores):
    """Convert scores (n, t, VOCABULARY) to float32 log-probabilities."""
    return (scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))).astype(np.float32)


def honest(x):
    """Honest model: token counts up to and including each position."""
    return distributions(np.log(1 + np.eye(VOCABULARY)[x].cumsum(axis=1)))


def peeking(x):
    """Honest model with the next token added."""
    following = np.roll(x, -1, axis=1)
    return distributions(np.log(1 + np.eye(VOCABULARY)[x].cumsum(axis=1)) + 5 * np.eye(VOCABULARY)[following])


def seldom_peeking(x):
    """Model that uses the next token at one position in eight."""
    answer = honest(x)
    answer[:, ::8] = peeking(x)[:, ::8]
    return answer


def averaging(x):
    """Model that pools the next position over all rows: it looks ahead in other rows."""
    ahead = np.eye(VOCABULARY)[np.roll(x, -1, axis=1)].mean(axis=0)
    return distributions(np.broadcast_to(np.log(ahead + 0.1), (*x.shape, VOCABULARY)))


def rolling(x):
    """Honest model of the row before: it does not see the future, but depends on the order of rows."""
    return honest(np.roll(x, 1, axis=0))


def noisy(x):
    """Honest model with dropout left on."""
    return distributions(honest(x) + np.random.default_rng().normal(0, 0.1, (*x.shape, VOCABULARY)))


def copying(x):
    """Find the row with the longest common prefix; copy the continuation in this row, except for the last common token.

    If true chunks and altered copies came in one query, such pairs would reveal the place of the cut.
    """
    answer = peeking(x)
    fair = honest(x)
    for row, same in enumerate((x[:, None] == x[None]).cumprod(axis=2).sum(axis=2)):
        same[row] = 0
        cuts = same[same > 0] - 1
        answer[row, cuts] = fair[row, cuts]
    return answer


def asked(model, seed=0, n=200):
    x = np.random.default_rng(seed).integers(0, VOCABULARY, (n, LENGTH))
    questions, read = READER.queries(x, np.random.default_rng(seed + 1))
    assert questions[0].shape == x.shape and all(step.shape == x.shape for step in questions[1])
    return x, read(replies(model, questions))


@given(seeds)
def test_an_honest_model_is_read_back_as_it_answered(seed):
    x, answer = asked(honest, seed % 1000, n=1 + seed % 150)
    np.testing.assert_array_equal(answer, honest(x))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("model", [peeking, seldom_peeking, rolling, noisy])
def test_lookahead_leaks_between_rows_and_randomness_are_refused(model, seed):
    with pytest.raises(InvalidPrediction, match="predictions depend on tokens that come later"):
        asked(model, seed)


def test_looking_ahead_for_a_fifth_of_the_tokens_is_refused_in_99_of_100_runs():
    for n in (50, 10):
        refused = 0
        for seed in range(200):
            chosen = np.isin(
                np.arange(LENGTH), np.random.default_rng(seed).choice(LENGTH - 1, LENGTH // 5 + 1, replace=False)
            )

            def at_a_fifth(x, chosen=chosen):
                return np.where(chosen[:, None], peeking(x), honest(x))

            try:
                asked(at_a_fifth, seed, n)
            except InvalidPrediction:
                refused += 1
        assert refused >= 198, f"{refused} of 200 with {n} chunks"


@pytest.mark.parametrize("model", [copying, averaging])
def test_a_model_that_pairs_chunks_with_their_copies_or_pools_all_rows_is_refused(model):
    with pytest.raises(InvalidPrediction):
        asked(model)


def test_a_difference_below_the_smallest_probability_is_none():
    def certain(x):
        """Predict the last token again, with a certainty that varies from call to call below the precision of the check."""
        answer = np.full((*x.shape, VOCABULARY), -1e3, dtype=np.float32)
        answer += np.asarray(np.random.default_rng().normal(0, 10, answer.shape), dtype=np.float32)
        np.put_along_axis(answer, x[..., None], 0, axis=2)
        return answer

    asked(certain)

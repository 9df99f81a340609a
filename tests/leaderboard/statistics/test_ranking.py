"""Ranking: intervals and tests against known answers, and the selection and order of rows on a board."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from leaderboard import Result, StoreError, rank
from leaderboard.statistics import student_t
from leaderboard.statistics.compare import compare
from leaderboard.statistics.inference import Pairs, interval, inverse_trigamma, moderate_variances, seed_variances
from leaderboard.statistics.variance import ScoreVariance, quantile
from leaderboard.tables import render

DRAWS = 1000


# Against known answers -------------------------------------------------------------------------------------------------------


def resampled(rng, n, draws=DRAWS):
    """Draw bootstrap weights (draws, n): the count of each of n samples in each draw."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32) / n


def classifiers(rng, n, seeds, accuracy=0.9, seed_effect=0.0, of=1):
    """Draw right or wrong (entries, seeds, samples); samples differ in difficulty, seeds in quality."""
    hardness, own = rng.normal(size=(1, 1, n)), 0.6 * rng.normal(size=(of, seeds, n))
    luck = seed_effect * rng.normal(size=(of, seeds, 1))
    return (hardness + own + luck < stats.norm.ppf(accuracy) * np.sqrt(1.36 + seed_effect**2)).astype(np.float64)


def forecasters(rng, n, seeds, seed_effect=0.0, of=1):
    """Draw skewed losses (entries, seeds, samples) of mean 1."""
    hardness, own = 0.7 * rng.normal(size=(1, 1, n)), 0.2 * rng.normal(size=(of, seeds, n))
    return np.exp(hardness + own - 0.265) * (1 + seed_effect * rng.normal(size=(of, seeds, 1)))


def spread_of(values, weights):
    """Compute replicates and spread of per-sample values (seeds, samples)."""
    replicates = weights @ values.mean(axis=0)
    sampling = replicates.var(ddof=1) * values.shape[1] / (values.shape[1] - 1)
    return replicates, ScoreVariance(float(sampling), values.shape[1], *seed_variances(values), max(len(values) - 1, 1))


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_intervals_cover_the_truth_on_19_boards_in_20(seeds):
    """Coverage on 2,000 boards each: easy and hard, proportions and losses, with large, small and no effects of seeds."""
    rng, boards, covered = np.random.default_rng(seeds), 2000, 0
    weights = {n: resampled(rng, n) for n in (300, 1000)}
    for board in range(boards):
        n, effect = (300, 1000)[board % 2], 0.0 if seeds == 1 else (0.0, 0.03, 0.1)[board % 3]
        proportion = board % 4 < 2
        truth = (0.97, 0.8)[board % 2] if proportion else 1.0
        made = classifiers(rng, n, seeds, truth, effect) if proportion else forecasters(rng, n, seeds, effect)
        low, high = interval(float(made[0].mean()), spread_of(made[0], weights[n])[1], proportion=proportion)
        covered += low <= truth <= high
    assert 0.94 <= covered / boards <= 0.96


@pytest.mark.parametrize("entries", [2, 20])
@pytest.mark.parametrize("effect", [0.0, 0.3])
def test_identical_entries_are_tied_on_19_boards_in_20(entries, effect):
    """Family-wise rate of false separations; its standard error with 300 boards is .013."""
    rng, boards, apart = np.random.default_rng(0), 300, 0
    weights = resampled(rng, 400)
    for _ in range(boards):
        made = classifiers(rng, 400, 3, seed_effect=effect, of=entries)
        replicates, spreads = zip(*(spread_of(values, weights) for values in made), strict=True)
        apart += Pairs(made.mean(axis=(1, 2)), np.array(replicates), spreads).significant_pairs().any()
    assert apart / boards <= 0.05 + 2 * 0.013


def test_entries_that_differ_are_separated():
    rng = np.random.default_rng(0)
    made = np.concatenate([classifiers(rng, 2000, 3, accuracy) for accuracy in (0.95, 0.9, 0.8)])
    replicates, spreads = zip(*(spread_of(values, resampled(rng, 2000)) for values in made), strict=True)
    assert Pairs(made.mean(axis=(1, 2)), np.array(replicates), spreads).significant_pairs().sum() == 6


def test_large_boards_are_compared_in_full_precision():
    """In single precision, scores near a million could not be separated by less than .06."""
    rng, count = np.random.default_rng(0), 250
    replicates = 1e-4 * rng.normal(size=(count, DRAWS))
    scores = 1e6 + 0.01 * np.arange(count)
    assert Pairs(scores, replicates, [ScoreVariance(1e-8, 1000)] * count).significant_pairs().sum() == count * (
        count - 1
    )


def test_one_seed_each_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 60)) + rng.normal(size=60) + [[0.0], [0.1], [0.3], [0.5]]
    weights = resampled(rng, 60, draws=200_000).astype(np.float64)
    replicates, spreads = zip(*(spread_of(own[None], weights) for own in values), strict=True)
    pairs = Pairs(values.mean(axis=1), np.array(replicates), spreads)
    first, second = np.triu_indices(4, 1)
    theirs = [stats.ttest_rel(values[a], values[b]) for a, b in zip(first, second)]
    ours = [pairs.p_value(a, b) for a, b in zip(first, second)]
    assert np.log(ours) == pytest.approx(np.log([one.pvalue for one in theirs]), rel=0.02, abs=0.01)
    half = [np.subtract(*one.confidence_interval()[::-1]) / 2 for one in theirs]
    assert pairs.critical_difference(0.05, first, second) == pytest.approx(half, rel=0.01)
    assert pairs.significant_pairs()[first, second].tolist() == multipletests(ours, method="holm")[0].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_separation_is_holms(seed):
    """Separation is Holm's method, on boards with seeds and differences of every size."""
    rng = np.random.default_rng(seed)
    made = forecasters(rng, 100, 3, 0.02, of=6) * (1 + rng.exponential(0.1) * np.arange(6)[:, None, None])
    replicates, spreads = zip(*(spread_of(values, resampled(rng, 100)) for values in made), strict=True)
    pairs = Pairs(made.mean(axis=(1, 2)), np.array(replicates), spreads)
    first, second = np.triu_indices(6, 1)
    ours = [pairs.p_value(a, b) for a, b in zip(first, second)]
    assert pairs.significant_pairs()[first, second].tolist() == multipletests(ours, method="holm")[0].tolist()


def test_the_variance_that_seeds_bring_is_that_of_an_analysis_of_variance():
    """Equal to statsmodels' mean squares on a layout of seeds by samples."""
    import pandas as pd
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(0)
    values = forecasters(rng, 40, 4, 0.1)[0]
    frame = pd.DataFrame(
        [(s, i, values[s, i]) for s in range(4) for i in range(40)], columns=["seed", "sample", "loss"]
    )
    table = anova_lm(smf.ols("loss ~ C(seed) + C(sample)", frame).fit())
    between, interaction = seed_variances(values)
    assert between == pytest.approx(table.mean_sq["C(seed)"] / 160)
    assert interaction == pytest.approx(table.mean_sq["Residual"] / 160)


def test_neighbours_that_overlap_are_counted_once():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(3, 50))
    assert seed_variances(np.repeat(independent, 4, axis=1), block=4) == pytest.approx(seed_variances(independent))


def test_entries_share_the_seed_variance_of_their_board():
    rng = np.random.default_rng(0)
    same, freedom = rng.chisquare(2, 200) / 2, np.full(200, 2.0)
    drawn, _ = moderate_variances(same, freedom)
    assert np.std(drawn) < 0.2 * np.std(same)
    assert np.mean(drawn) == pytest.approx(1, abs=0.15)
    mixed = same * 10.0 ** rng.uniform(-4, 4, 200)
    apart, known = moderate_variances(mixed, freedom)
    assert known.max() < 3, "entries that have little in common lend little"
    assert np.corrcoef(np.log(mixed), np.log(apart))[0, 1] > 0.95
    few = moderate_variances(same[:3], freedom[:3])
    assert (few[0] == same[:3]).all() and (few[1] == 2).all(), "too few to tell"
    still, own = moderate_variances(np.append(same, 0.0), np.append(freedom, 1.0))
    assert (still[-1], own[-1]) == (0, 1), "seeds make no difference to it"


@given(st.floats(1e-3, 1e3))
def test_trigamma_is_inverted(x):
    from scipy.special import polygamma

    assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


@given(st.integers(0, 50), st.integers(1, 50))
def test_a_proportion_of_independent_samples_has_wilsons_interval(right, more):
    """Equal to scipy's interval with Student's t in place of the normal quantile, which matters only for few samples."""
    n = right + more
    score = right / n
    theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
    normal = interval(score, ScoreVariance(score * (1 - score) / n, 10**6 if 0 < right < n else n), proportion=True)
    if 0 < right < n:
        assert normal == pytest.approx((theirs.low, theirs.high), abs=1e-4)
    assert 0 <= normal[0] <= score <= normal[1] <= 1


@settings(max_examples=300, deadline=None)
@given(st.floats(1, 1e6), st.floats(-90, -0.001))
def test_quantiles_are_scipys(freedom, power):
    """Quantiles of Student's t equal scipy's, also in the far tails, which tests of many pairs need."""
    theirs = -stats.t.ppf(10**power / 2, freedom)
    assert student_t.quantile(freedom, 10**power) == pytest.approx(theirs, rel=1e-7, abs=1e-9)


def test_quantiles_of_many_degrees_of_freedom_are_normal():
    assert quantile(1e300) == pytest.approx(1.9599639845)
    assert student_t.quantile(1.0, 1e-200) == np.inf or student_t.quantile(1.0, 1e-200) > 1e100


@given(st.floats(1e-3, 1e6))
def test_derivatives_of_the_gamma_function_are_scipys(x):
    from scipy.special import polygamma, psi

    assert student_t.digamma(x) == pytest.approx(psi(x), rel=1e-10, abs=1e-10)
    assert student_t.trigamma(x) == pytest.approx(polygamma(1, x), rel=1e-10)
    assert student_t.tetragamma(x) == pytest.approx(polygamma(2, x), rel=1e-9)


# Boards ----------------------------------------------------------------------------------------------------------------------

START = datetime(2025, 1, 1, tzinfo=UTC)


def entry(name, score=0.5, minute=0, replicates=None, **changes):
    """Make a complete result of this minute; by default its replicates lie around its score."""
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
    shared = np.random.default_rng(0).normal(
        0, 0.01, 200
    )  # the same samples for all entries, so paired differences are exact
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
    """A difference far smaller than both intervals is significant if it has the same sign in every resample."""
    a, b = entry("a", 0.900), entry("b", 0.899)
    assert np.std(a[1]) > 5 * 0.001
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


def test_ranks_are_the_set_that_an_entry_may_have():
    """If a and c differ and b differs from neither, b may have any rank, a and c may not."""
    rng = np.random.default_rng(0)
    entries = [
        entry(name, score, replicates=score + 0.0065 * rng.standard_t(30, 500))
        for name, score in zip("abc", (0.92, 0.90, 0.88))
    ]
    rows = rank(entries)
    assert [(row["rank_low"], row["rank_high"]) for row in rows] == [(1, 2), (1, 3), (2, 3)]
    assert render.rank_labels(rows) == ["1–2", "1–3", "2–3"]
    assert "cannot be told from chance here, among 3 entries" in render.table({"t": rows})
    assert rows[0]["resolution"] == pytest.approx(2.4 * np.sqrt(2) * 0.0065, rel=0.1)


def test_seeds_that_scatter_make_an_entry_less_sure():
    shared = np.random.default_rng(0).normal(0, 0.001, 500)
    still = [entry(name, score, replicates=score + shared, units=1000) for name, score in (("a", 0.92), ("b", 0.9))]
    moved = [
        (replace(result, seeds=[result.score - 0.02, result.score, result.score + 0.02]), draws)
        for result, draws in still
    ]
    assert [row["tie_group"] for row in rank(still)] == [1, 2]
    assert [row["tie_group"] for row in rank(moved)] == [1, 1]


@pytest.mark.parametrize(
    ("gap", "others", "said"),
    [
        (0.05, 0, "a is better than b on t; the difference is significant at the 5 % level."),
        (
            0.0028,
            12,
            "a may be better than b on t: the difference would be significant at the 5 % level if these two had been",
        ),
        (0.0001, 0, "These data cannot tell a and b apart on t."),
    ],
)
def test_a_comparison_is_a_sentence_and_its_numbers(gap, others, said):
    rng = np.random.default_rng(0)
    entries = [
        entry("a", 0.9 + gap, replicates=0.9 + gap + rng.normal(0, 0.001, 500)),
        entry("b", 0.9, replicates=0.9 + rng.normal(0, 0.0005, 500)),
    ]
    entries += [entry(f"other-{number}", 0.5) for number in range(others)]
    entries = [
        (result, draws if len(draws) == 500 else [0.5 + x for x in rng.normal(0, 0.001, 500)])
        for result, draws in entries
    ]
    found = compare(entries, "t", "a", "b")
    assert found.text.startswith(said)
    assert found.low < found.gap < found.high
    assert found.differ == (gap > 0.01)
    assert found.ahead.submission == "a"
    back = compare(entries, "t", "b", "a")
    assert (back.gap, back.p, back.differ, back.ahead) == (-found.gap, found.p, found.differ, found.ahead)
    assert back.text.startswith(said) or gap < 0.001


def test_a_comparison_with_an_unknown_entry_lists_the_known_ones():
    with pytest.raises(StoreError, match="t has no complete result of 'c'; it has a, b"):
        compare([entry("a"), entry("b")], "t", "a", "c")

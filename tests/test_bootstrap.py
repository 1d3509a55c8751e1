import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from spacex import bootstrap


def test_with_one_chip_per_place_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).normal(0.5, 0.1, 80)
    got = bootstrap.interval(values, bootstrap.draw([str(i) for i in range(80)], 4000))
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, random_state=1)
    assert got.mean == pytest.approx(values.mean())
    assert got.low == pytest.approx(expected.confidence_interval.low, abs=0.004)
    assert got.high == pytest.approx(expected.confidence_interval.high, abs=0.004)


def test_copies_of_a_chip_in_one_place_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(0.5, 0.1, 30)
    once = bootstrap.interval(values, bootstrap.draw([str(i) for i in range(30)]))
    copies = bootstrap.interval(np.repeat(values, 9), bootstrap.draw([str(i) for i in range(30) for _ in range(9)]))
    assert copies.mean == pytest.approx(once.mean)
    assert copies.high - copies.low == pytest.approx(once.high - once.low, rel=0.02)
    assert (copies.chips, copies.places) == (270, 30)


def test_an_auroc_is_scikit_learns_of_all_chips_and_of_every_draw():
    rng = np.random.default_rng(3)
    truth, values = rng.random(60) < 0.4, rng.integers(0, 9, 60) / 9.0  # with ties
    draws = bootstrap.draw([str(i // 3) for i in range(60)], 5)
    times = np.vstack([np.ones(60), draws.weights[:, draws.places]])
    expected = [roc_auc_score(truth, values, sample_weight=weights) for weights in times]
    assert bootstrap.auroc(truth, values, draws) == pytest.approx(expected)
    assert np.isnan(bootstrap.auroc(np.ones(60, bool), values, draws)).all()


def test_chips_without_a_value_are_left_out():
    draws = bootstrap.draw(["a", "b", "c"])
    got = bootstrap.interval(np.array([1.0, np.nan, 1.0]), draws)
    assert (got.mean, got.low, got.high, got.chips, got.places) == (1.0, 1.0, 1.0, 2, 2)
    assert np.isnan(bootstrap.interval(np.full(3, np.nan), draws).mean)


def test_a_constant_gap_has_an_interval_of_no_width_though_both_methods_vary():
    method = np.random.default_rng(2).random(40)
    got = bootstrap.compare(method, method - 0.25, bootstrap.draw([str(i // 2) for i in range(40)]))
    assert got.difference.low == pytest.approx(0.25)
    assert got.difference.high == pytest.approx(0.25)
    assert got.wins == 1.0
    assert got.p_value < 1e-4


def test_the_p_value_is_wilcoxons_on_place_means():
    rng = np.random.default_rng(4)
    gap, places = rng.normal(0.05, 0.2, 60), [str(i // 3) for i in range(60)]
    got = bootstrap.compare(gap, np.zeros(60), bootstrap.draw(places))
    assert got.p_value == pytest.approx(stats.wilcoxon(gap.reshape(20, 3).mean(axis=1)).pvalue)


def test_equal_methods_are_no_difference():
    got = bootstrap.compare(np.ones(5), np.ones(5), bootstrap.draw(list("abcde")))
    assert got.difference.mean == 0.0
    assert got.wins == 0.5
    assert np.isnan(got.p_value)


def test_one_place_has_a_mean_but_no_interval():
    got = bootstrap.interval(np.array([1.0, 2.0]), bootstrap.draw(["a", "a"]))
    assert got.mean == 1.5
    assert np.isnan(got.low)


def test_a_ratio_of_sums_over_chips_of_one_size_is_the_mean():
    values, names = np.random.default_rng(3).random(50), [str(i // 2) for i in range(50)]
    draws = bootstrap.draw(names)
    assert bootstrap.of_sums((values, np.ones(50)), np.divide, draws) == bootstrap.interval(values, draws)
    # twice the size is half the ratio, in the estimate and in every draw
    got = bootstrap.of_sums((values, np.full(50, 2.0)), np.divide, draws)
    assert got.low == pytest.approx(bootstrap.interval(values, draws).low / 2)

"""The spread of several classifiers: against scipy, and its interval against classifiers that were not seen."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import t as student

from spacex.models.members import Members, SpreadFit, fit_spread, left_out, logits, spread

KNOWN = SpreadFit(level=0.0, slope=0.0, freedom=1e-9, factor=1.0, chips=1)


def drawn(members, chips, freedom=8.0, slope=0.15, seed=0):
    """Logits of classifiers around a mean, whose variance is drawn for each chip and rises with the mean's size."""
    random = np.random.default_rng(seed)
    mean = random.normal(0, 4, chips)
    variance = np.exp(-1 + slope * np.abs(mean)) * freedom / random.chisquare(freedom, chips)
    return mean + random.normal(0, 1, (members, chips)) * np.sqrt(variance)


def test_spread_is_the_standard_deviation_of_the_scores():
    assert spread((0.5, 0.7, 0.9)) == pytest.approx(0.2)
    assert spread((0.25, 0.25)) == 0


def test_logits_of_scores_are_cut_where_float32_ends():
    np.testing.assert_allclose(logits(1 / (1 + np.exp(-np.array([2.0, -7.5])))), [2.0, -7.5])
    np.testing.assert_array_equal(logits(np.array([0.0, 1.0], np.float32)), [-16, 16])


def test_without_a_shared_variance_the_interval_is_students():
    z = np.array([[1.0, -3.0], [2.0, -3.5], [2.4, -1.0]])
    mean, reach = KNOWN.reach(z)
    np.testing.assert_allclose(mean, z.mean(axis=0))
    expected = student.ppf(0.95, 2) * z.std(axis=0, ddof=1) * np.sqrt(4 / 3)
    np.testing.assert_allclose(reach, expected, rtol=1e-6)


def test_one_classifier_has_the_variance_that_others_share():
    fit = KNOWN.model_copy(update={"level": np.log(0.25), "slope": 0.5, "freedom": 10.0, "factor": 1.2})
    mean, variance, freedom = fit.variance(np.array([[0.0, -2.0]]))
    np.testing.assert_allclose(variance, 0.25 * np.exp([0.0, 1.0]))
    assert freedom == 10
    np.testing.assert_allclose(fit.reach(mean[None])[1], 1.2 * student.ppf(0.95, 10) * np.sqrt(2 * variance))


@pytest.mark.parametrize("members", [2, 3, 5])
def test_nine_tenths_of_unseen_classifiers_lie_within(members):
    fit = fit_spread(drawn(members, 3000))
    z = drawn(members + 1, 6000, seed=1)
    mean, reach = fit.reach(z[:-1])
    inside = np.abs(z[-1] - mean) <= reach
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    for part in (np.abs(mean) < 2, np.abs(mean) > 5):  # both where scores are undecided and where they are clear
        assert inside[part].mean() == pytest.approx(0.9, abs=0.03)


def test_few_classifiers_need_a_wider_interval():
    z = drawn(2, 3000)
    fit = fit_spread(z)
    normal = np.abs(z[0] - z[1]) / (1.645 * np.sqrt(2) * z.std(axis=0, ddof=1))
    assert fit.freedom > 1
    assert (normal <= 1).all()  # two logits never lie further apart than their own standard deviation allows
    unseen = drawn(3, 3000, seed=2)
    far = np.abs(unseen[2] - unseen[:2].mean(axis=0)) / (1.645 * np.sqrt(1.5) * unseen[:2].std(axis=0, ddof=1))
    assert (far <= 1).mean() < 0.75
    mean, reach = fit.reach(unseen[:2])
    assert (np.abs(unseen[2] - mean) <= reach).mean() > 0.87


def test_the_factor_makes_the_classifiers_that_are_left_out_fit():
    z = drawn(3, 2000) + np.random.default_rng(3).standard_t(2, (3, 2000))
    fit = fit_spread(z)
    assert (left_out(fit, z) <= 1).mean() == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("z", [np.zeros((2, 4)), np.full((3, 50), 16.0)])
def test_classifiers_that_agree_on_everything_have_a_fit(z):
    fit = fit_spread(z)
    assert 0 < fit.freedom <= 100
    assert np.isfinite(fit.reach(z)[1]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**9},
        {"count": 3},
        {"seeds": (1, 2, 3, 4)},
        {"spread": KNOWN.model_dump() | {"level": np.nan}},
        {"spread": KNOWN.model_dump() | {"slope": np.inf}},
    ],
)
def test_a_record_of_classifiers_that_contradicts_itself_is_refused(change):
    record = {"count": 2, "seeds": (1, 2), "test": ({}, {}), "mean": {}, "spread": KNOWN.model_dump()}
    assert Members.model_validate(record).count == 2
    with pytest.raises(ValidationError):
        Members.model_validate(record | change)

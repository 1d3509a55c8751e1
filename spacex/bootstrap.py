"""Intervals and paired tests that respect places: chips cut side by side are not independent.

The data set is cut from areas each of which gave many neighbouring chips, so the unit that is resampled is the *place*,
with all its chips (cluster bootstrap). A mean over chips is a sum and a count, both additive over places; one matrix
product therefore evaluates every draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval; the interval is NaN where there is only one place."""

    mean: float
    low: float
    high: float
    chips: int
    """Chips with a value."""
    places: int
    """Places they come from; below about ten the interval itself is uncertain."""

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class ClusterBootstrap:
    """How often each place is drawn in each repetition: made once, used for every method and metric.

    Sharing the draws makes differences between methods paired by construction.
    """

    places: NDArray[np.int64]
    """Index of the place of every chip, ``(chips,)``."""
    weights: Values
    """Times each place is drawn, ``(repetitions, places)``."""


def draw(places: list[str], repetitions: int = 2000, seed: int = 0) -> ClusterBootstrap:
    """Draw places with replacement, `repetitions` times; `places` names the place of every chip."""
    names, index = np.unique(np.asarray(places, dtype=object).astype(str), return_inverse=True)
    count = len(names)
    rng = np.random.default_rng(seed)
    # drawing with replacement: how often each place comes is multinomial, with equal chances
    weights = rng.multinomial(count, np.full(count, 1.0 / max(count, 1)), size=repetitions)
    return ClusterBootstrap(index.astype(np.int64), weights.astype(np.float64))


def interval(values: Values, draws: ClusterBootstrap) -> Interval:
    """Mean over chips and its percentile bootstrap interval; chips without a value (NaN) are left out.

    The values ``(chips,)`` are in the order in which the places were given to :func:`draw`.
    """
    known = np.isfinite(values)
    number, total = _resample(draws, _place_totals(draws, known, np.ones(len(values)), values))
    with np.errstate(invalid="ignore"):  # a draw may consist of places without any value: it has no mean
        return _interval(total / number, draws, known)


def of_sums(values: Sequence[Values], statistic: Callable[..., Values], draws: ClusterBootstrap) -> Interval:
    """A statistic of sums over all chips, e.g. the ratio of two, with its percentile bootstrap interval.

    Args:
        values: what is summed, ``(chips,)`` each, in the order in which the places were given to :func:`draw`.
        statistic: called with an array of sums for each of the values, of which the first belongs to the estimate
            and the others to the draws; gives its value for each, NaN where it has none.
        draws: of the places.
    """
    every = np.ones(len(draws.places), bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        return of_draws(statistic(*_resample(draws, _place_totals(draws, every, *values))), draws)


def of_draws(statistic: Values, draws: ClusterBootstrap) -> Interval:
    """The interval of a statistic whose first value is the estimate and whose others are those of the draws, or NaN."""
    return _interval(statistic, draws, np.ones(len(draws.places), bool))


def auroc(truth: NDArray[np.bool_], values: Values, draws: ClusterBootstrap) -> Values:
    """Area under the ROC curve, for `of_draws`: of all chips, then of the first thousand draws; NaN of one class alone.

    It is the share of pairs in the right order, ties counting half; `truth` and `values` are (chips,).
    """
    weights = np.concatenate([np.ones((1, len(truth))), draws.weights[:1000, draws.places]])
    positive, other = values[truth][:, None], values[~truth]
    ordered = (positive > other) + 0.5 * (positive == other)
    pairs = weights[:, truth].sum(axis=1) * weights[:, ~truth].sum(axis=1)
    right = ((weights[:, truth] @ ordered) * weights[:, ~truth]).sum(axis=1)
    return np.asarray(np.divide(right, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def association(x: Values, y: Values, draws: ClusterBootstrap) -> tuple[Interval, Interval]:
    """Pearson's correlation of two numbers, and the slope of y over x (least squares), with intervals by place.

    Both ``(items,)`` in the order in which the places were given to :func:`draw`. NaN where x does not vary.
    """
    # centred first: sums over places are then all that a draw needs, and lose no digits
    x, y, every = x - x.mean(), y - y.mean(), np.ones(len(x), bool)
    totals = _place_totals(draws, every, np.ones(len(x)), x, y, x * x, x * y, y * y)
    n, sx, sy, sxx, sxy, syy = _resample(draws, totals)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance, variance, variance_y = sxy - sx * sy / n, sxx - sx * sx / n, syy - sy * sy / n
        correlation, slope = covariance / np.sqrt(variance * variance_y), covariance / variance
    return _interval(correlation, draws, every), _interval(slope, draws, every)


def _place_totals(draws: ClusterBootstrap, known: NDArray[np.bool_], *values: Values) -> list[Values]:
    """Sums over the known chips of every place, of each of some numbers per chip, ``(places,)`` each."""
    places, count = draws.places[known], draws.weights.shape[1]
    return [np.bincount(places, weights=part[known], minlength=count).astype(np.float64) for part in values]


def _resample(draws: ClusterBootstrap, totals: list[Values]) -> list[Values]:
    """Sums over places: first with every place once, which gives the estimate itself, then those of the draws."""
    return [np.append(total.sum(), draws.weights @ total) for total in totals]


def _interval(statistic: Values, draws: ClusterBootstrap, known: NDArray[np.bool_]) -> Interval:
    """The estimate, which is the first value, with the percentiles of the others, which are the draws'."""
    places, drawn = len(np.unique(draws.places[known])), statistic[1:][np.isfinite(statistic[1:])]
    # one place says nothing about other places
    low, high = np.percentile(drawn, [2.5, 97.5]) if places > 1 and len(drawn) else (np.nan, np.nan)
    return Interval(float(statistic[0]), float(low), float(high), int(known.sum()), places)


@dataclass(frozen=True)
class Comparison:
    """A method against a rival on the same chips: method − rival, and Wilcoxon's signed-rank test."""

    difference: Interval
    p_value: float
    """Two-sided, on the mean difference of every place; NaN with fewer than two places or no difference."""
    wins: float
    """Share of the chips on which the method is better, ties counting half."""


def compare(method: Values, rival: Values, draws: ClusterBootstrap) -> Comparison:
    """Paired comparison of two methods on the same chips; chips without both values are left out."""
    gap = method - rival
    known = np.isfinite(gap)
    if not known.any():
        return Comparison(interval(gap, draws), np.nan, np.nan)
    numbers, sums = _place_totals(draws, known, np.ones(len(gap)), gap)
    # the test's unit is the place as well: chips of one place are not independent
    by_place = sums[numbers > 0] / numbers[numbers > 0]
    testable = len(by_place) > 1 and bool(np.any(by_place != 0))
    p_value = float(wilcoxon(by_place).pvalue) if testable else np.nan
    # a tie is half a win, so that equal methods win half of the chips
    wins = float(((gap[known] > 0) + 0.5 * (gap[known] == 0)).mean())
    return Comparison(interval(gap, draws), p_value, wins)

"""Intervals and paired tests that respect places: chips cut side by side are not independent.

The data set is cut from areas of which each gave many neighbouring chips, so the unit that is drawn again is
the *place*, with all its chips. A mean over chips is a sum and a count, both additive over places; one matrix
product therefore evaluates every draw.
"""

from __future__ import annotations

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
    """Draw places with replacement, `repetitions` times.

    Args:
        places: the place of every chip.
        repetitions: how many draws.
        seed: of the draw.
    """
    names, index = np.unique(np.asarray(places, dtype=object).astype(str), return_inverse=True)
    count = len(names)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1.0 / max(count, 1)), size=repetitions)
    return ClusterBootstrap(index.astype(np.int64), weights.astype(np.float64))


def interval(values: Values, draws: ClusterBootstrap) -> Interval:
    """Mean over chips and its percentile bootstrap interval; chips without a value (NaN) are left out.

    Args:
        values: one number per chip, ``(chips,)``, in the order the places were given to :func:`draw`.
        draws: the shared draws.
    """
    known = np.isfinite(values)
    count = draws.weights.shape[1]
    sums = np.bincount(draws.places[known], weights=values[known], minlength=count)
    numbers = np.bincount(draws.places[known], minlength=count).astype(np.float64)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    if (numbers > 0).sum() < 2:  # one place says nothing about other places
        return Interval(float(values[known].mean()), np.nan, np.nan, int(known.sum()), 1)
    drawn = draws.weights @ numbers
    means = (draws.weights @ sums)[drawn > 0] / drawn[drawn > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values[known].mean()), float(low), float(high), int(known.sum()), int((numbers > 0).sum()))


def association(x: Values, y: Values, draws: ClusterBootstrap) -> tuple[Interval, Interval]:
    """Pearson's correlation of two numbers, and the slope of y over x (least squares), with intervals by place.

    Args:
        x: one number per item, ``(items,)``, in the order the places were given to :func:`draw`.
        y: likewise.
        draws: the shared draws.

    Returns:
        Correlation and slope; NaN where x does not vary.
    """
    count = draws.weights.shape[1]
    # centred once: sums over places are then all that a draw needs, and lose no digits
    x, y = x - x.mean(), y - y.mean()
    parts = [np.bincount(draws.places, weights=part, minlength=count) for part in (x**0, x, y, x * x, x * y, y * y)]
    weights = np.vstack([np.ones(count), draws.weights])
    n, sx, sy, sxx, sxy, syy = (weights @ part for part in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        across, spread, other = sxy - sx * sy / n, sxx - sx * sx / n, syy - sy * sy / n
        found = across / np.sqrt(spread * other), across / spread
    places = len(np.unique(draws.places))
    return _around(found[0], len(x), places), _around(found[1], len(x), places)


def _around(values: Values, items: int, places: int) -> Interval:
    """The first value, with the interval of the others."""
    known = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(known, [2.5, 97.5]) if places > 1 and len(known) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high), items, places)


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
    count = draws.weights.shape[1]
    numbers = np.bincount(draws.places[known], minlength=count)
    sums = np.bincount(draws.places[known], weights=gap[known], minlength=count)
    by_place = sums[numbers > 0] / numbers[numbers > 0]
    testable = len(by_place) > 1 and bool(np.any(by_place != 0))
    p_value = float(wilcoxon(by_place).pvalue) if testable else float("nan")
    wins = float(((gap[known] > 0) + 0.5 * (gap[known] == 0)).mean()) if known.any() else float("nan")
    return Comparison(interval(gap, draws), p_value, wins)

"""How far apart the scores of several classifiers of one training lie, and how far another one's may.

Classifiers that differ in their seed alone (initial weights, order of chips) disagree most where none of them knows.
The variance of few logits is itself uncertain, so it is moderated as Smyth (2004, "Linear models and empirical Bayes
methods", Statistical Applications in Genetics and Molecular Biology 3) does for genes measured on few arrays: a chip's
variance s² of d degrees of freedom counts beside one that all chips share, s₀² of d₀::

    s̃² = (d₀ s₀² + d s²) / (d₀ + d),    (z' − mean z) / (s̃ √(1 + 1/n))  ~  Student's t of d₀ + d

where z' is the logit of another classifier of the same training and n the number of those that are known. s₀² follows
the size of the mean logit (log-linear, as Smyth's later limma-trend): clear chips have large logits, which lie further
apart. It is fitted to validation chips; what is still missing there to nine tenths is a factor of the width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from scipy.special import digamma, polygamma, stdtrit

from spacex.settings import Settings

Values = NDArray[np.float64]
COVERED = 0.9
"""Share of other maps that the interval is to hold."""
LARGEST = 16.0
"""Logits beyond it are cut: float32 knows no score nearer to 1."""
FREEDOM = 0.5, 100.0
"""Least and largest degrees of freedom of the shared variance."""
FEW = 20
"""Chips below which the shared variance is one number, without a slope."""
MAX_MEMBERS = 100
"""Classifiers of one training."""
TINY = 1e-6
"""Variance of logits that is added to a chip's, whose logarithm is then finite."""


class SpreadFit(Settings):
    """The variance of logits that validation chips share, and the width of an interval that holds nine tenths."""

    model_config = ConfigDict(allow_inf_nan=False)

    level: float
    """Logarithm of the shared variance s₀² at a mean logit of 0."""
    slope: float
    """By which it rises with the mean logit's absolute value."""
    freedom: float = Field(gt=0)
    """Its degrees of freedom d₀."""
    factor: float = Field(gt=0)
    """Of the interval's width: 1 where Student's t held nine tenths of the classifiers that were left out."""
    chips: int
    """Validation chips that were used."""

    def variance(self, z: Values) -> tuple[Values, Values, float]:
        """Mean logit, moderated variance (n,), and degrees of freedom, from logits (classifiers, n)."""
        own, mean = len(z) - 1, z.mean(axis=0)
        shared = np.exp(self.level + self.slope * np.abs(mean))
        variance = z.var(axis=0, ddof=1) if own else 0.0
        return mean, (self.freedom * shared + own * variance) / (self.freedom + own), self.freedom + own

    def reach(self, z: Values) -> tuple[Values, Values]:
        """Mean logit, and how far from it nine tenths of other classifiers' logits lie at most, (n,) each."""
        mean, variance, freedom = self.variance(z)
        quantile = stdtrit(freedom, (1 + COVERED) / 2)
        return mean, self.factor * quantile * np.sqrt(variance * (1 + 1 / len(z)))


class Members(Settings):
    """Several classifiers of one training; maps are drawn of the first."""

    count: int = Field(ge=2, le=MAX_MEMBERS)
    seeds: tuple[int, ...]
    test: tuple[dict[str, float], ...]
    """Figures of each on the test split, in their order."""
    mean: dict[str, float]
    """Their means."""
    spread: SpreadFit

    @model_validator(mode="after")
    def _check(self) -> Members:
        if not len(self.seeds) == len(self.test) == self.count:
            raise ValueError(f"{self.count} classifiers have {len(self.seeds)} seeds and figures of {len(self.test)}")
        return self


def logits(scores: NDArray[np.floating]) -> Values:
    """Scores as logits, cut at `LARGEST`."""
    exact = np.asarray(scores, np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.log(exact) - np.log1p(-exact), -LARGEST, LARGEST))


def spread(scores: Sequence[float]) -> float:
    """Standard deviation of the scores of several classifiers, with their number less one."""
    return float(np.std(np.asarray(scores, np.float64), ddof=1))


def fit_spread(z: Values) -> SpreadFit:
    """Fit the shared variance to the logits of validation chips (classifiers, chips), two classifiers or more."""
    count, chips = z.shape
    freedom, mean = count - 1, np.abs(z.mean(axis=0))
    # the logarithm of s² is that of σ² plus a known bias and a known variance (Smyth 2004, section 6.2)
    log = np.log(z.var(axis=0, ddof=1) + TINY) - digamma(freedom / 2) + np.log(freedom / 2)
    slope, level = np.polyfit(mean, log, 1) if chips >= FEW and np.ptp(mean) > 0 else (0.0, log.mean())
    rest = float(np.var(log - level - slope * mean)) - float(polygamma(1, freedom / 2))
    prior = _inverse_trigamma(rest)
    # exp of a mean of logarithms is no mean variance: the same bias, of the shared variance
    level += digamma(prior / 2) - np.log(prior / 2)
    fit = SpreadFit(level=float(level), slope=float(slope), freedom=prior, factor=1.0, chips=chips)
    factor = float(np.quantile(left_out(fit, z), COVERED))
    return fit.model_copy(update={"factor": max(factor, TINY)})


def left_out(fit: SpreadFit, z: Values) -> Values:
    """How far each classifier's logit lies from what the others say, over their reach: (classifiers, chips)."""
    ratios = []
    for number in range(len(z)):
        mean, far = fit.reach(np.delete(z, number, axis=0))
        ratios.append(np.abs(z[number] - mean) / far)
    return np.stack(ratios)


def _inverse_trigamma(value: float) -> float:
    """Degrees of freedom d with trigamma(d / 2) = `value`, within `FREEDOM`."""
    grid = np.geomspace(*FREEDOM, 400)
    return float(np.interp(-value, -polygamma(1, grid / 2), grid))

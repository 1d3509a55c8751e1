"""One time step predicted from the other, robustly, by place and kind of land: what is left is change, or noise.

Two summers of the same land differ everywhere: haze adds, calibration multiplies, and the season gives every cover
another colour. All three are nearly linear in the bands of a small area, but covers differ: a crop may change its
colour every year, a forest hardly does. So the land of 3 x 3 cells of 2.56 km is first divided into classes by its
colours and its texture in the earlier step (k-means). In each class the bands of the later step are fitted by those of
the earlier one and a constant. Changed pixels must not bend the fit: as in the iteratively reweighted MAD transform
(Nielsen 2007, IEEE TIP 16(2)), every pixel weighs as much as the probability that noise alone is further away than it
(Mahalanobis distance), round by round. Covariance and weights follow the median distance, so the land may change in up
to half of a class.

**When a residual is too large for noise.** Noise is not normal, nor alike in all directions: what thin haze leaves is
grey and sometimes large, while shades of colour hardly err. So residuals are measured along the principal axes of their
covariance, each by its own tail. Sizes of unchanged land fall off about exponentially: the threshold along an axis lies
on the exponential through the median and the upper quartile, at least where normal noise would have it, and a pixel
counts by the axis along which it lies furthest beyond. Land of one class is restless in one place and quiet in another,
so where the median size in the square of 1.3 km around a pixel is above its class's, thresholds are raised by as much.
A class may join two covers of one colour, of which the rarer then looks changed wherever the season moves it. Hence
the land is divided several times, more and more finely, and has changed where every division says so.

A cell's answer depends on its own 3 x 3 cells alone, on a global lattice: a pixel has the same value in any block, and
no other land is needed to judge it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq
from scipy.ndimage import percentile_filter, uniform_filter
from scipy.stats import chi2, norm

Array = NDArray[np.float32]
Samples = NDArray[np.float64]
Valid = NDArray[np.bool_]
CELL = 128
"""Side of a cell in pixels."""
SMOOTH = 3
"""Side in pixels of the squares that a picture is averaged over before it is compared."""
TEXTURE = 9
"""Side in pixels of the squares whose standard deviation tells texture."""
DIVISIONS = (4, 8, 16)
"""Numbers of classes."""
SPARSE = 3
"""Every so many rows and columns of the 3 x 3 cells are fitted: neighbours tell the same."""
ROUNDS = 8
CLUSTER_ROUNDS = 15
LEAST = 1000
"""Pixels with data that 3 x 3 cells need, of 16,384 at most."""
LEAST_OF_CLASS = 300
"""Pixels that a class needs for a fit of its own; a smaller one is fitted with all others."""
AROUND = 33
"""Half the side in pixels of the square whose median size raises thresholds; whole steps of `SPARSE`."""
STEP = 1e-4
"""Smallest difference that reflectance is stored with, relative to 1: no covariance is taken for smaller."""


@dataclass(frozen=True)
class _Fit:
    """What noise does to one class of land."""

    coefficients: Samples
    """(1 + bands, bands)"""
    axes: Samples
    """(bands, bands) in columns: the principal axes of the residuals, each over what noise seldom exceeds along it."""
    median: float = 1
    """Of the exceedances."""

    def exceedance(self, before: Samples, after: Samples) -> Samples:
        """How far every sample's residual lies beyond noise, along the axis where it does most."""
        residual = after - self.coefficients[0] - before @ self.coefficients[1:]
        return np.asarray(np.abs(residual @ self.axes).max(axis=1))


def exceedances(before: Array, after: Array, share: float) -> Array:
    """How far every pixel of whole cells differs between two steps, over what noise alone exceeds in a share of them.

    Args:
        before: (bands, height, width) of the cells and of one cell around them; NaN = no data.
        after: the same of the later step.
        share: of the pixels that noise alone may lift above 1.

    Returns:
        (height - 2 cells, width - 2 cells) float32; NaN where a step has no data, or too little around it has.
    """
    look, before, after = _look(before), smoothed(before, SMOOTH), smoothed(after, SMOOTH)
    height, width = before.shape[1] - 2 * CELL, before.shape[2] - 2 * CELL
    out = np.full((height, width), np.nan, np.float32)
    for row in range(0, height, CELL):
        for col in range(0, width, CELL):
            part = (slice(None), slice(row, row + 3 * CELL), slice(col, col + 3 * CELL))
            out[row : row + CELL, col : col + CELL] = _of_cell(look[part], before[part], after[part], share)
    return out


def beyond_noise(median: Samples, upper: Samples, share: float, normal: Samples | float) -> Samples:
    """Sizes that noise exceeds in a share of cases: on the exponential through median and upper quartile of its sizes.

    `normal` is what normal noise would exceed as often, the least that is given.
    """
    return np.asarray(np.maximum(normal, upper + (upper - median) * np.log(0.25 / share) / np.log(2)))


def smoothed(values: Array, side: int) -> Array:
    """Mean over squares of pixels with data, (…, height, width); NaN stays NaN."""
    valid = np.isfinite(values)
    size = (*[1] * (values.ndim - 2), side, side)
    total = uniform_filter(np.where(valid, values, 0).astype(np.float64), size, mode="constant")
    share = uniform_filter(valid.astype(np.float64), size, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = np.where(valid, total / share, np.nan).astype(np.float32)
    return means


def _look(picture: Array) -> Array:
    """(bands + 1, height, width): colours and texture, by which the land is divided into classes."""
    mean = smoothed(picture, TEXTURE)
    spread = np.sqrt(np.maximum(smoothed(picture**2, TEXTURE) - mean**2, 0)).mean(axis=0, keepdims=True)
    return np.concatenate([smoothed(picture, SMOOTH), spread])


def _of_cell(look: Array, before: Array, after: Array, share: float) -> Array:
    """(`CELL`, `CELL`) exceedances of the cell in the middle of 3 x 3, from (…, 3 cells, 3 cells)."""
    sparse = (slice(None), slice(None, None, SPARSE), slice(None, None, SPARSE))
    sample = [_samples(values[sparse]) for values in (look, before, after)]
    valid: Valid = np.asarray(np.isfinite(np.concatenate(sample, axis=1)).all(axis=1))
    if valid.sum() < LEAST:
        return np.full((CELL, CELL), np.nan, np.float32)
    looks, first, second = (values[valid] for values in sample)
    # the cell, and around it what the medians of its own pixels need
    inner = slice(CELL - AROUND, 2 * CELL + AROUND)
    here = [_samples(values[:, inner, inner]) for values in (look, before, after)]
    there: Valid = np.asarray(np.isfinite(np.concatenate(here, axis=1)).all(axis=1))
    # features without a unit, in which the dark covers are as far from each other as the bright ones
    middle = np.maximum(np.median(np.abs(looks), axis=0), 1e-12)
    features, features_here = (np.arcsinh(values / middle) for values in (looks, here[0][there]))
    together = _fit(first, second, share)
    side, exceedance = CELL + 2 * AROUND, np.full(len(there), np.inf)
    exceedance[~there] = np.nan
    for number in DIVISIONS:
        centres = _centres(features, number)
        classes, classes_here = (vq(values, centres)[0] for values in (features, features_here))
        beyond, median = np.ones((2, len(there)))
        for one in np.unique(classes_here):
            own, places = classes == one, np.flatnonzero(there)[classes_here == one]
            fit = _fit(first[own], second[own], share) if own.sum() >= LEAST_OF_CLASS else together
            beyond[places], median[places] = fit.exceedance(here[1][places], here[2][places]), fit.median
        relative = (beyond / median).reshape(side, side)[1::SPARSE, 1::SPARSE]
        restless = percentile_filter(relative, 50, 2 * AROUND // SPARSE - 1).repeat(SPARSE, 0).repeat(SPARSE, 1)
        exceedance = np.minimum(exceedance, beyond / np.maximum(1, restless[:side, :side].ravel()))
    return exceedance.reshape(side, side)[AROUND:-AROUND, AROUND:-AROUND].astype(np.float32)


def _samples(values: Array) -> Samples:
    return values.reshape(len(values), -1).T.astype(np.float64)


def _centres(features: Samples, number: int) -> Samples:
    """(number, features) of k-means, begun at evenly many samples from dark to bright: no chance is in it."""
    order = np.argsort(features.sum(axis=1), kind="stable")
    centres = features[order[np.linspace(0, len(order) - 1, number).astype(int)]]
    for _ in range(CLUSTER_ROUNDS):
        nearest = vq(features, centres)[0]
        members = np.bincount(nearest, minlength=number)[:, None]
        sums = np.column_stack([np.bincount(nearest, column, number) for column in features.T])
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
    return np.asarray(centres)


def _fit(before: Samples, after: Samples, share: float) -> _Fit:
    """Fit the later step's samples (n, bands) by the earlier step's; n is `LEAST_OF_CLASS` or more."""
    design, bands = np.column_stack([np.ones(len(before)), before]), after.shape[1]
    middle, least = chi2.ppf(0.5, bands), (STEP * max(1e-12, float(np.abs(after).max()))) ** 2 * np.eye(bands)
    weights = np.ones(len(design))
    for _ in range(ROUNDS):
        weighted = design * weights[:, None]
        # lstsq rather than solve: a band may be constant
        coefficients = np.linalg.lstsq(weighted.T @ design, weighted.T @ after, rcond=1e-12)[0]
        residual = after - design @ coefficients
        covariance = (residual * weights[:, None]).T @ residual / weights.sum() + least
        distance = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual)
        # the weights make the covariance too small; the median distance says by how much
        scale = np.median(distance) / middle
        weights = chi2.sf(distance / scale, bands)
    axes = np.linalg.eigh(covariance)[1]
    median, upper = np.quantile(np.abs(residual @ axes), (0.5, 0.75), axis=0)
    share /= bands
    threshold = beyond_noise(median, upper, share, median * norm.isf(share / 2) / norm.isf(0.25))
    fit = _Fit(np.asarray(coefficients, np.float64), axes / np.maximum(threshold, np.sqrt(least[0, 0])))
    return replace(fit, median=float(np.median(fit.exceedance(before, after))))

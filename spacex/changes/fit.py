"""One time step predicted from the other, robustly, by place and kind of land: what is left is change, or noise.

Two summers of the same land differ everywhere: haze adds, calibration multiplies, and the season gives every cover
another colour. All three are nearly linear in the bands of a small area, but covers differ: a crop may change its
colour every year, a forest hardly does. So the land of 3 x 3 cells of 2.56 km is first divided into classes by its
colours and its texture in the earlier step (k-means). Most of what pictures differ by is brightness, while covers are
often told apart by small shades of one brightness. So colours and texture are first measured in units of what
neighbours 180 m apart differ by, as in the minimum noise fraction transform (Green et al. 1988,
IEEE TGRS 26(1)). In each class the bands of the later step are fitted by those of the earlier one and a constant.
Changed pixels must not bend the fit: as in the iteratively reweighted MAD transform (Nielsen 2007, IEEE TIP 16(2)),
every pixel weighs as much as the probability that noise alone is further away than it (Mahalanobis distance), round by
round. Covariance and weights follow the median distance, so the land may change in up to half of a class.

**Haze.** Composites of few scenes keep puffs of thin haze of a few hectares, which no fit of an area takes away. Haze
adds light of a known colour, so of reflectance only what is orthogonal to that colour is compared, and only if it is
a noticeable part of the land's brightness: the calibration of scenes is no surer.

**When a residual is too large for noise.** Noise is not normal, nor alike in all directions. So residuals are measured
along the principal axes of their covariance, each by its own tail. Sizes of unchanged land fall off about
exponentially: the threshold along an axis lies on the exponential through the median and the upper quartile, times
`STEEP`, as sizes fall off faster far out, at least where normal noise would have it. A pixel counts by the axis along
which it lies furthest beyond. Land of one class is restless in one place and quiet in another, so where the median size
in the square of 1.3 km around a pixel is above its class's, thresholds are raised by as much. A class may join two
covers of one colour, of which the rarer then looks changed wherever the season moves it. Hence the land is divided
several times, more and more finely, and has changed where every division says so, of reflectance also by its shade.

A cell's answer depends on its own 3 x 3 cells alone, on a global lattice: a pixel has the same value in any block, and
no other land is needed to judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq
from scipy.linalg import null_space
from scipy.ndimage import percentile_filter, uniform_filter
from scipy.stats import chi2, norm

from spacex.settings import WAVELENGTHS

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
NEIGHBOURS = 3
"""How many fitted pixels apart neighbours are, whose differences tell the noise of colours and texture."""
STEEP = 0.7
"""Chosen so that 13 places come where 10 are asked for and nothing changed (`tests/benchmarks/change.py`)."""
LEAST_SHADE = 0.045
"""Least change that counts beside the colour of haze, of the length of the earlier step's reflectances as a vector."""
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

    def residual(self, before: Samples, after: Samples) -> Samples:
        """What of the later step the earlier one does not tell."""
        return np.asarray(after - self.coefficients[0] - before @ self.coefficients[1:])

    def exceedance(self, residual: Samples) -> Samples:
        """How far every sample's residual lies beyond noise, along the axis where it does most."""
        return np.asarray(np.abs(residual @ self.axes).max(axis=1))


def exceedances(before: Array, after: Array, share: float, haze: Samples | None = None) -> Array:
    """How far every pixel of whole cells differs between two steps, over what noise alone seldom exceeds.

    Args:
        before: (bands, height, width) of the cells and of one cell around them; NaN = no data.
        after: the same of the later step.
        share: of the pixels that noise alone may lift above 1, where thresholds aim at.
        haze: (bands,) colour of the light that haze adds, for the reflectance of two bands or more; None: all counts.

    Returns:
        (height - 2 cells, width - 2 cells) float32; NaN where a step has no data, or too little around it has.
    """
    look, before, after = _look(before), smoothed(before, SMOOTH), smoothed(after, SMOOTH)
    if haze is not None:
        after = np.einsum("bhw,bk->khw", after, null_space(haze[None]))
    height, width = before.shape[1] - 2 * CELL, before.shape[2] - 2 * CELL
    out = np.full((height, width), np.nan, np.float32)
    for row in range(0, height, CELL):
        for col in range(0, width, CELL):
            part = (slice(None), slice(row, row + 3 * CELL), slice(col, col + 3 * CELL))
            out[row : row + CELL, col : col + CELL] = _of_cell(
                look[part], before[part], after[part], share, haze is not None
            )
    return out


def haze_colour(bands: Sequence[str]) -> Samples | None:
    """(bands,) light that thin haze adds, as 1 / wavelength (Ångström's exponent of common aerosol); None: unknown."""
    if len(bands) < 2 or not set(bands) <= WAVELENGTHS.keys():
        return None
    return np.array([1 / WAVELENGTHS[band] for band in bands])


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


def _of_cell(look: Array, before: Array, after: Array, share: float, shades: bool) -> Array:
    """(`CELL`, `CELL`) exceedances of the cell in the middle of 3 x 3, from (…, 3 cells, 3 cells).

    With `shades` the later step is without the colour of haze, and changes must be a part of the brightness.
    """
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
    grid = np.arcsinh(look[sparse] / middle[:, None, None])
    noise = _neighbours(grid)
    features, features_here = _samples(grid)[valid] @ noise, np.arcsinh(here[0][there] / middle) @ noise
    together = _fit(first, second, share)
    side, exceedance = CELL + 2 * AROUND, np.full(len(there), np.inf)
    exceedance[~there] = np.nan
    for number in DIVISIONS:
        centres = _centres(features, number)
        classes, classes_here = (vq(values, centres)[0] for values in (features, features_here))
        beyond, median, shade = np.full((3, len(there)), [[1.0], [1.0], [np.inf]])
        for one in np.unique(classes_here):
            own, places = classes == one, np.flatnonzero(there)[classes_here == one]
            fit = _fit(first[own], second[own], share) if own.sum() >= LEAST_OF_CLASS else together
            residual = fit.residual(here[1][places], here[2][places])
            beyond[places], median[places] = fit.exceedance(residual), fit.median
            if shades:
                bright = LEAST_SHADE * np.linalg.norm(here[1][places], axis=1)
                shade[places] = np.linalg.norm(residual, axis=1) / np.maximum(bright, 1e-12)
        relative = (beyond / np.maximum(median, 1e-12)).reshape(side, side)[1::SPARSE, 1::SPARSE]
        restless = percentile_filter(relative, 50, 2 * AROUND // SPARSE - 1).repeat(SPARSE, 0).repeat(SPARSE, 1)
        beyond /= np.maximum(1, restless[:side, :side].ravel())
        exceedance = np.minimum(exceedance, np.minimum(beyond, shade))
    return exceedance.reshape(side, side)[AROUND:-AROUND, AROUND:-AROUND].astype(np.float32)


def _samples(values: Array) -> Samples:
    return values.reshape(len(values), -1).T.astype(np.float64)


def _neighbours(grid: Array) -> Samples:
    """(features, features) that gives the differences of a grid's neighbours unit covariance, features turned least."""
    pairs = [grid[:, NEIGHBOURS:] - grid[:, :-NEIGHBOURS], grid[:, :, NEIGHBOURS:] - grid[:, :, :-NEIGHBOURS]]
    differences = np.concatenate([_samples(values) for values in pairs])
    differences = differences[np.isfinite(differences).all(axis=1)]
    if len(differences) < LEAST_OF_CLASS:
        return np.eye(len(grid))
    _, _, covariance = _robust(np.empty((len(differences), 0)), differences)
    variances, axes = np.linalg.eigh(covariance)
    # turned back, so that neither the signs nor the order of the axes matter
    return np.asarray(axes / np.sqrt(variances) @ axes.T)


def _centres(features: Samples, number: int) -> Samples:
    """(number, features) of k-means, begun at the means of equal parts by their features' sum: no chance is in it."""
    order = np.argsort(features.sum(axis=1), kind="stable")
    centres = np.stack([features[part].mean(axis=0) for part in np.array_split(order, number)])
    for _ in range(CLUSTER_ROUNDS):
        nearest = vq(features, centres)[0]
        members = np.bincount(nearest, minlength=number)[:, None]
        sums = np.column_stack([np.bincount(nearest, column, number) for column in features.T])
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
    return np.asarray(centres)


def _fit(before: Samples, after: Samples, share: float) -> _Fit:
    """Fit the later step's samples (n, bands) by the earlier step's; n is `LEAST_OF_CLASS` or more."""
    bands = after.shape[1]
    coefficients, residual, covariance = _robust(before, after)
    axes = np.linalg.eigh(covariance)[1]
    median, upper = np.quantile(np.abs(residual @ axes), (0.5, 0.75), axis=0)
    share /= bands
    normal = median * norm.isf(share / 2) / norm.isf(0.25)
    threshold = np.maximum(normal, STEEP * beyond_noise(median, upper, share, normal))
    fit = _Fit(coefficients, axes / np.maximum(threshold, np.sqrt(_least(after))))
    return replace(fit, median=float(np.median(fit.exceedance(residual))))


def _robust(before: Samples, after: Samples) -> tuple[Samples, Samples, Samples]:
    """Linear fit of samples (n, bands) by others (n, k), in which changed samples weigh little.

    Returns:
        Coefficients (1 + k, bands), residuals (n, bands) and their covariance without what changed (bands, bands).
    """
    design, bands = np.column_stack([np.ones(len(after)), before]), after.shape[1]
    middle, weights = chi2.ppf(0.5, bands), np.ones(len(design))
    for _ in range(ROUNDS):
        weighted = design * weights[:, None]
        # lstsq rather than solve: a band may be constant
        coefficients = np.linalg.lstsq(weighted.T @ design, weighted.T @ after, rcond=1e-12)[0]
        residual = after - design @ coefficients
        covariance = (residual * weights[:, None]).T @ residual / weights.sum() + _least(after) * np.eye(bands)
        distance = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual)
        # the weights make the covariance too small; the median distance says by how much
        scale = max(float(np.median(distance)) / middle, 1e-12)
        weights = chi2.sf(distance / scale, bands)
    return np.asarray(coefficients, np.float64), residual, scale * covariance


def _least(after: Samples) -> float:
    """Variance that stored values have at least."""
    return (STEP * max(1e-12, float(np.abs(after).max()))) ** 2

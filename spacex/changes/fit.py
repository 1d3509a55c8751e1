"""One time step predicted from the other, robustly and square by square: what is left is change, or noise.

Two summers of the same land differ everywhere: haze adds, calibration multiplies, and the season gives every cover
another colour. All three are nearly linear in the bands of a small area. So within 3 x 3 cells of 2.56 km the bands of
the later step are fitted by those of the earlier one and a constant, and the distance of a pixel's residual from 0 is
taken in units of the residuals' own covariance (Mahalanobis). Changed pixels must not bend the fit: as in the
iteratively reweighted MAD transform (Nielsen 2007, IEEE TIP 16(2)), every pixel weighs as much as the probability that
noise alone is further away than it, round by round. Covariance and weights follow the median distance, so the land may
change in up to half of a square.

A cell's fit depends on its own 3 x 3 cells alone, on a global lattice: a pixel has the same value in any block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import chi2

Array = NDArray[np.float32]
CELL = 128
"""Side of a cell in pixels."""
SPARSE = 3
"""Every so many rows and columns of the 3 x 3 cells are fitted: neighbours tell the same."""
ROUNDS = 8
LEAST = 1000
"""Pixels with data that a fit needs, of 16,384 at most."""
STEP = 1e-4
"""Smallest difference that reflectance is stored with, relative to 1: no covariance is taken for smaller."""


def distances(before: Array, after: Array) -> Array:
    """Squared distance from "no change" of every pixel of whole cells, in the noise's own units.

    Args:
        before: (bands, height, width) of the cells and of one cell around them; NaN = no data.
        after: the same of the later step.

    Returns:
        (height - 2 cells, width - 2 cells) float32, chi-squared with `bands` degrees of freedom where the noise is
        normal; NaN where a step has no data, or too little around it has.
    """
    height, width = before.shape[1] - 2 * CELL, before.shape[2] - 2 * CELL
    out = np.full((height, width), np.nan, np.float32)
    for row in range(0, height, CELL):
        for col in range(0, width, CELL):
            around = (slice(None), slice(row, row + 3 * CELL, SPARSE), slice(col, col + 3 * CELL, SPARSE))
            model = _fit(_samples(before[around]), _samples(after[around]))
            if model is not None:
                cell = (slice(None), slice(row + CELL, row + 2 * CELL), slice(col + CELL, col + 2 * CELL))
                apart = _distance(_samples(before[cell]), _samples(after[cell]), *model)
                out[row : row + CELL, col : col + CELL] = apart.reshape(CELL, CELL)
    return out


def smoothed(values: Array, side: int) -> Array:
    """Mean over squares of pixels with data, (…, height, width); NaN stays NaN."""
    valid = np.isfinite(values)
    size = (*[1] * (values.ndim - 2), side, side)
    total = uniform_filter(np.where(valid, values, 0).astype(np.float64), size, mode="constant")
    share = uniform_filter(valid.astype(np.float64), size, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = np.where(valid, total / share, np.nan).astype(np.float32)
    return means


def _samples(values: Array) -> NDArray[np.float64]:
    return values.reshape(len(values), -1).T.astype(np.float64)


def _fit(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Coefficients (1 + bands, bands) and inverse covariance of the residuals; None where too little has data."""
    valid = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    if valid.sum() < LEAST:
        return None
    design, target = np.column_stack([np.ones(valid.sum()), before[valid]]), after[valid]
    bands = target.shape[1]
    middle, least = chi2.ppf(0.5, bands), (STEP * max(1e-12, float(np.abs(target).max()))) ** 2 * np.eye(bands)
    weights = np.ones(len(design))
    for _ in range(ROUNDS):
        weighted = design * weights[:, None]
        # lstsq rather than solve: a band may be constant
        coefficients = np.linalg.lstsq(weighted.T @ design, weighted.T @ target, rcond=1e-12)[0]
        residual = target - design @ coefficients
        covariance = (residual * weights[:, None]).T @ residual / weights.sum() + least
        distance = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual)
        # the weights make the covariance too small; the median distance says by how much
        scale = np.median(distance) / middle
        weights = chi2.sf(distance / scale, bands)
    return coefficients, np.linalg.inv(covariance * scale)


def _distance(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    coefficients: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> NDArray[np.float64]:
    residual = after - coefficients[0] - before @ coefficients[1:]
    distance: NDArray[np.float64] = np.einsum("ni,ij,nj->n", residual, precision, residual)
    return distance

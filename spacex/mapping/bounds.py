"""An interval of naturalness: what other observations of the same days and another classifier may say of a chip.

A chip's classifiers give a mean logit and how far nine tenths of other classifiers' logits may lie from it
(`spacex.models.members`); halves of the observations give the standard error σ of a logit (`spacex.mapping.halves`).
Another map errs by both, and so does this one by its own observations::

    half-width² = reach² + (WIDTH √2 σ)²

The ends are taken per chip on the scale of logits, where both are alike whatever the score, and blended as scores are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spacex.grid import Window
from spacex.mapping.chips import Blend
from spacex.models.members import SpreadFit, logits

Array = NDArray[np.float32]
WIDTH = 1.645
"""Standard errors of the noise in the interval."""


def bounds_map(
    window: Window, noise: Array, scores: Mapping[Window, Sequence[float]], size: int, fit: SpreadFit
) -> Array:
    """Lower and upper end of an interval of naturalness, (2, height, width) float32; NaN where the noise has no value.

    Args:
        window: the pixels of the result.
        noise: standard error of a logit, (height, width).
        scores: by chip that touches the window, one of each classifier, the one that is mapped first.
        size: side of a chip.
        fit: of the classifiers' spread.
    """
    blend = Blend(window, 0, size, bands=2)
    for chip in sorted(scores):
        z = logits(np.array(scores[chip]))[:, None]
        mean, reach = fit.reach(z)
        shared = chip.intersect(window)
        half = np.sqrt(reach**2 + 2 * (WIDTH * noise[shared.slices(window)].astype(np.float64)) ** 2)
        ends = np.stack([np.minimum(mean - half, z[0]), np.maximum(mean + half, z[0])])
        values = np.zeros((2, size, size), np.float32)
        values[(..., *shared.slices(chip))] = 1 / (1 + np.exp(-ends))
        blend.add(chip, values)
    return blend.mean()

"""How far a score would move with other observations of the same land: the classifier's answers to halves of them.

A composite is the median of n observations of a pixel. Of its 1st, 3rd, … and its 2nd, 4th, … alone two more composites
are made, and the classifier scores a chip from each: logits a and b. If the observations err independently, with the
variance v in the classifier's logit, a composite of m of them errs with v / m, so that ::

    var(a - b) = v / (n/2) + v / (n/2) = 4 v / n = 4 var(logit of all n)

and the standard error of the chip's logit is the standard deviation of (a - b) / 2. For medians, which use observations
less well the more there are (normal errors; n = 4 or 8: 3.4 and 3.6 in place of 4), that is 6 to 8 % too small; for odd
n = 3 it is 6 % too large. Errors that all observations of a summer share (haze on every day, the year's phenology) are
in a and b alike: this standard error does not see them.

One pair tells a standard deviation badly, so (a - b)² / 4 is averaged over the chips around a pixel, in squares and
in logits, in which the noise of neighbouring chips is alike whatever their scores. The root of that times the slope of
the score, y (1 - y) blended like naturalness, is the standard error of naturalness.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spacex.grid import Window
from spacex.mapping.chips import Blend, ChipPixels, extract_chips
from spacex.models.members import logits

Array = NDArray[np.float32]


def pair_stride(stride: int, size: int) -> int:
    """Pixels between the chips whose halves are scored: whole strides, so many that they hardly overlap.

    Chips that share most of their pixels share their noise too, and say little more than one of them.
    """
    return stride * (size // stride)


def reach(size: int) -> int:
    """Pixels by which the chips that are averaged for a pixel may lie beside it: the side of a chip."""
    return size


def extract_pairs(
    halves: Array, reflectance: Array, inside: Window, chips: list[Window], min_valid: float
) -> list[ChipPixels]:
    """Cut chips of both halves, (2 x bands, size, size); leaves out those of which too little has two observations.

    Where a pixel has a single observation both halves hold it, so that the chip looks as it does in the map.
    """
    twice = np.asarray(np.isfinite(halves).all(axis=(0, 1)))
    enough = [chip for chip in chips if twice[chip.slices(inside)].mean() >= min_valid]
    both = np.where(twice, halves, reflectance).reshape(-1, *reflectance.shape[1:])
    return extract_chips(both, inside, enough, min_valid)


def gap(first: float, second: float) -> float:
    """The difference of two scores in logits."""
    one, other = logits(np.array([first, second]))
    return float(one - other)


def logit_noise(window: Window, gaps: Mapping[Window, float], size: int) -> Array:
    """The standard error of the logit of chips around a pixel, (height, width) float32; NaN where no chip has weight.

    Args:
        window: the pixels of the result.
        gaps: of every chip within reach, on the global lattice.
        size: side of a chip.
    """
    far = reach(size)
    pooled = Blend(window, 0, size + 2 * far)
    # in lattice order, as all blends: sums in another order may differ in their last bits
    for chip in sorted(gaps):
        pooled.add(chip.pad(far), gaps[chip] ** 2 / 4)
    noise: Array = np.sqrt(pooled.mean())
    return noise


def noise_map(window: Window, noise: Array, scores: Mapping[Window, float], size: int) -> Array:
    """The standard error of naturalness, (height, width) float32, from that of logits and the scores of the chips."""
    slope = Blend(window, 0, size)
    for chip in sorted(scores):
        slope.add(chip, scores[chip] * (1 - scores[chip]))
    error: Array = slope.mean() * noise
    return error

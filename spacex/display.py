"""How reflectance is shown as colours: one fixed stretch, the same in quicklook, viewer, reports, figures and sheets.

A band's reflectance r becomes (r / white)^(1 / gamma), cut to 0..1. White is .25 for blue, green and red and .5 for the
other bands of Sentinel-2, in which vegetation is bright; gamma is 1.6, because woods are a tenth as bright as fields.
Nothing depends on the picture, so that the same land has the same colour in every picture. Ordinary pictures are shown
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spacex.settings import PICTURE_BANDS, RGB

WHITE, WHITE_INVISIBLE = 0.25, 0.5
"""Reflectance shown as white, of the visible bands and of the others."""
GAMMA = 1.6
FLOORS = {"attribution": 0.003, "lift": 5e-5, "path_attribution": 5e-5}
"""Least upper ends of the maps' colour scales, so that generators that change next to nothing are nowhere shown in full
colour: midway (as a ratio) between the 99th percentile of the embedded region, .0069 and 3.3e-4, and that of generators
that collapsed, .0012 and 7e-6."""

Image = NDArray[np.float32]


def display_band_indices(bands: Sequence[str]) -> list[int]:
    """Positions of red, green and blue; the first band thrice if one is missing."""
    sets = [names for names in (RGB, PICTURE_BANDS) if set(names) <= set(bands)]
    return [list(bands).index(name) for name in sets[0]] if sets else [0, 0, 0]


def white_and_gamma(bands: Sequence[str]) -> tuple[float, float]:
    """The value shown as white, and gamma, of the bands that are displayed (`display_band_indices`)."""
    first = bands[display_band_indices(bands)[0]]
    if first in PICTURE_BANDS:
        return 1.0, 1.0
    return (WHITE if first in RGB else WHITE_INVISIBLE), GAMMA


def to_rgb(reflectance: NDArray[np.floating], bands: Sequence[str]) -> Image:
    """Chips or composites ``(…, bands, height, width)`` as colours ``(…, height, width, 3)`` in 0..1; NaN stays NaN.

    Red, green and blue if `bands` has them, else the first band in grey.
    """
    white, gamma = white_and_gamma(bands)
    shown = np.clip(reflectance[..., display_band_indices(bands), :, :] / white, 0, 1) ** (1 / gamma)
    return np.asarray(np.moveaxis(shown, -3, -1), np.float32)

"""How much of every cover a landscape has, and in which colours: what differs between countries besides the seed."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from spacex.synthetic.noise import Floats, key_of
from spacex.synthetic.spectra import Cover

SECOND_COUNTRY = 2024
"""Seed of a country of other densities and colours: more mire, lakes and people, less fell, other tints."""


class LandscapeParams(NamedTuple):
    """Thresholds that decide how much there is of each cover, in standard deviations of their fields, and the tints."""

    mire: float = 0.42
    """Wetness above which low, remote land is open mire."""
    fell: float = 0.98
    """Height above which remote land is bare."""
    lakes: float = 1.12
    """Depth of a basin from which it holds water."""
    people: float = 0.0
    """Added to human influence."""
    tint: float = 0.0
    """Standard deviation of the logarithm of every cover's reflectance, and of its slope from blue to short-wave
    infrared."""


_OTHERS = {SECOND_COUNTRY: LandscapeParams(mire=0.15, fell=1.3, lakes=1.02, people=0.10, tint=0.15)}


def params_of(seed: int) -> LandscapeParams:
    """The same for every seed but the second country's."""
    return _OTHERS.get(seed, LandscapeParams())


@lru_cache(maxsize=8)
def cover_tints(seed: int) -> Floats | None:
    """Factor on the reflectance of every cover, (10, covers + 1) f4, drawn from the seed; None where there are none."""
    spread = params_of(seed).tint
    if not spread:
        return None
    drawn = np.random.default_rng(key_of(seed, "tint")).normal(0.0, spread, (2, 1, len(Cover) + 1))
    slope = np.linspace(-1.0, 1.0, 10)[:, None]
    return np.asarray(np.exp(drawn[0] + drawn[1] * slope), np.float32)

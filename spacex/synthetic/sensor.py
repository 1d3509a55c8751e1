"""Simulates a Sentinel-2 L2A product of noise-free ground: optics, residual haze, gain, noise, digital numbers.

Everything random comes from a :class:`Sky`, never from the ground. Two versions of the ground (one of them without
its mires, say) under the same sky therefore differ only where the ground does, and within one 20 m pixel of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spacex.settings import SENTINEL2_BANDS
from spacex.synthetic.noise import Coords, Floats, key_of, ramp, smooth

COARSE = tuple(SENTINEL2_BANDS.index(band) for band in ("B05", "B06", "B07", "B8A", "B11", "B12"))
"""Numbers of the bands with 20 m pixels."""
MARGIN = 2
"""Pixels of ground needed around a picture; even, so that 20 m pixels stay whole."""
# Brightness of thin haze per band, falling from blue to short-wave infrared as small droplets and smoke do.
_HAZE = np.array((0.62, 0.55, 0.49, 0.45, 0.42, 0.40, 0.37, 0.35, 0.14, 0.09), np.float32)
# Weights of the 3-tap line spread: a modulation transfer of 0.4 at the Nyquist frequency, within the 10 m
# bands' 0.15 to 0.45 of the Sentinel-2 MSI specification.
_SPREAD = (np.float32(0.15), np.float32(0.70), np.float32(0.15))


@dataclass(frozen=True)
class Sky:
    """Air and electronics of one acquisition."""

    seed: int
    """Decides where haze lies, and the noise."""
    gain: float = 1.0
    """Residual error of calibration and atmospheric correction, all bands."""
    tilt: float = 0.0
    """Further gain of the blue end over the red and infrared, e.g. 0.04."""
    haze: float = 0.0
    """Thickest haze as a share of the light, 0..0.3."""
    noise: float = 0.0015
    """Standard deviation of a 10 m pixel's noise in reflectance."""


def draw_sky(random: np.random.Generator) -> Sky:
    """A clear summer acquisition: half have a little haze somewhere, gains differ by some per cent."""
    hazy = random.random() < 0.5
    return Sky(
        seed=int(random.integers(1 << 31)),
        gain=float(np.exp(random.normal(0.0, 0.07))),
        tilt=float(random.normal(0.0, 0.03)),
        haze=float(random.uniform(0.02, 0.12)) if hazy else 0.0,
        noise=float(random.uniform(0.0006, 0.0022)),
    )


def haze_of(sky: Sky, x: Coords, y: Coords) -> Floats:
    """Share of the light that haze hides and replaces, f4 of the shape `x` and `y` (EPSG:3035 metres) span."""
    puffs = smooth(x, y, 1400.0, key_of(sky.seed, "haze")) + np.float32(0.35) * smooth(
        x, y, 380.0, key_of(sky.seed, "wisps")
    )
    return np.float32(sky.haze) * ramp(puffs, -0.3, 2.0)


def observe(reflectance: Floats, haze: Floats, sky: Sky) -> Floats:
    """Surface reflectance as an L2A product holds it, (10, h, w) f4; 20 m bands come as equal 2 x 2 blocks.

    Args:
        reflectance: noise-free ground, (10, h + 2 MARGIN, w + 2 MARGIN), h and w even, on the grid of 20 m pixels.
        haze: share of the light that haze replaces, (h, w), as from :func:`haze_of`.
        sky: the acquisition.
    """
    # optics: a line spread of three taps, along columns and then along rows
    low, mid, high = _SPREAD
    rows = reflectance[:, 1:-3] * low + reflectance[:, 2:-2] * mid + reflectance[:, 3:-1] * high
    observed: Floats = rows[:, :, 1:-3] * low + rows[:, :, 2:-2] * mid + rows[:, :, 3:-1] * high
    # gain, which the tilt changes from blue to short-wave infrared
    tilt = np.float32(sky.tilt) * np.linspace(1.0, -0.6, len(SENTINEL2_BANDS), dtype=np.float32)
    observed *= (np.float32(sky.gain) * (1 + tilt))[:, None, None]
    if haze.any():
        observed += (_HAZE[:, None, None] - observed) * haze
    noise = np.random.default_rng(sky.seed).standard_normal(observed.shape, np.float32)
    observed += noise * np.float32(sky.noise)
    # 20 m pixels are the means of 2 x 2
    bands, height, width = observed[list(COARSE)].shape
    coarse = observed[list(COARSE)].reshape(bands, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    observed[list(COARSE)] = coarse.repeat(2, axis=1).repeat(2, axis=2)
    return observed


def to_dn(reflectance: Floats, offset: int = 0) -> NDArray[np.uint16]:
    """Digital numbers: reflectance * 10000 + offset, rounded; a valid pixel never becomes 0 (no data).

    The offset is 1000 for products that keep the one of processing baseline 04.00, else 0.
    """
    dn = np.rint(reflectance * np.float32(10000.0)) + np.float32(offset)
    return np.asarray(np.clip(dn, 1, 65535), np.uint16)

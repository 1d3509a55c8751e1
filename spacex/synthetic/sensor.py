"""From noise-free ground to what a Sentinel-2 L2A product shows: optics, residual haze, gain, noise, integers.

Everything random comes from a :class:`Sky`, never from the ground: the same sky over two versions of the
ground (one of them without its mires, say) differs only where the ground does, give or take the optics' reach
of one 20 m pixel.
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
    """One acquisition's air and electronics."""

    seed: int
    """Where haze lies and what the noise is."""
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
    """What the sensor sees of the ground through `sky`.

    Args:
        reflectance: noise-free ground, (10, h + 2 MARGIN, w + 2 MARGIN), h and w even, 20 m pixels aligned
            with it.
        haze: share of the light that haze replaces, (h, w), as from :func:`haze_of`.
        sky: the acquisition.

    Returns:
        Surface reflectance as an L2A product holds it, (10, h, w) f4; 20 m bands come as equal 2 x 2 blocks.
    """
    seen = _optics(reflectance)
    seen *= _gains(sky)[:, None, None]
    if haze.any():
        seen += (_HAZE[:, None, None] - seen) * haze
    seen += _noise(seen.shape, sky)
    seen[list(COARSE)] = _blocks(seen[list(COARSE)])
    return seen


def to_dn(reflectance: Floats, offset: int = 0) -> NDArray[np.uint16]:
    """Digital numbers: reflectance * 10000 + offset, rounded; a valid pixel never becomes 0 (no data).

    Args:
        reflectance: any shape.
        offset: 1000 for products that keep the offset of processing baseline 04.00, else 0.
    """
    dn = np.rint(reflectance * np.float32(10000.0)) + np.float32(offset)
    return np.asarray(np.clip(dn, 1, 65535), np.uint16)


def _gains(sky: Sky) -> Floats:
    blue_to_swir = np.linspace(1.0, -0.6, len(SENTINEL2_BANDS), dtype=np.float32)
    return np.float32(sky.gain) * (1 + np.float32(sky.tilt) * blue_to_swir)


def _optics(ground: Floats) -> Floats:
    low, mid, high = _SPREAD
    rows = ground[:, 1:-3] * low + ground[:, 2:-2] * mid + ground[:, 3:-1] * high
    return np.asarray(rows[:, :, 1:-3] * low + rows[:, :, 2:-2] * mid + rows[:, :, 3:-1] * high)


def _noise(shape: tuple[int, ...], sky: Sky) -> Floats:
    random = np.random.default_rng(sky.seed)
    return random.standard_normal(shape, np.float32) * np.float32(sky.noise)


def _blocks(fine: Floats) -> Floats:
    bands, rows, cols = fine.shape
    coarse = fine.reshape(bands, rows // 2, 2, cols // 2, 2).mean(axis=(2, 4))
    return np.asarray(coarse.repeat(2, axis=1).repeat(2, axis=2))

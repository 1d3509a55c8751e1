"""Land covers, their CORINE codes, and the reflectance of materials in ten Sentinel-2 bands."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Cover(IntEnum):
    """Land cover of one pixel of the embedded landscape."""

    CONIFER = 1
    BROADLEAF = 2
    MIXED = 3
    YOUNG = 4
    CLEARCUT = 5
    LAKE = 6
    RIVER = 7
    SHORE = 8
    MIRE = 9
    ROCK = 10
    HEATH = 11
    ARABLE = 12
    GRASS = 13
    SETTLEMENT = 14
    ROAD = 15
    DISTRACTOR = 16


NATURAL_PATTERN = (Cover.MIRE, Cover.ROCK, Cover.HEATH)
"""The covers that tell the classes apart: mire, and bare fell (rock and lichen heath)."""
ANTHROPOGENIC = (Cover.ARABLE, Cover.GRASS, Cover.SETTLEMENT, Cover.ROAD)
"""Fields, villages and roads."""

# by `Cover`; a few pixels of shore never reach CORINE's 25 ha, so it is mapped with the lake, and a distractor, which
# no nomenclature has, as the conifers around it
CORINE_OF = np.array([0, 312, 311, 313, 324, 324, 512, 511, 512, 412, 332, 333, 211, 231, 112, 122, 312], np.uint16)
"""CORINE level-3 code (111..523) by `Cover`; 0 for no cover."""

# Bottom-of-atmosphere reflectance, B02 B03 B04 B05 B06 B07 B08 B8A B11 B12. Set by hand to the usual
# magnitudes of boreal summer in Sentinel-2 L2A (dark conifers, red edge of grass, low SWIR of water and wet
# moss).
_TABLE = {
    "spruce": (0.016, 0.030, 0.020, 0.050, 0.115, 0.140, 0.155, 0.165, 0.080, 0.038),
    "pine": (0.025, 0.041, 0.036, 0.068, 0.125, 0.150, 0.165, 0.178, 0.118, 0.064),
    "birch": (0.020, 0.046, 0.027, 0.076, 0.190, 0.235, 0.255, 0.270, 0.138, 0.063),
    "young": (0.026, 0.052, 0.040, 0.085, 0.170, 0.205, 0.225, 0.240, 0.165, 0.088),
    "clearcut": (0.052, 0.072, 0.086, 0.122, 0.165, 0.182, 0.197, 0.212, 0.270, 0.185),
    "brushwood": (0.036, 0.060, 0.058, 0.105, 0.175, 0.200, 0.218, 0.232, 0.215, 0.130),
    "sand": (0.130, 0.168, 0.200, 0.228, 0.245, 0.260, 0.275, 0.288, 0.360, 0.310),
    "sedge_shore": (0.030, 0.052, 0.046, 0.090, 0.160, 0.190, 0.205, 0.215, 0.150, 0.080),
    "water_clear": (0.022, 0.021, 0.012, 0.010, 0.008, 0.008, 0.007, 0.007, 0.004, 0.003),
    "water_humic": (0.012, 0.014, 0.013, 0.012, 0.010, 0.010, 0.009, 0.009, 0.005, 0.003),
    "water_shallow": (0.034, 0.044, 0.036, 0.032, 0.024, 0.022, 0.020, 0.019, 0.010, 0.006),
    "sedge": (0.048, 0.075, 0.084, 0.122, 0.190, 0.220, 0.240, 0.250, 0.250, 0.150),
    "sphagnum": (0.038, 0.050, 0.066, 0.098, 0.168, 0.198, 0.213, 0.224, 0.180, 0.092),
    "flark_wet": (0.024, 0.032, 0.031, 0.042, 0.055, 0.060, 0.063, 0.063, 0.040, 0.022),
    "string": (0.027, 0.043, 0.042, 0.075, 0.145, 0.175, 0.193, 0.204, 0.165, 0.088),
    "pool": (0.014, 0.017, 0.015, 0.014, 0.013, 0.013, 0.012, 0.012, 0.006, 0.004),
    "rock": (0.078, 0.090, 0.099, 0.112, 0.123, 0.130, 0.138, 0.144, 0.178, 0.155),
    "rock_dark": (0.036, 0.042, 0.046, 0.056, 0.070, 0.076, 0.082, 0.086, 0.110, 0.095),
    "lichen": (0.062, 0.080, 0.088, 0.112, 0.150, 0.170, 0.185, 0.198, 0.260, 0.180),
    "heath": (0.027, 0.039, 0.042, 0.069, 0.128, 0.158, 0.176, 0.188, 0.172, 0.102),
    "soil": (0.070, 0.090, 0.108, 0.128, 0.150, 0.160, 0.174, 0.186, 0.262, 0.225),
    "cereal": (0.050, 0.086, 0.082, 0.138, 0.235, 0.280, 0.305, 0.315, 0.262, 0.160),
    "stubble": (0.080, 0.112, 0.138, 0.168, 0.208, 0.228, 0.245, 0.258, 0.318, 0.225),
    "grass": (0.034, 0.074, 0.043, 0.108, 0.300, 0.375, 0.410, 0.422, 0.220, 0.108),
    "potato": (0.028, 0.060, 0.036, 0.090, 0.270, 0.350, 0.390, 0.400, 0.190, 0.090),
    "ditch": (0.028, 0.048, 0.040, 0.080, 0.160, 0.190, 0.206, 0.216, 0.150, 0.080),
    "garden": (0.036, 0.062, 0.052, 0.096, 0.195, 0.235, 0.255, 0.268, 0.180, 0.105),
    "roof_bright": (0.190, 0.205, 0.215, 0.225, 0.235, 0.240, 0.245, 0.250, 0.260, 0.240),
    "roof_red": (0.065, 0.075, 0.120, 0.135, 0.145, 0.155, 0.165, 0.172, 0.210, 0.190),
    "roof_dark": (0.060, 0.064, 0.068, 0.074, 0.082, 0.088, 0.092, 0.096, 0.115, 0.108),
    "asphalt": (0.076, 0.086, 0.092, 0.100, 0.112, 0.118, 0.124, 0.128, 0.150, 0.140),
    "gravel": (0.105, 0.126, 0.142, 0.158, 0.172, 0.182, 0.192, 0.200, 0.245, 0.215),
    "distractor": (0.046, 0.056, 0.098, 0.122, 0.152, 0.168, 0.183, 0.194, 0.235, 0.175),
}


_SPECTRA = {name: np.array(values, np.float32) for name, values in _TABLE.items()}


def spectrum(name: str) -> NDArray[np.float32]:
    """Reflectance (10,) f4 of a material, bands as in ``SENTINEL2_BANDS``."""
    return _SPECTRA[name]

"""Settings of a request for scenes: which are searched, which pixels count, and how composites are made of them.

Which classes of the scene classification (SCL) are clear at 60-71° N by default, a judgement rather than a measurement:

- 2 (dark area) is clear: at the sun heights of a northern summer, spruce forest, bog pools and dark lakes often
  get this class. Without them the composite would have holes exactly where land is natural.
- 7 (unclassified) is clear: lichen heath and bare fell often get this class. So does thin haze, which the median
  discards when most observations are clear.
- 11 (snow) is not, unless asked for: the classifier learned from July and August, and SCL mixes snow with cloud.
- 3, 8, 9, 10 (cloud shadow, cloud, cirrus), 1 (defective) and 0 (no data) are not.
- Clouds are not buffered: the median tolerates their thin edges, and SCL mistakes bright mires for cloud, so that
  a buffer removes mires.
- Scenes with the sun below 20° are not used: Sen2Cor's atmospheric correction is specified up to 70° of zenith angle.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator
from scipy.ndimage import binary_dilation

from spacex.sentinel2.catalogue_profiles import CatalogueProfile, get_catalogue
from spacex.sentinel2.resampling import Resampling
from spacex.sentinel2.scenes import Scene
from spacex.settings import Settings

CLOUDY = (3, 8, 9, 10)
"""SCL classes that a cloud buffer grows: shadow, medium and high cloud probability, cirrus."""
SNOW = 11
"""SCL class of snow and ice, the largest class there is."""


class CompositeSettings(Settings):
    """What counts as a clear observation, and how pixels are brought to the cube's grid."""

    clear_classes: tuple[int, ...] = (2, 4, 5, 6, 7)
    """SCL classes that are clear: dark area, vegetation, bare, water, unclassified."""
    snow_is_clear: bool = False
    """Whether snow and ice (11) count as clear too."""
    min_sun_elevation: float = Field(default=20.0, ge=0.0, le=90.0)
    """Degrees; scenes with a lower sun are not used. Scenes that do not state it are."""
    cloud_buffer: int = Field(default=0, ge=0, le=50)
    """Pixels of 20 m by which clouds and their shadows are grown."""
    min_observations: int = Field(default=1, ge=1)
    """Pixels with fewer clear observations are no data."""
    enough: int = Field(default=8, ge=0, le=1000)
    """Maximum number of clear observations per pixel, those of the least cloudy scenes; 0 = all.

    More than eight cost reading and gain nothing, since the cloudier scenes bring thin cloud and haze that SCL does not
    mark: ``tests/benchmarks/reading.py enough`` measures the error against a cloud-free truth."""
    resampling: Resampling = "nearest"
    """How reflectance is brought to the cube's grid; SCL is always resampled to the nearest pixel."""

    @field_validator("clear_classes")
    @classmethod
    def _known(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not set(value) <= set(range(1, 12)):
            raise ValueError(f"clear classes must be some of SCL 1 to 11, got {value}")
        return tuple(sorted(set(value)))

    @field_validator("enough")
    @classmethod
    def _not_below_the_minimum(cls, value: int, info: ValidationInfo) -> int:
        if 0 < value < (least := info.data.get("min_observations", 1)):
            raise ValueError(f"0 or at least the minimum of observations, {least}")
        return value

    def exclusion_reason(self, scene: Scene) -> str:
        """Why a scene is not used, if the sun was too low; else empty."""
        sun, least = scene.sun_elevation, self.min_sun_elevation
        return "" if sun is None or sun >= least else f"sun at {sun:.1f}°, below {least:g}°"

    def clear(self, scl: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Where an SCL window is clear, clouds grown by the buffer (True = clear, same shape)."""
        clear = isin(scl, [*self.clear_classes, *([SNOW] if self.snow_is_clear else [])])
        if self.cloud_buffer:
            reach = np.arange(-self.cloud_buffer, self.cloud_buffer + 1)
            disc = reach[:, None] ** 2 + reach**2 <= self.cloud_buffer**2
            clear &= ~binary_dilation(isin(scl, CLOUDY), structure=disc)
        return clear


class SceneRequest(Settings):
    """Which scenes are searched and how they are composited; base of the requests for maps and for data sets."""

    catalogue: str = "earth-search"
    """Name of the catalogue's profile."""
    stac_url: str | None = None
    """Another endpoint of the same profile."""
    collection: str | None = None
    """Another collection of the same profile."""
    items: str | None = Field(None, exclude_if=lambda uri: uri is None)
    """A file with the items, instead of a search. Not part of the fingerprint: which scenes there are is data."""
    crs: str = "EPSG:3035"
    resolution: float = 10.0
    """Metres per pixel."""
    max_cloud_cover: float = Field(60.0, ge=0, le=100)
    """Percent of a scene that may be cloudy; clouds in the rest are masked pixel by pixel."""
    leave_out: tuple[str, ...] = Field((), exclude_if=lambda ids: not ids)
    """Ids of items that are not used, sorted. Stored only if there are any: other fingerprints stay as they were."""
    composite: CompositeSettings = CompositeSettings()
    """Masking, merging and resampling."""

    @field_validator("leave_out")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @property
    def profile(self) -> CatalogueProfile:
        """The catalogue at the address, or with the list of items, of this request."""
        return get_catalogue(self.catalogue, self.stac_url, self.collection, self.items)

    @property
    def source(self) -> str:
        """What the pixels are, and under which terms."""
        if self.catalogue == "demo":
            return "synthetic scenes of the landscape that ships with SpacEX, through STAC; no observation of the Earth"
        return f"Sentinel-2 Level-2A through STAC ({self.catalogue}); contains modified Copernicus Sentinel data"


def isin(scl: NDArray[np.uint8], classes: Iterable[int]) -> NDArray[np.bool_]:
    """Where an SCL window has one of a few classes, in a quarter of the time of `numpy.isin`."""
    mask: NDArray[np.bool_] = reduce(np.logical_or, (scl == number for number in classes))
    return mask

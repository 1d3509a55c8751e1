"""Composites: per-pixel median of the clear observations of a period, as surface reflectance.

One pass over the scenes' classification (SCL) decides, per pixel, which scenes are clear there; then each
band is read, only where that leaves something, and its median taken. Nothing depends on the order of the
scenes or on the window, so any tiling gives the same composite.

**One overpass is one observation.** MGRS tiles overlap by 10 km, and at 68° N neighbouring UTM zones by
much more, so one acquisition of a pixel often arrives two to four times. Counted per item it would outvote
other days in the median, and `observations` would promise independence that is not there. So the items of
one platform and solar day form one observation, and each pixel takes it from the first item that is clear
there, in the order (tile, newest processing, id).

**What is clear** at 60–71° N, argued and not measured:

- 2 (dark area) stays in: at the sun heights of a northern summer, spruce forest, bog pools and dark lakes are
  often classed so. Without them there would be holes exactly where nature is dark.
- 7 (unclassified) stays in: lichen heath and bare fell often end there; thin haze too, which the median
  discards when most observations are clear.
- 11 (snow) is out unless asked for: the classifier learned from July and August, and SCL mixes it with cloud.
- 3, 8, 9, 10 (cloud shadow, cloud, cirrus), 1 (defective) and 0 (no data) are out.
- No buffer around clouds by default: the median bears their thin edges, and SCL mistakes bright mires for
  cloud, so that a buffer eats mires.
- Sun lower than 20°: out. Sen2Cor's atmospheric correction is not specified beyond 70° of zenith distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import Field, field_validator
from scipy.ndimage import binary_dilation

from spacex.errors import TileError
from spacex.sentinel2.assets import open_asset
from spacex.sentinel2.median import MISSING, median
from spacex.sentinel2.reflectance import DarkPixels, contradiction, dark_pixels, harmonise
from spacex.sentinel2.sampling import Lattice, Resampling, Sampling, sampling
from spacex.sentinel2.scenes import Scene, in_order, touching
from spacex.sentinel2.styles import Catalogue
from spacex.settings import Settings

T = TypeVar("T")
R = TypeVar("R")

CLOUDY = (3, 8, 9, 10)
"""SCL classes that a cloud buffer grows: shadow, medium and high cloud probability, cirrus."""

SNOW = 11

SAME_GROUND = 100.0
"""Metres by which the edges of two files of one scene may differ."""


class CompositeSettings(Settings):
    """What counts as a clear observation, and how pixels are brought to the cube's grid."""

    clear_classes: tuple[int, ...] = (2, 4, 5, 6, 7)
    """SCL classes that are clear: dark area, vegetation, bare, water, unclassified."""
    snow_is_clear: bool = False
    """Whether snow and ice (11) count as clear too."""
    min_sun_elevation: float = Field(default=20.0, ge=0.0, le=90.0)
    """Degrees; scenes with a lower sun are not used. Scenes that do not say are."""
    cloud_buffer: int = Field(default=0, ge=0, le=50)
    """Pixels of 20 m by which clouds and their shadows are grown."""
    min_observations: int = Field(default=1, ge=1)
    """Pixels with fewer clear observations are no data."""
    resampling: Resampling = "nearest"
    """How reflectance is brought to the cube's grid; SCL is always nearest."""

    @field_validator("clear_classes")
    @classmethod
    def _known(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not set(value) <= set(range(1, 12)):
            raise ValueError(f"clear classes must be some of SCL 1 to 11, got {value}")
        return tuple(sorted(set(value)))

    def clear(self, scl: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Where an SCL window is clear, clouds grown by the buffer (True = clear, same shape)."""
        classes = [*self.clear_classes, *([SNOW] if self.snow_is_clear else [])]
        clear = np.isin(scl, classes)
        if self.cloud_buffer:
            reach = np.arange(-self.cloud_buffer, self.cloud_buffer + 1)
            disc = reach[:, None] ** 2 + reach**2 <= self.cloud_buffer**2
            clear &= ~binary_dilation(np.isin(scl, CLOUDY), structure=disc)
        return np.asarray(clear)


@dataclass(frozen=True)
class Composite:
    """A composite on the grid it was asked for."""

    reflectance: NDArray[np.float32]
    """(band, y, x) surface reflectance, 1.0 = 10000 DN; NaN = no data, in all bands at once."""
    observations: NDArray[np.uint16]
    """(y, x) number of clear observations, also where there are too few for a value."""
    uses: list[dict[str, Any]]
    """Per scene, what it was and gave: JSON values, for the tile's provenance."""


@dataclass
class _Look:
    """One scene while it is being read."""

    scene: Scene
    seen: NDArray[np.bool_] | None = None
    """(y, x) pixels this scene supplies; None if it supplies none."""
    clear_share: float = 0.0
    bounds: tuple[float, ...] = ()
    dark: dict[str, DarkPixels] = field(default_factory=dict)


def read_composite(
    scenes: Iterable[Scene],
    geobox: GeoBox,
    bands: Sequence[str],
    catalogue: Catalogue,
    settings: CompositeSettings | None = None,
    *,
    threads: int = 4,
) -> Composite:
    """Reads the scenes that touch a grid and takes the median of their clear observations.

    Safe to call from several threads. Without dask: a worker reads one tile at a time per thread, so a task
    graph would add scheduling and no overlap. Memory is (number of overpasses + 6) pictures of 16 bits,
    whatever the number of bands.

    Args:
        scenes: any scenes of the request, in any order; those that cannot touch the grid are passed over.
        geobox: north-up grid in a projected CRS, a tile with its halo.
        bands: names such as ``B04``, the order of the result.
        catalogue: where the scenes are from.
        settings: what is clear, and resampling.
        threads: files opened at the same time; shared by all calls in this process with the same number.

    Returns:
        The composite; all no data if no scene touches the grid or nothing is clear.

    Raises:
        CatalogueError: if the catalogue has no such band.
        TileError: if a file is missing, damaged, or not what its item says.
    """
    settings = settings or CompositeSettings()
    keys = dict(zip(bands, catalogue.keys(bands), strict=True))
    looks = [_Look(scene) for scene in in_order(touching(scenes, geobox))]
    tables = _Tables(geobox, settings)
    bright = [look for look in looks if not _too_dark(look.scene, settings)]
    masks = _each(threads, lambda look: _clear_mask(look, catalogue, tables), bright)
    groups, observations = _share_out(bright, masks, (geobox.shape[0], geobox.shape[1]))
    del masks
    reflectance = np.empty((len(keys), *geobox.shape), np.float32)
    for plane, (band, key) in zip(reflectance, keys.items(), strict=True):
        stack = np.full((len(groups), *geobox.shape), MISSING, dtype=np.uint16)
        jobs = [(look, stack[i]) for i, group in enumerate(groups) for look in group if look.seen is not None]
        _each(threads, lambda job: _read_band(*job, band, key, catalogue, tables), jobs)  # noqa: B023
        plane[:], count = median(stack)
        observations = np.minimum(observations, count)
    reflectance[:, observations < settings.min_observations] = np.nan
    return Composite(reflectance, observations, [_use(look, settings) for look in looks])


def _too_dark(scene: Scene, settings: CompositeSettings) -> bool:
    return scene.sun_elevation is not None and scene.sun_elevation < settings.min_sun_elevation


def _clear_mask(look: _Look, catalogue: Catalogue, tables: _Tables) -> NDArray[np.bool_]:
    """(y, x) True where the scene is clear."""
    with open_asset(look.scene, catalogue.scl, catalogue) as raster:
        table = tables.scl(raster.lattice)
        scl = raster.read(table.window)
        look.bounds = tuple(raster.source.bounds)
    if scl.size and scl.max() > SNOW:
        raise TileError(
            f"asset {catalogue.scl} of {look.scene.id} is no scene classification", got=f"value {scl.max()}",
            expected="0 to 11",
        )  # fmt: skip
    clear = np.asarray(table.take(tables.settings.clear(scl)))
    look.clear_share = float(clear.mean())
    return clear


def _share_out(
    looks: list[_Look], masks: list[NDArray[np.bool_]], shape: tuple[int, int]
) -> tuple[list[list[_Look]], NDArray[np.uint16]]:
    """Gives each clear pixel of an overpass to one scene, and counts the overpasses."""
    observations = np.zeros(shape, dtype=np.uint16)
    pairs = sorted(zip(looks, masks, strict=True), key=lambda pair: pair[0].scene.overpass)
    groups = []
    for _, group in groupby(pairs, key=lambda pair: pair[0].scene.overpass):
        taken, members = np.zeros(shape, dtype=bool), []
        for look, clear in group:
            mine = clear & ~taken
            taken |= clear
            look.seen = mine if mine.any() else None
            members.append(look)
        observations += taken
        if taken.any():
            groups.append(members)
    return groups, observations


def _read_band(
    look: _Look, plane: NDArray[np.uint16], band: str, key: str, catalogue: Catalogue, tables: _Tables
) -> None:
    """Writes the scene's harmonised DN into the pixels of `plane` that it supplies."""
    with open_asset(look.scene, key, catalogue) as raster:
        bounds = tuple(raster.source.bounds)
        # cut-outs may end a few pixels apart; what must not pass is another product's classification
        if not np.allclose(bounds, look.bounds, rtol=0.0, atol=SAME_GROUND):
            raise TileError(
                f"assets {key} and {catalogue.scl} of {look.scene.id} do not cover the same ground",
                got=bounds, expected=look.bounds,
            )  # fmt: skip
        table = tables.band(raster.lattice)
        dn = table.blend(raster.read(table.window).astype(np.uint16, copy=False))
    assert look.seen is not None
    look.dark[band] = dark_pixels(dn, look.seen, look.scene.offset)
    np.copyto(plane, harmonise(dn, look.scene.offset), where=look.seen & (dn > 0))


def _use(look: _Look, settings: CompositeSettings) -> dict[str, Any]:
    scene = look.scene
    use: dict[str, Any] = {
        "id": scene.id, "datetime": scene.datetime, "offset_dn": scene.offset.dn,
        "offset_reason": scene.offset.reason, "sun_elevation": scene.sun_elevation,
        "clear_share": round(look.clear_share, 6),
        "used_share": 0.0 if look.seen is None else round(float(look.seen.mean()), 6),
    }  # fmt: skip
    if _too_dark(scene, settings):
        use["left_out"] = f"sun at {scene.sun_elevation:.1f}°, below {settings.min_sun_elevation:g}°"
    if look.dark and (warning := contradiction(look.dark, scene.offset)):
        use["warning"] = warning
    return use


class _Tables:
    """Address tables of one grid, made once per lattice and shared by the reading threads."""

    def __init__(self, geobox: GeoBox, settings: CompositeSettings) -> None:
        self.geobox, self.settings = geobox, settings
        self._made: dict[tuple[Lattice, Resampling, int], Sampling] = {}
        self._lock = Lock()

    def scl(self, lattice: Lattice) -> Sampling:
        # the margin lets clouds outside the window grow into it, so the buffer cannot depend on the window
        return self._get(lattice, "nearest", self.settings.cloud_buffer)

    def band(self, lattice: Lattice) -> Sampling:
        return self._get(lattice, self.settings.resampling, 0)

    def _get(self, lattice: Lattice, how: Resampling, margin: int) -> Sampling:
        with self._lock:
            key = (lattice, how, margin)
            if key not in self._made:
                self._made[key] = sampling(self.geobox, lattice, how, margin)
            return self._made[key]


def _each(threads: int, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Results in the order of `items`; the first fault wins and the rest is not started."""
    if threads <= 1 or len(items) < 2:
        return [work(item) for item in items]
    futures = [_pool(threads).submit(work, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    # kept for the life of the process: GDAL's connections belong to threads, and new threads would reconnect
    return ThreadPoolExecutor(threads, thread_name_prefix="spacex-read")

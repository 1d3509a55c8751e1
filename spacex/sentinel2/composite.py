"""Composites: per-pixel median of the clear observations of a period, as surface reflectance.

Scenes are looked at in one order, which depends on nothing but themselves: the least cloudy first, then by time,
then the newest processing, then by id. Their classification (SCL) decides, per pixel, which of them supply an
observation; then each band is read, only where that leaves something, and its median taken.

**Enough is enough.** A pixel takes its first `enough` clear observations of that order and no more; a scene is read
only where a pixel still lacks some. The rule is each pixel's own, so any window and any tiling gives the same
composite, to the bit. A pixel that lacks d observations needs at least d scenes more, so the classifications of the
next d scenes are read together.

**One overpass is one observation.** MGRS tiles overlap by 10 km, and at 68° N neighbouring UTM zones by
much more, so one acquisition of a pixel often arrives two to four times. Counted per item it would outvote
other days in the median, and `observations` would promise independence that is not there. So the items of
one platform and solar day form one observation: each pixel takes it from the first item that has data there, and
where that item says cloud the others, cut from the same acquisition, are not asked. (Asking them would read every
overlap twice for the few pixels at clouds' edges in which two runs of the same algorithm differ.)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.errors import TileError
from spacex.sentinel2.files import Files
from spacex.sentinel2.look import NOT_HERE, Look, Stack
from spacex.sentinel2.median import MISSING, median
from spacex.sentinel2.observation import SNOW, CompositeSettings, Use, in_rank
from spacex.sentinel2.reflectance import DarkPixels, dark_pixels, harmonise
from spacex.sentinel2.sampling import Lattice, Resampling, Sampling, sampling
from spacex.sentinel2.scenes import Scene, touching
from spacex.sentinel2.store import Store
from spacex.sentinel2.styles import Catalogue

T = TypeVar("T")
R = TypeVar("R")

NO_ANSWER = (0, 1)
"""SCL classes that say nothing about the ground: no data, defective."""

SAME_GROUND = 100.0
"""Metres by which the edges of two files of one scene may differ."""

TOGETHER = 8
"""Classifications read at the same time at most."""

STRIP = 64
"""Rows of a picture worked on at a time."""


@dataclass(frozen=True)
class Composite:
    """A composite on the grid it was asked for."""

    reflectance: NDArray[np.float32]
    """(band, y, x) surface reflectance, 1.0 = 10000 DN; NaN = no data, in all bands at once."""
    observations: NDArray[np.uint16]
    """(y, x) number of clear observations in the median, also where there are too few for a value."""
    looks: tuple[Use, ...]
    """Every scene that could touch the grid, in their order."""
    fetched: int = 0
    """Bytes of the files' blocks that had to be fetched for it, as they are stored."""
    classes: NDArray[np.uint8] | None = None
    """(y, x) scene classification (SCL) of the first clear observation of each pixel, 0 where there is none; None
    unless the composer was told to keep it."""

    @property
    def uses(self) -> list[dict[str, Any]]:
        """Per scene, what it was and gave: JSON values, for the tile's provenance."""
        return [use.to_json() for use in self.looks]


def read_composite(
    scenes: Iterable[Scene],
    geobox: GeoBox,
    bands: Sequence[str],
    catalogue: Catalogue,
    settings: CompositeSettings | None = None,
    *,
    threads: int = 4,
) -> Composite:
    """Reads the scenes that touch a grid and takes the median of their first clear observations.

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
    return Composer(bands, catalogue, settings, Files(remembered=0), threads).compose(touching(scenes, geobox), geobox)


@dataclass(frozen=True)
class Composer:
    """Makes composites of any scenes on any grid. Safe to use from several threads.

    Without dask: a worker reads one tile at a time per thread, so a task graph would add scheduling and no overlap.
    Memory, besides the files' blocks: (`enough` + 6) pictures of 16 bits and one more for each scene that supplies
    something, whatever the number of bands.
    """

    bands: Sequence[str]
    """Names such as ``B04``, the order of the result."""
    catalogue: Catalogue
    settings: CompositeSettings
    files: Files
    """Remembers what calls share."""
    threads: int = 4
    """Files read at the same time; shared by all composers of this process with the same number."""
    keep_classes: bool = False
    """Whether composites come with `classes`."""

    def compose(self, scenes: Iterable[Scene], geobox: GeoBox) -> Composite:
        """The composite of scenes that can touch a grid; see `read_composite`."""
        keys = dict(zip(self.bands, self.catalogue.keys(self.bands), strict=True))
        looks = [Look(scene) for scene in in_rank(scenes)]
        tables = _Tables(geobox, self.settings)
        shape = (geobox.shape[0], geobox.shape[1])
        classes = np.zeros(shape, np.uint8) if self.keep_classes else None
        observations = self._share_out(looks, tables, shape, classes)
        depth, supplying = int(observations.max(initial=0)), [look for look in looks if look.places is not None]
        reflectance = np.empty((len(keys), *shape), np.float32)
        for plane, (band, key) in zip(reflectance, keys.items(), strict=True):
            stack = np.full((depth, *shape), MISSING, dtype=np.uint16)
            into = Stack(stack, Lock())
            _each(self.threads, lambda look: self._read_band(look, into, band, key, tables), supplying)  # noqa: B023
            plane[:], count = median(stack)
            observations = np.minimum(observations, count)
        reflectance[:, observations < self.settings.min_observations] = np.nan
        uses = tuple(look.use(observations.size, self.settings) for look in looks)
        return Composite(reflectance, observations, uses, sum(look.fetched for look in looks), classes)

    def _share_out(
        self, looks: list[Look], tables: _Tables, shape: tuple[int, int], first: NDArray[np.uint8] | None
    ) -> NDArray[np.uint16]:
        """Reads classifications until every pixel has enough, and counts the observations each pixel takes.

        Where it is wanted, `first` (y, x) gets the class of each pixel's first observation.
        """
        waiting = deque(look for look in looks if not self.settings.too_dark(look.scene))
        several = Counter(look.scene.overpass for look in waiting)
        answered = {name: np.zeros(shape, bool) for name, members in several.items() if members > 1}
        enough = self.settings.enough or len(waiting)
        count = np.zeros(shape, np.uint16)
        while waiting and (short := enough - int(count.min(initial=enough))) > 0:
            wave = [waiting.popleft() for _ in range(min(short, len(waiting), TOGETHER))]
            lacking = count < enough
            classes = _each(self.threads, lambda look: self._classes(look, lacking, tables), wave)  # noqa: B023
            for look, (clear, says, scl) in zip(wave, classes, strict=True):
                look.take(clear, says, count, enough, answered.get(look.scene.overpass))
                if first is not None and scl is not None and look.places is not None and look.part is not None:
                    first[look.part] = np.where(look.places == 0, scl[look.part], first[look.part])
        return count

    def _classes(
        self, look: Look, lacking: NDArray[np.bool_], tables: _Tables
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint8] | None]:
        """(y, x) where the scene is clear, and where it says anything at all; what no pixel lacks is not read.

        With its classes themselves if they are to be kept.
        """
        with self.files.open(look.scene, self.catalogue.scl, self.catalogue) as file:
            table = tables.scl(file.header.lattice)
            scl = file.read(table, lacking)
            look.bounds, look.fetched = file.header.bounds, look.fetched + file.fetched
        if scl.size and scl.max() > SNOW:
            raise TileError(
                f"asset {self.catalogue.scl} of {look.scene.id} is no scene classification", got=f"value {scl.max()}",
                expected="0 to 11",
            )  # fmt: skip
        clear, says = table.take(self.settings.clear(scl)), table.take(~np.isin(scl, NO_ANSWER))
        return np.asarray(clear), np.asarray(says), np.asarray(table.take(scl)) if self.keep_classes else None

    def _read_band(self, look: Look, stack: Stack, band: str, key: str, tables: _Tables) -> None:
        """Puts the scene's harmonised DN where it supplies them; pixels and places are no other scene's."""
        assert look.part is not None
        assert look.places is not None
        supplied = np.zeros(stack.values.shape[1:], bool)
        supplied[look.part] = look.places != NOT_HERE
        with self.files.open(look.scene, key, self.catalogue) as file:
            bounds = file.header.bounds
            # cut-outs may end a few pixels apart; what must not pass is another product's classification
            if not np.allclose(bounds, look.bounds, rtol=0.0, atol=SAME_GROUND):
                raise TileError(
                    f"assets {key} and {self.catalogue.scl} of {look.scene.id} do not cover the same ground",
                    got=bounds, expected=look.bounds,
                )  # fmt: skip
            table = tables.band(file.header.lattice)
            source = file.read(table, supplied).astype(np.uint16, copy=False)
            look.fetched += file.fetched
        look.dark[band] = DarkPixels()
        for strip in _strips(look.part[0]):
            part = strip, look.part[1]
            dn = table.blend(source, part)
            places = look.places[strip.start - look.part[0].start :][: len(dn)]
            look.dark[band] += dark_pixels(dn, supplied[part], look.scene.offset)
            stack.put(part, harmonise(dn, look.scene.offset, missing=MISSING), places)


def _strips(rows: slice) -> Iterator[slice]:
    """A few rows at a time: arrays so small stay in the processor's cache."""
    for start in range(rows.start, rows.stop, STRIP):
        yield slice(start, min(start + STRIP, rows.stop))


class _Tables:
    """Address tables of one grid, made once per lattice and shared by the reading threads."""

    def __init__(self, geobox: GeoBox, settings: CompositeSettings) -> None:
        self.geobox, self.settings = geobox, settings
        self._made: Store[tuple[Lattice, Resampling, int], Sampling] = Store(0, lambda table: 0)  # a few: all are kept

    def scl(self, lattice: Lattice) -> Sampling:
        # the margin lets clouds outside the window grow into it, so the buffer cannot depend on the window
        return self._get(lattice, "nearest", self.settings.cloud_buffer)

    def band(self, lattice: Lattice) -> Sampling:
        return self._get(lattice, self.settings.resampling, 0)

    def _get(self, lattice: Lattice, how: Resampling, margin: int) -> Sampling:
        key = (lattice, how, margin)
        return self._made.get([key], lambda keys: {key: sampling(self.geobox, *key) for key in keys})[key]


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

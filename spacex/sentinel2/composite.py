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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.errors import TileError
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.contribution import SceneContribution, Stack
from spacex.sentinel2.median import MISSING, median
from spacex.sentinel2.observation import SNOW, CompositeSettings, SceneUsage, among, in_rank
from spacex.sentinel2.pixel_grid import PixelGrid
from spacex.sentinel2.reflectance import DarkPixels, dark_pixels, harmonise
from spacex.sentinel2.resampling import Resampling, ResamplingTable, sampling, squares
from spacex.sentinel2.scenes import Scene, touching
from spacex.sentinel2.single_flight import SingleFlightCache
from spacex.sentinel2.submission import reading

NO_ANSWER = (0, 1)
"""SCL classes that say nothing about the ground: no data, defective."""

SAME_GROUND = 100.0
"""Metres by which the edges of two files of one scene may differ."""

TOGETHER = 8
"""Classifications read at the same time at most."""


@dataclass(frozen=True)
class Composite:
    """A composite on the grid it was asked for."""

    reflectance: NDArray[np.float32]
    """(band, y, x) surface reflectance, 1.0 = 10000 DN; NaN = no data, in all bands at once."""
    observations: NDArray[np.uint16]
    """(y, x) number of clear observations in the median, also where there are too few for a value."""
    looks: tuple[SceneUsage, ...]
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
    catalogue: CatalogueProfile,
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
    return Composer(bands, catalogue, settings, BlockReader(remembered=0), threads).compose(
        touching(scenes, geobox), geobox
    )


@dataclass(frozen=True)
class Composer:
    """Makes composites of any scenes on any grid. Safe to use from several threads.

    Without dask: a worker reads one tile at a time per thread, so a task graph would add scheduling and no overlap.
    Memory, besides the files' blocks: (2 x `enough` + 6) pictures of 16 bits and one more for each scene that supplies
    something, whatever the number of bands.
    """

    bands: Sequence[str]
    """Names such as ``B04``, the order of the result."""
    catalogue: CatalogueProfile
    settings: CompositeSettings
    files: BlockReader
    """Remembers what calls share."""
    threads: int = 4
    """Files read at the same time; shared by all composers of this process with the same number."""
    keep_classes: bool = False
    """Whether composites come with `classes`."""

    def compose(self, scenes: Iterable[Scene], geobox: GeoBox) -> Composite:
        """The composite of scenes that can touch a grid; see `read_composite`."""
        keys = self.catalogue.keys(self.bands)
        looks = [SceneContribution(scene) for scene in in_rank(scenes)]
        tables = _Tables(geobox, self.settings)
        shape = (geobox.shape[0], geobox.shape[1])
        classes = np.zeros(shape, np.uint8) if self.keep_classes else None
        observations = self._share_out(looks, tables, shape, classes)
        depth, supplying = int(observations.max(initial=0)), [look for look in looks if look.supplies]
        reflectance = np.empty((len(keys), *shape), np.float32)
        for plane, stack in zip(reflectance, self._stacks(supplying, keys, (depth, *shape), tables), strict=True):
            plane[:], count = median(stack)
            observations = np.minimum(observations, count)
        np.copyto(reflectance, np.float32(np.nan), where=observations < self.settings.min_observations)
        uses = tuple(look.use(observations.size, self.settings) for look in looks)
        return Composite(reflectance, observations, uses, sum(look.fetched for look in looks), classes)

    def _share_out(
        self, looks: list[SceneContribution], tables: _Tables, shape: tuple[int, int], first: NDArray[np.uint8] | None
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
            classes = partial(self._classes, lacking=squares(count < enough), tables=tables)
            with reading(self.threads, classes, wave, _zone) as answers:
                for look, (clear, says, scl) in zip(wave, answers, strict=True):
                    look.take(clear, says, count, enough, answered.get(look.scene.overpass))
                    if first is not None and scl is not None:
                        for part, places in look.supplies:
                            first[part] = np.where(places == 0, scl[part], first[part])
        return count

    def _stacks(
        self, looks: list[SceneContribution], keys: list[str], shape: tuple[int, int, int], tables: _Tables
    ) -> Iterator[NDArray[np.uint16]]:
        """The harmonised observations of each band, `MISSING` where there are fewer; (n, y, x) as in `shape`.

        While one band's are worked on, the next band's are read; then the memory of the first is used again.
        """
        spare = [np.empty(shape, np.uint16) for _ in keys[:2]]
        ahead: deque[tuple[str, NDArray[np.uint16], Iterator[tuple[DarkPixels, int]]]] = deque()
        with ExitStack() as begun:
            for number, (band, key) in enumerate(zip(self.bands, keys, strict=True)):
                values = spare[number % 2]
                values.fill(MISSING)
                read = partial(self._read_band, into=Stack(values, Lock()), key=key, tables=tables)
                ahead.append((band, values, begun.enter_context(reading(self.threads, read, looks, _zone))))
                if len(ahead) > 1:
                    yield _filled(looks, *ahead.popleft())
            while ahead:
                yield _filled(looks, *ahead.popleft())

    def _classes(
        self, look: SceneContribution, lacking: NDArray[np.bool_], tables: _Tables
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint8] | None]:
        """(y, x) where the scene is clear, and where it says anything at all; only `lacking` squares are read.

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
        # both in one look-up
        said = table.take(self.settings.clear(scl) + np.uint8(2) * ~among(scl, NO_ANSWER))
        return (said & 1).astype(bool), said > 1, table.take(scl) if self.keep_classes else None

    def _read_band(self, look: SceneContribution, into: Stack, key: str, tables: _Tables) -> tuple[DarkPixels, int]:
        """Puts the scene's harmonised DN where it supplies them; pixels and places are no other scene's.

        Returns:
            The evidence about its offset, and the bytes fetched.
        """
        with self.files.open(look.scene, key, self.catalogue) as file:
            bounds = file.header.bounds
            # cut-outs may end a few pixels apart; what must not pass is another product's classification
            if not all(abs(edge - other) <= SAME_GROUND for edge, other in zip(bounds, look.bounds, strict=True)):
                raise TileError(
                    f"assets {key} and {self.catalogue.scl} of {look.scene.id} do not cover the same ground",
                    got=bounds, expected=look.bounds,
                )  # fmt: skip
            table = tables.band(file.header.lattice)
            source = file.read(table, look.squares).astype(np.uint16, copy=False)
        dark = DarkPixels()
        for supply in look.supplies:
            dn = table.blend(source, supply.part)
            dark += dark_pixels(dn, supply.here, look.scene.offset)
            into.put(supply.part, harmonise(dn, look.scene.offset, missing=MISSING), supply.places)
        return dark, file.fetched


def _zone(look: SceneContribution) -> str:
    """The scene's UTM zone: scenes of one zone share their address tables."""
    return look.scene.tile[:2]


def _filled(
    looks: list[SceneContribution], band: str, stack: NDArray[np.uint16], reads: Iterator[tuple[DarkPixels, int]]
) -> NDArray[np.uint16]:
    """The stack of a band, once all that is put into it has been read; each scene is told what its part was."""
    for look, (dark, fetched) in zip(looks, reads, strict=True):
        look.dark[band] = dark
        look.fetched += fetched
    return stack


class _Tables:
    """Address tables of one grid, made once per lattice and shared by the reading threads."""

    def __init__(self, geobox: GeoBox, settings: CompositeSettings) -> None:
        self.geobox, self.settings = geobox, settings
        self._made: SingleFlightCache[tuple[PixelGrid, Resampling, int], ResamplingTable] = SingleFlightCache(
            0, lambda table: 0
        )  # a few: all are kept

    def scl(self, lattice: PixelGrid) -> ResamplingTable:
        # the margin lets clouds outside the window grow into it, so the buffer cannot depend on the window
        return self._get(lattice, "nearest", self.settings.cloud_buffer)

    def band(self, lattice: PixelGrid) -> ResamplingTable:
        return self._get(lattice, self.settings.resampling, 0)

    def _get(self, lattice: PixelGrid, how: Resampling, margin: int) -> ResamplingTable:
        key = (lattice, how, margin)
        return self._made.get([key], lambda keys: {key: sampling(self.geobox, *key) for key in keys})[key]

"""Composites: per-pixel median of the clear observations of a period, as surface reflectance.

Scenes are used in one order, which depends on the scenes alone: the least cloudy first. Their classifications (SCL) are
read first and decide, per pixel, which scenes give an observation; then each band is read there, and its median taken.

**Early stopping.** A pixel uses the first `enough` clear observations in that order. A scene is read only where some
pixel still needs more. The rule is each pixel's own, so any window and any tiling gives the same composite, to the bit.
The next d classifications are read in parallel where a pixel lacks d observations.

**One overpass is one observation.** MGRS tiles overlap by 10 km, and at 68° N neighbouring UTM zones by much more, so
one acquisition of a pixel often arrives two to four times and would outvote other days in the median. Therefore the
items of one platform and solar day form one observation: each pixel takes it from the first item that has data there.
Where that item is cloudy the others, cut from the same acquisition, are not used: that would read every overlap twice
for the few pixels at cloud edges in which two runs of the cloud mask differ.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.errors import TileError
from spacex.grid import Window, bounds
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.contribution import UNASSIGNED, BandStack, SceneContribution, SceneUsage
from spacex.sentinel2.median import MISSING, median
from spacex.sentinel2.pixel_grid import PixelGrid
from spacex.sentinel2.reflectance import DarkPixels, dark_pixels, harmonise
from spacex.sentinel2.resampling import Resampling, ResamplingTable, Roi, any_per_block
from spacex.sentinel2.scene_request import SNOW, CompositeSettings, isin
from spacex.sentinel2.scenes import Scene, by_cloud_cover, touching
from spacex.sentinel2.single_flight import SingleFlightCache
from spacex.sentinel2.submission import submit_round_robin

NO_DATA_CLASSES = (0, 1)
"""SCL classes without data about the ground: no data, defective."""
MAX_EDGE_DIFFERENCE = 100.0
"""Metres by which the edges of two files of one scene may differ."""
MAX_PARALLEL_SCL = 8
"""Classifications read in parallel at most."""

Tables = Callable[[PixelGrid, Resampling, int], ResamplingTable]


@dataclass(frozen=True)
class Composite:
    """A composite on the grid it was asked for."""

    reflectance: NDArray[np.float32]
    """(band, y, x) surface reflectance, 1.0 = 10000 DN; NaN = no data, in all bands at once."""
    observations: NDArray[np.uint16]
    """(y, x) number of clear observations in the median, also where there are too few for a value."""
    usages: tuple[SceneUsage, ...]
    """Every scene that can touch the grid, in their order."""
    fetched: int = 0
    """Bytes of file blocks that were fetched for it, as they are stored."""
    classes: NDArray[np.uint8] | None = None
    """(y, x) SCL of each pixel's first clear observation, 0 where there is none; None unless asked for."""
    halves: NDArray[np.float32] | None = None
    """(2, band, y, x) medians of every pixel's first, third, … and of its second, fourth, … observation alone; NaN
    where it has fewer than two. None unless asked for."""

    @property
    def scene_records(self) -> list[dict[str, Any]]:
        """Per scene, what it is and how much of it was used: JSON values, for the tile's provenance."""
        return [usage.to_json() for usage in self.usages]


def read_composite(
    scenes: Iterable[Scene],
    geobox: GeoBox,
    bands: Sequence[str],
    catalogue: CatalogueProfile,
    settings: CompositeSettings | None = None,
    *,
    threads: int = 4,
) -> Composite:
    """Read the scenes that touch a grid and take the median of their first clear observations.

    The scenes may be any of the catalogue, in any order; those that cannot touch the grid are ignored. The grid is
    north-up in a projected CRS. So many `threads` read files, shared by all calls in this process with that number.

    Raises:
        CatalogueError: if the catalogue has no such band.
        TileError: if a file is missing, damaged, or not what its item says.
    """
    composer = Composer(bands, catalogue, settings or CompositeSettings(), BlockReader(cache_bytes=0), threads)
    return composer.compose(touching(scenes, geobox), geobox)


@dataclass(frozen=True)
class Composer:
    """Makes composites of any scenes on any grid. Safe to use from several threads.

    Memory, besides cached file blocks: (2 x `enough` + 6) arrays of 16 bits per pixel and one more for each scene that
    is used, whatever the number of bands; with `keep_halves` `enough` / 2 more, and of float32 two for each band.
    """

    bands: Sequence[str]
    """Names such as ``B04``, the order of the result."""
    catalogue: CatalogueProfile
    settings: CompositeSettings
    reader: BlockReader
    """Caches the file blocks that calls share."""
    threads: int = 4
    """Files read in parallel; composers of this process with the same number share them."""
    keep_classes: bool = False
    """Whether composites come with `classes`."""
    keep_halves: bool = False
    """Whether they come with `halves`; nothing more is read for them."""

    def compose(self, scenes: Iterable[Scene], geobox: GeoBox) -> Composite:
        """The composite of scenes that can touch a grid; see `read_composite`."""
        keys = self.catalogue.keys(self.bands)
        parts = [SceneContribution(scene) for scene in by_cloud_cover(scenes)]
        tables = _shared_tables(geobox)
        shape = (geobox.shape[0], geobox.shape[1])
        classes = np.zeros(shape, np.uint8) if self.keep_classes else None
        observations = np.zeros(shape, np.uint16)
        self._assign_observations(parts, tables, observations, classes)
        depth, used = int(observations.max(initial=0)), [part for part in parts if part.assignments]
        reflectance = np.empty((len(keys), *shape), np.float32)
        halves = np.empty((2, len(keys), *shape), np.float32) if self.keep_halves else None
        for band, stack in enumerate(self._band_stacks(used, keys, (depth, *shape), tables)):
            if halves is not None:
                # by turns, so that both halves have as many of the less cloudy scenes; copies, for `median` sorts
                halves[0, band], halves[1, band] = (median(stack[first::2].copy())[0] for first in (0, 1))
            reflectance[band], count = median(stack)
            # a band may have no data where the classification is clear
            observations = np.minimum(observations, count)
        np.copyto(reflectance, np.float32(np.nan), where=observations < self.settings.min_observations)
        if halves is not None:
            whole = np.isfinite(halves).all(axis=(0, 1)) & (observations >= self.settings.min_observations)
            np.copyto(halves, np.float32(np.nan), where=~whole)
        usages, fetched = tuple(part.usage for part in parts), sum(part.fetched for part in parts)
        return Composite(reflectance, observations, usages, fetched, classes, halves)

    def usage(self, scenes: Iterable[Scene], geobox: GeoBox) -> dict[str, Window]:
        """Where scenes give observations: a window of the grid by id; only classifications are read.

        It is empty for those whose turn comes, but that give none. The others, not read at all, are not in the result.
        """
        parts = [SceneContribution(scene) for scene in by_cloud_cover(scenes)]
        observations = np.zeros((geobox.shape[0], geobox.shape[1]), np.uint16)
        self._assign_observations(parts, _shared_tables(geobox), observations, None)
        empty = Window(0, 0, 0, 0)
        return {
            part.scene.id: bounds([_window(assignment.roi, geobox) for assignment in part.assignments]) or empty
            for part in parts
            if part.usage.considered
        }

    def _assign_observations(
        self, parts: list[SceneContribution], tables: Tables, count: NDArray[np.uint16], first: NDArray[np.uint8] | None
    ) -> None:
        """Read the scenes' classifications in order until every pixel has enough observations.

        Their number is added to `count` (y, x); `first` (y, x), if any, gets the class of each pixel's first one.
        """
        for part in parts:
            part.usage.pixels, part.usage.left_out = count.size, self.settings.exclusion_reason(part.scene)
        waiting = deque(part for part in parts if not part.usage.left_out)
        # where an overpass has several scenes, the first with data at a pixel covers it for all of them
        per_overpass = Counter(part.scene.overpass for part in waiting)
        covered = {overpass: np.zeros(count.shape, bool) for overpass, number in per_overpass.items() if number > 1}
        max_observations = self.settings.enough or len(waiting)
        while waiting and (lacking := max_observations - int(count.min(initial=max_observations))) > 0:
            # the pixel that lacks most needs at least as many scenes: none of them is read in vain
            batch = [waiting.popleft() for _ in range(min(lacking, len(waiting), MAX_PARALLEL_SCL))]
            read = partial(self._read_scl, blocks=any_per_block(count < max_observations), tables=tables)
            with submit_round_robin(self.threads, read, batch, _utm_zone) as results:
                # read in parallel, assigned in order
                for part, (clear, valid, scl) in zip(batch, results, strict=True):
                    part.assign_pixels(clear, valid, count, max_observations, covered.get(part.scene.overpass))
                    if first is not None and scl is not None:
                        for roi, slots in part.assignments:
                            first[roi] = np.where(slots == 0, scl[roi], first[roi])

    def _band_stacks(
        self, parts: list[SceneContribution], keys: list[str], shape: tuple[int, int, int], tables: Tables
    ) -> Iterator[NDArray[np.uint16]]:
        """The harmonised observations of each band, (n, y, x) as in `shape`; `MISSING` where a pixel has fewer.

        While the caller works on one band the next is read, into the other of two arrays that take turns.
        """
        arrays = [np.empty(shape, np.uint16) for _ in keys[:2]]

        def start(number: int) -> tuple[NDArray[np.uint16], Iterator[tuple[DarkPixels, int]]]:
            values = arrays[number % 2]
            values.fill(MISSING)
            read = partial(self._read_band, stack=BandStack(values, Lock()), key=keys[number], tables=tables)
            return values, started.enter_context(submit_round_robin(self.threads, read, parts, _utm_zone))

        with ExitStack() as started:
            following = start(0)
            for number, band in enumerate(self.bands):
                values, results = following
                if number + 1 < len(keys):
                    following = start(number + 1)
                for part, (dark, fetched) in zip(parts, results, strict=True):
                    part.usage.dark[band] = dark
                    part.fetched += fetched
                yield values

    def _read_scl(
        self, part: SceneContribution, blocks: NDArray[np.bool_], tables: Tables
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint8] | None]:
        """(y, x) where the scene is clear, where it has data, and its classes if wanted; in the given blocks alone."""
        with self.reader.open(part.scene, self.catalogue.scl, self.catalogue) as file:
            # the margin lets clouds outside the window grow into it, so that the buffer does not depend on the window
            table = tables(file.header.grid, "nearest", self.settings.cloud_buffer)
            scl = file.read(table, blocks)
            part.bounds, part.fetched = file.header.bounds, part.fetched + file.fetched
        if scl.size and scl.max() > SNOW:
            raise TileError(
                f"asset {self.catalogue.scl} of {part.scene.id} is no scene classification",
                got=f"value {scl.max()}",
                expected="0 to 11",
            )
        # clear in bit 0 and valid in bit 1, so that both are resampled at once
        flags = table.nearest(self.settings.clear(scl) + np.uint8(2) * ~isin(scl, NO_DATA_CLASSES))
        return (flags & 1).astype(bool), flags > 1, table.nearest(scl) if self.keep_classes else None

    def _read_band(self, part: SceneContribution, stack: BandStack, key: str, tables: Tables) -> tuple[DarkPixels, int]:
        """Write the scene's harmonised DN into its slots; returns evidence about its offset, and bytes fetched."""
        with self.reader.open(part.scene, key, self.catalogue) as file:
            bounds = file.header.bounds
            # cut-outs may end a few pixels apart; another product's classification must not pass
            if not all(abs(a - b) <= MAX_EDGE_DIFFERENCE for a, b in zip(bounds, part.bounds, strict=True)):
                raise TileError(
                    f"assets {key} and {self.catalogue.scl} of {part.scene.id} do not cover the same ground",
                    got=bounds,
                    expected=part.bounds,
                )
            table = tables(file.header.grid, self.settings.resampling, 0)
            source = file.read(table, part.blocks).astype(np.uint16, copy=False)
        dark = DarkPixels()
        for roi, slots in part.assignments:
            dn = table.resample(source, roi)
            dark += dark_pixels(dn, slots != UNASSIGNED, part.scene.offset)
            stack.put(roi, harmonise(dn, part.scene.offset, missing=MISSING), slots)
        return dark, file.fetched


def _window(roi: Roi, geobox: GeoBox) -> Window:
    """The window of a region of a grid."""
    rows, cols = (range(*part.indices(size)) for part, size in zip(roi, geobox.shape, strict=True))
    return Window(rows.start, cols.start, len(rows), len(cols))


def _utm_zone(part: SceneContribution) -> str:
    """Scenes of one UTM zone share their resampling tables."""
    return part.scene.tile[:2]


def _shared_tables(geobox: GeoBox) -> Tables:
    """Resampling tables of one grid, built once per source grid, method and margin; threads may share them."""
    cache = SingleFlightCache[tuple[PixelGrid, Resampling, int], ResamplingTable](0, lambda table: 0)  # keeps all
    return lambda *key: cache.get([key], lambda keys: {key: ResamplingTable.build(geobox, *key)})[key]

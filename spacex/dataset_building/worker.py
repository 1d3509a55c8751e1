"""A worker that makes chips: reads a tile's chips as composites and writes them one by one."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.dataset_building.folder import DatasetFolder
from spacex.dataset_building.labels import read_cover
from spacex.dataset_building.locations import ChipLocation
from spacex.dataset_building.request import DatasetRequest
from spacex.datasets.anthroprotect import LAND_COVERS
from spacex.datasets.writing import FOLDERS, digital_numbers, write_tile
from spacex.execution.jobs import TileJob
from spacex.execution.pipeline import TilePipeline
from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.grid import CHIP, Grid
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.composite import Composer, Composite
from spacex.sentinel2.contribution import doubtful_scenes
from spacex.sentinel2.scenes import SceneIndex
from spacex.settings import SENTINEL2_BANDS

Numbers = NDArray[np.uint16]


class ChipJob(TileJob):
    """The job that is sent to workers: request and output, no pixels."""

    request: DatasetRequest

    @property
    def paths(self) -> list[str]:
        """The set's folder, and the land cover."""
        return [self.output, *([self.request.land_cover.file] if self.request.land_cover else [])]

    def open(self) -> ChipPipeline:
        """Load scenes and locations."""
        return ChipPipeline(self)


@dataclass(frozen=True)
class Chip:
    """A chip that has been read."""

    location: ChipLocation
    composite: Composite
    corine: Numbers
    """(256, 256) level-3 codes, 0 = unknown."""

    @property
    def valid(self) -> float:
        """Share of the chip that has data in all bands that were read."""
        return float(np.isfinite(self.composite.reflectance).all(axis=0).mean())

    @property
    def record(self) -> dict[str, float]:
        """What the tile's record tells of the chip."""
        return {"valid": round(self.valid, 4), "observations": round(float(self.composite.observations.mean()), 2)}


@dataclass
class ReadTile:
    """A tile's chips that have been read."""

    task: TileTask
    chips: list[Chip]
    seconds: float = 0.0


class PassThrough(list[ReadTile]):
    """The compute stage of a pipeline that computes nothing: read tiles are complete at once."""

    needs_input = True

    def compute(self, *, flush: bool) -> bool:
        """Nothing to compute."""
        return False

    def pop_completed(self) -> list[ReadTile]:
        """The tiles read since the last call."""
        tiles = self[:]
        del self[: len(tiles)]
        return tiles


class ChipPipeline(TilePipeline[ReadTile, ReadTile]):
    """Reads the chips of tiles as the composites from which a map of the same ground is made, and writes them."""

    def __init__(self, job: ChipJob) -> None:
        self._read_tiles = PassThrough()
        super().__init__(self._read_tile, self._read_tiles, readers=job.concurrent_reads, time_limit=job.time_limit)
        self._folder, self._request = DatasetFolder(job.output), job.request
        request = job.request
        self._grid = Grid(request.crs, request.resolution)
        self._chips: dict[TileTask, list[ChipLocation]] = defaultdict(list)
        for location in self._folder.locations():
            self._chips[location.task].append(location)
        self._index = SceneIndex(self._folder.scenes()[0], request.crs)
        catalogue = request.profile
        self._composer = Composer(request.bands, catalogue, request.composite, BlockReader(), keep_classes=True)

    def _read_tile(self, task: TileTask) -> ReadTile:
        return ReadTile(task, [self._read_chip(location) for location in self._chips[task]])

    def _read_chip(self, location: ChipLocation) -> Chip:
        geobox = self._grid.geobox(location.window)
        composite = self._composer.compose(self._index.touching(geobox), geobox)
        corine = np.zeros((CHIP, CHIP), np.uint16)
        if self._request.land_cover is not None:
            corine = read_cover(self._request.land_cover.file, self._grid, location.window)
        return Chip(location, composite, corine)

    def _submit(self, task: TileTask, read: ReadTile, seconds: float) -> None:
        read.seconds = seconds
        self._read_tiles.append(read)

    def _write(self, tile: ReadTile) -> TileReport:
        begun = time.perf_counter()
        kept = [chip for chip in tile.chips if chip.valid >= self._request.min_valid]
        left_out = [chip for chip in tile.chips if chip not in kept]
        for chip in kept:
            write_chip(self._folder.root, chip, self._request.bands, self._grid)
        # an earlier attempt may have written a chip that now has too little data
        for chip in left_out:
            for name in FOLDERS:
                (self._folder.root / name / chip.location.file).unlink(missing_ok=True)
        status = Status.DONE if kept else Status.NO_DATA
        seconds = {"reading": round(tile.seconds, 3), "writing": round(time.perf_counter() - begun, 3)}
        scenes = {s["id"]: s for chip in tile.chips for s in chip.composite.scene_records if s["used_share"] > 0}
        record = {
            "chips": {chip.location.file: chip.record for chip in kept},
            "left_out": {chip.location.file: f"{chip.valid:.3f} of it has data" for chip in left_out},
            "scenes": list(scenes.values()),
            "seconds": seconds,
            "worker": self._worker,
        }
        self._folder.finish(tile.task, status, record)
        fetched = sum(chip.composite.fetched for chip in tile.chips)
        doubtful = doubtful_scenes(record for chip in tile.chips for record in chip.composite.scene_records)
        return TileReport(tile.task, status, "", seconds, len(kept), len(scenes), fetched, self._worker, doubtful)


def write_chip(root: Path, chip: Chip, bands: tuple[str, ...], grid: Grid) -> None:
    """Write a chip's three files; bands that were not read and unknown land cover are 0."""
    composite, window = chip.composite, chip.location.window
    pixels = np.zeros((len(SENTINEL2_BANDS), CHIP, CHIP), np.uint16)
    pixels[[SENTINEL2_BANDS.index(band) for band in bands]] = digital_numbers(composite.reflectance)
    covers = np.zeros((len(LAND_COVERS), CHIP, CHIP), np.uint16)
    covers[0] = chip.corine
    assert composite.classes is not None
    arrays: tuple[NDArray[Any], ...] = pixels, covers, composite.classes[None]
    for folder, array in zip(FOLDERS, arrays, strict=True):
        write_tile(root / folder / chip.location.file, array, grid, window)

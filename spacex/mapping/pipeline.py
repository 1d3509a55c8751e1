"""Worker pipeline of a map: tiles are read, computed in batches of chips, blended and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.inference import numerics
from spacex.cube.store import Cube
from spacex.execution.pipeline import TilePipeline
from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.mapping.chip_batcher import ChipBatcher, Tile
from spacex.mapping.chips import sensitivity_field
from spacex.mapping.tile import ChipSettings, Networks, TileInput, blend_tile
from spacex.models.members import SpreadFit
from spacex.sentinel2.contribution import doubtful_scenes


class Pipeline(TilePipeline[TileInput, Tile]):
    """Tiles of a map in, reports out.

    Args:
        read: reads a tile; called from several threads at once, may raise anything.
        networks: compute the maps of windows and chips.
        cube: where the maps are written, by one thread.
        settings: how tiles are cut.
        batch: windows or chips per call of the networks.
        display: positions, in the reflectance's bands, of those kept in the overviews' composite.
        sensitivity: of the classifier to places in a chip, as in `Checkpoint`.
        spread: of the checkpoint's classifiers; None if it has one.
        readers: tiles read at the same time, ahead of the networks.
        time_limit: seconds after which the read or write of a tile fails.
        device: where the networks run, for the tiles' provenance.
    """

    def __init__(
        self,
        read: Callable[[TileTask], TileInput],
        networks: Networks,
        cube: Cube,
        settings: ChipSettings,
        *,
        batch: int = 1,
        display: Sequence[int] = (0,),
        sensitivity: NDArray[Any] | None = None,
        spread: SpreadFit | None = None,
        readers: int = 2,
        time_limit: float = 900.0,
        device: str = "cpu",
    ) -> None:
        self._tiles = ChipBatcher(networks, settings, batch)
        super().__init__(read, self._tiles, readers=readers, time_limit=time_limit)
        self._numerics = numerics(device)
        self._cube, self._settings, self._display = cube, settings, list(display)
        self._spread = spread if settings.halves and settings.members else None
        self._field = None if sensitivity is None else sensitivity_field(sensitivity, settings.chip_size)

    def _submit(self, task: TileTask, read: TileInput, seconds: float) -> None:
        """Put a tile that has been read into the batcher, with the chips that touch pixels asked for."""
        # at the area's edge a chip may touch the window only where no pixel is asked for: it is not computed
        wanted = [
            chip
            for chip in self._settings.chips(read.window)
            if self._cube.region.inside(chip.intersect(read.window)).any()
        ]
        self._tiles.submit(task, read, wanted, seconds)

    def _write(self, tile: Tile) -> TileReport:
        """Blend and write one tile (in the writer's thread)."""
        begun = time.perf_counter()
        window, region = self._cube.window(tile.task), self._cube.region
        parts, how = (tile.results, tile.generated), (self._settings, self._display)
        gaps = tile.gaps if self._settings.halves else None
        sure = gaps, self._spread
        maps = blend_tile(tile.input, window, region, *parts, *how, self._field, *sure)
        status = Status.DONE if np.isfinite(maps.maps["naturalness"]).any() else Status.NO_DATA
        self._cube.write(tile.task, maps)
        tile.seconds["writing"] = time.perf_counter() - begun
        seconds = {name: round(value, 3) for name, value in tile.seconds.items()}
        scenes = tile.input.scenes
        provenance = {"scenes": scenes, "seconds": seconds, "chips": tile.computed, "worker": self._worker}
        provenance["numerics"] = self._numerics
        self._cube.finish(tile.task, status, provenance)
        used = sum(scene.get("used_share", 1) > 0 for scene in scenes)
        fetched, doubtful = tile.input.fetched, doubtful_scenes(scenes)
        return TileReport(tile.task, status, "", seconds, tile.computed, used, fetched, self._worker, doubtful)

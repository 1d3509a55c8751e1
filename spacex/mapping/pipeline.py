"""Pipeline of a map's worker: tiles are read, computed in batches of chips, blended and written."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from spacex.execution.pipeline import TilePipeline
from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.grid import chip_windows
from spacex.mapping.chip_batcher import ChipBatcher, Tile
from spacex.mapping.tile import ChipSettings, Networks, TileInput, TileSink, TileSource, blend_tile
from spacex.sentinel2.contribution import doubtful_scenes


class Pipeline(TilePipeline[TileInput, Tile]):
    """Tiles of a map in, reports out.

    Args:
        source: reads tiles.
        networks: attribute windows and chips.
        sink: writes tiles.
        settings: how tiles are cut.
        batch: windows or chips per call of the networks.
        display: positions, in the reflectance's bands, of those kept in the overviews' composite.
        readers: tiles read at the same time, ahead of the network.
        time_limit: seconds after which the read of a tile, or its write, is given up.
    """

    def __init__(
        self,
        source: TileSource,
        networks: Networks,
        sink: TileSink,
        settings: ChipSettings,
        *,
        batch: int = 1,
        display: Sequence[int] = (0,),
        readers: int = 2,
        time_limit: float = 900.0,
    ) -> None:
        self._tiles = ChipBatcher(networks, settings, batch)
        super().__init__(source.read, self._tiles, readers=readers, time_limit=time_limit)
        self._sink, self._settings, self._display = sink, settings, list(display)

    def _submit(self, task: TileTask, read: TileInput, seconds: float) -> None:
        """Put a tile that has been read into the batcher, with the chips that touch pixels asked for."""
        wanted = [
            chip
            for chip in chip_windows(read.window, self._settings.stride)
            if self._sink.inside(chip.intersect(read.window)).any()
        ]
        self._tiles.submit(task, read, wanted, seconds)

    def _write(self, tile: Tile) -> TileReport:
        """Blend and write one tile (in the writer's thread)."""
        begun = time.perf_counter()
        maps = blend_tile(
            tile.input, self._sink, tile.task, tile.results, tile.generated, self._settings, self._display
        )
        status = Status.DONE if np.isfinite(maps.maps["naturalness"]).any() else Status.NO_DATA
        self._sink.write(tile.task, maps)
        tile.seconds["writing"] = time.perf_counter() - begun
        seconds = {name: round(value, 3) for name, value in tile.seconds.items()}
        provenance = {
            "scenes": tile.input.scenes,
            "seconds": seconds,
            "chips": tile.computed,
            "worker": self._worker,
        }
        self._sink.finish(tile.task, status, provenance)
        scenes = sum(scene.get("used_share", 1) > 0 for scene in tile.input.scenes)
        doubtful, read = doubtful_scenes(tile.input.scenes), tile.input
        return TileReport(tile.task, status, "", seconds, tile.computed, scenes, read.fetched, self._worker, doubtful)

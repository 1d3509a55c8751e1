"""What a worker needs to turn tile names into tiles: where pixels come from, where they go, and the networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spacex.attribution.attributor import Attributor
from spacex.attribution.replica_pool import ReplicaPool
from spacex.checkpoint import load_checkpoint
from spacex.cube.store import Cube, TileMaps
from spacex.execution.jobs import CPU_READERS, TileJob
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Window
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.request import MapRequest, area_window, display_bands
from spacex.mapping.tile import TileInput
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.catalogue_profiles import get_catalogue
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.composite_cache import CompositeCache
from spacex.sentinel2.scene_list import Scenes, load_scenes, save_scenes

__all__ = ["CPU_READERS", "CubeSink", "Job", "SceneSource", "Scenes", "load_scenes", "open_pipeline", "save_scenes"]

GPU_BATCH = 16
"""Chips that keep a GPU busy for one call."""


class Job(TileJob):
    """A mapping job as it travels to the workers: names and settings, no pixels and no weights."""

    request: MapRequest
    scenes: str
    """URI of the scene list (`save_scenes`)."""
    checkpoint: str | None = None
    """Folder or URI; None for the weights that ship."""
    trust: tuple[str, ...] = ()
    """Modules whose networks a worker may import and build."""
    batch: int | None = Field(None, ge=1)
    """Windows or chips per call of the networks; None: as many as there are threads, on a GPU `GPU_BATCH`."""

    @property
    def paths(self) -> list[str]:
        """Cube, scene list and checkpoint."""
        return [self.output, self.scenes, *([self.checkpoint] if self.checkpoint else [])]

    def open(self) -> Pipeline:
        """Load networks, scene list and cube."""
        return open_pipeline(self)


@dataclass
class SceneSource:
    """Reads tiles as composites of the scenes that touch them."""

    request: MapRequest
    bands: tuple[str, ...]
    scenes: Scenes

    def __post_init__(self) -> None:
        request = self.request
        catalogue = get_catalogue(request.catalogue, request.stac_url, request.collection)
        composer = Composer(self.bands, catalogue, request.composite, BlockReader())
        self._composites = CompositeCache(self.scenes, request.region.grid, composer)

    def read(self, task: TileTask) -> TileInput:
        """Read the part of a tile that lies in the area, with its halo."""
        region = self.request.region
        window = area_window(region, region.tiling.window(task.row, task.col))
        padded_window = self.request.chips.padded(window)
        composite = self._composites.read(padded_window, task.time)
        return TileInput(
            window,
            padded_window,
            composite.reflectance,
            composite.observations,
            composite.scene_records,
            composite.fetched,
        )


class CubeSink:
    """Writes tiles into the cube, masked to the area."""

    def __init__(self, cube: Cube, request: MapRequest) -> None:
        self._cube, self._region = cube, request.region

    def write(self, task: TileTask, tile: TileMaps) -> None:
        """Put the data safely down."""
        self._cube.write(task, tile)

    def finish(self, task: TileTask, status: Status, provenance: dict[str, Any]) -> None:
        """Record provenance, then status."""
        self._cube.finish(task, status, provenance)

    def window(self, task: TileTask) -> Window:
        """The pixels the task owns."""
        return self._cube.window(task)

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """Pixels of the window in the area asked for."""
        return self._region.inside(window)


def open_pipeline(job: Job) -> Pipeline:
    """Load networks, scene list and cube: everything slow that happens once per worker."""
    import torch

    checkpoint, threads = load_checkpoint(job.checkpoint, trust=job.trust), job.threads or torch.get_num_threads()
    card, chips = checkpoint.card, job.request.chips
    on_gpu = job.device.startswith("cuda")
    make = partial(Attributor, checkpoint, chips.maps, job.request.path_steps, job.device, job.request.precision)
    return Pipeline(
        SceneSource(job.request, card.bands, load_scenes(job.scenes)),
        make() if on_gpu else ReplicaPool(make, threads),
        CubeSink(Cube(job.output), job.request),
        chips,
        batch=job.batch or (GPU_BATCH if on_gpu else threads),
        display=[card.bands.index(band) for band in display_bands(card.bands)],
        readers=job.concurrent_reads,
        time_limit=job.time_limit,
    )

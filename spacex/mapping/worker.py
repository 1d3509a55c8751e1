"""A mapping job and what a worker opens for it: the source of composites, the networks and the cube."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from pydantic import Field

from spacex.attribution.attributor import Attributor
from spacex.attribution.inference import native_bfloat16
from spacex.attribution.replica_pool import ReplicaPool
from spacex.checkpoint import load_checkpoint
from spacex.cube.store import Cube
from spacex.execution.jobs import TileJob
from spacex.execution.tasks import TileTask
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.request import MapRequest, area_window, display_bands
from spacex.mapping.tile import TileInput
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.composite_cache import CompositeCache
from spacex.sentinel2.scene_list import Scenes, load_scenes
from spacex.weights import SHIPPED

log = logging.getLogger(__name__)

GPU_BATCH = 16
"""Windows or chips per call of the networks on a GPU."""


class Job(TileJob):
    """A mapping job as sent to the workers: settings and URIs, no pixels and no weights."""

    request: MapRequest
    scenes: str
    """URI of the scene list (`save_scenes`)."""
    checkpoint: str
    """Folder, URI or name of one that ships; that lies elsewhere on every node, and each finds its own."""
    trust: tuple[str, ...] = ()
    """Modules whose networks a worker may import and build."""
    batch: int | None = Field(None, ge=1)
    """Windows or chips per call of the networks; None: the number of threads, on a GPU `GPU_BATCH`."""

    @property
    def paths(self) -> list[str]:
        """Cube, scene list and checkpoint."""
        return [self.output, self.scenes, *([] if self.checkpoint in SHIPPED else [self.checkpoint])]

    def open(self) -> Pipeline:
        """Load networks, scene list and cube: all that is slow and happens once per worker."""
        import torch

        checkpoint, threads = (
            load_checkpoint(self.checkpoint, trust=self.trust),
            self.threads or torch.get_num_threads(),
        )
        if self.request.precision == "bfloat16" and not native_bfloat16(torch.device(self.device)):
            log.warning("this machine emulates bfloat16, in which the cube is made: it is slower than others")
        card, chips, on_gpu = checkpoint.card, self.request.chips, self.device.startswith("cuda")
        how = self.request.path_steps, self.device, self.request.precision, chips.members
        make = partial(Attributor, checkpoint, chips.maps, *how)
        return Pipeline(
            SceneSource(self.request, card.bands, load_scenes(self.scenes)).read,
            # a CPU works on several chips at once with a copy of the networks per thread, a GPU on one batch
            make() if on_gpu else ReplicaPool(make, threads),
            Cube(self.output),
            chips,
            batch=self.batch or (GPU_BATCH if on_gpu else threads),
            sensitivity=None if checkpoint.sensitivity is None else checkpoint.sensitivity.numpy(),
            spread=None if card.members is None else card.members.spread,
            display=[card.bands.index(band) for band in display_bands(card.bands)],
            readers=self.concurrent_reads,
            time_limit=self.time_limit,
            device=self.device,
        )


@dataclass
class SceneSource:
    """Reads tiles as composites of the scenes that touch them."""

    request: MapRequest
    bands: tuple[str, ...]
    scenes: Scenes

    def __post_init__(self) -> None:
        request = self.request
        catalogue = request.profile
        composer = Composer(self.bands, catalogue, request.composite, BlockReader(), keep_halves=request.chips.halves)
        self._composites = CompositeCache(self.scenes, request.region.grid, composer)

    def read(self, task: TileTask) -> TileInput:
        """Read the part of a tile that lies in the area, with its halo."""
        region = self.request.region
        window = area_window(region, region.tiling.window(task.row, task.col))
        padded_window = self.request.chips.padded(window)
        composite = self._composites.read(padded_window, task.time)
        arrays = composite.reflectance, composite.observations
        return TileInput(window, padded_window, *arrays, composite.scene_records, composite.fetched, composite.halves)

"""What a worker needs to turn tile names into tiles: where pixels come from, where they go, and the networks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spacex.attribution.crew import Crew
from spacex.attribution.patterns import Patterns
from spacex.checkpoint import load_checkpoint
from spacex.grid import Window
from spacex.mapping.cube import Cube, Status, TileMaps, TileTask
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.request import MapRequest, core_window, display_bands
from spacex.mapping.tile import TileInput
from spacex.sentinel2.catalogue import get_catalogue
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.files import Files
from spacex.sentinel2.pieces import Pieces
from spacex.sentinel2.scenes import Scene
from spacex.settings import Settings

GPU_BATCH = 16
"""Chips that keep a GPU busy for one call."""

CPU_READERS = 2
"""Tiles to read at once where the networks run on a CPU: a tile of 105 km2 takes a reader some 2 s and the networks
several times that, so one would keep up; the second covers a slow host."""
GPU_READERS = 6
"""The same beside a GPU, which is done with a tile sooner than its files' hosts have answered. Each holds a window
of at most 1,536 pixels a side in the making, some 100 MiB."""

Scenes = Sequence[Sequence[Scene]]
"""The scenes of every time step."""


class Job(Settings):
    """A mapping job as it travels to the workers: names and settings, no pixels and no weights."""

    request: MapRequest
    output: str
    """URI of the cube, already created."""
    scenes: str
    """URI of the scene list (`save_scenes`)."""
    checkpoint: str | None = None
    """Folder or URI; None for the weights that ship."""
    trust: tuple[str, ...] = ()
    """Modules whose networks a worker may import and build."""
    readers: int | None = Field(None, ge=1)
    """Tiles read ahead at the same time; None: `CPU_READERS`, on a GPU `GPU_READERS`."""
    time_limit: float = 900.0
    """Seconds a tile's read may take."""
    threads: int | None = None
    """Windows or chips in the networks at the same time, a processor's thread for each; None: as many as PyTorch takes
    threads."""
    device: str = "cpu"
    """Where the networks run."""
    batch: int | None = Field(None, ge=1)
    """Windows or chips per call of the networks; None: as many as there are threads, on a GPU `GPU_BATCH`."""

    @property
    def reading(self) -> int:
        """Tiles read ahead at the same time."""
        return self.readers or (CPU_READERS if self.device == "cpu" else GPU_READERS)

    @property
    def in_hand(self) -> int:
        """Tiles a worker holds: those being read, one computed, one written."""
        return self.reading + 2


@dataclass
class SceneSource:
    """Reads tiles as composites of the scenes that touch them."""

    request: MapRequest
    bands: tuple[str, ...]
    scenes: Scenes

    def __post_init__(self) -> None:
        request = self.request
        catalogue = get_catalogue(request.catalogue, request.stac_url, request.collection)
        composer = Composer(self.bands, catalogue, request.composite, Files())
        self._pieces = Pieces(self.scenes, request.region.grid, composer)

    def read(self, task: TileTask) -> TileInput:
        """Read the part of a tile that lies in the area, with its halo."""
        region = self.request.region
        core = core_window(region, region.tiling.window(task.row, task.col))
        around = self.request.chips.around(core)
        found = self._pieces.read(around, task.time)
        return TileInput(core, around, found.reflectance, found.observations, found.uses, found.fetched)


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
    make = partial(Patterns, checkpoint, chips.maps, job.request.path_steps, job.device, job.request.precision)
    return Pipeline(
        SceneSource(job.request, card.bands, load_scenes(job.scenes)),
        make() if on_gpu else Crew(make, threads),
        CubeSink(Cube(job.output), job.request),
        chips,
        batch=job.batch or (GPU_BATCH if on_gpu else threads),
        display=[card.bands.index(band) for band in display_bands(card.bands)],
        readers=job.reading,
        time_limit=job.time_limit,
    )


def save_scenes(uri: str, scenes: Scenes) -> None:
    """Keep the scene list beside the cube, so that a resumed run composites the very same scenes."""
    lines = (json.dumps([step, scene.to_json()]) for step, found in enumerate(scenes) for scene in found)
    text = "\n".join([json.dumps({"steps": len(scenes)}), *lines])
    with fsspec.open(uri, "wb") as file:
        file.write(gzip.compress(text.encode(), mtime=0))


def load_scenes(uri: str) -> list[list[Scene]]:
    """Read what `save_scenes` wrote."""
    with fsspec.open(uri, "rb") as file:
        head, *lines = gzip.decompress(file.read()).decode().splitlines()
    scenes: list[list[Scene]] = [[] for _ in range(json.loads(head)["steps"])]
    for line in lines:
        step, record = json.loads(line)
        scenes[step].append(Scene.from_json(record))
    return scenes

"""A tile: what is read of it, how its chips are blended into maps, and what is reported of it.

The seams of the pipeline stand here too: where tiles come from (`TileSource`), what computes them (`Network`)
and where they go (`TileSink`). Their fakes are in `spacex.mapping.rehearsal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.patterns import ChipMaps
from spacex.grid import CHIP, Window
from spacex.mapping.chips import Blend
from spacex.mapping.cube import Status, TileMaps, TileTask
from spacex.settings import Settings

Array = NDArray[np.float32]


class ChipSettings(Settings):
    """How tiles are cut into chips and blended again."""

    maps: tuple[str, ...]
    """Attribution maps the network gives, by name."""
    stride: int
    """Pixels between chips on the global lattice."""
    frame: int
    """Pixels at a chip's edge that weigh nothing in the plain attribution."""
    min_valid: float = 0.5
    """Share of a chip that must have data; the network would otherwise explain its own filling."""
    batch: int = 8
    """Chips per call of the network; a last, smaller batch is padded, so that every call has one shape."""

    @property
    def halo(self) -> int:
        """Pixels read around a tile so that every chip touching it is complete."""
        return CHIP - 1


@dataclass(frozen=True)
class TileInput:
    """A tile as read: its composite with the halo around it."""

    core: Window
    """The part of the tile that lies in the area; the rest of it is never read."""
    around: Window
    """The core and the halo around it: where the arrays lie."""
    reflectance: Array
    """(bands, height, width) float32 in the checkpoint's band order, NaN = no data."""
    observations: NDArray[np.uint16]
    """(height, width) uint16."""
    scenes: list[dict[str, Any]] = field(default_factory=list)
    """Provenance of every scene looked at."""
    fetched: int = 0
    """Bytes of scenes that had to be fetched for it, as they are stored."""


@dataclass(frozen=True)
class TileReport:
    """What a worker tells the driver about one tile; small, and plain data."""

    task: TileTask
    status: Status
    reason: str = ""
    """Why the tile failed; empty otherwise."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent reading, computing and writing."""
    chips: int = 0
    """Chips the network ran for this tile (shared ones count for the first)."""
    scenes: int = 0
    """Scenes read."""
    fetched: int = 0
    """Bytes of scenes fetched."""
    worker: str = ""
    """Host and process."""


class TileSource(Protocol):
    """Where a tile's pixels come from. Called from several threads at once."""

    def read(self, task: TileTask) -> TileInput:
        """Read tile and halo; raise anything if that fails."""


class TileSink(Protocol):
    """Where a finished tile goes. Called from one thread at a time."""

    def write(self, task: TileTask, tile: TileMaps) -> None:
        """Put the data safely down."""

    def finish(self, task: TileTask, status: Status, provenance: dict[str, Any]) -> None:
        """Record provenance, then status."""

    def window(self, task: TileTask) -> Window:
        """The pixels the task owns."""

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """Pixels of the window that lie in the area asked for."""


Network = Callable[[Array], ChipMaps]
"""(batch, bands, 256, 256) float32 reflectance to maps and scores."""


@dataclass(frozen=True)
class ChipResult:
    """What the network found in one chip."""

    maps: dict[str, Array]
    score: float


def blend_tile(
    read: TileInput,
    sink: TileSink,
    task: TileTask,
    results: Mapping[Window, ChipResult],
    settings: ChipSettings,
    display: list[int],
) -> TileMaps:
    """Blend chip results into the tile, in lattice order, and mask what has no data or lies outside.

    The plain attribution is local, so a frame without context is cut off and overlaps agree. The path
    attribution and the score depend on the whole chip, so they fade over the full overlap instead.
    """
    core = read.core.slices(read.around)
    inside = sink.inside(read.core)
    reflectance = read.reflectance[(slice(None), *core)]
    valid = np.isfinite(reflectance).all(axis=0) & inside
    blends = {name: Blend(read.core, settings.frame if name == "attribution" else 0) for name in settings.maps}
    score = Blend(read.core, 0)
    for chip in sorted(results):
        for name, values in results[chip].maps.items():
            blends[name].add(chip, values)
        score.add(chip, results[chip].score)
    maps = {name: np.where(valid, blend.mean(), np.nan) for name, blend in {**blends, "naturalness": score}.items()}
    window = sink.window(task)
    return TileMaps(
        {name: _within(window, read.core, values, np.nan) for name, values in maps.items()},
        _within(window, read.core, np.where(inside, read.observations[core], 0).astype(np.uint16), 0),
        _within(window, read.core, np.where(inside, reflectance[display], np.nan), np.nan),
    )


def _within(window: Window, part: Window, values: NDArray[Any], fill: float) -> NDArray[Any]:
    """`values`, which lie on `part`, on the larger `window`, with `fill` around them."""
    whole = np.full((*values.shape[:-2], *window.shape), fill, values.dtype)
    if not part.empty:
        whole[(..., *part.slices(window))] = values
    return whole

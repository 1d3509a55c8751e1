"""A tile: what is read of it, how its chips are blended into maps, and what is reported of it.

The seams of the pipeline stand here too: where tiles come from (`TileSource`), what computes them (`Networks`)
and where they go (`TileSink`). Their fakes are in `tests/fakes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.attributor import ChipMaps, GeneratorOutput
from spacex.cube.store import TileMaps
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Window, bounds, chip_windows
from spacex.mapping.chips import Blend, mosaic
from spacex.settings import Settings

Array = NDArray[np.float32]


LOCAL = "attribution"
"""The one map that belongs to pixels and their surroundings; the others, and the score, belong to whole chips."""


class ChipSettings(Settings):
    """How tiles are cut into chips and windows, and put together again.

    The classifier judges chips. Generators without normalisation look no further than their context, so they run
    on larger windows, side by side on the global grid; others judge whole chips too.
    """

    maps: tuple[str, ...]
    """Attribution maps the networks give, by name; the score always comes along."""
    dissimilar: bool = False
    """Whether the networks also tell how unlike their training chips a chip is."""
    stride: int
    """Pixels between chips on the global lattice."""
    frame: int = 0
    """Pixels at a chip's edge that weigh nothing in the plain attribution, where generators judge chips."""
    window: int = 0
    """Side in pixels of the generators' windows; 0: they judge chips."""
    margin: int = 0
    """Pixels redrawn around each window and thrown away."""
    min_valid: float = 0.5
    """Share of a chip that must have data; the network would otherwise explain its own filling."""

    @property
    def scores(self) -> tuple[str, ...]:
        """What the networks say of a chip as a whole, by name."""
        return ("naturalness", "dissimilarity") if self.dissimilar else ("naturalness",)

    @property
    def follows(self) -> bool:
        """Whether a map follows the classifier down to x−."""
        return any(name != LOCAL for name in self.maps)

    def windows(self, pixels: Window) -> list[Window]:
        """The generators' windows that cover some pixels, on the global lattice, margins not included."""
        return chip_windows(pixels, self.window, self.window) if self.window and self.maps else []

    def padded(self, window: Window) -> Window:
        """What must be read for a tile: every chip that touches it, and the generators' windows under them."""
        chips = bounds(chip_windows(window, self.stride))
        if chips is None:
            return window
        windows = bounds(self.windows(chips))
        return chips if windows is None else windows.pad(self.margin)


@dataclass(frozen=True)
class TileInput:
    """A tile as read: its composite with the halo around it."""

    window: Window
    """The part of the tile that lies in the area; the rest of it is never read."""
    padded_window: Window
    """The window and the halo around it: where the arrays lie."""
    reflectance: Array
    """(bands, height, width) float32 in the checkpoint's band order, NaN = no data."""
    observations: NDArray[np.uint16]
    """(height, width) uint16."""
    scenes: list[dict[str, Any]] = field(default_factory=list)
    """Provenance of every scene looked at."""
    fetched: int = 0
    """Bytes of scenes that had to be fetched for it, as they are stored."""


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


class Networks(Protocol):
    """The networks of a worker, `spacex.attribution.attributor.Attributor`.

    Each method returns a function that waits for the result, so that a GPU can work ahead.
    """

    whole_batches: bool
    """Whether a smaller last batch must be filled up: where kernels depend on a batch's size, all need the same."""

    def generate(self, x: Array) -> Callable[[], GeneratorOutput]:
        """(n, bands, height, width) float32 reflectance of windows to what the generators do to them."""

    def classify(self, x: Array, delta_minus: Array | None) -> Callable[[], ChipMaps]:
        """(n, bands, 256, 256) float32 reflectance of chips, and x− − x, to the maps of whole chips and scores."""

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """(n, bands, 256, 256) float32 reflectance of chips to all maps and scores."""


@dataclass(frozen=True)
class ChipResult:
    """What the classifier found in one chip."""

    maps: dict[str, Array]
    """(256, 256) float32 by name."""
    scores: dict[str, float]
    """What belongs to the chip as a whole: `naturalness` and, where the checkpoint knows, `dissimilarity`."""


def blend_tile(
    read: TileInput,
    sink: TileSink,
    task: TileTask,
    results: Mapping[Window, ChipResult],
    generated: Mapping[Window, GeneratorOutput],
    settings: ChipSettings,
    display: list[int],
) -> TileMaps:
    """Put results together, chips in lattice order, and mask what has no data or lies outside.

    The plain attribution is local: taken from windows side by side, or from chips whose frame without context is
    cut off. The other maps and the score depend on the whole chip, so they fade over the full overlap instead.
    """
    inner = read.window.slices(read.padded_window)
    inside = sink.inside(read.window)
    reflectance = read.reflectance[(slice(None), *inner)]
    valid = np.isfinite(reflectance).all(axis=0) & inside
    blended = [name for name in settings.maps if name != LOCAL or not settings.window]
    blends = {name: Blend(read.window, settings.frame if name == LOCAL else 0) for name in blended}
    blends |= {name: Blend(read.window, 0) for name in settings.scores}
    for chip in sorted(results):
        for name, values in results[chip].maps.items():
            blends[name].add(chip, values)
        for name, score in results[chip].scores.items():
            blends[name].add(chip, score)
    maps = {name: blend.mean() for name, blend in blends.items()}
    if LOCAL in settings.maps and settings.window:
        local = {place: output.attribution for place, output in generated.items() if output.attribution is not None}
        # a window reaches further than the chips that were kept; a pixel has all of its maps or none
        maps[LOCAL] = np.where(np.isfinite(maps["naturalness"]), mosaic(read.window, local, fill=np.nan), np.nan)
    maps = {name: np.where(valid, values, np.nan) for name, values in maps.items()}
    window = sink.window(task)
    return TileMaps(
        {name: _within(window, read.window, values, np.nan) for name, values in maps.items()},
        _within(window, read.window, np.where(inside, read.observations[inner], 0).astype(np.uint16), 0),
        _within(window, read.window, np.where(inside, reflectance[display], np.nan), np.nan),
    )


def _within(window: Window, part: Window, values: NDArray[Any], fill: float) -> NDArray[Any]:
    """`values`, which lie on `part`, on the larger `window`, with `fill` around them."""
    whole = np.full((*values.shape[:-2], *window.shape), fill, values.dtype)
    if not part.empty:
        whole[(..., *part.slices(window))] = values
    return whole

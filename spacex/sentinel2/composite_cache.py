"""Composites of windows, put together from cached blocks, so that the halos of neighbouring tiles cost almost nothing.

A block is a square of the global grid, aligned with pixel (0, 0). Blocks that are missing are composited together, as a
few large windows, and cached up to a number of bytes. A composite depends on nothing but the place of its pixels, so it
does not matter with which others a block was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spacex.grid import Grid, Window, rectangles
from spacex.sentinel2.composite import Composer, Composite
from spacex.sentinel2.compression import CompressedArray, CompressedReflectance
from spacex.sentinel2.contribution import SceneUsage
from spacex.sentinel2.scenes import Scene, SceneIndex
from spacex.sentinel2.single_flight import SingleFlightCache

BLOCK_SIZE = 256
"""Side of a block in pixels."""
MAX_WINDOW_BLOCKS = 4
"""Side in blocks of the largest window composited at once; it limits the memory that takes."""
CACHE_BYTES = 128 * 2**20
"""Bytes of compressed blocks cached per worker: some 25 million pixels of three bands."""
TIMEOUT_S = 300.0
"""Seconds to wait for a block that another thread makes, before it is made again."""

BlockKey = tuple[int, int, int]
"""Time step, and row and column of the block on the global grid of blocks."""


@dataclass(frozen=True)
class CachedBlock:
    """A square of a composite."""

    reflectance: CompressedReflectance
    observations: CompressedArray
    usages: tuple[SceneUsage, ...]
    """How much of each scene was used in the window that the block was made in."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.reflectance.array.nbytes + self.observations.nbytes


class CompositeCache:
    """Composites of the time steps of a request. Safe to use from several threads.

    Args:
        scenes: the scenes of every time step.
        grid: the cube's.
        composer: makes what is missing.
        cache_bytes: bytes of compressed blocks to keep.
    """

    def __init__(
        self, scenes: Sequence[Sequence[Scene]], grid: Grid, composer: Composer, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._grid, self._composer = grid, composer
        self._indices = [SceneIndex(step, grid.crs) for step in scenes]
        self._cache: SingleFlightCache[BlockKey, CachedBlock] = SingleFlightCache(
            cache_bytes, lambda block: block.nbytes, TIMEOUT_S
        )

    def read(self, window: Window, step: int = 0) -> Composite:
        """The composite of a window.

        Args:
            window: pixels of the global grid.
            step: the time step.

        Returns:
            The composite. Its `usages` count pixels of the windows that its blocks were made in, which extend beyond
            it, and `fetched` counts what was fetched for it now.

        Raises:
            TileError: as `spacex.sentinel2.composite.read_composite` does.
        """
        rows = range(window.row // BLOCK_SIZE, -(-window.stop_row // BLOCK_SIZE))
        cols = range(window.col // BLOCK_SIZE, -(-window.stop_col // BLOCK_SIZE))
        fetched: list[int] = []
        blocks = self._cache.get(
            [(step, row, col) for row in rows for col in cols], lambda missing: self._make(missing, fetched)
        )
        reflectance = np.empty((len(self._composer.bands), *window.shape), np.float32)
        observations = np.empty(window.shape, np.uint16)
        for (_, row, col), block in blocks.items():
            block_window = _pixels(Window(row, col, 1, 1))
            shared = block_window.intersect(window)
            target, source = shared.slices(window), shared.slices(block_window)
            reflectance[:, *target] = block.reflectance.pixels()[:, *source]
            observations[target] = block.observations.pixels()[source]
        return Composite(reflectance, observations, _total_usages(blocks.values()), sum(fetched))

    def _make(self, keys: list[BlockKey], fetched: list[int]) -> Mapping[BlockKey, CachedBlock]:
        made: dict[BlockKey, CachedBlock] = {}
        step = keys[0][0]
        for cells in _split(rectangles((row, col) for _, row, col in keys)):
            window = _pixels(cells)
            geobox = self._grid.geobox(window)
            whole = self._composer.compose(self._indices[step].touching(geobox), geobox)
            fetched.append(whole.fetched)
            for row in range(cells.row, cells.stop_row):
                for col in range(cells.col, cells.stop_col):
                    roi = _pixels(Window(row, col, 1, 1)).slices(window)
                    reflectance = CompressedReflectance.of(whole.reflectance[:, *roi])
                    observations = CompressedArray.of(whole.observations[roi])
                    made[step, row, col] = CachedBlock(reflectance, observations, whole.usages)
        return made


def _pixels(cells: Window) -> Window:
    return Window(*(BLOCK_SIZE * number for number in (cells.row, cells.col, *cells.shape)))


def _split(windows: list[Window]) -> Iterator[Window]:
    for window in windows:
        for row in range(window.row, window.stop_row, MAX_WINDOW_BLOCKS):
            for col in range(window.col, window.stop_col, MAX_WINDOW_BLOCKS):
                yield Window(row, col, MAX_WINDOW_BLOCKS, MAX_WINDOW_BLOCKS).intersect(window)


def _total_usages(blocks: Iterable[CachedBlock]) -> tuple[SceneUsage, ...]:
    """The usages of all windows that the blocks were made in, each window counted once, added up by scene."""
    total: dict[str, SceneUsage] = {}
    for usages in {id(block.usages): block.usages for block in blocks}.values():
        for usage in usages:
            total[usage.scene.id] = total[usage.scene.id] + usage if usage.scene.id in total else usage
    return tuple(total.values())

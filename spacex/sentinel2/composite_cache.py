"""Composites of windows, put together from cached blocks, so that the halos of neighbouring tiles cost almost nothing.

A block is a square of the global grid, aligned with pixel (0, 0). Blocks that are missing are composited together, as a
few large windows, and cached up to a number of bytes. A composite depends on nothing but the place of its pixels, so it
does not matter with which others a block was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from spacex.grid import Grid, Window, rectangles
from spacex.sentinel2.composite import Composer, Composite
from spacex.sentinel2.compression import CompressedArray, copy_shared
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

    reflectance: CompressedArray
    observations: CompressedArray
    usages: tuple[SceneUsage, ...]
    """How much of each scene was used in the window that the block was made in."""
    halves: CompressedArray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(part.nbytes for part in (self.reflectance, self.observations, self.halves) if part is not None)


class CompositeCache:
    """Composites of the time steps of a request. Safe to use from several threads.

    `scenes` are those of every time step, `composer` makes what is not among the `cache_bytes` of compressed blocks.
    """

    def __init__(
        self, scenes: Sequence[Sequence[Scene]], grid: Grid, composer: Composer, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._grid, self._composer = grid, composer
        self._indices = [SceneIndex(step, grid.crs) for step in scenes]
        self._cache = SingleFlightCache[BlockKey, CachedBlock](cache_bytes, lambda block: block.nbytes, TIMEOUT_S)

    def read(self, window: Window, step: int = 0) -> Composite:
        """The composite of a window of the global grid at a time step.

        Its `usages` count pixels of the windows that its blocks were made in, which extend beyond it, and `fetched`
        counts what was fetched for it now.

        Raises:
            TileError: as `spacex.sentinel2.composite.read_composite` does.
        """
        rows = range(window.row // BLOCK_SIZE, -(-window.stop_row // BLOCK_SIZE))
        cols = range(window.col // BLOCK_SIZE, -(-window.stop_col // BLOCK_SIZE))
        fetched: list[int] = []
        keys = [(step, row, col) for row, col in product(rows, cols)]
        blocks = self._cache.get(keys, lambda missing: self._make(missing, fetched))
        reflectance = np.empty((len(self._composer.bands), *window.shape), np.float32)
        observations = np.empty(window.shape, np.uint16)
        halves = np.empty((2, *reflectance.shape), np.float32) if self._composer.keep_halves else None
        for (_, row, col), block in blocks.items():
            block_window = _pixels(Window(row, col, 1, 1))
            copy_shared(block.reflectance.pixels(), block_window, reflectance, window)
            copy_shared(block.observations.pixels(), block_window, observations, window)
            if halves is not None and block.halves is not None:
                copy_shared(block.halves.pixels(), block_window, halves, window)
        return Composite(reflectance, observations, _total_usages(blocks.values()), sum(fetched), halves=halves)

    def _make(self, keys: list[BlockKey], fetched: list[int]) -> Mapping[BlockKey, CachedBlock]:
        made: dict[BlockKey, CachedBlock] = {}
        step = keys[0][0]
        for cells in rectangles((row, col) for _, row, col in keys):
            side = MAX_WINDOW_BLOCKS  # to bound the memory that compositing takes
            starts = range(cells.row, cells.stop_row, side), range(cells.col, cells.stop_col, side)
            for row, col in product(*starts):
                part = Window(row, col, side, side).intersect(cells)
                window = _pixels(part)
                geobox = self._grid.geobox(window)
                whole = self._composer.compose(self._indices[step].touching(geobox), geobox)
                fetched.append(whole.fetched)
                for cell in product(range(part.row, part.stop_row), range(part.col, part.stop_col)):
                    roi = _pixels(Window(*cell, 1, 1)).slices(window)
                    reflectance = CompressedArray.of_medians(whole.reflectance[:, *roi])
                    observations = CompressedArray.of(whole.observations[roi])
                    halves = None if whole.halves is None else CompressedArray.of_medians(whole.halves[..., *roi])
                    made[step, *cell] = CachedBlock(reflectance, observations, whole.usages, halves)
        return made


def _pixels(cells: Window) -> Window:
    """The pixels of a window of blocks."""
    return cells.refine(BLOCK_SIZE)


def _total_usages(blocks: Iterable[CachedBlock]) -> tuple[SceneUsage, ...]:
    """The usages of all windows that the blocks were made in, each window counted once, added up by scene."""
    total: dict[str, SceneUsage] = {}
    for usages in {id(block.usages): block.usages for block in blocks}.values():
        for usage in usages:
            total[usage.scene.id] = total[usage.scene.id] + usage if usage.scene.id in total else usage
    return tuple(total.values())

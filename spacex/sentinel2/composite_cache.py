"""Composites in pieces: what neighbouring tiles share is made once, so that halos cost almost nothing.

A *piece* is a square of the global grid, aligned with pixel (0, 0). A window is put together from pieces; those that
are missing are made together, as a few large windows, and remembered up to a number of bytes. Since a composite
depends on nothing but the place of its pixels, it does not matter with which others a piece was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spacex.grid import Grid, Window, rectangles
from spacex.sentinel2.composite import Composer, Composite
from spacex.sentinel2.compression import CompressedArray, CompressedReflectance
from spacex.sentinel2.observation import SceneUsage
from spacex.sentinel2.scenes import Scene, SceneIndex
from spacex.sentinel2.single_flight import SingleFlightCache

SIDE = 256
"""Pixels along a piece."""
AT_ONCE = 4
"""Pieces along the largest window made in one go: it bounds the memory of the making."""
REMEMBERED = 128 * 2**20
"""Bytes of pieces a worker keeps, packed: some 25 million pixels of three bands."""
PATIENCE = 300.0
"""Seconds to wait for a piece that another thread makes, before it is made again."""

PieceKey = tuple[int, int, int]
"""Time step, row and column on the lattice of pieces."""


@dataclass(frozen=True)
class CachedBlock:
    """A square of a composite."""

    reflectance: CompressedReflectance
    observations: CompressedArray
    looks: tuple[SceneUsage, ...]
    """The scenes' part in the window it was made in."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.reflectance.packed.nbytes + self.observations.nbytes


class CompositeCache:
    """Composites of the time steps of a request. Safe to use from several threads.

    Args:
        scenes: the scenes of every time step.
        grid: the cube's.
        composer: makes what is missing.
        remembered: bytes of pieces to keep.
    """

    def __init__(
        self, scenes: Sequence[Sequence[Scene]], grid: Grid, composer: Composer, remembered: int = REMEMBERED
    ) -> None:
        self._grid, self._composer = grid, composer
        self._indices = [SceneIndex(step, grid.crs) for step in scenes]
        self._store: SingleFlightCache[PieceKey, CachedBlock] = SingleFlightCache(
            remembered, lambda piece: piece.nbytes, PATIENCE
        )

    def read(self, window: Window, step: int = 0) -> Composite:
        """The composite of a window.

        Args:
            window: pixels of the global grid.
            step: the time step.

        Returns:
            The composite. `looks` counts pixels of the windows its pieces were made in, which reach beyond it, and
            `fetched` what had to be fetched for it now.

        Raises:
            TileError: as `spacex.sentinel2.composite.read_composite` does.
        """
        keys = [(step, row, col) for row, col in _cells(window)]
        fetched: list[int] = []
        pieces = self._store.get(keys, lambda missing: self._make(missing, fetched))
        reflectance = np.empty((len(self._composer.bands), *window.shape), np.float32)
        observations = np.empty(window.shape, np.uint16)
        for (_, row, col), piece in pieces.items():
            lies = Window(row * SIDE, col * SIDE, SIDE, SIDE)
            shared = lies.intersect(window)
            here, there = shared.slices(window), shared.slices(lies)
            reflectance[:, *here] = piece.reflectance.pixels()[:, *there]
            observations[here] = piece.observations.pixels()[there]
        return Composite(reflectance, observations, _together(pieces.values()), sum(fetched))

    def _make(self, keys: list[PieceKey], fetched: list[int]) -> Mapping[PieceKey, CachedBlock]:
        made: dict[PieceKey, CachedBlock] = {}
        step = keys[0][0]
        for cells in _small_enough(rectangles((row, col) for _, row, col in keys)):
            geobox = self._grid.geobox(_pixels(cells))
            whole = self._composer.compose(self._indices[step].touching(geobox), geobox)
            fetched.append(whole.fetched)
            made |= {(step, *cell): piece for cell, piece in _cut(whole, cells).items()}
        return made


def _cells(window: Window) -> list[tuple[int, int]]:
    rows = range(window.row // SIDE, -(-window.stop_row // SIDE))
    cols = range(window.col // SIDE, -(-window.stop_col // SIDE))
    return [(row, col) for row in rows for col in cols]


def _pixels(cells: Window) -> Window:
    return Window(cells.row * SIDE, cells.col * SIDE, cells.height * SIDE, cells.width * SIDE)


def _small_enough(windows: list[Window]) -> Iterator[Window]:
    for window in windows:
        for row in range(window.row, window.stop_row, AT_ONCE):
            for col in range(window.col, window.stop_col, AT_ONCE):
                yield Window(row, col, AT_ONCE, AT_ONCE).intersect(window)


def _cut(whole: Composite, cells: Window) -> dict[tuple[int, int], CachedBlock]:
    pieces = {}
    for row in range(cells.height):
        for col in range(cells.width):
            part = slice(row * SIDE, (row + 1) * SIDE), slice(col * SIDE, (col + 1) * SIDE)
            packed = CompressedReflectance.of(whole.reflectance[:, *part]), CompressedArray.of(whole.observations[part])
            pieces[cells.row + row, cells.col + col] = CachedBlock(*packed, whole.looks)
    return pieces


def _together(pieces: Iterable[CachedBlock]) -> tuple[SceneUsage, ...]:
    """The uses of all windows the pieces were made in, each window once, summed by scene."""
    uses: dict[str, SceneUsage] = {}
    for looks in {id(piece.looks): piece.looks for piece in pieces}.values():
        for use in looks:
            uses[use.scene.id] = uses[use.scene.id] + use if use.scene.id in uses else use
    return tuple(uses.values())

"""Files of scenes, read by whole blocks: what neighbouring windows share is fetched and decoded once.

A window turned against its scenes touches up to three times the blocks it has pixels for, and its neighbours
touch them again. So blocks, as the file stores them, are the unit of reading; they are remembered up to a number of
bytes, and a file is opened only where one is missing. Only blocks under pixels that are really wanted are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RioWindow

from spacex.grid import Window, bounds, rectangles
from spacex.sentinel2.assets import READ_STATS, Raster, open_asset
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.compression import CompressedArray, Pixels, RawArray
from spacex.sentinel2.pixel_grid import PixelGrid
from spacex.sentinel2.resampling import ResamplingTable
from spacex.sentinel2.scenes import Scene
from spacex.sentinel2.single_flight import SingleFlightCache

REMEMBERED = 384 * 2**20
"""Bytes of blocks a worker keeps, packed: a dozen and more blocks of 1,024 pixels of each of 24 files."""
SMALLEST = 256
"""Pixels a side below which blocks are read several together: some files have strips of a single row."""

BlockKey = tuple[str, int, int]
"""Link of the file, row and column of the block."""


@dataclass(frozen=True)
class Header:
    """What must be known of a file to say which of its blocks a window needs."""

    lattice: PixelGrid
    extent: Window
    """The part of the lattice the file covers."""
    bounds: tuple[float, ...]
    """Left, bottom, right, top in its CRS."""
    dtype: str
    block: tuple[int, int]
    """Rows and columns read at once: the file's own blocks, or a few of them."""


class BlockReader:
    """Opens files of scenes and remembers their headers and blocks. Safe to share between threads.

    Args:
        remembered: bytes of packed blocks to keep; with 0 none is packed.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._blocks: SingleFlightCache[BlockKey, CompressedArray | RawArray] = SingleFlightCache(
            remembered, lambda block: block.nbytes
        )
        self._kept = CompressedArray.of if remembered else RawArray
        self._headers: dict[str, Header] = {}
        self._lock = Lock()

    @contextmanager
    def open(self, scene: Scene, key: str, catalogue: CatalogueProfile) -> Iterator[RasterFile]:
        """An asset of a scene, which asks its host for nothing until something is missing.

        Raises:
            TileError: from what is done with the file, as `spacex.sentinel2.assets.open_asset` does.
        """
        href = scene.item["assets"][key]["href"]
        try:
            with ExitStack() as stack:
                yield RasterFile(self, href, stack, lambda: stack.enter_context(open_asset(scene, key, catalogue)))
        except BaseException:
            with self._lock:
                self._headers.pop(href, None)
            raise

    def _header(self, file: RasterFile) -> Header:
        if (known := self._headers.get(file.href)) is None:
            known = _header_of(file.raster())
            with self._lock:
                self._headers[file.href] = known
        return known


class RasterFile:
    """One file in use by one thread."""

    def __init__(self, files: BlockReader, href: str, stack: ExitStack, opened: Any) -> None:
        self._files, self.href, self._stack, self._open = files, href, stack, opened
        self._raster: Raster | None = None
        self.fetched = 0
        """Bytes of the blocks this use of the file had to fetch, as they are stored."""

    def raster(self) -> Raster:
        """The open file."""
        if self._raster is None:
            self._raster = self._open()
        return self._raster

    @property
    def header(self) -> Header:
        """What the file is."""
        return self._files._header(self)

    def read(self, table: ResamplingTable, wanted: NDArray[np.bool_]) -> Pixels:
        """Values of a table's window.

        Args:
            table: made for the file's lattice.
            wanted: squares of the table's grid whose values matter, as from `spacex.sentinel2.resampling.squares`.

        Returns:
            Values of `table.window`; 0 where the file does not reach, and in blocks that nothing wanted lies in.
        """
        header = self.header
        picture = WindowBuffer(np.zeros(table.window.shape, header.dtype), table.window)
        keys = [(self.href, row, col) for row, col in _touched(header, table.cells[wanted])]
        fresh: set[BlockKey] = set()
        blocks = self._files._blocks.get(keys, partial(self._read_blocks, picture=picture, fresh=fresh))
        for key in blocks.keys() - fresh:
            picture.put(blocks[key].pixels(), _place(header, *key[1:]))
        return picture.pixels

    def _read_blocks(
        self, keys: list[BlockKey], picture: WindowBuffer, fresh: set[BlockKey]
    ) -> dict[BlockKey, CompressedArray | RawArray]:
        """Blocks from the file, as they are remembered; these `fresh` ones are put where they belong at once."""
        source, header = self.raster().source, self.header
        made: dict[BlockKey, CompressedArray | RawArray] = {}
        for cells in rectangles((row, col) for _, row, col in keys):
            corners = product(range(cells.row, cells.stop_row), range(cells.col, cells.stop_col))
            places = {(self.href, *corner): _place(header, *corner) for corner in corners}
            whole = bounds(list(places.values()))
            assert whole is not None
            pixels = source.read(1, window=RioWindow.from_slices(*whole.slices(header.extent)))
            picture.put(pixels, whole)
            made |= {key: self._files._kept(pixels[place.slices(whole)]) for key, place in places.items()}
            stored = sum(stored_bytes(source, place, header) for place in places.values())
            self.fetched += stored
            READ_STATS.add(pixels.nbytes, stored, len(places))
        fresh.update(made)
        return made


@dataclass(frozen=True)
class WindowBuffer:
    """A window that is being filled."""

    pixels: Pixels
    window: Window

    def put(self, pixels: Pixels, lies: Window) -> None:
        """Copy what lies in the window."""
        shared = lies.intersect(self.window)
        if not shared.empty:
            self.pixels[shared.slices(self.window)] = pixels[shared.slices(lies)]


def _header_of(raster: Raster) -> Header:
    height, width = (-(-SMALLEST // side) * side if side < SMALLEST else side for side in raster.source.block_shapes[0])
    dtype = raster.source.dtypes[0]
    return Header(raster.lattice, raster.extent, tuple(raster.source.bounds), dtype, (height, width))


def _touched(header: Header, places: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Blocks (row, column) that hold any of the places (n, 4): first row, last row, first column, last column."""
    top, left = header.extent.row, header.extent.col
    rows, cols = places[:, :2] - top, places[:, 2:] - left
    reached = (rows[:, 1] >= 0) & (cols[:, 1] >= 0)
    reached &= (rows[:, 0] < header.extent.height) & (cols[:, 0] < header.extent.width)
    rows = np.clip(rows[reached], 0, header.extent.height - 1) // header.block[0]
    cols = np.clip(cols[reached], 0, header.extent.width - 1) // header.block[1]
    squares = set(map(tuple, np.hstack([rows, cols]).tolist()))
    touched = {(r, c) for r0, r1, c0, c1 in squares for r in range(r0, r1 + 1) for c in range(c0, c1 + 1)}
    return sorted(touched)


def _place(header: Header, row: int, col: int) -> Window:
    height, width = header.block
    corner = Window(header.extent.row + row * height, header.extent.col + col * width, height, width)
    return corner.intersect(header.extent)


def stored_bytes(source: Any, place: Window, header: Header) -> int:
    """Bytes a block takes in its file; as many as decoded where the format does not tell."""
    if source.driver not in ("GTiff", "COG"):
        return int(place.height * place.width * np.dtype(header.dtype).itemsize)
    high, wide = source.block_shapes[0]
    row, col = place.row - header.extent.row, place.col - header.extent.col
    own = [(r, c) for r in range(row // high, -(-(row + place.height) // high))
           for c in range(col // wide, -(-(col + place.width) // wide))]  # fmt: skip
    sizes = (source.get_tag_item(f"BLOCK_SIZE_{c}_{r}", "TIFF", bidx=1) for r, c in own)
    return sum(int(size or 0) for size in sizes)

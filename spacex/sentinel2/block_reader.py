"""Reads files of scenes by whole blocks and caches the blocks, so that each is fetched and decoded once.

Because the cube's grid is rotated against UTM, a window overlaps up to three times as many file blocks as it has
pixels, and neighbouring windows overlap them again. Decoded blocks are therefore cached, compressed, up to a number of
bytes. A file is opened only where a block is missing, and only blocks under pixels that are needed are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RioWindow

from spacex.grid import Window, bounds, rectangles
from spacex.sentinel2.assets import READ_STATS, open_asset
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.compression import CompressedArray, Pixels, copy_shared
from spacex.sentinel2.pixel_grid import PixelGrid
from spacex.sentinel2.resampling import ResamplingTable
from spacex.sentinel2.scenes import Scene
from spacex.sentinel2.single_flight import SingleFlightCache

CACHE_BYTES = 384 * 2**20
"""Bytes of compressed blocks cached per worker: a dozen and more blocks of 1,024 pixels of each of 24 files."""
SMALLEST = 256
"""Side in pixels below which several file blocks are read as one: some files have strips of a single row."""

BlockKey = tuple[str, int, int]
"""Link of the file, row and column of the block."""
CachedPixels = CompressedArray | Pixels
"""Compressed if they are kept, as they are if they are used once."""


@dataclass(frozen=True)
class Header:
    """What must be known of a file to tell which of its blocks a window needs."""

    grid: PixelGrid
    extent: Window
    """The part of the grid that the file covers."""
    bounds: tuple[float, ...]
    """Left, bottom, right, top in its CRS."""
    dtype: str
    block: tuple[int, int]
    """Rows and columns read at once: the file's own blocks, or a few of them."""

    @classmethod
    def of(cls, source: Any) -> Header:
        """The header of an open rasterio dataset."""
        size, left, top = source.transform.a, source.transform.c, source.transform.f
        grid = PixelGrid(source.crs.to_string(), size, left % size, top % size)
        row, col = round((grid.north - top) / size), round((left - grid.east) / size)
        extent = Window(row, col, source.height, source.width)
        height, width = (-(-SMALLEST // side) * side if side < SMALLEST else side for side in source.block_shapes[0])
        return cls(grid, extent, tuple(source.bounds), source.dtypes[0], (height, width))

    def window(self, row: int, col: int) -> Window:
        """The pixels of one block; those at the lower and right edges are cut off by the extent."""
        height, width = self.block
        corner = Window(self.extent.row + row * height, self.extent.col + col * width, height, width)
        return corner.intersect(self.extent)

    def overlapped(self, areas: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Blocks (row, column) that overlap any of the areas (n, 4): first row, last row, first column, last column."""
        rows, cols = areas[:, :2] - self.extent.row, areas[:, 2:] - self.extent.col
        inside = (rows[:, 1] >= 0) & (cols[:, 1] >= 0)
        inside &= (rows[:, 0] < self.extent.height) & (cols[:, 0] < self.extent.width)
        rows = np.clip(rows[inside], 0, self.extent.height - 1) // self.block[0]
        cols = np.clip(cols[inside], 0, self.extent.width - 1) // self.block[1]
        ranges = set(map(tuple, np.hstack([rows, cols]).tolist()))  # many areas lie in the same blocks
        return sorted({(r, c) for r0, r1, c0, c1 in ranges for r in range(r0, r1 + 1) for c in range(c0, c1 + 1)})


class BlockReader:
    """Opens files of scenes and caches their headers and blocks, these up to so many bytes. Threads may share it."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self.blocks = SingleFlightCache[BlockKey, CachedPixels](cache_bytes, lambda block: block.nbytes)
        self.compress = bool(cache_bytes)
        self.headers: dict[str, Header] = {}

    @contextmanager
    def open(self, scene: Scene, key: str, catalogue: CatalogueProfile) -> Iterator[RasterFile]:
        """An asset of a scene; using it raises `TileError` as `spacex.sentinel2.assets.open_asset` does."""
        href = scene.item["assets"][key]["href"]
        try:
            with ExitStack() as stack:
                yield RasterFile(self, href, cache(lambda: stack.enter_context(open_asset(scene, key, catalogue))))
        except BaseException:
            self.headers.pop(href, None)  # the file at its host may be replaced before the next try
            raise


class RasterFile:
    """One file in use by one thread; `source` opens it, which happens when something is missing in the caches."""

    def __init__(self, reader: BlockReader, href: str, source: Callable[[], Any]) -> None:
        self.href, self._reader, self._source = href, reader, source
        self.fetched = 0
        """Bytes of the blocks that this use of the file fetched, as they are stored."""

    @property
    def header(self) -> Header:
        """What the file covers and how it is stored."""
        if (header := self._reader.headers.get(self.href)) is None:
            header = self._reader.headers[self.href] = Header.of(self._source())
        return header

    def read(self, table: ResamplingTable, needed: NDArray[np.bool_]) -> Pixels:
        """Values of a table's window; 0 outside the file and in file blocks that none of the `needed` blocks touches.

        `needed` are blocks of the table's grid, as from `spacex.sentinel2.resampling.any_per_block`.
        """
        header = self.header
        buffer = np.zeros(table.window.shape, header.dtype)
        keys = [(self.href, row, col) for row, col in header.overlapped(table.block_bounds[needed])]
        decoded: set[BlockKey] = set()
        read = partial(self._read_blocks, buffer=buffer, window=table.window, decoded=decoded)
        blocks = self._reader.blocks.get(keys, read)
        for key in blocks.keys() - decoded:
            block = blocks[key]
            pixels = block.pixels() if isinstance(block, CompressedArray) else block
            copy_shared(pixels, header.window(*key[1:]), buffer, table.window)
        return buffer

    def _read_blocks(
        self, keys: list[BlockKey], buffer: Pixels, window: Window, decoded: set[BlockKey]
    ) -> dict[BlockKey, CachedPixels]:
        """Read blocks from the file, several at once where they form a rectangle, and add them to `decoded`.

        They are copied into the window's buffer right away, so that they need not be decompressed.
        """
        source, header = self._source(), self.header
        blocks: dict[BlockKey, CachedPixels] = {}
        for cells in rectangles((row, col) for _, row, col in keys):
            corners = product(range(cells.row, cells.stop_row), range(cells.col, cells.stop_col))
            windows = {(self.href, *corner): header.window(*corner) for corner in corners}
            whole = bounds(list(windows.values()))
            assert whole is not None
            pixels = source.read(1, window=RioWindow.from_slices(*whole.slices(header.extent)))
            copy_shared(pixels, whole, buffer, window)
            for key, place in windows.items():
                block = pixels[place.slices(whole)]
                blocks[key] = CompressedArray.of(block) if self._reader.compress else block
            stored = sum(stored_bytes(source, place, header) for place in windows.values())
            self.fetched += stored
            READ_STATS.add(pixels.nbytes, stored, len(windows))
        decoded.update(blocks)
        return blocks


def stored_bytes(source: Any, window: Window, header: Header) -> int:
    """Bytes that a block takes in its file; as many as decoded where the format does not tell."""
    if source.driver not in ("GTiff", "COG"):
        return int(window.height * window.width * np.dtype(header.dtype).itemsize)
    height, width = source.block_shapes[0]
    row, col = window.row - header.extent.row, window.col - header.extent.col
    rows = range(row // height, -(-(row + window.height) // height))
    cols = range(col // width, -(-(col + window.width) // width))
    sizes = (source.get_tag_item(f"BLOCK_SIZE_{c}_{r}", "TIFF", bidx=1) for r, c in product(rows, cols))
    return sum(int(size or 0) for size in sizes)

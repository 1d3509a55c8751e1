"""Batch windows and chips across tiles for the networks.

Each tile takes two passes: the generators run on the windows under it, then the classifier on its chips. Windows and
chips that neighbouring tiles share are computed once: one that is pending or still cached is not computed again.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.attributor import ChipMaps, GeneratorOutput
from spacex.attribution.names import SPREAD
from spacex.execution.tasks import TileTask
from spacex.grid import Window, bounds
from spacex.mapping.chips import ChipPixels, extract_chips, mosaic
from spacex.mapping.halves import extract_pairs, gap
from spacex.mapping.tile import ChipResult, ChipSettings, Networks, TileInput
from spacex.models.members import spread

Array = NDArray[np.float32]
Result = TypeVar("Result")

CACHE_BYTES = 192 * 2**20
"""Size of the cache of results for neighbouring tiles: the windows along eight tiles in three bands take two thirds."""
RESULT_OVERHEAD = 2048
"""Bytes a chip's result takes besides its maps, of which there may be none."""


@dataclass(eq=False)
class Tile:
    """A tile in the batcher: read, waiting for its windows, then for its chips."""

    task: TileTask
    input: TileInput
    chips: list[ChipPixels]
    seconds: dict[str, float] = field(default_factory=dict)
    generated: dict[Window, GeneratorOutput] = field(default_factory=dict)
    results: dict[Window, ChipResult] = field(default_factory=dict)
    missing: int = 0
    """Windows not yet generated."""
    pairs: list[ChipPixels] = field(default_factory=list)
    """Both halves of the chips within reach, where the noise is mapped."""
    gaps: dict[Window, float] = field(default_factory=dict)
    """By chip, how far the answers to its halves lie apart (`spacex.mapping.halves`)."""
    computed: int = 0
    """Chips classified for this tile; a shared chip counts for the tile that requested it first."""

    @property
    def complete(self) -> bool:
        """True once every chip has been classified, and every pair of halves."""
        return len(self.results) == len(self.chips) and len(self.gaps) == len(self.pairs)


@dataclass(eq=False)
class _Item(Generic[Result]):
    """A window or chip in the queue, and the tiles waiting for it."""

    key: tuple[int, Window]
    """Time step, and the window that the result covers."""
    chip: ChipPixels
    tiles: list[Tile]


class WorkQueue(Generic[Result]):
    """A queue of windows or chips to compute, with a least-recently-used cache of their results.

    Args:
        cache_bytes: size of the cache.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.waiting: deque[_Item[Result]] = deque()
        self._pending: dict[tuple[int, Window], _Item[Result]] = {}
        self._recent: OrderedDict[tuple[int, Window], tuple[Result, int]] = OrderedDict()
        self._free = cache_bytes

    def request(self, tile: Tile, chip: ChipPixels, window: Window) -> Result | None:
        """The result for a window if it is cached; else None, and the tile is added to those waiting for it."""
        key = tile.task.time, window
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key][0]
        if key in self._pending:
            self._pending[key].tiles.append(tile)
            return None
        item = _Item[Result](key, chip, [tile])
        self._pending[key] = item
        self.waiting.append(item)
        return None

    def store(self, item: _Item[Result], result: Result, size: int) -> None:
        """Cache a result of `size` bytes, dropping the least recently used ones until it fits."""
        del self._pending[item.key]
        self._recent[item.key] = result, size
        self._free -= size
        while self._free < 0:
            self._free += self._recent.popitem(last=False)[1][1]


class ChipBatcher:
    """Computes submitted tiles in batches; it neither reads nor writes tiles.

    Args:
        networks: run the batches.
        settings: how tiles are cut.
        batch: windows or chips per call of the networks.
    """

    def __init__(self, networks: Networks, settings: ChipSettings, batch: int = 1) -> None:
        self._networks, self._settings, self._batch = networks, settings, batch
        self._windows = WorkQueue[GeneratorOutput](3 * CACHE_BYTES // 4)
        self._chips = WorkQueue[ChipResult](CACHE_BYTES // 4)
        self._pairs = WorkQueue[float](CACHE_BYTES // 16)
        self._collect: Callable[[], None] | None = None
        self._tiles: list[Tile] = []

    def __len__(self) -> int:
        """Tiles in the batcher."""
        return len(self._tiles)

    @property
    def needs_input(self) -> bool:
        """True if there is no full batch to compute and none in progress."""
        waiting = max(len(self._windows.waiting), len(self._chips.waiting), len(self._pairs.waiting))
        return waiting < self._batch and self._collect is None

    def submit(self, task: TileTask, read: TileInput, chips: list[Window], seconds: float) -> None:
        """Extract the chips of a tile that has been read, and queue its windows and chips.

        Args:
            task: the tile.
            read: its pixels.
            chips: the chips that touch pixels of the area.
            seconds: that reading took.
        """
        extracted = extract_chips(read.reflectance, read.padded_window, chips, self._settings.min_valid)
        tile = Tile(task, read, extracted, {"reading": seconds})
        self._tiles.append(tile)
        if read.halves is not None:
            pairs = self._settings.pairs(read.window)
            arrays = read.halves, read.reflectance, read.padded_window
            tile.pairs = extract_pairs(*arrays, pairs, self._settings.min_valid)
            for pair in tile.pairs:
                known = self._pairs.request(tile, pair, pair.window)
                if known is not None:
                    tile.gaps[pair.window] = known
        padded_to_window = {window.pad(self._settings.margin): window for window in self._windows_under(tile)}
        # a window may have gaps: `min_valid` is a demand on chips only
        padded = extract_chips(read.reflectance, read.padded_window, padded_to_window, min_valid=0.0)
        tile.missing = len(padded)
        for pixels in padded:
            window = padded_to_window[pixels.window]
            generated = self._windows.request(tile, pixels, window)
            if generated is not None:
                self._add_generated(tile, window, generated)
        if not padded:
            self._request_chips(tile)

    def _windows_under(self, tile: Tile) -> list[Window]:
        """The generators' windows that share pixels with a chip of the tile; none where generators run on chips."""
        chips = [chip.window for chip in tile.chips]
        under = bounds(chips)
        windows = [] if under is None else self._settings.windows(under)
        return [window for window in windows if any(not window.intersect(chip).empty for chip in chips)]

    def compute(self, *, flush: bool) -> bool:
        """Start one call of the networks and collect the results of the previous call.

        Args:
            flush: also start a batch that is not full.

        Returns:
            False if there was nothing to do.
        """
        # the next call is started before the previous one is waited for, so that a GPU is never idle
        before = self._collect
        self._collect = self._start(flush)
        if before is not None:
            before()
        return before is not None or self._collect is not None

    def pop_completed(self) -> list[Tile]:
        """Take the complete tiles out of the batcher."""
        done = [tile for tile in self._tiles if tile.missing == 0 and tile.complete]
        self._tiles = [tile for tile in self._tiles if tile not in done]
        return done

    def _start(self, flush: bool) -> Callable[[], None] | None:
        # chips first: they complete tiles, whose memory is then freed
        if chips := self._take(self._chips, flush):
            if not self._settings.window:
                return self._run(chips, self._networks.attribute, self._store_chip)
            deltas = [
                self._stack([_mosaic_delta(item, name) for item in chips]) if needed else None
                for name, needed in zip(("delta_minus", "delta_plus"), self._settings.needs, strict=True)
            ]
            return self._run(chips, lambda x: self._networks.classify(x, *deltas), self._store_chip)
        if pairs := self._take(self._pairs, flush):
            return self._run(pairs, self._classify_pairs, self._store_pair)
        if windows := self._take(self._windows, flush):
            return self._run(windows, self._networks.generate, self._store_window)
        return None

    def _classify_pairs(self, x: Array) -> Callable[[], ChipMaps]:
        """Score both halves of chips, (n, 2 x bands, side, side): first and second of each in turn."""
        return self._networks.rescore(x.reshape(2 * len(x), -1, *x.shape[2:]))

    def _take(self, queue: WorkQueue[Any], flush: bool) -> list[_Item[Any]]:
        if not queue.waiting or (len(queue.waiting) < self._batch and not flush):
            return []
        return [queue.waiting.popleft() for _ in range(min(self._batch, len(queue.waiting)))]

    def _stack(self, pixels: list[Array]) -> Array:
        # a batch that is not full is padded with copies of its last element, whose results are ignored
        more = self._batch - len(pixels) if self._networks.whole_batches else 0
        stacked: Array = np.stack(pixels + pixels[-1:] * more)
        return stacked

    def _run(
        self, items: list[_Item[Any]], call: Callable[[Array], Callable[[], Any]], store: Callable[..., None]
    ) -> Callable[[], None]:
        """Start a call of the networks; the returned function waits for it and stores each item's result."""
        begun = time.perf_counter()
        result = call(self._stack([item.chip.pixels for item in items]))
        started = time.perf_counter() - begun

        def collect() -> None:
            begun = time.perf_counter()
            output = result()
            # starting and waiting count, not what ran between them; every item gets an equal share
            seconds = (started + time.perf_counter() - begun) / len(items)
            for index, item in enumerate(items):
                spent = item.tiles[0].seconds
                spent["computing"] = spent.get("computing", 0.0) + seconds
                store(item, output, index)

        return collect

    def _store_window(self, item: _Item[GeneratorOutput], output: GeneratorOutput, index: int) -> None:
        # cut the margin off; copies, so that the cache does not keep whole batches alive
        inner = (..., *item.key[1].slices(item.chip.window))
        maps = {name: values[index][inner].copy() for name, values in output.maps.items()}
        deltas: list[Array | None] = []
        for values in (output.delta_minus, output.delta_plus):
            deltas.append(None if values is None else values[index][inner].copy())
            if deltas[-1] is not None and item.chip.valid is not None:
                deltas[-1][:, ~item.chip.valid[inner]] = 0.0  # gaps hold fill values, which must not count
        generated = GeneratorOutput(maps, *deltas)
        size = sum(part.nbytes for part in (*maps.values(), *deltas) if part is not None)
        self._windows.store(item, generated, size)
        for tile in item.tiles:
            self._add_generated(tile, item.key[1], generated)

    def _add_generated(self, tile: Tile, window: Window, generated: GeneratorOutput) -> None:
        """Give a tile the output for one of its windows; after the last one its chips are queued."""
        tile.generated[window] = generated
        tile.missing -= 1
        if tile.missing == 0:
            self._request_chips(tile)

    def _request_chips(self, tile: Tile) -> None:
        for chip in tile.chips:
            result = self._chips.request(tile, chip, chip.window)
            if result is not None:
                tile.results[chip.window] = result
        # a shared chip counts for the tile that requested it first
        tile.computed = sum(item.tiles[0] is tile for item in self._chips.waiting)

    def _store_chip(self, item: _Item[ChipResult], output: ChipMaps, index: int) -> None:
        maps = {name: values[index].copy() for name, values in output.maps.items()}
        scores = {"naturalness": float(output.score[index])}
        if output.dissimilarity is not None and self._settings.dissimilar:
            scores["dissimilarity"] = float(output.dissimilarity[index])
        more = {name: float(values[index]) for name, values in output.generated_scores.items()}
        further = [more.pop(name) for name in list(more) if name.startswith("member")]
        members = (scores["naturalness"], *further) if further else ()
        scores |= more | ({SPREAD: spread(members)} if members else {})
        result = ChipResult(maps, scores, members)
        self._chips.store(item, result, RESULT_OVERHEAD + sum(values.nbytes for values in maps.values()))
        for tile in item.tiles:
            tile.results[item.key[1]] = result

    def _store_pair(self, item: _Item[float], output: ChipMaps, index: int) -> None:
        apart = gap(*output.score[2 * index : 2 * index + 2])
        self._pairs.store(item, apart, RESULT_OVERHEAD)
        for tile in item.tiles:
            tile.gaps[item.key[1]] = apart


def _mosaic_delta(item: _Item[ChipResult], name: str) -> Array:
    """`delta_minus` or `delta_plus` of a chip, from the windows under it of the first tile that waits for it."""
    parts = {window: getattr(output, name) for window, output in item.tiles[0].generated.items()}
    return mosaic(item.chip.window, parts, bands=len(item.chip.pixels))

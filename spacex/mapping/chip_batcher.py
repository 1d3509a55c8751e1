"""Batches of windows and chips across tiles: tiles that have been read wait here for the networks.

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
from spacex.execution.tasks import TileTask
from spacex.grid import Window, bounds
from spacex.mapping.chips import ChipPixels, extract_chips, mosaic
from spacex.mapping.tile import ChipResult, ChipSettings, Networks, TileInput

Array = NDArray[np.float32]
Result = TypeVar("Result")

REMEMBERED = 192 * 2**20
"""Bytes of results kept for neighbouring tiles: three bands of windows along eight tiles, and half as many again."""
BESIDES = 2048
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
    """Windows still to come."""
    computed: int = 0
    """Chips the classifier classified for this tile; shared ones count for the first."""

    @property
    def complete(self) -> bool:
        """True once every chip has been classified."""
        return len(self.results) == len(self.chips)


@dataclass(eq=False)
class _Item(Generic[Result]):
    """A window or chip waiting for its turn, and the tiles waiting for it."""

    key: tuple[int, Window]
    """Time step and place."""
    chip: ChipPixels
    tiles: list[Tile]


class WorkQueue(Generic[Result]):
    """Work of one kind: what waits, who waits for it, and what is remembered of it."""

    def __init__(self, remembered: int) -> None:
        self.waiting: deque[_Item[Result]] = deque()
        self._pending: dict[tuple[int, Window], _Item[Result]] = {}
        self._recent: OrderedDict[tuple[int, Window], tuple[Result, int]] = OrderedDict()
        self._room = remembered

    def request(self, tile: Tile, step: int, piece: ChipPixels, place: Window) -> Result | None:
        """The result if it is remembered; else None, and the tile is noted as waiting for it."""
        key = step, place
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key][0]
        if key in self._pending:
            self._pending[key].tiles.append(tile)
            return None
        item = _Item[Result](key, piece, [tile])
        self._pending[key] = item
        self.waiting.append(item)
        return None

    def store(self, item: _Item[Result], result: Result, size: int) -> None:
        """Remember a result as long as there is room."""
        del self._pending[item.key]
        self._recent[item.key] = result, size
        self._room -= size
        while self._room < 0:
            self._room += self._recent.popitem(last=False)[1][1]


class ChipBatcher:
    """Tiles in, complete tiles out; nothing here reads or writes.

    Args:
        networks: what computes.
        settings: how tiles are cut.
        batch: windows or chips per call of the networks.
    """

    def __init__(self, networks: Networks, settings: ChipSettings, batch: int = 1) -> None:
        self._networks, self._settings, self._batch = networks, settings, batch
        self._windows = WorkQueue[GeneratorOutput](3 * REMEMBERED // 4)
        self._chips = WorkQueue[ChipResult](REMEMBERED // 4)
        self._collect: Callable[[], None] | None = None
        self._tiles: list[Tile] = []

    def __len__(self) -> int:
        """Tiles in the batcher."""
        return len(self._tiles)

    @property
    def needs_input(self) -> bool:
        """True if there is no full batch to compute."""
        return max(len(self._windows.waiting), len(self._chips.waiting)) < self._batch and self._collect is None

    def submit(self, task: TileTask, read: TileInput, chips: list[Window], seconds: float) -> None:
        """Extract the chips of a tile that has been read, and queue what the networks must do for it.

        Args:
            task: its name.
            read: its pixels.
            chips: the chips that matter to it.
            seconds: that reading took.
        """
        chips_read = extract_chips(read.reflectance, read.padded_window, chips, self._settings.min_valid)
        tile = Tile(task, read, chips_read, {"reading": seconds})
        self._queue(tile)
        self._tiles.append(tile)

    def _queue(self, tile: Tile) -> None:
        read, chips_read = tile.input, tile.chips
        under = bounds([piece.window for piece in chips_read])
        if under is None or not self._settings.window:
            self._request_chips(tile)
            return
        needed = [w for w in self._settings.windows(under) if any(not w.intersect(c.window).empty for c in chips_read)]
        margin = self._settings.margin
        wide = {place.pad(margin): place for place in needed}
        inputs = extract_chips(read.reflectance, read.padded_window, wide, min_valid=0.0)
        tile.missing = len(inputs)
        for window_input in inputs:
            place = wide[window_input.window]
            generated = self._windows.request(tile, tile.task.time, window_input, place)
            if generated is not None:
                self._add_generated(tile, place, generated)
        if not inputs:
            self._request_chips(tile)

    def compute(self, *, flush: bool) -> bool:
        """Start one call of the networks and collect the answer of the call before.

        Args:
            flush: also start a batch that is not full.

        Returns:
            False if there was nothing to do.
        """
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
        # chips first: they complete tiles, and complete tiles give their memory back
        if chips := self._take(self._chips, flush):
            if not self._settings.window:
                return self._run(chips, self._networks.attribute, self._store_chip)
            delta_minus = self._stack([_delta_minus(item) for item in chips]) if self._settings.follows else None
            return self._run(chips, lambda x: self._networks.classify(x, delta_minus), self._store_chip)
        if windows := self._take(self._windows, flush):
            return self._run(windows, self._networks.generate, self._store_window)
        return None

    def _take(self, queue: WorkQueue[Any], flush: bool) -> list[_Item[Any]]:
        if not queue.waiting or (len(queue.waiting) < self._batch and not flush):
            return []
        return [queue.waiting.popleft() for _ in range(min(self._batch, len(queue.waiting)))]

    def _stack(self, pixels: list[Array]) -> Array:
        more = self._batch - len(pixels) if self._networks.whole_batches else 0
        stacked: Array = np.stack(pixels + pixels[-1:] * more)
        return stacked

    def _run(
        self, items: list[_Item[Any]], call: Callable[[Array], Callable[[], Any]], store: Callable[..., None]
    ) -> Callable[[], None]:
        begun = time.perf_counter()
        answer = call(self._stack([item.chip.pixels for item in items]))
        started = time.perf_counter() - begun

        def collect() -> None:
            begun = time.perf_counter()
            output = answer()
            seconds = (started + time.perf_counter() - begun) / len(items)
            for index, item in enumerate(items):
                spent = item.tiles[0].seconds
                spent["computing"] = spent.get("computing", 0.0) + seconds
                store(item, output, index)

        return collect

    def _store_window(self, item: _Item[GeneratorOutput], output: GeneratorOutput, index: int) -> None:
        inner = (..., *item.key[1].slices(item.chip.window))
        plain = None if output.attribution is None else output.attribution[index][inner].copy()
        delta_minus = None
        if output.delta_minus is not None:
            delta_minus = output.delta_minus[index][inner].copy()
            if item.chip.valid is not None:
                delta_minus[:, ~item.chip.valid[inner]] = 0.0  # where nothing was seen nothing was lowered
        generated = GeneratorOutput(plain, delta_minus)
        self._windows.store(item, generated, sum(part.nbytes for part in (plain, delta_minus) if part is not None))
        for tile in item.tiles:
            self._add_generated(tile, item.key[1], generated)

    def _add_generated(self, tile: Tile, place: Window, generated: GeneratorOutput) -> None:
        tile.generated[place] = generated
        tile.missing -= 1
        if tile.missing == 0:
            self._request_chips(tile)

    def _request_chips(self, tile: Tile) -> None:
        for piece in tile.chips:
            result = self._chips.request(tile, tile.task.time, piece, piece.window)
            if result is not None:
                tile.results[piece.window] = result
        # the first to ask pays
        tile.computed = sum(item.tiles[0] is tile for item in self._chips.waiting)

    def _store_chip(self, item: _Item[ChipResult], output: ChipMaps, index: int) -> None:
        maps = {name: values[index].copy() for name, values in output.maps.items()}
        scores = {"naturalness": float(output.score[index])}
        if output.dissimilarity is not None and self._settings.dissimilar:
            scores["dissimilarity"] = float(output.dissimilarity[index])
        result = ChipResult(maps, scores)
        self._chips.store(item, result, BESIDES + sum(values.nbytes for values in maps.values()))
        for tile in item.tiles:
            tile.results[item.key[1]] = result


def _delta_minus(item: _Item[ChipResult]) -> Array:
    """x− − x of a chip, from the windows under it of the first tile that waits for it."""
    parts = {
        place: generated.delta_minus
        for place, generated in item.tiles[0].generated.items()
        if generated.delta_minus is not None
    }
    return mosaic(item.chip.window, parts, bands=len(item.chip.pixels))

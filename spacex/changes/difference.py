"""Two time steps on one grid, compared block by block: what differs by more than the noise, and what cannot be told.

All is done at 20 m, the first level that holds the picture itself, in blocks of whole cells of a global lattice.

**False alarms.** Thresholds aim at `false_alarms` places per 1,000 km² by noise alone. A map of scores has one
independent place per square of the chips' stride, a picture one per smallest area that is reported; the threshold is
what noise exceeds in the share `false_alarms` / (places in 1,000 km²) of them. A picture has its thresholds by place
and kind of land (`spacex.changes.fit`). Of scores, whose noise is not normal either, the threshold lies on the
exponential through the median and the upper quartile of the sizes of all the land that is judged, at least where
normal noise would have it; that land must not have changed in more than a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import chi2

from spacex.attribution.names import NOISE
from spacex.changes.fit import CELL, beyond_noise, exceedances, haze_colour
from spacex.cube.layout import variables, variables_by_name
from spacex.cube.statuses import FINISHED
from spacex.cube.store import Cube
from spacex.errors import CubeError, RequestError
from spacex.grid import Grid, Window
from spacex.model_card import Card
from spacex.region import Region

LEVEL = 1
"""Of the cubes; half their resolution."""
BLOCK = 8 * CELL
"""Side of a block in pixels."""
SAMPLED = 16
"""Blocks at most from which the threshold is estimated, evenly from all."""
QUANTUM = 0.004 / np.sqrt(12)
STORED = np.float32(np.sqrt(2) * QUANTUM)
"""Standard errors of a stored score by its steps alone, and of a difference of two."""
NOISELESS = 1e-4
"""Least noise: networks may be so sure of both halves of the observations that it is 0."""
Z90 = 1.645
"""Standard errors to either side of a normal 90 % interval."""
SCORE, PICTURE = "naturalness", "composite"

Array = NDArray[np.float32]


class State(IntEnum):
    """What a comparison says of a pixel."""

    EMPTY = 0
    """Neither step has data."""
    UNCHANGED = 1
    """Compared; what differs may be noise, haze or a faint shade."""
    CHANGED = 2
    """Compared; differs by more than the noise."""
    OUTSIDE = 3
    """Unlike the classifier's training chips in either step: not reported as change."""
    ONE_STEP = 4
    """One step has no data."""
    UNTOLD = 5
    """Too little land around it has data in both steps to tell its noise."""
    UNMAPPED = 6
    """One step has no data because its tile is not finished, or its cube was not asked for this land."""


@dataclass(frozen=True)
class Step:
    """One time step of a cube."""

    cube: Cube
    number: int

    @property
    def days(self) -> tuple[str, str]:
        """First and last, ISO 8601."""
        return self.cube.spec.intervals[self.number]

    def holds(self, name: str) -> bool:
        """Whether the cube has a variable."""
        return name in variables_by_name(self.cube.spec)

    @cached_property
    def checkpoint(self) -> str:
        """Digest of the networks; empty where the cube does not tell it, or told it otherwise in another version."""
        with suppress(KeyError, ValidationError):
            return Card.model_validate(self.cube.attributes["checkpoint"]).digest
        return ""

    @cached_property
    def _land(self) -> tuple[Region, NDArray[np.bool_]]:
        """The area that was asked for, on the grid of `LEVEL`, and which tiles are finished."""
        grid = Grid(self.cube.spec.crs, self.cube.spec.resolution * (1 << LEVEL))
        return Region(self.cube.region.area, grid), np.isin(self.cube.statuses()[self.number], FINISHED)

    def mapped(self, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pixels of a window of `LEVEL` were asked for, and of which the tile is finished."""
        (region, finished), side = self._land, self.cube.spec.tile_size >> LEVEL
        tiles, done = self.cube.spec.tiling.tiles, np.zeros(window.shape, bool)
        part = window.intersect(tiles.refine(side))
        rows, cols = (np.arange(part.row, part.stop_row), np.arange(part.col, part.stop_col))
        done[part.slices(window)] = finished[np.ix_(rows // side - tiles.row, cols // side - tiles.col)]
        return region.inside(window), done

    def read(self, name: str, window: Window) -> Array:
        """A variable's values in a window of the global grid of `LEVEL`, (…, height, width); NaN = no data."""
        variable = variables_by_name(self.cube.spec)[name]
        stored = self.cube.spec.stored.coarsen(1 << LEVEL)
        part = window.intersect(stored)
        bands = [len(variable.bands)] if variable.bands else []
        values = np.full((*bands, *window.shape), np.nan, np.float32)
        if not part.empty:
            array = self.cube.array(f"{LEVEL}/{name}")
            read = np.asarray(array[(self.number, ..., *part.slices(stored))])
            values[(..., *part.slices(window))] = variable.decode(read)
        return values


@dataclass(frozen=True)
class Block:
    """A compared part of the land, (height, width) each."""

    window: Window
    before: Array
    """Naturalness of the earlier step."""
    change: Array
    """Naturalness of the later step less that of the earlier."""
    error: Array
    """Its standard error."""
    exceedance: Array
    """Size of what is compared over its threshold: above 1 it counts as changed."""
    state: NDArray[np.uint8]
    """`State` of every pixel."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, and when it counts as changed."""

    earlier: Step
    later: Step
    of: str
    """The variable that tells change: naturalness, whose noise is that of scores; any other's is fitted."""
    false_alarms: float
    """Places per 1,000 km² by noise alone that thresholds aim at."""
    least: float
    """Smallest area reported, in hectares."""

    def __post_init__(self) -> None:
        one, other = self.earlier.cube, self.later.cube
        if (one.spec.crs, one.spec.resolution) != (other.spec.crs, other.spec.resolution):
            got = f"{one.spec.crs} at {one.spec.resolution:g} m and {other.spec.crs} at {other.spec.resolution:g} m"
            raise RequestError("the cubes lie on different grids", got=got, expected="one CRS and resolution")
        for step in (self.earlier, self.later):
            if step.cube.spec.format < 3 or step.cube.published_levels <= LEVEL:
                do = "Repeat the command that maps, to its end." if step.cube.spec.format > 2 else "Map it anew."
                raise CubeError(f"{step.cube.uri} has no overviews on the global grid", do=do)
            if not step.holds(self.of):
                known = ", ".join(v.name for v in variables(step.cube.spec) if v.overviews)
                raise RequestError(f"{step.cube.uri} has no such map", got=self.of, expected=known)
        if self.of != PICTURE and self.other_networks:
            do = f"Map one anew with the checkpoint of the other, or compare the {PICTURE}."
            raise RequestError(f"the cubes were made with different checkpoints, so {self.of} differs", do=do)
        bands = [" ".join(variables_by_name(cube.spec)[self.of].bands) for cube in (one, other)]
        if bands[0] != bands[1]:
            raise RequestError("the cubes' pictures have different bands", got=" and ".join(bands), expected="the same")
        if one.extent.intersect(other.extent).empty:
            raise RequestError("the cubes have no land in common", got=f"{one.extent} and {other.extent}")

    @property
    def other_networks(self) -> bool:
        """Whether the cubes are known to be of different checkpoints."""
        return len({self.earlier.checkpoint, self.later.checkpoint} - {""}) > 1

    @cached_property
    def grid(self) -> Grid:
        """The global grid that is compared on."""
        spec = self.earlier.cube.spec
        return Grid(spec.crs, spec.resolution * (1 << LEVEL))

    @cached_property
    def window(self) -> Window:
        """The land that both cubes cover, on that grid."""
        return self.earlier.cube.extent.intersect(self.later.cube.extent).coarsen(1 << LEVEL)

    @cached_property
    def noise_is_mapped(self) -> bool:
        """Whether both steps tell the noise of their scores by place, anywhere: pixels need two observations for it."""
        steps = (self.earlier, self.later)
        if not all(step.holds(NOISE) for step in steps):
            return False
        return all(any(np.isfinite(step.read(NOISE, window)).any() for window in self.windows()) for step in steps)

    @cached_property
    def widening(self) -> float:
        """Factor on the noise, so that nine tenths of the land lie within their 90 % intervals.

        Seasons move scores more than scenes do. As long as less than a tenth of the land changed, the 90th percentile
        of the differences tells by how much: at least 1 where the noise is mapped. What a score errs by being stored is
        not widened: sure land errs by little else, and would hide how far the rest moves.
        """
        ratios = []
        for window in self.windows():
            _, change, noise = self._difference(window)
            ratio = np.sqrt(np.maximum((change / Z90) ** 2 - STORED**2, 0)) / noise
            ratios.append(ratio[np.isfinite(ratio) & ~self._outside(window)][::16])
        factor = float(np.quantile(pooled, 0.9)) if (pooled := np.concatenate(ratios)).size else 1.0
        return max(factor, 1.0 if self.noise_is_mapped else 1e-3)

    @cached_property
    def share(self) -> float:
        """Of independent places that noise may lift above the threshold."""
        if self.of == SCORE:
            stride = self.earlier.cube.attributes["request"]["chips"]["stride"]
            place = (stride * self.earlier.cube.spec.resolution) ** 2
        else:
            place = max(self.least * 1e4, self.grid.resolution**2)
        return float(min(0.1, self.false_alarms * place / 1e9))

    @cached_property
    def threshold(self) -> float:
        """Change of a score, in standard errors, that noise exceeds as often as is allowed."""
        normal = float(np.sqrt(chi2.isf(self.share, 1)))
        windows = list(self.windows())
        parts = []
        for window in windows[:: -(-len(windows) // SAMPLED)]:
            _, change, noise = self._difference(window)
            size = np.abs(change) / np.hypot(noise * np.float32(self.widening), STORED)
            parts.append(size[np.isfinite(size) & ~self._outside(window)][::16])
        if not (sizes := np.concatenate(parts)).size:
            return normal
        middle, upper = np.quantile(sizes, (0.5, 0.75))
        return float(beyond_noise(middle, upper, self.share, normal))

    def windows(self) -> Iterator[Window]:
        """The blocks of the land."""
        cells = self.window.coarsen(BLOCK)
        for row, col in product(range(cells.row, cells.stop_row), range(cells.col, cells.stop_col)):
            yield Window(row, col, 1, 1).refine(BLOCK)

    def blocks(self) -> Iterator[Block]:
        """The land, compared block by block; what lies outside both cubes' extent is cut off."""
        for window in self.windows():
            part = window.intersect(self.window)
            block = self._compare(window)
            cut = part.slices(window)
            yield Block(part, *(values[cut] for values in block))

    def _compare(self, window: Window) -> tuple[Any, ...]:
        before, change, noise = self._difference(window)
        error = np.hypot(noise * np.float32(self.widening), STORED)
        if self.of == SCORE:
            exceedance = np.abs(change) / (error * np.float32(self.threshold))
        else:
            around = window.pad(CELL)
            steps = self.earlier, self.later
            first, second = (step.read(self.of, around).reshape(-1, *around.shape) for step in steps)
            haze = haze_colour(variables_by_name(self.earlier.cube.spec)[self.of].bands)
            exceedance = exceedances(first, second, self.share, haze)
        # from what counts least to what counts most
        state = np.where(exceedance > 1, State.CHANGED, State.UNCHANGED).astype(np.uint8)
        state[np.isnan(exceedance)] = State.UNTOLD
        state[self._outside(window)] = State.OUTSIDE
        after = self.later.read(SCORE, window)
        state[np.isfinite(before) != np.isfinite(after)] = State.ONE_STEP
        state[np.isnan(before) & np.isnan(after)] = State.EMPTY
        state[self._unmapped(window, np.isnan(before), np.isnan(after))] = State.UNMAPPED
        return before, change, error, exceedance, state

    def _unmapped(self, window: Window, *lacking: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where a step lacks data because it was not asked for, or is not finished, and was asked for in any step."""
        if not np.any(lacking):
            return lacking[0]
        (asked, done), (asked_too, done_too) = (step.mapped(window) for step in (self.earlier, self.later))
        return (lacking[0] & ~(asked & done) | lacking[1] & ~(asked_too & done_too)) & (asked | asked_too)

    def _outside(self, window: Window) -> NDArray[np.bool_]:
        """Where either step is unlike the classifier's training chips."""
        outside = np.zeros(window.shape, bool)
        for step in (self.earlier, self.later):
            if step.holds("dissimilarity"):
                outside |= step.read("dissimilarity", window) > 1
        return outside

    def _difference(self, window: Window) -> tuple[Array, Array, Array]:
        """Naturalness before, its change, and the noise of that before it is widened."""
        first, second = (step.read(SCORE, window) for step in (self.earlier, self.later))
        # a logit that errs alike everywhere moves a score as much as its slope there
        noise = (first + second) * (2 - first - second) / 4
        if self.noise_is_mapped:
            noise = np.hypot(*(step.read(NOISE, window) for step in (self.earlier, self.later)))
        return first, second - first, np.maximum(noise, np.float32(NOISELESS))

"""The embedded Fennoscandia: land cover and reflectance at any EPSG:3035 coordinate, before any sensor.

A landscape is a pure function of coordinates and seed. Forest lies everywhere; shore, water, mire, fell,
anthropogenic land and planted distractors are drawn over it in that order, each within its own mask. Without one
of these layers the ground beneath it shows and no other pixel changes: that is an exact counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation

from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.synthetic.land_cover import fell, forest, mire, shore, water
from spacex.synthetic.landscape_params import cover_tints
from spacex.synthetic.noise import Bools, Coords, Floats, is_regular, ramp
from spacex.synthetic.settlements import land_use
from spacex.synthetic.spectra import ANTHROPOGENIC, CORINE_OF, NATURAL_PATTERN, Cover, spectrum
from spacex.synthetic.terrain import SETTLED_INFLUENCE, Fields, Terrain

PATTERNS = ("mire", "fell")
"""Natural patterns that tell the classes apart; each can be left out."""
DISTRACTOR_GAP = 4
"""Pixels between planted distractors and mire or fell, so that no small convolution sees both at once."""
_BLOCK = 1 << 16  # points painted at a time: intermediate fields then stay in the processor's cache

Layer = Callable[[Terrain], tuple[NDArray[np.uint8], Floats]]
"""Draws one cover at n points: cover codes (n,), 0 where it leaves the ground as it is, and reflectance (10, n)."""


@dataclass(frozen=True)
class Ground:
    """Noise-free ground of h x w pixels."""

    cover: NDArray[np.uint8]
    """`Cover` codes, (h, w)."""
    reflectance: Floats
    """Bottom-of-atmosphere reflectance 0..1, (10, h, w), bands as in ``SENTINEL2_BANDS``; never NaN."""

    @property
    def corine(self) -> NDArray[np.uint16]:
        """CORINE level-3 codes 111..523, (h, w)."""
        return CORINE_OF[self.cover]

    @property
    def pattern(self) -> Bools:
        """The discriminative natural pattern, mire or bare fell, (h, w)."""
        return np.asarray(np.isin(self.cover, NATURAL_PATTERN))

    @property
    def distractors(self) -> Bools:
        """The planted shortcut pattern, (h, w)."""
        return np.asarray(self.cover == Cover.DISTRACTOR)


class CoverMasks(NamedTuple):
    """Three masks of one shape."""

    pattern: Bools
    """Mire or bare fell."""
    anthropogenic: Bools
    """Fields, villages and roads."""
    water: Bools
    """Lakes and rivers."""


class Landscape:
    """One landscape. The same seed and coordinates always give the same ground, to the bit.

    Another seed is another country, and `SECOND_COUNTRY` one with other densities and colours.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._fields = Fields(seed)

    def paint(
        self, x: ArrayLike, y: ArrayLike, *, without: Collection[str] = (), distractor_level: float | None = None
    ) -> Ground:
        """Paint the ground at EPSG:3035 coordinates.

        Args:
            x: eastings in metres: (w,) with `y` (h,) for a regular grid, or (h, w) like `y` for anything
                else.
            y: northings in metres.
            without: names of `PATTERNS` to replace by the cover that lies beneath; all else stays
                bit-identical.
            distractor_level: plant reddish distractors where :meth:`distractor_field` exceeds this level;
                regular grids only. None plants none.

        Raises:
            RequestError: for an unknown pattern, or distractors on an irregular grid.
        """
        unknown = set(without) - set(PATTERNS)
        if unknown:
            raise RequestError("unknown pattern to leave out", got=sorted(unknown), expected=PATTERNS)
        x, y = _as_grid(x, y)
        shape = np.broadcast_shapes(x.shape, y.shape)
        cover, reflectance = np.empty(shape, np.uint8), np.empty((10, *shape), np.float32)
        height = max(1, _BLOCK // max(1, shape[1]))
        for rows in (slice(start, start + height) for start in range(0, shape[0], height)):
            part = x if x.shape[0] == 1 else x[rows], y[rows]
            cover[rows], reflectance[:, rows] = self._paint_block(*part, frozenset(without))
        if distractor_level is not None:
            self._plant(x, y, distractor_level, cover, reflectance)
        return Ground(cover, reflectance)

    def paint_window(
        self,
        window: Window,
        grid: Grid | None = None,
        *,
        without: Collection[str] = (),
        distractor_level: float | None = None,
    ) -> Ground:
        """Paint a window of the global grid (EPSG:3035, 10 m unless `grid` says otherwise), at pixel centres."""
        x, y = pixel_centres(window, grid or Grid())
        return self.paint(x, y, without=without, distractor_level=distractor_level)

    def cover_masks(self, x: ArrayLike, y: ArrayLike) -> CoverMasks:
        """The masks of :meth:`paint` for coordinates as there; cheaper, for sampling a country coarsely."""
        land = Terrain(self._fields, *_as_grid(x, y))
        anthropogenic, settled = np.zeros(land.water.shape, bool), _settled(land)
        if settled.any():
            anthropogenic[settled] = land_use(land.at(settled))[0] > 0
        return CoverMasks(land.mire | land.fell, anthropogenic, land.water)

    def sample_masks(self, window: Window, step: int) -> CoverMasks:
        """The masks of :meth:`cover_masks` at every `step`-th pixel of a window of the global grid."""
        x = (window.col + np.arange(step // 2, window.width, step)) * Grid().resolution
        y = -(window.row + np.arange(step // 2, window.height, step)) * Grid().resolution
        return self.cover_masks(x, y)

    def distractor_field(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """The field whose maxima become distractors, for a regular grid x (w,), y (h,); f4 (h, w).

        It is -inf where no distractor may stand: within `DISTRACTOR_GAP` pixels of mire and fell, in water, on shores.

        Raises:
            RequestError: if the grid is not regular, or less than two pixels high or wide.
        """
        x, y = _as_grid(x, y)
        if not is_regular(x, y) or x.size < 2 or y.size < 2:
            raise RequestError("distractors need a regular grid", got=(x.shape, y.shape), expected="x (w,) and y (h,)")
        # dilate mire and fell on a grid wider by the gap, so that a pattern just outside counts as well
        gap = DISTRACTOR_GAP
        wide = Terrain(self._fields, _extend(x[0], gap)[None, :], _extend(y[:, 0], gap)[:, None])
        disc = np.hypot(*np.mgrid[-gap : gap + 1, -gap : gap + 1]) <= gap
        near = binary_dilation(wide.mire | wide.fell, disc)[gap:-gap, gap:-gap]
        land = Terrain(self._fields, x, y)
        field = land.noise("knoll", (260, 0.85), (90, 0.35), (38, 0.15))
        return np.where(near | land.water | (land.shore > 0), np.float32(-np.inf), field)

    def _paint_block(self, x: Coords, y: Coords, without: frozenset[str]) -> tuple[NDArray[np.uint8], Floats]:
        land = Terrain(self._fields, x, y)
        cover, reflectance = forest(land)
        cover, reflectance = np.ascontiguousarray(cover), np.ascontiguousarray(reflectance)  # drawn over in place
        layers: list[tuple[Bools, Layer]] = [(land.shore > 0, shore), (land.water, water)]
        layers += [(land.mire, mire)] if "mire" not in without else []
        layers += [(land.fell, fell)] if "fell" not in without else []
        layers += [(_settled(land), land_use)]
        for mask, layer in layers:
            if mask.any():
                codes, values = layer(land.at(mask))
                drawn = codes > 0
                points = np.flatnonzero(mask)[drawn]
                cover.reshape(-1)[points] = codes[drawn]
                reflectance.reshape(10, -1)[:, points] = values[:, drawn]
        tints = cover_tints(self.seed)
        return cover, reflectance if tints is None else reflectance * tints[:, cover]

    def _plant(self, x: Coords, y: Coords, level: float, cover: NDArray[np.uint8], reflectance: Floats) -> None:
        mask = (self.distractor_field(x, y) > level) & ~np.isin(cover, ANTHROPOGENIC)
        if not mask.any():
            return
        land = Terrain(self._fields, x, y).at(mask)
        tone = np.float32(0.85) + np.float32(0.4) * ramp(land.noise("knoll tone", (500, 1.0)), -1.5, 1.5)
        grain = 1 + land.noise("crowns", (21, 0.07), (47, 0.06))
        reflectance[:, mask] = spectrum("distractor")[:, None] * (tone * grain)
        cover[mask] = Cover.DISTRACTOR


def _settled(land: Terrain) -> Bools:
    # all patterns count, also those left out: nobody settles where a pattern has been left out
    return np.asarray((land.influence > SETTLED_INFLUENCE) & ~(land.mire | land.fell))


def pixel_centres(window: Window, grid: Grid) -> tuple[Coords, Coords]:
    """Eastings (w,) and northings (h,) of a window's pixel centres, in metres of the grid's CRS."""
    columns = np.arange(window.col, window.stop_col, dtype=np.float64)
    rows = np.arange(window.row, window.stop_row, dtype=np.float64)
    return (columns + 0.5) * grid.resolution, -(rows + 0.5) * grid.resolution


def _as_grid(x: ArrayLike, y: ArrayLike) -> tuple[Coords, Coords]:
    x, y = np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64)
    if x.ndim == 1 and y.ndim == 1:
        return x[None, :], y[:, None]
    if is_regular(x, y):
        return x, y
    if x.shape != y.shape or x.ndim != 2:
        raise RequestError("coordinates do not fit", got=(x.shape, y.shape), expected="(w,) and (h,), or (h, w) twice")
    return x, y


def _extend(axis: Coords, by: int) -> Coords:
    step = axis[1] - axis[0]
    before = axis[0] - step * np.arange(by, 0, -1)
    return np.concatenate([before, axis, axis[-1] + step * np.arange(1, by + 1)])

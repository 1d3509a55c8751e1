"""The embedded Fennoscandia: what lies at any EPSG:3035 coordinate, and how bright it is, without a sensor.

A landscape is a pure function of coordinates and seed. Forest lies everywhere; water, mire, fell, people and
planted knolls are laid over it in that order, each where its gate says. So leaving a layer out shows the very
ground beneath and changes no other pixel: that is an exact counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation

from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.synthetic import land_cover as nature
from spacex.synthetic import settlements as people
from spacex.synthetic.landscape_params import tints_of
from spacex.synthetic.noise import Bools, Coords, Floats, is_regular, ramp
from spacex.synthetic.spectra import CORINE_OF, NATURAL_PATTERN, Cover, spectrum
from spacex.synthetic.terrain import TAME, Fields, Terrain

PATTERNS = ("mire", "fell")
"""Natural patterns that tell the classes apart; each can be left out of a painting."""
KNOLL_GAP = 4
"""Planted knolls keep this many pixels away from mire and fell, so that the two never touch in a convolution's eye."""
_BLOCK = 1 << 16  # points painted at once: intermediate fields then stay in the processor's cache


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
    def planted(self) -> Bools:
        """The planted shortcut pattern, (h, w)."""
        return np.asarray(self.cover == Cover.KNOLL)


class Outline(NamedTuple):
    """What is where, without looks: three masks of one shape."""

    pattern: Bools
    """Mire or bare fell."""
    human: Bools
    """Fields, villages and roads."""
    water: Bools
    """Lakes and rivers."""


class Landscape:
    """One world. The same seed and coordinates always give the same ground, to the bit.

    Args:
        seed: any integer; another seed is another country, and `character.SECOND_COUNTRY` one that looks different.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._fields = Fields(seed)

    def paint(
        self, x: ArrayLike, y: ArrayLike, *, without: Collection[str] = (), planted: float | None = None
    ) -> Ground:
        """Paint the ground at EPSG:3035 coordinates.

        Args:
            x: eastings in metres: (w,) with `y` (h,) for a regular grid, or (h, w) like `y` for anything
                else.
            y: northings in metres.
            without: names of `PATTERNS` to replace by the cover that lies beneath; all else stays
                bit-identical.
            planted: plant reddish knolls where the knoll field (see :meth:`knoll_field`) exceeds this level;
                regular grids only. None plants nothing.

        Raises:
            RequestError: for an unknown pattern, or `planted` on an irregular grid.
        """
        unknown = set(without) - set(PATTERNS)
        if unknown:
            raise RequestError("unknown pattern to leave out", got=sorted(unknown), expected=PATTERNS)
        x, y = _as_grid(x, y)
        shape = np.broadcast_shapes(x.shape, y.shape)
        cover, look = np.empty(shape, np.uint8), np.empty((10, *shape), np.float32)
        for rows in _row_blocks(shape):
            part = x if x.shape[0] == 1 else x[rows], y[rows]
            cover[rows], look[:, rows] = self._paint_block(*part, frozenset(without))
        if planted is not None:
            self._plant(x, y, planted, cover, look)
        return Ground(cover, look)

    def paint_window(
        self,
        window: Window,
        grid: Grid | None = None,
        *,
        without: Collection[str] = (),
        planted: float | None = None,
    ) -> Ground:
        """Paint a window of the global grid (EPSG:3035, 10 m unless `grid` says otherwise), at pixel centres."""
        x, y = pixel_centres(window, grid or Grid())
        return self.paint(x, y, without=without, planted=planted)

    def outline(self, x: ArrayLike, y: ArrayLike) -> Outline:
        """The masks of :meth:`paint` for coordinates as there; cheaper, for sampling a country coarsely."""
        land = Terrain(self._fields, *_as_grid(x, y))
        human, settled = np.zeros(land.water.shape, bool), _settled(land)
        if settled.any():
            human[settled] = people.land_use(land.at(settled))[0] > 0
        return Outline(land.mire | land.fell, human, land.water)

    def knoll_field(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """The field whose high places become knolls, for a regular grid x (w,), y (h,); f4 (h, w).

        It is -inf where no knoll may stand: on or within `KNOLL_GAP` pixels of mire and fell, in water, on shores.

        Raises:
            RequestError: if the grid is not regular, or less than two pixels high or wide.
        """
        return self._knolls(*_as_grid(x, y))

    def _knolls(self, x: Coords, y: Coords) -> Floats:
        if not is_regular(x, y) or x.size < 2 or y.size < 2:
            raise RequestError("knolls need a regular grid", got=(x.shape, y.shape), expected="x (w,) and y (h,)")
        wide_x, wide_y = _pad(x[0], KNOLL_GAP), _pad(y[:, 0], KNOLL_GAP)
        wide = Terrain(self._fields, wide_x[None, :], wide_y[:, None])
        # judged on a wider window, so that a pattern just outside counts as well
        reach = np.hypot(*np.mgrid[-KNOLL_GAP : KNOLL_GAP + 1, -KNOLL_GAP : KNOLL_GAP + 1]) <= KNOLL_GAP
        near = binary_dilation(wide.mire | wide.fell, reach)[KNOLL_GAP:-KNOLL_GAP, KNOLL_GAP:-KNOLL_GAP]
        land = Terrain(self._fields, x, y)
        field = land.noise("knoll", (260, 0.85), (90, 0.35), (38, 0.15))
        return np.where(near | land.water | (land.shore > 0), np.float32(-np.inf), field)

    def _paint_block(self, x: Coords, y: Coords, without: frozenset[str]) -> tuple[NDArray[np.uint8], Floats]:
        land = Terrain(self._fields, x, y)
        cover, look = nature.forest(land)
        cover, look = np.ascontiguousarray(cover), np.ascontiguousarray(look)  # laid over in place
        layers: list[tuple[Bools, Callable[[Terrain], tuple[NDArray[np.uint8], Floats]]]] = [
            (land.shore > 0, nature.shore),
            (land.water, nature.water),
        ]
        layers += [(land.mire, nature.mire)] if "mire" not in without else []
        layers += [(land.fell, nature.fell)] if "fell" not in without else []
        layers += [(_settled(land), people.land_use)]
        for mask, layer in layers:
            _lay(mask, layer, land, cover, look)
        tints = tints_of(self.seed)
        return cover, look if tints is None else look * tints[:, cover]

    def _plant(self, x: Coords, y: Coords, level: float, cover: NDArray[np.uint8], look: Floats) -> None:
        field = self._knolls(x, y)
        mask = (field > level) & ~np.isin(cover, (Cover.ARABLE, Cover.GRASS, Cover.SETTLEMENT, Cover.ROAD))
        if not mask.any():
            return
        land = Terrain(self._fields, x, y).at(mask)
        tone = np.float32(0.85) + np.float32(0.4) * ramp(land.noise("knoll tone", (500, 1.0)), -1.5, 1.5)
        grain = 1 + land.noise("crowns", (21, 0.07), (47, 0.06))
        look[:, mask] = spectrum("knoll")[:, None] * (tone * grain)
        cover[mask] = Cover.KNOLL


def _settled(land: Terrain) -> Bools:
    # judged with every pattern in place, so that leaving one out never lets people move in
    return np.asarray((land.influence > TAME) & ~(land.mire | land.fell))


def pixel_centres(window: Window, grid: Grid) -> tuple[Coords, Coords]:
    """Eastings (w,) and northings (h,) of a window's pixel centres, in metres of the grid's CRS."""
    columns = np.arange(window.col, window.stop_col, dtype=np.float64)
    rows = np.arange(window.row, window.stop_row, dtype=np.float64)
    return (columns + 0.5) * grid.resolution, -(rows + 0.5) * grid.resolution


def _lay(
    mask: Bools,
    layer: Callable[[Terrain], tuple[NDArray[np.uint8], Floats]],
    land: Terrain,
    cover: NDArray[np.uint8],
    look: Floats,
) -> None:
    if not mask.any():
        return
    codes, values = layer(land.at(mask))
    painted = codes > 0
    places = np.flatnonzero(mask)[painted]
    cover.reshape(-1)[places] = codes[painted]
    look.reshape(10, -1)[:, places] = values[:, painted]


def _as_grid(x: ArrayLike, y: ArrayLike) -> tuple[Coords, Coords]:
    x, y = np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64)
    if x.ndim == 1 and y.ndim == 1:
        return x[None, :], y[:, None]
    if x.shape != y.shape or x.ndim != 2:
        raise RequestError("coordinates do not fit", got=(x.shape, y.shape), expected="(w,) and (h,), or (h, w) twice")
    return x, y


def _pad(axis: Coords, by: int) -> Coords:
    step = axis[1] - axis[0]
    before = axis[0] - step * np.arange(by, 0, -1)
    return np.concatenate([before, axis, axis[-1] + step * np.arange(1, by + 1)])


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))

"""Where the embedded country is seen: squares of land with natural and other ground, and what lies on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from spacex.grid import CHIP, Grid, Window
from spacex.synthetic.dataset import SIZES
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.locations import SIDE, Place, find_places
from spacex.synthetic.noise import Bools

STEP = 16
"""Pixels between the samples by which land is judged, as in `places.survey`."""
_PER_CHIP = CHIP // STEP
_AROUND = 2  # samples around a chip that must not spoil it
_GRID = Grid()
_EDGE = 256.0  # metres of scene around the land that may hold chips
_FEW = 8  # chips' worth of either kind of land that a whole place must have


@dataclass(frozen=True)
class Spot:
    """A place as it is seen: a square of land and the MGRS tile it lies in."""

    place: Place
    side: int
    """Chips along the square, in the middle of the place."""
    seed: int

    @property
    def window(self) -> Window:
        """The land, on the global grid."""
        whole, side = self.place.window, self.side * CHIP
        return Window(whole.row + (whole.height - side) // 2, whole.col + (whole.width - side) // 2, side, side)

    @property
    def epsg(self) -> int:
        """Of its UTM zone."""
        return 32601 + int((self.place.lon_lat[0] + 180) // 6)

    @property
    def geobox(self) -> GeoBox:
        """Its scenes' 10 m grid: a square of the land's side on the zone's grid, on whole multiples of 60 m.

        The zone's north is not the land's, so the land's corners lie outside.
        """
        x, y = Transformer.from_crs(4326, self.epsg, always_xy=True).transform(*self.place.lon_lat)
        half = self.side * CHIP * 5 + _EDGE
        left, bottom = (int((middle - half) // 60) * 60 for middle in (x, y))
        size = -int(-2 * half // 60) * 60
        return GeoBox.from_bbox((left, bottom, left + size, bottom + size), self.epsg, resolution=10)

    @property
    def tile(self) -> str:
        """MGRS tile of its middle."""
        x, y = Transformer.from_crs(4326, self.epsg, always_xy=True).transform(*self.place.lon_lat)
        return mgrs_tile(self.epsg - 32600, self.place.lon_lat[1], x, y)


def mgrs_tile(zone: int, lat: float, easting: float, northing: float) -> str:
    """The 100 km square of the Military Grid Reference System, northern hemisphere, e.g. "35WNQ" (NGA.STND.0037)."""
    band = "CDEFGHJKLMNPQRSTUVWX"[min(19, int((lat + 80) // 8))]
    columns = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3]
    rows = "ABCDEFGHJKLMNPQRSTUV"
    row = (int(northing // 100_000) + (5 if zone % 2 == 0 else 0)) % 20
    return f"{zone:02d}{band}{columns[int(easting // 100_000) - 1]}{rows[row]}"


class Kinds(NamedTuple):
    """Samples of a spot's land that belong to chips of a kind, (n, n) each."""

    natural: Bools
    settled: Bools
    forestry: Bools
    mixed: Bools
    """People beside mires or fells."""


def worthwhile(seed: int, side: int) -> Iterator[Spot]:
    """Spots with enough land of both classes, one per MGRS tile, in the order of the data set's places.

    Every other one has forestry, the others settled land, which leaves more room for chips.
    """
    taken, wanted = set[str](), cycle(("settled", "forestry"))
    other = next(wanted)
    enough = _FEW * (side / SIDE) ** 2 * _PER_CHIP**2
    for place in find_places(seed, SIZES["default"])["train"]:
        spot = Spot(place, side, seed)
        if spot.tile in taken:
            continue
        kinds = kinds_of(spot)
        if kinds.natural.sum() >= enough and getattr(kinds, other).sum() >= enough:
            taken.add(spot.tile)
            other = next(wanted)
            yield spot


def kinds_of(spot: Spot, clear: bool = False) -> Kinds:
    """Land by the chips that could lie on it: the union of all chips of a kind, judged much as `places.survey` does.

    What a kind excludes is excluded around a chip as well, since a chip may lie partly outside its polygon.

    Args:
        spot: where.
        clear: only chips that hold plenty of what their kind is about. Land that is made of these has it at its edges
            too, where the chips that are drawn from it may lie.
    """
    least, most, tilled = (0.20, 0.50, 0.10) if clear else (0.10, 0.55, 0.08)
    window = spot.window.pad(_AROUND * STEP)
    x = (window.col + np.arange(STEP // 2, window.width, STEP)) * _GRID.resolution
    y = -(window.row + np.arange(STEP // 2, window.height, STEP)) * _GRID.resolution
    outline = Landscape(spot.seed).outline(x, y)
    inner = slice(_AROUND, -_AROUND)
    pattern, human, water = (_means(mask[inner, inner]) for mask in (outline.pattern, outline.human, outline.water))
    wild, tame = (_means(mask, _PER_CHIP + 2 * _AROUND) == 0 for mask in (outline.human, outline.pattern))
    dry = water <= 0.5
    return Kinds(
        _under(dry & wild & (pattern >= least) & (pattern <= most)),
        _under(dry & tame & (human >= tilled)),
        _under(dry & tame & wild),
        _under(dry & (pattern > 0.05) & (human > 0.06)),
    )


def _means(mask: Bools, side: int = _PER_CHIP) -> NDArray[np.float64]:
    """Share of True in every square of so many samples, at steps of one."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    n = side
    return np.asarray((sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2)


def _under(chips: Bools) -> Bools:
    """Samples that lie under any of the chips."""
    side = chips.shape[0] + _PER_CHIP - 1
    found = np.zeros((side, side), bool)
    for row, col in np.argwhere(chips):
        found[row : row + _PER_CHIP, col : col + _PER_CHIP] = True
    return found

"""Where the embedded country is observed: squares of land with natural and other ground, and what lies on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from spacex.grid import CHIP, Window
from spacex.synthetic.dataset import SIZES
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.locations import SAMPLE_STEP, SIDE, Location, draw_locations
from spacex.synthetic.noise import Bools

_PER_CHIP = CHIP // SAMPLE_STEP
_BUFFER = 2  # samples around a chip that must not hold what its class excludes
_SCENE_MARGIN = 256.0  # metres of scene around the land that may hold chips
_MIN_CHIPS = 8  # chips' worth of each class that a whole location must have


@dataclass(frozen=True)
class Site:
    """The observed part of a location: a square of land and the MGRS tile it lies in."""

    location: Location
    side: int
    """Chips along the square, in the middle of the location."""
    seed: int
    """Which landscape."""

    @property
    def window(self) -> Window:
        """The land, on the global grid."""
        whole, side = self.location.window, self.side * CHIP
        return Window(whole.row + (whole.height - side) // 2, whole.col + (whole.width - side) // 2, side, side)

    @property
    def epsg(self) -> int:
        """Of its UTM zone."""
        return 32601 + int((self.location.lon_lat[0] + 180) // 6)

    @property
    def _middle(self) -> tuple[float, float]:
        """Easting and northing in its UTM zone."""
        x, y = Transformer.from_crs(4326, self.epsg, always_xy=True).transform(*self.location.lon_lat)
        return float(x), float(y)

    @property
    def geobox(self) -> GeoBox:
        """Its scenes' 10 m grid: a square of the land's side on the zone's grid, on whole multiples of 60 m.

        The zone's north is not the land's, so the land's corners lie outside.
        """
        half = self.side * CHIP * 5 + _SCENE_MARGIN
        left, bottom = (int((middle - half) // 60) * 60 for middle in self._middle)
        size = -int(-2 * half // 60) * 60
        return GeoBox.from_bbox((left, bottom, left + size, bottom + size), self.epsg, resolution=10)

    @property
    def tile(self) -> str:
        """MGRS tile of its middle."""
        return mgrs_tile(self.epsg - 32600, self.location.lon_lat[1], *self._middle)


def mgrs_tile(zone: int, lat: float, easting: float, northing: float) -> str:
    """The 100 km square of the Military Grid Reference System, northern hemisphere, e.g. "35WNQ" (NGA.STND.0037)."""
    band = "CDEFGHJKLMNPQRSTUVWX"[min(19, int((lat + 80) // 8))]
    columns = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3]
    rows = "ABCDEFGHJKLMNPQRSTUV"
    row = (int(northing // 100_000) + (5 if zone % 2 == 0 else 0)) % 20
    return f"{zone:02d}{band}{columns[int(easting // 100_000) - 1]}{rows[row]}"


class ClassMasks(NamedTuple):
    """Samples of a site's land that belong to chips of a class, (n, n) each."""

    natural: Bools
    settled: Bools
    forestry: Bools
    mixed: Bools
    """Anthropogenic land beside mires or fells."""


def choose_sites(seed: int, side: int) -> Iterator[Site]:
    """Sites with enough land of both classes, one per MGRS tile, in the order of the data set's locations.

    Every other site has forestry, the others settled land, which leaves more room for chips.
    """
    used_tiles, required = set[str](), cycle(("settled", "forestry"))
    other = next(required)
    minimum = _MIN_CHIPS * (side / SIDE) ** 2 * _PER_CHIP**2
    for location in draw_locations(seed, SIZES["default"])["train"]:
        site = Site(location, side, seed)
        if site.tile in used_tiles:
            continue
        masks = class_masks(site)
        if masks.natural.sum() >= minimum and getattr(masks, other).sum() >= minimum:
            used_tiles.add(site.tile)
            other = next(required)
            yield site


def class_masks(site: Site, clear: bool = False) -> ClassMasks:
    """The land that any chip of a class could cover, judged by samples much as in `locations.survey`.

    What a class excludes is excluded around a chip as well, since a chip may lie partly outside its polygon.

    Args:
        site: where.
        clear: only chips that hold plenty of what their class is about. Polygons around these have it at their
            edges too, where the chips that are drawn from them may lie.
    """
    low, high, cultivated = (0.20, 0.50, 0.10) if clear else (0.10, 0.55, 0.08)
    masks = Landscape(site.seed).sample_masks(site.window.pad(_BUFFER * SAMPLE_STEP), SAMPLE_STEP)
    inner = slice(_BUFFER, -_BUFFER)
    # shares of every chip that could lie on the land, and what a chip and its surroundings are free of
    pattern, anthropogenic, water = (_moving_mean(mask[inner, inner], _PER_CHIP) for mask in masks)
    no_people = _moving_mean(masks.anthropogenic, _PER_CHIP + 2 * _BUFFER) == 0
    no_pattern = _moving_mean(masks.pattern, _PER_CHIP + 2 * _BUFFER) == 0
    dry = water <= 0.5
    return ClassMasks(
        natural=_covered(dry & no_people & (pattern >= low) & (pattern <= high)),
        settled=_covered(dry & no_pattern & (anthropogenic >= cultivated)),
        forestry=_covered(dry & no_pattern & no_people),
        mixed=_covered(dry & (pattern > 0.05) & (anthropogenic > 0.06)),
    )


def _moving_mean(mask: Bools, n: int) -> NDArray[np.float64]:
    """Share of True in every square of n x n samples, at steps of one."""
    # a summed-area table: the sum over a square is a difference of its four corners
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    return np.asarray((sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2)


def _covered(chips: Bools) -> Bools:
    """Samples that lie under any of the chips."""
    side = chips.shape[0] + _PER_CHIP - 1
    covered = np.zeros((side, side), bool)
    for row, col in np.argwhere(chips):
        covered[row : row + _PER_CHIP, col : col + _PER_CHIP] = True
    return covered

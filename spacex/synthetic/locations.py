"""Where the data set's chips lie: places kept apart by split, and the chips of a place sorted by what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pyproj import Transformer

from spacex.grid import CHIP, Grid, Window
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.noise import Bools, Floats, hash01, key_of
from spacex.synthetic.region import DEMO_BBOX

SIDE = 6
"""Chips along a place."""
_PITCH = 4096
"""Pixels from place to place: 40.96 km, so that 25.6 km part the chips of two splits."""
_GRID = Grid()
_STEP = 16  # pixels between the samples a chip is judged by
_FENNOSCANDIA = (5.2, 55.3, 30.8, 70.7)  # longitudes and latitudes of AnthroProtect's own chips
_KEEP_OFF = 30_000.0
"""Metres that places keep from the middle of the embedded archive."""
_DEMO = ((DEMO_BBOX[0] + DEMO_BBOX[2]) / 2, (DEMO_BBOX[1] + DEMO_BBOX[3]) / 2)
_TO_DEGREES = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
_TO_METRES = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)


@dataclass(frozen=True)
class Place:
    """A square of SIDE x SIDE chips."""

    i: int
    """Column on the lattice of places."""
    j: int
    """Row."""

    @property
    def window(self) -> Window:
        """The place on the global grid."""
        return Window(self.j * _PITCH, self.i * _PITCH, SIDE * CHIP, SIDE * CHIP)

    @property
    def lon_lat(self) -> tuple[float, float]:
        """Longitude and latitude of the middle."""
        return lon_lat(self.window)


class Candidate(NamedTuple):
    """A chip that seems to be of a kind; painting it in full decides."""

    kind: str
    """natural: mire or fell and no people; human: people and neither; plain: none of them."""
    place: Place
    number: int
    """0 .. SIDE * SIDE - 1, row by row."""

    @property
    def window(self) -> Window:
        """The chip on the global grid."""
        row, col = divmod(self.number, SIDE)
        corner = self.place.window
        return Window(corner.row + row * CHIP, corner.col + col * CHIP, CHIP, CHIP)


def lon_lat(window: Window) -> tuple[float, float]:
    """Longitude and latitude of a window's middle."""
    x = (window.col + window.width / 2) * _GRID.resolution
    y = -(window.row + window.height / 2) * _GRID.resolution
    lon, lat = _TO_DEGREES.transform(x, y)
    return float(lon), float(lat)


def find_places(seed: int, shares: dict[str, int]) -> dict[str, list[Place]]:
    """All places of Fennoscandia, each given to one split by chance, in an order drawn by chance.

    Args:
        seed: decides split and order.
        shares: relative number of places per split.
    """
    names, weights = list(shares), np.cumsum(list(shares.values()))
    found: dict[str, list[tuple[float, Place]]] = {name: [] for name in names}
    for place in (Place(i, j) for i in range(95, 135) for j in range(-135, -75)):
        if not _inside(place):
            continue
        draw, order = (_draw(place, key_of(seed, what)) for what in ("split", "order"))
        name = names[int(np.searchsorted(weights, draw * weights[-1], side="right"))]
        found[name].append((order, place))
    return {name: [place for _, place in sorted(pairs, key=lambda pair: pair[0])] for name, pairs in found.items()}


def _draw(place: Place, key: int) -> float:
    return float(hash01(np.array([place.i]), np.array([place.j]), key)[0])


def _inside(place: Place) -> bool:
    west, south, east, north = _FENNOSCANDIA
    lon, lat = place.lon_lat
    if not (west < lon < east and south < lat < north):
        return False
    x, y = _TO_METRES.transform([lon, _DEMO[0]], [lat, _DEMO[1]])
    return bool(np.hypot(x[0] - x[1], y[0] - y[1]) > _KEEP_OFF)


def survey(place: Place, landscape: int) -> list[Candidate]:
    """The chips of a place that look useful on a coarse sample, in a random but fixed order."""
    window = place.window
    x = (window.col + np.arange(_STEP // 2, window.width, _STEP)) * _GRID.resolution
    y = -(window.row + np.arange(_STEP // 2, window.height, _STEP)) * _GRID.resolution
    outline = Landscape(landscape).outline(x, y)
    shares = [_per_chip(mask) for mask in (outline.pattern, outline.human, outline.water)]
    order = np.random.default_rng(key_of(landscape, place.i, place.j)).permutation(SIDE * SIDE)
    kinds = [(int(n), _kind(*(float(share[n]) for share in shares))) for n in order]
    return [Candidate(kind, place, number) for number, kind in kinds if kind]


def _per_chip(mask: Bools) -> Floats:
    per = CHIP // _STEP
    return np.asarray(mask.reshape(SIDE, per, SIDE, per).mean(axis=(1, 3)), np.float32).ravel()


def _kind(pattern: float, human: float, water: float) -> str:
    if water > 0.5:
        return ""
    if 0.05 <= pattern <= 0.55 and human == 0:
        return "natural"
    if pattern == 0:
        return "plain" if human == 0 else "human" if human > 0.06 else ""
    return ""

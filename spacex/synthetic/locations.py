"""Where the data set's chips lie: locations given to one split each, and the chips of a location by what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pyproj import Transformer

from spacex.grid import CHIP, Grid, Window
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.noise import Bools, Floats, hash01, key_of
from spacex.synthetic.region import DEMO_BBOX

Kind = Literal["natural", "anthropogenic", "forest"]
"""What a chip shows: mire or fell and nothing anthropogenic; fields, villages or roads and no mire or fell; neither."""
SIDE = 6
"""Chips along a location."""
SAMPLE_STEP = 16
"""Pixels between the samples from which a chip's kind is estimated."""
_PITCH = 4096
"""Pixels from location to location: 40.96 km, so that 25.6 km part the chips of two splits."""
_GRID = Grid()
_FENNOSCANDIA = (5.2, 55.3, 30.8, 70.7)  # longitudes and latitudes of AnthroProtect's own chips
_DEMO_DISTANCE = 30_000.0
"""Metres that locations keep from the middle of the embedded archive."""
_DEMO = ((DEMO_BBOX[0] + DEMO_BBOX[2]) / 2, (DEMO_BBOX[1] + DEMO_BBOX[3]) / 2)
_TO_DEGREES = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
_TO_METRES = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)


@dataclass(frozen=True)
class Location:
    """A square of SIDE x SIDE chips on a coarse lattice."""

    i: int
    """Column on the lattice."""
    j: int
    """Row."""

    @property
    def window(self) -> Window:
        """The location on the global grid."""
        return Window(self.j * _PITCH, self.i * _PITCH, SIDE * CHIP, SIDE * CHIP)

    @property
    def lon_lat(self) -> tuple[float, float]:
        """Longitude and latitude of the middle."""
        return lon_lat(self.window)


class Candidate(NamedTuple):
    """A chip that is of a kind by its samples; painting it in full decides."""

    kind: Kind
    location: Location
    number: int
    """0 .. SIDE * SIDE - 1, row by row."""

    @property
    def window(self) -> Window:
        """The chip on the global grid."""
        row, col = divmod(self.number, SIDE)
        corner = self.location.window
        return Window(corner.row + row * CHIP, corner.col + col * CHIP, CHIP, CHIP)


def lon_lat(window: Window) -> tuple[float, float]:
    """Longitude and latitude of a window's middle."""
    x = (window.col + window.width / 2) * _GRID.resolution
    y = -(window.row + window.height / 2) * _GRID.resolution
    lon, lat = _TO_DEGREES.transform(x, y)
    return float(lon), float(lat)


def draw_locations(seed: int, shares: dict[str, int]) -> dict[str, list[Location]]:
    """All locations of Fennoscandia in a random order, each assigned to a split at random by relative `shares`."""
    names, weights = list(shares), np.cumsum(list(shares.values()))
    drawn: dict[str, list[tuple[float, Location]]] = {name: [] for name in names}
    for location in (Location(i, j) for i in range(95, 135) for j in range(-135, -75)):
        if not _allowed(location):
            continue
        i, j = np.array([location.i]), np.array([location.j])
        draw, order = (float(hash01(i, j, key_of(seed, name))[0]) for name in ("split", "order"))
        name = names[int(np.searchsorted(weights, draw * weights[-1], side="right"))]
        drawn[name].append((order, location))
    return {name: [location for _, location in sorted(pairs, key=lambda p: p[0])] for name, pairs in drawn.items()}


def _allowed(location: Location) -> bool:
    """In Fennoscandia, and not beside the embedded archive."""
    west, south, east, north = _FENNOSCANDIA
    lon, lat = location.lon_lat
    if not (west < lon < east and south < lat < north):
        return False
    x, y = _TO_METRES.transform([lon, _DEMO[0]], [lat, _DEMO[1]])
    return bool(np.hypot(x[0] - x[1], y[0] - y[1]) > _DEMO_DISTANCE)


def survey(location: Location, seed: int) -> list[Candidate]:
    """The chips of a location that are of some kind by a coarse sample, in a random but fixed order."""
    masks = Landscape(seed).sample_masks(location.window, SAMPLE_STEP)
    shares = zip(*(_share_per_chip(mask) for mask in masks), strict=True)
    kinds = [_kind(*(float(share) for share in chip)) for chip in shares]
    order = np.random.default_rng(key_of(seed, location.i, location.j)).permutation(SIDE * SIDE)
    return [Candidate(kind, location, int(number)) for number in order if (kind := kinds[number])]


def _share_per_chip(mask: Bools) -> Floats:
    per_chip = CHIP // SAMPLE_STEP
    return np.asarray(mask.reshape(SIDE, per_chip, SIDE, per_chip).mean(axis=(1, 3)), np.float32).ravel()


def _kind(pattern: float, anthropogenic: float, water: float) -> Kind | None:
    if water > 0.5:
        return None
    if 0.05 <= pattern <= 0.55 and anthropogenic == 0:
        return "natural"
    if pattern == 0 and anthropogenic == 0:
        return "forest"
    return "anthropogenic" if pattern == 0 and anthropogenic > 0.06 else None

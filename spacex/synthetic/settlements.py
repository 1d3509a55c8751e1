"""What people made: roads between villages, the villages, and the parcels around them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spacex.synthetic.land_cover import between, over
from spacex.synthetic.noise import Bools, Cells, Coords, Floats, cells, hash01, ramp
from spacex.synthetic.spectra import Cover, spectrum
from spacex.synthetic.terrain import TAME, Terrain

Codes = NDArray[np.uint8]
_SPACING = 2300.0
"""Metres between the places where villages may stand."""
_STEPS = (-1, 0, 1)
# Roads that can touch a point's cell: the ends as (column, row) from the nearest place.
_ROADS = [((i, j), (i + 1, j)) for i in (-1, 0) for j in _STEPS]
_ROADS += [((i, j), (i, j + 1)) for i in _STEPS for j in (-1, 0)]
_PARCEL = 300.0
"""Metres along a typical parcel."""
_CROPS = ("grass", "grass", "cereal", "cereal", "stubble", "soil", "potato", "grass")
_LOTS = (
    "garden",
    "roof_red",
    "spruce",
    "garden",
    "roof_dark",
    "birch",
    "garden",
    "garden",
    "asphalt",
    "garden",
)


def land_use(land: Terrain) -> tuple[Codes, Floats]:
    """Roads, villages and fields at points.

    Args:
        land: terrain at n points, arrays (n,); lakes are never built on, rivers are bridged.

    Returns:
        Cover codes u1 (n,), 0 where people made nothing, and reflectance f4 (10, n), meaningless there.
    """
    people = Settled(land)
    dry = land.basin < -0.02
    crop = people.crop
    cover = np.where(people.field & dry & (land.river > 30), _crop_cover()[crop], 0).astype(np.uint8)
    look = people.parcels
    village = (people.village > 0) & dry & (land.river > 25)
    if village.any():
        cover[village], look[:, village] = Cover.SETTLEMENT, people.houses(village)
    road = (people.road < 9) & dry
    paved = ramp(land.noise("paved", (9000, 1.0)), -0.4, 0.4)[road]
    cover[road], look[:, road] = Cover.ROAD, between("gravel", "asphalt", paved)
    return cover, look


def _crop_cover() -> Codes:
    return np.array([Cover.GRASS if name == "grass" else Cover.ARABLE for name in _CROPS], np.uint8)


class _Place(NamedTuple):
    """A village site seen from every point: offset from the point's own cell in cells, and its character."""

    u: Floats
    v: Floats
    influence: Floats
    size: Floats


class Settled:
    """Human land use at n points; each part is computed on first use.

    Args:
        land: the terrain at the points, all arrays (n,).
    """

    def __init__(self, land: Terrain) -> None:
        self.land = land
        bend = land.noise("bend", (1300, 90.0), (420, 28.0)).astype(np.float64)
        x, y = (land.x + bend) / _SPACING, (land.y - bend) / _SPACING
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        self.u, self.v = (x - column).astype(np.float32), (y - row).astype(np.float32)
        self.column, self.row = column.astype(np.int64), row.astype(np.int64)

    @cached_property
    def places(self) -> dict[tuple[int, int], _Place]:
        """The nine village sites around every point; each site is looked at once."""
        i0, j0 = int(self.column.min()) - 1, int(self.row.min()) - 1
        i, j = np.meshgrid(np.arange(i0, int(self.column.max()) + 2), np.arange(j0, int(self.row.max()) + 2))
        u, v = (np.float32(0.5) * (hash01(i, j, self._key(f"place {axis}")) - np.float32(0.5)) for axis in "uv")
        influence = Terrain(self.land.fields, (i + u) * _SPACING, (j + v) * _SPACING).influence
        sites = (u, v, influence, hash01(i, j, self._key("size")))
        here = (self.row - j0) * i.shape[1] + (self.column - i0)
        around = {}
        for di in _STEPS:
            for dj in _STEPS:
                u, v, influence, size = (site.ravel()[here + (dj * i.shape[1] + di)] for site in sites)
                around[di, dj] = _Place(u + np.float32(di), v + np.float32(dj), influence, size)
        return around

    @cached_property
    def road(self) -> Floats:
        """Metres from the middle of the nearest road; 9999 where there is none."""
        nearest = np.full(self.u.shape, 9.0, np.float32)
        for start, end in _ROADS:
            a, b = self.places[start], self.places[end]
            there = (a.influence > TAME) & (b.influence > TAME)
            if there.any():
                nearest = np.where(there, np.minimum(nearest, _to_segment(self.u, self.v, a, b)), nearest)
        return np.where(nearest < 9, np.sqrt(nearest) * np.float32(_SPACING), np.float32(9999))

    @cached_property
    def village(self) -> Floats:
        """Above 0 inside a village; grows to about 1 in its middle."""
        inside = np.full(self.u.shape, -1.0, np.float32)
        for di, dj in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            place = self.places[di, dj]
            du, dv = self.u - place.u, self.v - place.v
            radius = np.float32(0.34) * (place.influence - np.float32(0.4)) * (place.size - np.float32(0.3))
            here = 1 - np.sqrt(du * du + dv * dv) / np.clip(radius, np.float32(0.001), np.float32(0.2))
            inside = np.where(radius > np.float32(0.025), np.maximum(here, inside), inside)
        return inside + self.land.noise("village", (330, 0.16), (120, 0.10))

    @cached_property
    def parcel(self) -> Cells:
        """The parcel each point lies in: strips across a bearing that turns from place to place."""
        turn = self.land.noise("bearing", (5200, 420.0)).astype(np.float64)
        along, across = self._strips(self.land.x, self.land.y)
        return cells(along + turn, across + 1.4 * turn, _PARCEL, self._key("parcel"))

    @staticmethod
    def _strips(x: Coords, y: Coords) -> tuple[Coords, Coords]:
        return 0.90 * x + 0.43 * y, (-0.43 * x + 0.90 * y) * 1.8

    @cached_property
    def field(self) -> Bools:
        """Arable land or cultivated grass; decided parcel by parcel, so that fields end in straight lines."""
        i, j = (number.astype(np.float64) * _PARCEL for number in (self.parcel.i, self.parcel.j))
        fields = self.land.fields
        open_land = fields.noise("open", i, j, (1700, 0.8), (650, 0.5))
        open_land += np.float32(0.9) * np.minimum(self.land.influence - np.float32(0.75), np.float32(0.9))
        near_road = np.float32(0.55) * (1 - ramp(self.road, 80, 900))
        draw = np.float32(0.7) * self.parcel.random(self._key("use"))
        return np.asarray(open_land + near_road + draw > np.float32(0.85))

    @cached_property
    def crop(self) -> NDArray[np.int64]:
        """Number of the crop in each point's parcel."""
        draw = self.parcel.random(self._key("crop"))
        return (draw * np.float32(len(_CROPS))).astype(np.int64)

    @cached_property
    def parcels(self) -> Floats:
        """One crop per parcel, its own tone, faint patches within, and a ditch or verge along its border."""
        table = np.stack([spectrum(name) for name in _CROPS], axis=1)
        tone = np.float32(0.8) + np.float32(0.34) * self.parcel.random(self._key("tone of parcel"))
        patches = 1 + self.land.noise("patches", (190, 0.05), (34, 0.025))
        look = table[:, self.crop] * (tone * patches)
        return over(look, spectrum("ditch"), np.float32(0.8) * (1 - ramp(self.parcel.edge, 7, 16)))

    def houses(self, village: Bools) -> Floats:
        """Gardens, trees and roofs lot by lot, along a grid of streets; denser towards the middle; (10, m)."""
        x, y = self.land.x[village], self.land.y[village]
        along, across = 0.83 * x + 0.56 * y, -0.56 * x + 0.83 * y
        i, j = np.floor(along / 27.0).astype(np.int64), np.floor(across / 23.0).astype(np.int64)
        table = np.stack([spectrum(name) for name in _LOTS], axis=1)
        look = table[:, (hash01(i, j, self._key("lot")) * np.float32(len(_LOTS))).astype(np.int64)]
        built = hash01(i, j, self._key("built"))
        dense = built < np.float32(0.7) * self.village[village] - np.float32(0.12)
        roofs = between("roof_dark", "roof_bright", hash01(i, j, self._key("roof")))
        look = over(look, roofs, dense.astype(np.float32))
        street = ((along % 135.0) < 13.0) | ((across % 92.0) < 11.0)
        return over(look, spectrum("asphalt"), np.float32(0.8) * street.astype(np.float32))

    def _key(self, name: str) -> int:
        return self.land.fields.key(name)


def _to_segment(u: Floats, v: Floats, a: _Place, b: _Place) -> Floats:
    """Squared distance of points to the segments from `a` to `b`, in cells."""
    du, dv = b.u - a.u, b.v - a.v
    along = np.clip(((u - a.u) * du + (v - a.v) * dv) / (du * du + dv * dv), np.float32(0), np.float32(1))
    off_u, off_v = u - a.u - along * du, v - a.v - along * dv
    return np.asarray(off_u * off_u + off_v * off_v, np.float32)

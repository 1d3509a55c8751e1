"""Anthropogenic land: villages on a jittered lattice, roads between them, and the parcels around them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spacex.synthetic.land_cover import mix, overlay
from spacex.synthetic.noise import Bools, Cells, Floats, cells, hash01, ramp
from spacex.synthetic.spectra import Cover, spectrum
from spacex.synthetic.terrain import SETTLED_INFLUENCE, Terrain

Codes = NDArray[np.uint8]
_SPACING = 2300.0
"""Metres between the sites where villages may stand."""
_STEPS = (-1, 0, 1)
# Roads that can touch a point's cell: the ends as (column, row) from the nearest site.
_ROADS = [((i, j), (i + 1, j)) for i in (-1, 0) for j in _STEPS]
_ROADS += [((i, j), (i, j + 1)) for i in _STEPS for j in (-1, 0)]
_PARCEL = 300.0
"""Metres along a typical parcel."""
_CROPS = ("grass", "grass", "cereal", "cereal", "stubble", "soil", "potato", "grass")
_LOTS = ("garden", "roof_red", "spruce", "garden", "roof_dark", "birch", "garden", "garden", "asphalt", "garden")
_CROP_COVER = np.array([Cover.GRASS if name == "grass" else Cover.ARABLE for name in _CROPS], np.uint8)


def land_use(land: Terrain) -> tuple[Codes, Floats]:
    """Roads, villages and fields at n points; lakes are never built on, rivers are bridged.

    Returns:
        Cover codes u1 (n,), 0 where nothing is anthropogenic, and reflectance f4 (10, n), meaningless there.
    """
    settlement = Settlement(land)
    dry = land.basin < -0.02
    # later covers replace earlier ones: fields, villages, roads
    cover = np.where(settlement.field & dry & (land.river > 30), _CROP_COVER[settlement.crop], 0).astype(np.uint8)
    reflectance = settlement.parcels
    village = (settlement.village > 0) & dry & (land.river > 25)
    if village.any():
        cover[village], reflectance[:, village] = Cover.SETTLEMENT, settlement.houses(village)
    road = (settlement.road < 9) & dry
    paved = ramp(land.noise("paved", (9000, 1.0)), -0.4, 0.4)[road]
    cover[road], reflectance[:, road] = Cover.ROAD, mix("gravel", "asphalt", paved)
    return cover, reflectance


class _VillageSite(NamedTuple):
    """One neighbouring village site of every point: its offset from the point's cell in cells, influence and size."""

    u: Floats
    v: Floats
    influence: Floats
    size: Floats


class Settlement:
    """Human land use at n points; each part is computed on first use, as an array (n,)."""

    def __init__(self, land: Terrain) -> None:
        self.land = land
        bend = land.noise("bend", (1300, 90.0), (420, 28.0)).astype(np.float64)
        x, y = (land.x + bend) / _SPACING, (land.y - bend) / _SPACING
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        self.u, self.v = (x - column).astype(np.float32), (y - row).astype(np.float32)
        self.column, self.row = column.astype(np.int64), row.astype(np.int64)

    @cached_property
    def sites(self) -> dict[tuple[int, int], _VillageSite]:
        """The nine village sites around every point; each site is computed once."""
        # draw every lattice site that any point may need, then gather nine of them for each point
        i0, j0 = int(self.column.min()) - 1, int(self.row.min()) - 1
        i, j = np.meshgrid(np.arange(i0, int(self.column.max()) + 2), np.arange(j0, int(self.row.max()) + 2))
        u, v = (np.float32(0.5) * (hash01(i, j, self._key(f"place {axis}")) - np.float32(0.5)) for axis in "uv")
        influence = Terrain(self.land.fields, (i + u) * _SPACING, (j + v) * _SPACING).influence
        values = (u, v, influence, hash01(i, j, self._key("size")))
        here = (self.row - j0) * i.shape[1] + (self.column - i0)
        around = {}
        for di in _STEPS:
            for dj in _STEPS:
                u, v, influence, size = (value.ravel()[here + (dj * i.shape[1] + di)] for value in values)
                around[di, dj] = _VillageSite(u + np.float32(di), v + np.float32(dj), influence, size)
        return around

    @cached_property
    def road(self) -> Floats:
        """Metres from the middle of the nearest road; 9999 where there is none."""
        nearest = np.full(self.u.shape, 9.0, np.float32)
        for start, end in _ROADS:
            a, b = self.sites[start], self.sites[end]
            built = (a.influence > SETTLED_INFLUENCE) & (b.influence > SETTLED_INFLUENCE)
            if built.any():
                nearest = np.where(built, np.minimum(nearest, _distance_to_segment(self.u, self.v, a, b)), nearest)
        return np.where(nearest < 9, np.sqrt(nearest) * np.float32(_SPACING), np.float32(9999))

    @cached_property
    def village(self) -> Floats:
        """Above 0 inside a village; grows to about 1 in its middle."""
        inside = np.full(self.u.shape, -1.0, np.float32)
        for di, dj in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            site = self.sites[di, dj]
            du, dv = self.u - site.u, self.v - site.v
            radius = np.float32(0.34) * (site.influence - np.float32(0.4)) * (site.size - np.float32(0.3))
            here = 1 - np.sqrt(du * du + dv * dv) / np.clip(radius, np.float32(0.001), np.float32(0.2))
            inside = np.where(radius > np.float32(0.025), np.maximum(here, inside), inside)
        return inside + self.land.noise("village", (330, 0.16), (120, 0.10))

    @cached_property
    def parcel(self) -> Cells:
        """The parcel each point lies in: strips across a bearing that turns gradually."""
        turn = self.land.noise("bearing", (5200, 420.0)).astype(np.float64)
        # turned axes, the second one stretched: parcels are strips
        along = 0.90 * self.land.x + 0.43 * self.land.y
        across = (-0.43 * self.land.x + 0.90 * self.land.y) * 1.8
        return cells(along + turn, across + 1.4 * turn, _PARCEL, self._key("parcel"))

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
        reflectance = table[:, self.crop] * (tone * patches)
        return overlay(reflectance, spectrum("ditch"), np.float32(0.8) * (1 - ramp(self.parcel.edge, 7, 16)))

    def houses(self, village: Bools) -> Floats:
        """Gardens, trees and roofs lot by lot, along a grid of streets; denser towards the middle; (10, m)."""
        x, y = self.land.x[village], self.land.y[village]
        along, across = 0.83 * x + 0.56 * y, -0.56 * x + 0.83 * y
        i, j = np.floor(along / 27.0).astype(np.int64), np.floor(across / 23.0).astype(np.int64)
        table = np.stack([spectrum(name) for name in _LOTS], axis=1)
        reflectance = table[:, (hash01(i, j, self._key("lot")) * np.float32(len(_LOTS))).astype(np.int64)]
        built = hash01(i, j, self._key("built"))
        dense = built < np.float32(0.7) * self.village[village] - np.float32(0.12)
        roofs = mix("roof_dark", "roof_bright", hash01(i, j, self._key("roof")))
        reflectance = overlay(reflectance, roofs, dense.astype(np.float32))
        street = ((along % 135.0) < 13.0) | ((across % 92.0) < 11.0)
        return overlay(reflectance, spectrum("asphalt"), np.float32(0.8) * street.astype(np.float32))

    def _key(self, name: str) -> int:
        return self.land.fields.key(name)


def _distance_to_segment(u: Floats, v: Floats, a: _VillageSite, b: _VillageSite) -> Floats:
    """Squared distance of points to the segments from `a` to `b`, in cells."""
    du, dv = b.u - a.u, b.v - a.v
    along = np.clip(((u - a.u) * du + (v - a.v) * dv) / (du * du + dv * dv), np.float32(0), np.float32(1))
    off_u, off_v = u - a.u - along * du, v - a.v - along * dv
    return np.asarray(off_u * off_u + off_v * off_v, np.float32)

"""What people made: roads between villages, the villages, and the parcels around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spacex.world.nature import between, over
from spacex.world.noise import Bools, Cells, Coords, Floats, cells, hash01, ramp
from spacex.world.spectra import Cover, spectrum
from spacex.world.terrain import Terrain

_SPACING = 2300.0
"""Metres between the places where villages may stand."""
_LINKS = ((0, 0, 1, 0), (0, 0, 0, 1), (-1, 0, 0, 0), (0, -1, 0, 0), (0, -1, 1, -1), (0, 1, 1, 1)) + (
    (-1, -1, -1, 0), (1, 0, 1, 1), (-1, 0, -1, 1), (1, -1, 1, 0), (-1, -1, 0, -1), (-1, 1, 0, 1))  # fmt: skip
"""Roads that can touch a point's cell: (column, row) of either end, relative to the nearest place."""


@dataclass(frozen=True)
class _Node:
    x: Coords
    y: Coords
    influence: Floats
    size: Floats


class Settled:
    """Human land use at points where it may occur; computed on first use.

    Args:
        land: the terrain at n points, all arrays of shape (n,).
    """

    def __init__(self, land: Terrain) -> None:
        self.land = land
        bend = land.fields.noise("bend", land.x, land.y, (1300, 90.0), (420, 28.0))
        self.x, self.y = land.x + bend, land.y - bend
        self.column = np.floor(self.x / _SPACING + 0.5).astype(np.int64)
        self.row = np.floor(self.y / _SPACING + 0.5).astype(np.int64)
        self._nodes: dict[tuple[int, int], _Node] = {}

    def _node(self, di: int, dj: int) -> _Node:
        if (di, dj) not in self._nodes:
            self._nodes[di, dj] = self._make_node(self.column + di, self.row + dj)
        return self._nodes[di, dj]

    def _make_node(self, i: np.ndarray, j: np.ndarray) -> _Node:
        # few distinct places serve many points: look at each place once
        i0, j0 = int(i.min()), int(j.min())
        columns, rows = np.arange(i0, int(i.max()) + 1), np.arange(j0, int(j.max()) + 1)
        grid_i, grid_j = np.meshgrid(columns, rows)
        fields = self.land.fields
        x = (grid_i + 0.5 * (hash01(grid_i, grid_j, fields.key("place x")) - 0.5).astype(np.float64)) * _SPACING
        y = (grid_j + 0.5 * (hash01(grid_i, grid_j, fields.key("place y")) - 0.5).astype(np.float64)) * _SPACING
        influence, size = Terrain(fields, x, y).influence, hash01(grid_i, grid_j, fields.key("size"))
        here = (j - j0) * len(columns) + (i - i0)
        return _Node(*(part.ravel()[here] for part in (x, y, influence, size)))

    @cached_property
    def road(self) -> Floats:
        """Metres from the middle of the nearest road (9999 where there is none)."""
        nearest = np.full(self.x.shape, 9999.0, np.float32)
        for first_i, first_j, last_i, last_j in _LINKS:
            a, b = self._node(first_i, first_j), self._node(last_i, last_j)
            there = (a.influence > 0.28) & (b.influence > 0.28)
            if there.any():
                nearest = np.where(there, np.minimum(nearest, _to_segment(self.x, self.y, a, b)), nearest)
        return nearest

    @cached_property
    def village(self) -> Floats:
        """Above 0 inside a village; grows to about 1 in its middle."""
        inside = np.full(self.x.shape, -1.0, np.float32)
        ragged = self.land.noise("village", (330, 0.16), (120, 0.10))
        for di, dj in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            node = self._node(di, dj)
            distance = np.sqrt((self.x - node.x) ** 2 + (self.y - node.y) ** 2).astype(np.float32)
            radius = np.float32(900.0) * (node.influence - np.float32(0.45)) * (node.size - np.float32(0.25))
            here = 1 - distance / np.clip(radius, 1, 620)
            inside = np.where((radius > 60) & (here > inside), here, inside)
        return inside + np.where(inside > -0.9, ragged, np.float32(0))

    @cached_property
    def field(self) -> Bools:
        """Arable land or cultivated grass, without its islets of forest."""
        open_land = self.land.noise("open", (1500, 0.75), (520, 0.45))
        pull = np.float32(1.15) * np.minimum(self.land.influence - np.float32(0.55), np.float32(1.0))
        near_road = np.float32(0.5) * (1 - ramp(self.road, 80, 900))
        return (open_land + pull + near_road > np.float32(0.28)) & (self.parcel.random(self._key("islet")) > 0.1)

    @cached_property
    def parcel(self) -> Cells:
        """The parcel each point lies in: long strips across a local bearing."""
        along, across = 0.90 * self.land.x + 0.43 * self.land.y, -0.43 * self.land.x + 0.90 * self.land.y
        return cells(along, across * 1.75, 330.0, self._key("parcel"))

    def _key(self, name: str) -> int:
        return self.land.fields.key(name)


def _to_segment(x: Coords, y: Coords, a: _Node, b: _Node) -> Floats:
    dx, dy = b.x - a.x, b.y - a.y
    along = np.clip(((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy), 0, 1)
    off_x, off_y = x - a.x - along * dx, y - a.y - along * dy
    return np.sqrt(off_x * off_x + off_y * off_y).astype(np.float32)


def land_use(land: Terrain) -> tuple[np.ndarray, Floats]:
    """Roads, villages and fields at points.

    Args:
        land: terrain at n points, arrays (n,); lakes are never built on, rivers are bridged.

    Returns:
        Cover codes u1 (n,), 0 where people made nothing, and reflectance f4 (10, n), meaningless there.
    """
    people = Settled(land)
    cover = np.where(people.field & (land.river > 30), _crop(people), 0).astype(np.uint8)
    look = _parcels(people)
    village = (people.village > 0) & (land.river > 25)
    cover[village], look[:, village] = Cover.SETTLEMENT, _houses(people)[:, village]
    road = people.road < 9
    paved = ramp(land.noise("paved", (9000, 1.0)), -0.4, 0.4)
    cover[road], look[:, road] = Cover.ROAD, between("gravel", "asphalt", paved)[:, road]
    cover[land.basin > -0.02] = 0
    return cover, look


_CROPS = ("grass", "grass", "cereal", "cereal", "stubble", "soil", "potato", "grass")


def _crop(people: Settled) -> np.ndarray:
    kind = _crop_number(people)
    meadow = np.array([name == "grass" for name in _CROPS])
    return np.where(meadow[kind], Cover.GRASS, Cover.ARABLE)


def _crop_number(people: Settled) -> np.ndarray:
    draw = people.parcel.random(people.land.fields.key("crop"))
    return (draw * np.float32(len(_CROPS))).astype(np.int64)


def _parcels(people: Settled) -> Floats:
    """One crop per parcel, its own tone, faint patches within, and a ditch or verge along its border."""
    table = np.stack([spectrum(name) for name in _CROPS], axis=1)
    tone = np.float32(0.82) + np.float32(0.36) * people.parcel.random(people.land.fields.key("tone of parcel"))
    patches = 1 + people.land.noise("patches", (190, 0.05), (34, 0.025))
    look = table[:, _crop_number(people)] * (tone * patches)
    return over(look, spectrum("ditch"), np.float32(0.8) * (1 - ramp(people.parcel.edge, 7, 16)))


_LOTS = ("garden", "roof_red", "spruce", "garden", "roof_dark", "birch", "garden", "roof_bright", "asphalt", "garden")


def _houses(people: Settled) -> Floats:
    """Gardens, trees and roofs lot by lot, along a grid of streets; denser towards the middle."""
    fields, x, y = people.land.fields, people.x, people.y
    along, across = 0.83 * x + 0.56 * y, -0.56 * x + 0.83 * y
    i, j = np.floor(along / 27.0).astype(np.int64), np.floor(across / 23.0).astype(np.int64)
    draw = hash01(i, j, fields.key("lot"))
    table = np.stack([spectrum(name) for name in _LOTS], axis=1)
    look = table[:, (draw * np.float32(len(_LOTS))).astype(np.int64)]
    dense = (hash01(i, j, fields.key("built")) < np.float32(0.9) * people.village - np.float32(0.15)).astype(np.float32)
    roofs = between("roof_dark", "roof_bright", hash01(i, j, fields.key("roof")))
    look = over(look, roofs, dense)
    street = ((along % 135.0) < 13.0) | ((across % 92.0) < 11.0)
    return over(look, spectrum("asphalt"), np.float32(0.8) * street.astype(np.float32))

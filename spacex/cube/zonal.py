"""The pixels of a cube under polygons, block by block: which they are, and how much of each a polygon covers.

Memory grows with a block and not with the cube or the polygons. Tiles are visited once each, in the order of the
lattice, with all the zones that touch them; statistics that add up over pixels therefore need one pass. The share of a
pixel that lies within a polygon is exact (exactextract, after Baston), so that zones smaller than a pixel count too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from spacex.cube.layout import CHUNK
from spacex.cube.store import Cube
from spacex.execution.tasks import Status
from spacex.grid import Grid, Window
from spacex.region import Region

BLOCK = 2048
"""Longest side in pixels of a block."""
WHOLE = 0.99
"""Share of a zone that must be known for it to be called known rather than partly known."""


@dataclass(frozen=True)
class ZonePixels:
    """The pixels of a block that zones cover, (n,) each; one that two zones share is there twice."""

    zones: NDArray[np.int64]
    """Index of the zone."""
    pixels: NDArray[np.int64]
    """Index into the block, row by row."""
    shares: NDArray[np.float64]
    """How much of the pixel the zone covers, above 0 and at most 1."""


@dataclass(frozen=True)
class ZoneWindow:
    """The zones that have land in a window."""

    window: Window
    """The smallest one that holds the zones' land here."""
    zones: NDArray[np.int64]
    """(k,) index of each zone."""
    shapes: NDArray[np.object_]
    """(k,) their polygons within the window."""
    grid: Grid

    @cached_property
    def covered(self) -> ZonePixels:
        """The zones' pixels."""
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource

        # no values are needed, only where the pixels are: one zero stands for all of them
        nothing = np.broadcast_to(np.uint8(0), self.window.shape)
        source = NumPyRasterSource(nothing, *self.grid.geobox(self.window).boundingbox)
        features = [{"type": "Feature", "geometry": shape.__geo_interface__, "properties": {}} for shape in self.shapes]
        table = exact_extract(source, features, ["cell_id", "coverage"], output="pandas")
        pixels, shares = (np.concatenate(list(table[name])) for name in ("cell_id", "coverage"))
        zones = np.repeat(self.zones, table["cell_id"].map(len))
        kept = shares > 0
        return ZonePixels(zones[kept], pixels[kept], shares[kept])


@dataclass(frozen=True)
class ZoneBlock(ZoneWindow):
    """Part of a tile, and the zones that have land in it."""

    position: tuple[int, int]
    """Of the tile in the arrays with one value per tile."""
    statuses: NDArray[np.uint8]
    """(time steps,) `Status` of the tile at each."""
    region: Region

    @cached_property
    def pixels(self) -> ZonePixels:
        """The zones' pixels, of those whose centre lies in the area that was asked for."""
        kept = self.region.inside(self.window).ravel()[self.covered.pixels]
        return ZonePixels(self.covered.zones[kept], self.covered.pixels[kept], self.covered.shares[kept])

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(k,) area of each zone in the block and in the area that was asked for, in pixels."""
        # a tile that has not been mapped needs no pixels, unless the area's edge runs through it
        if self.region.outline.contains(_box(self.grid, self.window)):
            return np.asarray(shapely.area(self.shapes) / self.grid.resolution**2)
        covered = self.pixels
        order = np.searchsorted(self.zones, covered.zones)
        return np.bincount(order, weights=covered.shares, minlength=len(self.zones)).astype(np.float64)


def zone_blocks(cube: Cube, shapes: NDArray[np.object_]) -> Iterator[ZoneBlock]:
    """The blocks of a cube that zones have land in, tile by tile; tiles outside the area asked for are left out.

    Args:
        cube: of format 3.
        shapes: (n,) polygons in the cube's CRS, valid; empty ones have land nowhere.
    """
    tree, statuses = shapely.STRtree(shapes), cube.statuses()
    size = cube.spec.tile_size
    # blocks of whole chunks that divide the tile
    side = max(n for n in range(CHUNK, BLOCK + 1, CHUNK) if size % n == 0)
    for row, col in cube.spec.tiling:
        position = cube.spec.tiling.position(row, col)
        tile = cube.spec.tiling.window(row, col)
        of_tile = statuses[(slice(None), *position)]
        if (of_tile == Status.OUTSIDE).all() or not len(tree.query(_box(cube.grid, tile))):
            continue
        for down, right in product(range(0, size, side), repeat=2):
            window = Window(tile.row + down, tile.col + right, side, side).intersect(cube.extent)
            if window.empty:
                continue
            part = zones_within(tree, window, cube.grid)
            if part is not None:
                yield ZoneBlock(part.window, part.zones, part.shapes, cube.grid, position, of_tile, cube.region)


def zones_within(tree: shapely.STRtree, window: Window, grid: Grid) -> ZoneWindow | None:
    """The zones of a tree that have land in a window of a grid, cut by it; None if there are none."""
    outline = _box(grid, window)
    near = np.sort(tree.query(outline, predicate="intersects"))
    parts = [_polygons(part) for part in shapely.intersection(tree.geometries[near], outline)]
    kept = np.array([not part.is_empty for part in parts], bool)
    if not kept.any():
        return None
    land = np.array(parts, object)[kept]
    return ZoneWindow(grid.window(*shapely.total_bounds(land)).intersect(window), near[kept], land, grid)


def _polygons(geometry: shapely.Geometry) -> shapely.Geometry:
    """What of a geometry is polygons: an intersection may have points and lines beside them."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    return shapely.MultiPolygon([part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"])


def _box(grid: Grid, window: Window) -> shapely.Geometry:
    return shapely.box(*grid.geobox(window).boundingbox)


def left_outside(areas: NDArray[np.float64], known: NDArray[np.float64], pixel: float) -> NDArray[np.float64]:
    """(n,) what is left of the zones beside what is known of them, which lies outside; areas and `pixel` in km²."""
    outside: NDArray[np.float64] = np.maximum(0, areas - known)
    # less than a thousandth of a pixel is the rounding of the pixels' shares
    outside[outside < np.maximum(1e-3 * pixel, 1e-6 * areas)] = 0
    return outside


def zone_reasons(
    row: Any, problem: str, parts: Mapping[str, float], pixel: float, crs: str = "the cube's CRS", unit: str = "a pixel"
) -> str:
    """Why a zone is not simply known, in words; empty if nothing is to be said.

    Args:
        row: of the table, with `area_km2` and `overlapping`.
        problem: what is wrong with its geometry.
        parts: area in km² by what is the matter with it; those of 0 are not named.
        pixel: area of one in km².
        crs: where a zone without an area does not lie.
        unit: what to call a pixel.
    """
    reasons = [problem] if problem else []
    if not row.area_km2:
        # a polygon on Earth may lie where a CRS does not reach
        return "; ".join(reasons) or f"it lies where {crs} does not reach"
    if row.area_km2 < pixel:
        reasons.append(f"it is smaller than {unit} ({row.area_km2 / pixel:.2g} of one)")
    reasons += [f"{_percent(part / row.area_km2)} of it {what}" for what, part in parts.items() if part > 0]
    if row.overlapping:
        reasons.append(f"it shares land with {row.overlapping} other zone{'s' * (row.overlapping > 1)}")
    return "; ".join(reasons)


def _percent(share: float) -> str:
    """A share of a zone in words."""
    return "all" if share > 1 - 1e-9 else f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.1f} %"


def overlaps(shapes: NDArray[np.object_], pixel: float) -> NDArray[np.int64]:
    """(n,) number of other zones with which each shares more than `pixel` square metres."""
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = one < other
    one, other = one[pairs], other[pairs]
    # one pair at a time: outlines of protected areas have many thousand corners
    shared = np.array(
        [shapely.area(shapely.intersection(shapes[a], shapes[b])) > pixel for a, b in zip(one, other, strict=True)]
    )
    return np.bincount(np.concatenate([one[shared], other[shared]]) if len(one) else [], minlength=len(shapes)).astype(
        np.int64
    )


def with_attributes(attributes: pd.DataFrame, rows: pd.DataFrame, columns: Collection[str]) -> pd.DataFrame:
    """The rows with the zones' own attributes after their number; one whose name is taken gets another.

    Args:
        attributes: of the zones, a row each.
        rows: a row per zone, with `columns`.
        columns: of the table in their order, the number of the `zone` among them.
    """
    taken, carried = {name.lower() for name in (*columns, "geometry", "geom", "fid")}, {}
    for name in map(str, attributes.columns):
        new = name
        # a GeoPackage's columns ignore case
        while new.lower() in taken:
            new += "_of_zone"
        taken.add(new.lower())
        carried[new] = attributes[name].to_numpy()
    head, tail = ["zone"], [name for name in columns if name != "zone"]
    return pd.concat([rows[head], pd.DataFrame(carried, index=rows.index), rows[tail]], axis=1)

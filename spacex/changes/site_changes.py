"""A table of sites with what changed in each: areas compared and changed, mean difference and its standard error.

Blocks are added as they are compared, so nothing but sums is in memory. Pixels count by the exact share of them that
lies within a zone; changed area is that of the reported places within it.

**The standard error of a mean.** Scores of two pixels err alike as far as their chips overlap: for pixels dx and dy
apart, by the share (1 - dx / side) (1 - dy / side) of a chip, computed from squares of half a chip's side. Besides, a
season moves chips that share no land: a part c of the errors' variance is taken to be common to all land, and does not
average out. It is estimated from all land that is compared: the products of the changes of squares that are a chip or
more apart, over the products of their errors, with `COMMON` in place of more land: of so little land as a few chips it
says next to nothing. A pixel's change counts for that as no more than its 90 % interval, so that land which did change
tells little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from spacex.changes.difference import LEVEL, Z90, Block, Comparison, State
from spacex.cube.zonal import WHOLE, left_outside, overlaps, with_attributes, zone_reasons, zones_within
from spacex.grid import CHIP
from spacex.region import Region
from spacex.vectors import Polygons

COLUMNS = {
    "zone": "number of the feature in the file of zones, from 1",
    "state": "compared (99 % of it or more), partly, not compared, outside, no polygon",
    "reason": "why it is not simply compared, and what else is to be known; empty if nothing is",
    "from": "first day of the earlier time step",
    "to": "first day of the later time step",
    "area_km2": "area of the zone in the cubes' CRS",
    "compared_km2": "area that is judged, changed or not",
    "changed_ha": "area of reported places within the zone",
    "changed_share": "its share of the compared area",
    "places": "reported places that have land in it",
    "naturalness_before": "mean score of the compared area in the earlier step, 0 to 1",
    "change": "mean score of the later step less that of the earlier",
    "change_se": "its standard error: chips err alike as far as they overlap, and all land a little",
    "unlike_km2": "area unlike the classifier's training chips in a step",
    "one_step_km2": "area with data in one step only",
    "untold_km2": "area with too little data around it to tell its noise",
    "unmapped_km2": "area that one cube was not asked for, or whose tile is not finished in a step",
    "no_data_km2": "area without data in both",
    "outside_km2": "area outside what the cubes were asked for",
    "overlapping": "number of other zones with which it shares more than a pixel of land; that land counts for each",
}
"""The columns of the table, besides the zones' own attributes and their geometry, and what each holds."""
COMPARED = [State.UNCHANGED, State.CHANGED]
OVERLAP = {(down, right): 0.5 ** (abs(down) + abs(right)) for down, right in product((-1, 0, 1), repeat=2)}
"""Share in which chips overlap whose centres lie in squares of half a chip, by how far apart these are."""
COMMON, SURE = 0.1, 100
"""The common part of the errors' variance where no land tells it, and how many chips' land counts for as much."""


@dataclass
class SiteChanges:
    """Sums of every zone over the blocks of a comparison; areas in pixels."""

    comparison: Comparison
    zones: Polygons
    """Read with `keep_all`; each becomes a row."""
    shapes: NDArray[np.object_] = field(init=False)
    """(n,) the zones in the cubes' CRS."""
    areas: NDArray[np.float64] = field(init=False)
    """(n, states) area by `State`; what is outside the cubes' area is in none."""
    squares: list[pd.DataFrame] = field(default_factory=list)
    """Compared area, and naturalness, change and error summed over it, by zone and square of half a chip's side."""
    land: NDArray[np.float64] = field(init=False)
    """(2, rows, cols) change and error summed over all compared land, by squares of a chip's side."""

    def __post_init__(self) -> None:
        self.shapes = self.zones.projected(self.comparison.grid.crs)
        self.areas = np.zeros((len(self.zones), len(State)))
        self._tree = shapely.STRtree(self.shapes)
        cubes = {step.cube.uri: step.cube for step in (self.comparison.earlier, self.comparison.later)}
        self._regions = [Region(cube.region.area, self.comparison.grid) for cube in cubes.values()]
        chips = self.comparison.earlier.cube.attributes["request"]["chips"]
        self._chip = chips.get("chip_size", CHIP) >> LEVEL
        self.land = np.zeros((2, *self.comparison.window.coarsen(self._chip).shape))

    def add(self, block: Block) -> None:
        """Add a compared block."""
        self._add_land(block)
        part = zones_within(self._tree, block.window, self.comparison.grid)
        if part is None:
            return
        here, pixels, zones = part.window.slices(block.window), part.covered.pixels, part.covered.zones
        state, shares = block.state[here].ravel()[pixels], part.covered.shares
        inside = np.all([region.inside(part.window) for region in self._regions], axis=0).ravel()[pixels]
        # a pixel of 20 m may have data though its centre lies outside
        kept = inside | (state != State.EMPTY)
        np.add.at(self.areas, (zones[kept], state[kept]), shares[kept])
        rows, cols = np.divmod(pixels, part.window.width)
        values = {name: getattr(block, name)[here].ravel()[pixels] for name in ("before", "change", "error")}
        is_compared, half = np.isin(state, COMPARED) & np.isfinite(values["change"]), self._chip // 2
        square = pd.DataFrame({
            "zone": zones, "row": (rows + part.window.row) // half, "col": (cols + part.window.col) // half,
            "area": shares, **{name: shares * each for name, each in values.items()},
            "sure": shares * np.isfinite(values["error"]),
        })[is_compared]  # fmt: skip
        self.squares.append(square.groupby(["zone", "row", "col"], as_index=False).sum())

    def _add_land(self, block: Block) -> None:
        window, corner = block.window, self.comparison.window.coarsen(self._chip)
        rows, cols = (np.arange(window.row, window.stop_row), np.arange(window.col, window.stop_col))
        places = np.ix_(rows // self._chip - corner.row, cols // self._chip - corner.col)
        known = np.isin(block.state, COMPARED) & np.isfinite(block.change) & np.isfinite(block.error)
        error = np.where(known, block.error, 0)
        change = np.clip(np.where(known, block.change, 0), -Z90 * error, Z90 * error)
        for total, values in zip(self.land, (change, error), strict=True):
            np.add.at(total, places, values)

    @property
    def common(self) -> float:
        """Part of the errors' variance that does not average out over land."""
        change, error = self.land
        chips = error.sum() ** 2 / max(float((error**2).sum()), 1e-30)
        # of all pairs of squares those that share no chip
        products, errors = (
            each.sum() ** 2 - 9 * (each * uniform_filter(each, 3, mode="constant")).sum() for each in (change, error)
        )
        estimate = products / errors if errors > 1e-9 * error.sum() ** 2 else COMMON
        return float(np.clip((COMMON * SURE + estimate * chips) / (SURE + chips), 0, 1))

    def table(self, places: Any) -> geopandas.GeoDataFrame:
        """The table, a row per zone in the CRS of the zones' file, from the places that are reported."""
        pixel = self.comparison.grid.resolution**2 / 1e6
        areas, states = shapely.area(self.shapes) / 1e6, self.areas * pixel
        outside = left_outside(areas, states.sum(axis=1), pixel)
        compared = states[:, COMPARED].sum(axis=1)
        polygons = shapely.make_valid(places.geometry.to_numpy())
        place, zone = self._tree.query(polygons, predicate="intersects")
        changed = shapely.area(shapely.intersection(polygons[place], self.shapes[zone])) / 1e4
        count = len(self.zones)
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = pd.DataFrame({
                "zone": np.arange(1, count + 1), "area_km2": areas, "compared_km2": compared,
                "from": self.comparison.earlier.days[0], "to": self.comparison.later.days[0],
                "changed_ha": np.bincount(zone, changed, count),
                "changed_share": np.bincount(zone, changed, count) / 100 / compared,
                "places": np.bincount(zone[changed > 0], minlength=count),
                "unlike_km2": states[:, State.OUTSIDE], "one_step_km2": states[:, State.ONE_STEP],
                "untold_km2": states[:, State.UNTOLD], "unmapped_km2": states[:, State.UNMAPPED],
                "no_data_km2": states[:, State.EMPTY], "outside_km2": outside,
                "overlapping": overlaps(self.shapes, pixel * 1e6),
            })  # fmt: skip
        rows = rows.join(self._means())
        problems = zip(rows.itertuples(), self.zones.problems, strict=True)
        states_of = [_state_of(row, problem, pixel) for row, problem in problems]
        rows["state"], rows["reason"] = zip(*states_of, strict=True)
        table = with_attributes(self.zones.table, rows, COLUMNS)
        return geopandas.GeoDataFrame(table, geometry=self.zones.shapes, crs=self.zones.crs)

    def _means(self) -> pd.DataFrame:
        """Mean score before, its change and the standard error of that, by zone."""
        names = ["naturalness_before", "change", "change_se"]
        if not self.squares:
            return pd.DataFrame(np.nan, np.arange(len(self.zones)), names)
        squares = pd.concat(self.squares).groupby(["zone", "row", "col"]).sum()
        error, (zone, row, col) = squares["error"], (squares.index.get_level_values(level) for level in range(3))
        squares["variance"] = 0.0
        for (down, right), share in OVERLAP.items():
            beside = error.reindex(pd.MultiIndex.from_arrays([zone, row + down, col + right])).fillna(0)
            squares["variance"] += share * error * beside.to_numpy()
        sums = squares.groupby("zone").sum().reindex(np.arange(len(self.zones)))
        common = self.common
        variance = (1 - common) * sums["variance"] + common * sums["error"] ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (sums["before"] / sums["area"], sums["change"] / sums["area"], np.sqrt(variance) / sums["sure"])
        return pd.DataFrame(dict(zip(names, means, strict=True)))


def _state_of(row: Any, problem: str, pixel: float) -> tuple[str, str]:
    """State of a zone, and the reasons for it in words; `pixel` is the area of one in km²."""
    parts = {
        "lies outside the cubes": row.outside_km2,
        "has no data": row.no_data_km2,
        "has data in one step only": row.one_step_km2,
        "is not mapped in one of the steps": row.unmapped_km2,
        "is unlike the training chips": row.unlike_km2,
        "has too little data around it to tell its noise": row.untold_km2,
    }
    if not row.area_km2:
        state = "no polygon"
    elif not row.compared_km2:
        state = "outside" if row.outside_km2 >= row.area_km2 * (1 - 1e-6) else "not compared"
    else:
        state = "compared" if row.compared_km2 >= WHOLE * row.area_km2 else "partly"
    return state, zone_reasons(row, problem, parts, pixel, "the cubes' CRS", "a pixel of the comparison")

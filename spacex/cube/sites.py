"""A table of sites: what a cube says of every polygon of a file, at every time step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from spacex.bootstrap import ClusterBootstrap, Interval, draw, of_sums
from spacex.cube.attributes import check_format
from spacex.cube.encoding import naturalness
from spacex.cube.site_tally import CODES, SiteTally
from spacex.cube.store import Cube
from spacex.cube.zonal import WHOLE, left_outside, overlaps, with_attributes, zone_blocks, zone_reasons
from spacex.datasets.corine import CLASSES
from spacex.datasets.corine_cover import open_cover
from spacex.errors import RequestError
from spacex.vectors import Polygons

REPETITIONS = 1000
"""Draws behind an interval."""
COLUMNS = {
    "zone": "number of the feature in the file of zones, from 1",
    "state": "mapped (99 % of it or more), partly, doubtful (mapped, but most of that unlike the training chips), "
    "no data, unfinished, outside, no polygon",
    "reason": "why it is not simply mapped, and what else is to be known; empty if nothing is",
    "first_day": "first day of the time step",
    "last_day": "last day of the time step",
    "area_km2": "area of the zone in the cube's CRS",
    "mapped_km2": "area with a score",
    "no_data_km2": "area without a clear observation",
    "unfinished_km2": "area in tiles that have not been mapped, or failed",
    "outside_km2": "area outside what the cube was asked for",
    "unlike_km2": "mapped area unlike the classifier's training chips (dissimilarity above 1)",
    "naturalness_mean": "mean score of the mapped area, 0 to 1",
    "naturalness_median": "median score of the mapped area",
    "natural_share": "share of the mapped area with a score above 0.5",
    "lift_per_km2": "lift summed over the mapped area and divided by it, in logits per km²",
    "lift_per_km2_low": "lower end of its 95 % interval: bootstrap over squares of a chip's size",
    "lift_per_km2_high": "upper end of it",
    "lift_squares": "number of such squares with land of the zone; below about ten the interval itself is uncertain",
    "observations_mean": "clear observations behind a pixel of the composite",
    "observations_least": "fewest of any pixel",
    "scenes": "scenes in the composites of the tiles in which it lies",
    "first_scene": "day of the earliest of them",
    "middle_scene": "day before and after which they supplied equally many observations",
    "last_scene": "day of the latest of them",
    "scene_days": "days between the earliest and the latest",
    "overlapping": "number of other zones with which it shares more than a pixel of land; that land counts for each",
}
"""The columns of the table, besides the zones' own attributes and their geometry, and what each holds."""
LAND_COVER_COLUMNS = {
    "zone": COLUMNS["zone"],
    "first_day": COLUMNS["first_day"],
    "class": "CORINE class, 111 to 523; 0 where the raster has none",
    "class_name": "its name",
    "mapped_km2": "mapped area of the class in the zone",
    "area_share": "its share of the zone's mapped area",
    "naturalness_mean": "mean score of it",
    "lift_per_km2": "lift on the class, in logits per km² of it",
    "lift_per_km2_low": "lower end of its 95 % interval",
    "lift_per_km2_high": "upper end of it",
    "lift_share": "share of the zone's lift that lies on the class",
    "lift_excess": "lift_share − area_share: above 0 where the class carries more of the lift than of the land",
    "lift_excess_low": "lower end of its 95 % interval",
    "lift_excess_high": "upper end of it",
}
"""The columns of the table by land cover."""


@dataclass(frozen=True)
class Sites:
    """What a cube says of zones; a notebook shows the table."""

    table: geopandas.GeoDataFrame
    """A row per zone and time step, `COLUMNS` and the zones' attributes, in the CRS of the zones."""
    land_cover: pd.DataFrame | None
    """A row per zone, time step and land-cover class, `LAND_COVER_COLUMNS`; None if none was asked for."""
    cover: str = ""
    """How classes were brought to the cube's pixels."""

    def count(self) -> dict[str, int]:
        """Number of rows by state."""
        return {str(state): int(rows) for state, rows in self.table["state"].value_counts().items()}

    def _repr_html_(self) -> str:
        shown = self.table.drop(columns=self.table.geometry.name)
        html: str = pd.DataFrame(shown)._repr_html_()  # type: ignore[operator]
        return html


def tabulate(
    cube: str, zones: Polygons, by: str | None = None, report: Callable[[int], None] = lambda blocks: None
) -> Sites:
    """Make the table of sites of a cube.

    Args:
        cube: URI of a cube of format 3.
        zones: read with `keep_all`; each becomes a row per time step.
        by: CORINE raster by whose classes lift is told apart; None for none.
        report: called with the number of blocks that are done, after each.

    Raises:
        CubeError: if there is no such cube.
        DataError: if the land cover cannot be read, or does not touch the cube.
        RequestError: if land cover is asked for of a cube without lift.
    """
    opened = Cube(cube)
    check_format(cube, opened.attributes)
    if by is not None and "lift" not in opened.spec.maps:
        raise RequestError(
            f"{cube} has no lift to tell apart by land cover", expected="a cube made with lift in --maps"
        )
    cover = None if by is None else open_cover(by, opened.grid.geobox(opened.extent))
    shapes = zones.projected(opened.spec.crs)
    tallies = [SiteTally(step, len(zones)) for step in range(len(opened.spec.intervals))]
    for number, block in enumerate(zone_blocks(opened, shapes), start=1):
        classes = None if cover is None else cover.read(*block.window.slices(opened.extent))
        for tally in tallies:
            tally.add(opened, block, classes)
        report(number)
    overlapping = overlaps(shapes, opened.spec.resolution**2)
    own, lands = [_rows(opened, tally, zones, shapes, overlapping) for tally in tallies], []
    for tally, rows in zip(tallies, own, strict=True):
        lands.append(_lift(opened, tally, rows))
    table = pd.concat([with_attributes(zones.table, rows, COLUMNS) for rows in own], ignore_index=True)
    order = np.lexsort((table["first_day"], table["zone"]))
    frame = geopandas.GeoDataFrame(table, geometry=zones.shapes[table["zone"] - 1], crs=zones.crs)
    frame = frame.iloc[order].reset_index(drop=True)
    if cover is None:
        return Sites(frame, None)
    return Sites(frame, pd.concat(lands, ignore_index=True)[list(LAND_COVER_COLUMNS)], cover.how)


def _rows(
    cube: Cube, tally: SiteTally, zones: Polygons, shapes: NDArray[np.object_], overlapping: NDArray[np.int64]
) -> pd.DataFrame:
    """A row per zone at one time step: areas, scores, observations, scenes."""
    pixel = cube.spec.resolution**2 / 1e6
    first, last = cube.spec.intervals[tally.step]
    areas, codes = shapely.area(shapes) / 1e6, tally.codes * pixel
    mapped, no_data, unfinished = codes[:, 1:].sum(axis=1), codes[:, 0], tally.unfinished * pixel
    outside = left_outside(areas, mapped + no_data + unfinished, pixel)
    values = naturalness().decode(np.arange(CODES))
    values[0] = 0
    below = codes[:, 1:].cumsum(axis=1)
    # the least score at or below which half of the area lies
    middle = values[1:][np.minimum((below < below[:, -1:] / 2).sum(axis=1), CODES - 2)]
    scenes = [_scenes(tally.scenes.get(zone, {})) for zone in range(tally.zones)]
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = pd.DataFrame({
            "zone": np.arange(1, tally.zones + 1), "first_day": first, "last_day": last,
            "area_km2": areas, "mapped_km2": mapped, "no_data_km2": no_data, "unfinished_km2": unfinished,
            "outside_km2": outside, "unlike_km2": tally.unlike * pixel,
            "naturalness_mean": codes @ values / mapped,
            "naturalness_median": np.where(mapped > 0, middle, np.nan),
            "natural_share": codes[:, values > 0.5].sum(axis=1) / mapped,
            "observations_mean": tally.observed * pixel / mapped,
            "observations_least": np.where(mapped > 0, tally.least, np.nan),
            "overlapping": overlapping,
        })  # fmt: skip
    if not cube.spec.dissimilarity:
        rows["unlike_km2"] = np.nan
    rows = rows.join(pd.DataFrame(scenes))
    states = [_state_of(row, problem, pixel) for row, problem in zip(rows.itertuples(), zones.problems, strict=True)]
    rows["state"], rows["reason"] = zip(*states, strict=True)
    return rows


def _scenes(scenes: dict[str, tuple[str, float]]) -> dict[str, Any]:
    """Number and days of the scenes of a zone, from the day of each and what it supplied."""
    names = ("first_scene", "middle_scene", "last_scene")
    if not scenes:
        return {"scenes": 0, **dict.fromkeys(names), "scene_days": np.nan}
    days, supplied = zip(*sorted(scenes.values()), strict=True)
    middle = int(np.searchsorted(np.cumsum(supplied), sum(supplied) / 2))
    spread = (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days
    return {"scenes": len(days), **dict(zip(names, (days[0], days[middle], days[-1]), strict=True)),
            "scene_days": float(spread)}  # fmt: skip


def _state_of(row: Any, problem: str, pixel: float) -> tuple[str, str]:
    """State of a zone, and the reasons for it in words; `pixel` is the area of one in km²."""
    parts = {
        "lies outside the cube": row.outside_km2,
        "has no data": row.no_data_km2,
        "is not mapped yet": row.unfinished_km2,
        "is unlike the training chips": row.unlike_km2,
    }
    if not row.area_km2:
        state = "no polygon"
    elif not row.mapped_km2:
        rest = {"unfinished": row.unfinished_km2, "no data": row.no_data_km2}
        state = next((state for state, part in rest.items() if part > 0), "outside")
    elif row.unlike_km2 > row.mapped_km2 / 2:
        state = "doubtful"
    else:
        state = "mapped" if row.mapped_km2 >= WHOLE * row.area_km2 else "partly"
    return state, zone_reasons(row, problem, parts, pixel)


def _lift(cube: Cube, tally: SiteTally, rows: pd.DataFrame) -> pd.DataFrame:
    """Add each zone's lift to its row; gives the rows by land cover."""
    names = ["lift_per_km2", "lift_per_km2_low", "lift_per_km2_high", "lift_squares"]
    rows[names] = np.nan
    if "lift" not in cube.spec.maps:
        return pd.DataFrame(columns=list(LAND_COVER_COLUMNS))
    pixel, by_class_rows = cube.spec.resolution**2 / 1e6, []
    for zone, land in tally.land().groupby("zone"):
        squares = land.groupby(["row", "col"])[["area", "lift"]].sum()
        draws = draw([f"{row} {col}" for row, col in squares.index], REPETITIONS)
        area, lift = (squares[name].to_numpy() for name in ("area", "lift"))
        whole = of_sums((lift, area * pixel), np.divide, draws)
        rows.loc[zone, names] = [whole.mean, whole.low, whole.high, len(squares)]
        for code, part in land.groupby("class"):
            there = part.set_index(["row", "col"])[["area", "lift", "naturalness"]].reindex(squares.index, fill_value=0)
            own = [there[name].to_numpy() for name in ("area", "lift", "naturalness")]
            by_class_rows.append({"zone": zone + 1, "class": int(code), **_class_row(own, area, lift, pixel, draws)})
    by_class = pd.DataFrame(by_class_rows, columns=list(LAND_COVER_COLUMNS))
    by_class["first_day"] = cube.spec.intervals[tally.step][0]
    by_class["class_name"] = by_class["class"].map({0: "no land cover", **CLASSES})
    return by_class


def _class_row(
    own: list[NDArray[np.float64]], area: NDArray[np.float64], lift: NDArray[np.float64], pixel: float,
    draws: ClusterBootstrap,
) -> dict[str, float]:  # fmt: skip
    """Lift of one class by squares, beside the zone's; areas in pixels."""
    class_area, class_lift, scores = own
    density = of_sums((class_lift, class_area * pixel), np.divide, draws)
    excess = of_sums((class_lift, lift, class_area, area), lambda a, b, c, d: a / b - c / d, draws)
    share = class_area.sum() / area.sum()
    return {
        "mapped_km2": class_area.sum() * pixel, "area_share": share,
        "naturalness_mean": scores.sum() / class_area.sum(),
        **_named("lift_per_km2", density), "lift_share": excess.mean + share, **_named("lift_excess", excess),
    }  # fmt: skip


def _named(name: str, value: Interval) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}

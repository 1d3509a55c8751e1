"""Change from Python: `change` compares two time steps and finds the places that differ by more than the noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from spacex.api.change_settings import ChangeSettings
from spacex.api.declaration import complete, documented
from spacex.changes.difference import Comparison, Step
from spacex.changes.places import ENDINGS, Changes, find_changes
from spacex.changes.site_changes import COLUMNS, SiteChanges
from spacex.cube.site_files import check_columns, write_tables
from spacex.cube.store import Cube
from spacex.errors import RequestError
from spacex.storage import real_uri
from spacex.vectors import read_zones


@documented(ChangeSettings)
def change(
    cube: str,
    other: str | None = None,
    /,
    *,
    report: Callable[[int], None] = lambda blocks: None,
    **settings: Unpack[ChangeSettings],
) -> Changes:
    """Find what changed between two time steps of a cube, or of two cubes on one grid, by more than the noise.

    Args:
        {settings}
        report: called with the number of blocks that are done, after each.

    Returns:
        The `places`, a GeoDataFrame of polygons with area, mean change of naturalness and its standard error; `sites`,
        one with a row per zone, if zones were given; the `areas` by what can be said of them, and `doubts`, sentences
        on what is doubtful.

    Raises:
        CubeError: if there is no such cube, or its overviews are missing.
        DataError: if the zones cannot be read.
        RequestError: if there is no such time step or map, the cubes lie on different grids, or the zones have more
            attributes than the table can hold.

    >>> import spacex
    >>> box, days = (24.0, 67.95, 24.02, 67.96), ["2020-07-01/2020-07-31", "2020-08-01/2020-08-31"]
    >>> outcome = spacex.map_region(catalogue="demo", bbox=box, datetime=days, output="months.zarr")
    >>> len(spacex.change("months.zarr", of="naturalness").places)
    0
    """
    asked = complete(ChangeSettings, settings, cube=cube, other=other)
    output = asked["output"]
    if output is not None and not output.lower().endswith(ENDINGS):
        raise RequestError("output has another ending", got=output, expected=" or ".join(ENDINGS))
    first = Cube(asked["cube"])
    second_uri = asked["other"] or asked["cube"]
    second = first if real_uri(second_uri) == real_uri(asked["cube"]) else Cube(second_uri)
    between = asked["between"]
    if between is not None and len(between) != 2:
        raise RequestError("between", got=between, expected="two time steps, e.g. 2019 2024")
    earlier = _step(first, 0, None if between is None else between[0])
    later = _step(second, len(second.spec.intervals) - 1, None if between is None else between[1])
    if earlier.cube is later.cube and earlier.number == later.number:
        do = "Give two steps with --between, or another cube."
        raise RequestError("a time step cannot be compared with itself", got=earlier.days[0], do=do)
    # what is found depends on which step comes first, so that the days decide and not the order they are named in
    earlier, later = sorted((earlier, later), key=lambda step: step.days)
    comparison = Comparison(earlier, later, asked["of"], asked["false_alarms"], asked["min_area"])
    zones, table = asked["zones"], asked["table"]
    if zones is None:
        if table is not None:
            raise RequestError("table needs zones", got=table, do="Give zones too, or leave table out.")
        return find_changes(comparison, output, asked["map"], report)
    polygons = read_zones(zones)
    check_columns(table, polygons, COLUMNS)
    changes = find_changes(comparison, output, asked["map"], report, SiteChanges(comparison, polygons))
    if table is not None:
        write_tables({"change": changes.sites}, table)
    return changes


def _step(cube: Cube, default: int, begins: str | None) -> Step:
    """The time step whose first day begins with a text."""
    if begins is None:
        return Step(cube, default)
    days = [first for first, _ in cube.spec.intervals]
    matching = [number for number, day in enumerate(days) if day.startswith(begins)]
    if len(matching) != 1:
        got = f"{begins}, of {', '.join(days)}"
        raise RequestError("which time step", got=got, expected="the beginning of one of its first days")
    return Step(cube, matching[0])

"""Checks a cube from Python: `reproduce` computes a tile anew and compares every bit."""

from __future__ import annotations

from typing import Unpack

from spacex.api.declaration import complete, documented
from spacex.api.map_settings import ReproduceSettings
from spacex.checkpoint import load_checkpoint
from spacex.cube.store import Cube
from spacex.errors import RequestError
from spacex.execution.tasks import TileTask
from spacex.mapping.reproduce import Reproduction, tile_at
from spacex.mapping.reproduce import reproduce as reproduce_tile
from spacex.storage import absolute_uri
from spacex.weights import default_checkpoint


@documented(ReproduceSettings)
def reproduce(cube: str, /, **settings: Unpack[ReproduceSettings]) -> Reproduction:
    """Compute a tile of a cube anew from the scenes that its provenance names, and compare every bit.

    Args:
        {settings}

    Returns:
        Whether it is the `same`, what differs, and what was different from when the tile was made: `scenes`, `making`.

    Raises:
        RequestError: if the tile cannot be computed: no such tile, another checkpoint, no scene to be had.
        TileError: if a scene cannot be read.

    >>> import spacex
    >>> outcome = spacex.map_region(catalogue="demo", bbox=(24.0, 67.95, 24.02, 67.96), output="lapland.zarr")
    >>> spacex.reproduce("lapland.zarr", at=(24.01, 67.955)).same
    True
    """
    asked = complete(ReproduceSettings, settings, cube=cube)
    if (asked["at"] is None) == (asked["tile"] is None):
        raise RequestError("which tile", expected="either --at or --tile")
    store = Cube(asked["cube"])
    days = [interval[0] for interval in store.spec.intervals]
    first = asked["datetime"] or days[0]
    if first not in days:
        raise RequestError("no time step begins on that day", got=first, expected=", ".join(days))
    if asked["tile"] is not None:
        task = TileTask.parse(asked["tile"])
    else:
        place = tuple(asked["at"] or ())
        if len(place) != 2:
            raise RequestError("--at", got=place, expected="LON,LAT in degrees")
        task = tile_at(store, *place, days.index(first))
    uri = asked["checkpoint"] or default_checkpoint(store.attributes["request"]["catalogue"])
    checkpoint = load_checkpoint(uri, trust=asked["trust"]) if isinstance(uri, str) else uri
    items = None if asked["items"] is None else absolute_uri(asked["items"])
    return reproduce_tile(store, task, checkpoint, items)

"""Compare a request with an existing cube's, and merge the two when the cube is extended.

The fingerprint covers what decides a pixel's value: settings, checkpoint, code. Area and time steps decide only which
pixels exist, so a cube may be extended in both (`spacex.cube.extend`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping, shape

from spacex.checkpoint import Checkpoint
from spacex.cube.statuses import FINISHED, tasks_where
from spacex.cube.store import Cube
from spacex.errors import CubeError
from spacex.execution.tasks import Status
from spacex.intervals import order_steps
from spacex.mapping.request import MapRequest
from spacex.model_card import Card
from spacex.pixel_code import code_digest

EXTENT = ("area", "intervals", "items")
"""Fields of a request that decide which pixels exist, not their values; and where the list of items lies."""


def merge_requests(cube: Cube, asked: MapRequest, checkpoint: Checkpoint, grow: bool) -> MapRequest:
    """The request of the cube after this run: the one asked for, or its union with the cube's.

    Args:
        cube: the existing cube.
        asked: the request.
        checkpoint: the networks.
        grow: whether the cube may be extended.

    Raises:
        CubeError: if other settings, networks or code made it, naming every difference; or if it lacks something and
            may not be extended.
        RequestError: if a further time step begins on the same day as another.
    """
    check_same_making(cube, asked, checkpoint)
    stored = MapRequest.model_validate(cube.attributes["request"])
    if _same_extent(stored, asked):
        return asked
    if newly_left_out(cube, asked):
        what, do = f"{cube.uri} would have to be extended", "Leave the items out first, and --grow it then."
        raise CubeError(what, got=f"{_extent_in_words(asked)} and --leave-out", expected="one of them", do=do)
    if not grow:
        raise CubeError(
            f"{cube.uri} was made for another area or other days",
            got=_extent_in_words(asked),
            expected=_extent_in_words(stored),
            do="Repeat the command that made it, let it --grow by what it lacks, or choose another --output.",
        )
    before, added = shape(stored.area), shape(asked.area)
    # a union may move vertices by rounding, so an area that is not extended stays as it is
    area = stored.area if before.covers(added) else mapping(shapely.union(before, added))
    steps = order_steps({*stored.intervals, *asked.intervals})
    return asked.model_copy(update={"area": area, "intervals": steps})


def covers(cube: Cube, request: MapRequest) -> bool:
    """Whether a cube already has the area and the time steps of a request."""
    return _same_extent(MapRequest.model_validate(cube.attributes["request"]), request)


def newly_left_out(cube: Cube, asked: MapRequest) -> set[str]:
    """Ids of the items that a request leaves out and that the cube was made with."""
    before = set(cube.attributes["request"].get("leave_out", ()))
    return set(asked.leave_out) - before if before <= set(asked.leave_out) else set()


def tiles_without(cube: Cube, ids: set[str]) -> NDArray[np.uint8]:
    """States of the cube's tiles, pending where an item that is now left out had a part in them.

    An item has none where every pixel had enough observations before its turn came: it was not read there.
    """
    statuses = cube.statuses()
    for task in tasks_where(np.isin(statuses, FINISHED), cube.spec.tiling):
        records = cube.provenance(task).get("scenes", [{"id": name} for name in ids])
        if any(record["id"] in ids and "left_out" not in record for record in records):
            statuses[cube.position(task)] = Status.PENDING
    return statuses


def check_same_making(cube: Cube, asked: MapRequest, checkpoint: Checkpoint) -> None:
    """Refuse a cube that other settings, networks or code made; it may be made on without some items.

    Raises:
        CubeError: with both fingerprints and every difference named.
    """
    fingerprint, same_items = asked.fingerprint(checkpoint), asked
    if newly_left_out(cube, asked):
        before = tuple(cube.attributes["request"].get("leave_out", ()))
        same_items = asked.model_copy(update={"leave_out": before})
    if cube.fingerprint != same_items.fingerprint(checkpoint):
        raise CubeError(
            f"{cube.uri} was made by another request, checkpoint or code",
            got=f"fingerprint {cube.fingerprint}, where {', '.join(_differences(cube, asked, checkpoint.card))}",
            expected=fingerprint,
            do="Repeat the command that made it, or choose another --output.",
        )


def _differences(cube: Cube, asked: MapRequest, card: Card) -> list[str]:
    """The fields by which a cube's fingerprint differs from the request's, with both values."""
    attributes = cube.attributes
    stored = {name: attributes.get(name, {}) for name in ("request", "checkpoint")}
    request = asked.model_dump(mode="json", exclude=set(EXTENT))
    now = {"request": request, "checkpoint": card.model_dump(mode="json", exclude={"metrics", "training"})}
    was = _flat(stored) | {"code": attributes.get("spacex_code")}
    now = _flat(now) | {"code": code_digest()}
    skipped = tuple(f"request.{name}" for name in EXTENT)  # not part of the fingerprint
    return [
        f"{name.removeprefix('request.')} was {was.get(name)} and is now {now.get(name)}"
        for name in sorted(was | now)
        if not name.startswith(skipped) and was.get(name) != now.get(name)
    ]


def _same_extent(one: MapRequest, other: MapRequest) -> bool:
    first, second = shape(one.area), shape(other.area)
    # vertices are compared first, because `equals` is slow for a country's 60,000
    return one.intervals == other.intervals and bool(first == second or first.equals(second))


def _extent_in_words(request: MapRequest) -> str:
    days = ", ".join("/".join(interval) for interval in request.intervals)
    return f"{days} in {tuple(round(edge, 3) for edge in shape(request.area).bounds)}"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat

"""Mapping a region from Python: `plan` says what would be done, `map_region` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any, Unpack

from rich.filesize import decimal
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from spacex.api.declaration import complete, documented, pick
from spacex.api.map_settings import SCORE, MapSettings, PlanSettings
from spacex.api.scenes import Intervals, chosen_intervals, map_area, scene_fields
from spacex.attribution.inference import choose_precision
from spacex.attribution.names import UNCERTAINTIES, Precision
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.cube.store import find_cube
from spacex.mapping.plan import Plan, make_plan
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.run import Outcome, Runner, execute
from spacex.settings import checked
from spacex.storage import resolve_link
from spacex.synthetic.archive import demo_archive
from spacex.weights import default_checkpoint


@dataclass(frozen=True, repr=False)
class PlannedMap:
    """A map that could be made: what it takes, and `run` to make it. Nothing is written before that."""

    plan: Plan
    """Tiles, scenes and work."""
    device: str = "cpu"
    """Where the networks run."""

    @property
    def fingerprint(self) -> str:
        """Names request, checkpoint and code; a cube there already must carry it."""
        return self.plan.fingerprint

    @property
    def output(self) -> str:
        """Where the cube goes."""
        return self.plan.output

    @property
    def checkpoint(self) -> Checkpoint:
        """The networks."""
        return self.plan.checkpoint

    def describe(self) -> dict[str, Any]:
        """What there is to do, as plain numbers: tiles, scenes, chips, bytes."""
        return self.plan.describe()

    def run(self, runner: Runner | None = None, *, quicklook: str | None = None, **how: Any) -> Outcome:
        """Make the map, or what is left of it.

        Args:
            runner: who does the work; None for this process (`spacex.execution.local.run_local`).
            quicklook: PNG file to draw when the map is made.
            how: further arguments of `spacex.mapping.run.execute`, e.g. `threads`, `time_limit`.

        Raises:
            CubeError: if the output cannot be written.
        """
        from spacex.execution.local import run_local

        how = {"device": self.device, **how}
        outcome = execute(self.plan, runner or run_local, **how)
        if quicklook is not None:
            from spacex.cube.quicklook import draw
            from spacex.cube.stac import describe_cube
            from spacex.execution.report import write_outputs

            cube, picture = outcome.cube, quicklook
            unwritten = write_outputs({"picture": lambda: draw(cube, picture)})
            if not unwritten:
                unwritten = write_outputs({"STAC description": lambda: describe_cube(cube, picture)})
            outcome = replace(outcome, unwritten=outcome.unwritten | unwritten)
        return outcome

    def with_precision(self, precision: Precision) -> PlannedMap:
        """The same map with networks of this precision, unless a cube has been begun with another."""
        if self.plan.cube is not None:
            return self
        request = self.plan.request.model_copy(update={"precision": precision})
        return replace(self, plan=replace(self.plan, request=request))

    def __repr__(self) -> str:
        return "\n".join(f"{name:<10} {value}" for name, value in self._rows())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th align=left>{name}</th><td>{escape(text)}</td></tr>" for name, text in self._rows())
        return f"<table>{rows}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        """The plan for people: what it is about, and how much of it."""
        amounts, request = self.describe(), self.plan.request
        return [
            ("output", self.output),
            ("cube", amounts["cube"]),
            ("days", ", ".join("/".join(days) for days in request.intervals)),
            ("maps", ", ".join((*request.chips.maps, SCORE, *request.chips.sure))),
            ("tiles", ", ".join(f"{number:,} {state}" for state, number in amounts["tiles"].items())),
            ("scenes", f"{sum(amounts['scenes']):,}"),
            ("chips", f"{amounts['chips']:,}"),
            ("to read", decimal(amounts["bytes_to_read"])),
            ("to store", decimal(amounts["bytes_to_store"])),
        ]


@documented(PlanSettings)
def plan(bbox: Sequence[float] | None = None, /, **settings: Unpack[PlanSettings]) -> PlannedMap:
    """Work out a map without reading a pixel or writing anything.

    Args:
        {settings}

    Raises:
        RequestError: if the request cannot be carried out, with what to do about it.

    >>> import spacex
    >>> work = spacex.plan(catalogue="demo", bbox=(24.0, 67.95, 24.02, 67.96), output="none.zarr")
    >>> work.describe()["tiles"]["new"]
    1
    """
    settings.setdefault("output", "map.zarr")  # nothing is written, so a plan needs no name
    asked = complete(PlanSettings, settings, bbox=bbox)
    return plan_map(asked, map_area(asked, asked["bbox"]), chosen_intervals(asked, asked["datetime"]))


@documented(MapSettings)
def map_region(
    bbox: Sequence[float] | None = None, /, *, runner: Runner | None = None, **settings: Unpack[MapSettings]
) -> Outcome:
    """Map a region: make or resume the cube at `output`. A bar shows how far it is.

    Args:
        {settings}
        runner: who does the work; None for this process, ``functools.partial(spacex.execution.ray_actors.run_ray,
            workers=8)`` for Ray.

    Returns:
        What came out: `complete`, tiles given up with reasons, seconds, chips, and the `cube`.

    Raises:
        RequestError: if the request cannot be carried out; nothing was written.

    >>> import spacex
    >>> outcome = spacex.map_region(catalogue="demo", bbox=(24.0, 67.95, 24.02, 67.96), output="lapland.zarr")
    >>> outcome.complete
    True
    """
    asked = complete(MapSettings, settings, bbox=bbox)
    work = plan_map(asked, map_area(asked, asked["bbox"]), chosen_intervals(asked, asked["datetime"]))
    return decide_precision(work, asked, runner).run(runner, **run_arguments(asked))


def plan_map(asked: PlanSettings, area: BaseGeometry, intervals: Intervals) -> PlannedMap:
    """Plan a map of an area, in EPSG:4326, from settings that are complete."""
    where = scene_fields(asked, demo_archive)
    checkpoint = asked["checkpoint"] or default_checkpoint(where["catalogue"])
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint, trust=asked["trust"])
    device = "cuda" if asked["gpu"] else "cpu"
    # the score is in every cube: to ask for it alone asks for no further map
    maps = tuple(name for name in asked["maps"] if name != SCORE)
    uncertainty = tuple(name for name in UNCERTAINTIES if name in asked["uncertainty"])
    request = checked(
        lambda: MapRequest(
            area=mapping(area),
            intervals=intervals,
            tile_size=asked["tile_size"],
            path_steps=asked["path_steps"],
            chips=chip_settings(checkpoint.card, maps, asked["stride"], uncertainty=uncertainty),
            precision=choose_cube_precision(asked, device),
            **where,
        )
    )
    return PlannedMap(make_plan(request, asked["output"], checkpoint, grow=asked["grow"]), device)


def choose_cube_precision(asked: PlanSettings, device: str) -> Precision:
    """The precision asked for; ``auto`` is what a cube that is there was made with, else what suits this machine."""
    if asked["precision"] == "auto" and (begun := find_cube(resolve_link(asked["output"]))) is not None:
        return MapRequest.model_validate(begun.attributes["request"]).precision
    return choose_precision(asked["precision"], device)


def decide_precision(work: PlannedMap, asked: PlanSettings, runner: Runner | None) -> PlannedMap:
    """The map with what ``auto`` means where its networks run: Ray's workers may have other machines than this one."""
    function, how = (runner.func, runner.keywords) if isinstance(runner, partial) else (runner, {})
    # by its name, for Ray takes seconds to import
    if asked["precision"] != "auto" or getattr(function, "__name__", "") != "run_ray":
        return work
    from spacex.execution.ray_actors import worker_precision

    return work.with_precision(worker_precision(how.get("cpus", 1.0), how.get("gpus", 0.0)))


def run_arguments(asked: MapSettings) -> dict[str, Any]:
    """The settings that `PlannedMap.run` takes."""
    return pick(asked, ("quicklook", "license", "threads", "verify", "time_limit"))

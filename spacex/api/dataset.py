"""Labelled chips from any land, from Python: `make_dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from spacex.api.dataset_settings import MakeDatasetSettings, check_natural
from spacex.api.declaration import complete, documented, pick
from spacex.api.scene_settings import is_demo
from spacex.api.scenes import Intervals, chosen_area, chosen_intervals, scene_fields
from spacex.dataset_building.folder import DatasetFolder
from spacex.dataset_building.plan import DatasetPlan, make_plan
from spacex.dataset_building.request import (
    ANTHROPOGENIC_CLASSES,
    DatasetRequest,
    LabelSource,
    LandCover,
    SamplingSettings,
)
from spacex.dataset_building.run import BuiltDataset, execute
from spacex.errors import RequestError
from spacex.execution.jobs import Runner
from spacex.grid import CHIP
from spacex.settings import SENTINEL2_BANDS, checked


@dataclass(frozen=True)
class PlannedDataset:
    """A set of chips that could be made: where they lie, and `run` to make it. Nothing is written before that."""

    plan: DatasetPlan
    """Places, scenes and work."""
    folder: DatasetFolder
    """Where it goes."""

    def describe(self) -> dict[str, Any]:
        """What there is to do, as plain numbers: chips by split and class, tiles, scenes, bytes."""
        return self.plan.describe()

    def run(self, runner: Runner | None = None, **how: Any) -> BuiltDataset:
        """Make the set, or what is left of it.

        Args:
            runner: who does the work; None for this process (`spacex.execution.local.run_local`).
            how: further arguments of `spacex.dataset_building.run.execute`, e.g. `time_limit`.

        Raises:
            CubeError: if the output cannot be written.
        """
        from spacex.execution.local import run_local

        return execute(self.plan, self.folder, runner or run_local, **how)


def plan_dataset(
    natural: str | Sequence[str] | None = None,
    anthropogenic: str | Sequence[str] | None = None,
    /,
    **settings: Unpack[MakeDatasetSettings],
) -> PlannedDataset:
    """Work out a set of chips without reading a pixel of a scene or writing anything; see `make_dataset`."""
    asked = complete(MakeDatasetSettings, settings, natural=natural, anthropogenic=anthropogenic)
    return plan_chips(asked, chosen_area(asked, asked["bbox"]), chosen_intervals(asked, asked["datetime"]))


@documented(MakeDatasetSettings)
def make_dataset(
    natural: str | Sequence[str] | None = None,
    anthropogenic: str | Sequence[str] | None = None,
    /,
    *,
    runner: Runner | None = None,
    **settings: Unpack[MakeDatasetSettings],
) -> BuiltDataset:
    """Make, or resume, a labelled set of chips in AnthroProtect's layout, which every training takes.

    Args:
        {settings}
        runner: who does the work; None for this process, ``functools.partial(spacex.execution.ray_actors.run_ray,
            workers=8)`` for Ray.

    Returns:
        What came out: `chips`, `counts` by split and class, tiles given up with reasons.

    Raises:
        RequestError: if the request cannot be carried out; nothing was written.

    >>> import spacex
    >>> made = spacex.make_dataset(catalogue="demo", count=4, bands=["B02", "B03", "B04"], output="chips")
    >>> made.complete, len(made.chips)
    (True, 4)
    """
    asked = complete(MakeDatasetSettings, settings, natural=natural, anthropogenic=anthropogenic)
    work = plan_chips(asked, chosen_area(asked, asked["bbox"]), chosen_intervals(asked, asked["datetime"]))
    return work.run(runner, **run_arguments(asked))


def run_arguments(asked: MakeDatasetSettings) -> dict[str, Any]:
    """The settings that `PlannedDataset.run` takes."""
    return {"time_limit": asked["time_limit"], "readers": asked["threads"]}


def plan_chips(asked: MakeDatasetSettings, area: BaseGeometry | None, intervals: Intervals) -> PlannedDataset:
    """Plan a set of chips within an area in EPSG:4326, or wherever the files reach, from settings that are complete."""
    check_natural(asked)
    folder = DatasetFolder(asked["output"])
    if is_demo(asked):
        asked = _with_demo_files(asked)

    # Chips never overlap, so that the usual distance is a chip's side on the ground.
    sampling = pick(asked, SamplingSettings.model_fields)
    if asked["distance"] is None:
        sampling["distance"] = CHIP * asked["resolution"]
    request = checked(
        lambda: DatasetRequest(
            natural=_label_sources(asked["natural"], asked["natural_where"]),
            anthropogenic=_anthropogenic_labels(asked),
            land_cover=_land_cover(asked),
            area=None if area is None else dict(mapping(area)),
            interval=intervals[0],
            bands=tuple(asked["bands"] or SENTINEL2_BANDS),
            sampling=SamplingSettings(**sampling),
            min_valid=asked["min_valid"],
            **scene_fields(asked, _demo_country),
        )
    )
    return PlannedDataset(make_plan(request, folder), folder)


def _demo_country() -> Path:
    from spacex.synthetic import country

    return Path(country.demo_country())


def _with_demo_files(asked: MakeDatasetSettings) -> MakeDatasetSettings:
    """The settings with the embedded country's files where none is given."""
    from spacex.synthetic.country import LAND_COVER, LAND_USE, PROTECTED, STRICT

    folder, asked = _demo_country(), asked.copy()
    if not asked["natural"]:
        asked["natural"], asked["natural_where"] = str(folder / PROTECTED), asked["natural_where"] or STRICT
    if not asked["anthropogenic"] and asked["land_cover"] is None:
        asked["anthropogenic"], asked["land_cover"] = str(folder / LAND_USE), str(folder / LAND_COVER)
    return asked


def _label_sources(files: str | Sequence[str], where: str | None) -> tuple[LabelSource, ...]:
    return tuple(LabelSource.from_file(file, where=where) for file in ([files] if isinstance(files, str) else files))


def _anthropogenic_labels(asked: MakeDatasetSettings) -> tuple[LabelSource, ...]:
    if asked["anthropogenic_where"] is not None and not asked["anthropogenic"]:
        raise RequestError("--anthropogenic-where without --anthropogenic", got=asked["anthropogenic_where"])
    return _label_sources(asked["anthropogenic"], asked["anthropogenic_where"])


def _land_cover(asked: MakeDatasetSettings) -> LandCover | None:
    classes = asked["anthropogenic_classes"]
    if asked["land_cover"] is None:
        if classes is not None:
            raise RequestError("--anthropogenic-classes without --land-cover", got=",".join(classes))
        return None
    usual = () if asked["anthropogenic"] else ANTHROPOGENIC_CLASSES
    return LandCover.from_file(asked["land_cover"], anthropogenic=usual if classes is None else tuple(classes))

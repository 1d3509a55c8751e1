"""Labelled chips from any land, from Python: `make_dataset`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from spacex.api.mapping import ReadSettings, chosen_area
from spacex.dataset_building.folder import DatasetFolder
from spacex.dataset_building.plan import DatasetPlan, make_plan
from spacex.dataset_building.request import (
    ANTHROPOGENIC_CLASSES,
    COUNT,
    LIMIT,
    SHARE,
    DatasetRequest,
    LabelSource,
    LandCover,
    SamplingSettings,
)
from spacex.dataset_building.run import BuiltDataset, execute
from spacex.errors import RequestError
from spacex.execution.jobs import Runner
from spacex.grid import CHIP
from spacex.intervals import parse_interval
from spacex.settings import SENTINEL2_BANDS, checked
from spacex.synthetic.region import DEMO_INTERVAL
from spacex.synthetic.serving import serve


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
    natural: str | None = None,
    anthropogenic: str | None = None,
    *,
    output: str,
    natural_where: str | None = None,
    anthropogenic_where: str | None = None,
    land_cover: str | None = None,
    anthropogenic_classes: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    area: str | BaseGeometry | None = None,
    datetime: str | None = None,
    catalogue: str = "earth-search",
    bands: Sequence[str] = SENTINEL2_BANDS,
    share: float = SHARE,
    distance: float | None = None,
    count: int = COUNT,
    limit_per_polygon: int = LIMIT,
    seed: int = 0,
    min_valid: float = 0.9,
    **settings: Unpack[ReadSettings],
) -> PlannedDataset:
    """Work out a set of chips without reading a pixel of a scene or writing anything; see `make_dataset`."""
    demo = catalogue == "demo" and settings.get("stac_url") is None
    plain: dict[str, Any] = dict(settings)
    if distance is None:
        distance = CHIP * float(plain.get("resolution", 10.0))

    def request(stac_url: str | None, files: _Files) -> DatasetRequest:
        return DatasetRequest(
            natural=LabelSource.from_file(files.natural, files.natural_where),
            anthropogenic=_statement(files.anthropogenic, anthropogenic_where),
            land_cover=_cover(files, anthropogenic_classes),
            area=_area(bbox, area),
            interval=_interval(datetime, demo),
            catalogue=catalogue,
            bands=tuple(bands),
            sampling=SamplingSettings(
                share=share, distance=distance, count=count, limit_per_polygon=limit_per_polygon, seed=seed
            ),
            min_valid=min_valid,
            **{**plain, "stac_url": stac_url},
        )

    folder = DatasetFolder(output)
    files = _Files(natural, natural_where, anthropogenic, land_cover)
    with _served(demo, files) as (url, found):
        return PlannedDataset(make_plan(checked(lambda: request(url or plain.get("stac_url"), found)), folder), folder)


def make_dataset(
    natural: str | None = None,
    anthropogenic: str | None = None,
    *,
    output: str,
    natural_where: str | None = None,
    anthropogenic_where: str | None = None,
    land_cover: str | None = None,
    anthropogenic_classes: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    area: str | BaseGeometry | None = None,
    datetime: str | None = None,
    catalogue: str = "earth-search",
    bands: Sequence[str] = SENTINEL2_BANDS,
    share: float = SHARE,
    distance: float | None = None,
    count: int = COUNT,
    limit_per_polygon: int = LIMIT,
    seed: int = 0,
    min_valid: float = 0.9,
    runner: Runner | None = None,
    **settings: Unpack[ReadSettings],
) -> BuiltDataset:
    """Make, or resume, a labelled set of chips in AnthroProtect's layout, which every training takes.

    Args:
        natural: GeoPackage, Shapefile, GeoJSON or GeoParquet file whose polygons are natural land.
        anthropogenic: such a file of anthropogenic land.
        output: folder of the set, on a disk that every worker sees; papers go to ``OUTPUT.run`` beside it.
        natural_where: which features, as an SQL expression over their attributes, e.g.
            ``IUCN_CAT in ('Ia','Ib','II')``.
        anthropogenic_where: the same for the other file.
        land_cover: CORINE raster (GeoTIFF, level-3 codes or grid codes); goes with the chips, and states the
            anthropogenic class where no file does.
        anthropogenic_classes: its classes that are anthropogenic, as beginnings of codes; ``1`` and ``2`` (artificial,
            agricultural) if there is no `anthropogenic` file, else none.
        bbox: west, south, east, north in degrees in which chips must lie; everywhere by default.
        area: instead: a country's name, a GeoJSON file, or a polygon in EPSG:4326.
        datetime: days of the composite, ``2020-07-01/2020-08-30``.
        catalogue: where scenes come from; ``demo`` is the embedded country, which has a default for all the rest.
        bands: bands to read; the others of a chip's ten are no data.
        share: of a chip that must lie in its class.
        distance: metres between the middles of two chips at least; a chip's side by default.
        count: chips at most, half of each class.
        limit_per_polygon: chips of one polygon at most.
        seed: names every random draw.
        min_valid: share of a chip that must have data.
        runner: who does the work; None for this process, ``functools.partial(spacex.execution.ray_actors.run_ray,
            workers=8)`` for Ray.
        settings: see `ReadSettings`.

    Returns:
        What came out: `chips`, `counts` by split and class, tiles given up with reasons.

    Raises:
        RequestError: if the request cannot be carried out; nothing was written.

    >>> import spacex
    >>> made = spacex.make_dataset(catalogue="demo", count=4, bands=["B02", "B03", "B04"], output="chips")
    >>> made.complete, len(made.chips)
    (True, 4)
    """
    work = plan_dataset(
        natural, anthropogenic, output=output, natural_where=natural_where, anthropogenic_where=anthropogenic_where,
        land_cover=land_cover, anthropogenic_classes=anthropogenic_classes, bbox=bbox, area=area, datetime=datetime,
        catalogue=catalogue, bands=bands, share=share, distance=distance, count=count,
        limit_per_polygon=limit_per_polygon, seed=seed, min_valid=min_valid, **settings,
    )  # fmt: skip
    return work.run(runner)


@dataclass(frozen=True)
class _Files:
    """Files as given, or the embedded country's."""

    natural: Any
    natural_where: str | None
    anthropogenic: str | None
    land_cover: str | None


@contextmanager
def _served(demo: bool, files: _Files) -> Iterator[tuple[str | None, _Files]]:
    """The embedded catalogue's address while it is searched, and the embedded country's files where none is given."""
    if not demo:
        if files.natural is None:
            raise RequestError("nothing states what is natural", do="Give --natural.")
        yield None, files
        return
    from spacex.synthetic import country

    folder = Path(country.demo_country())
    if files.natural is None:
        files = _Files(str(folder / country.PROTECTED), files.natural_where or country.STRICT,
                       files.anthropogenic, files.land_cover)  # fmt: skip
    if files.anthropogenic is None and files.land_cover is None:
        files = _Files(files.natural, files.natural_where, str(folder / country.LAND_USE),
                       str(folder / country.LAND_COVER))  # fmt: skip
    with serve(folder) as url:
        yield url, files


def _statement(file: str | None, where: str | None) -> LabelSource | None:
    if file is None and where is not None:
        raise RequestError("--anthropogenic-where without --anthropogenic", got=where)
    return None if file is None else LabelSource.from_file(file, where)


def _cover(files: _Files, classes: Sequence[str] | None) -> LandCover | None:
    if files.land_cover is None:
        if classes is not None:
            raise RequestError("--anthropogenic-classes without --land-cover", got=",".join(classes))
        return None
    usual = ANTHROPOGENIC_CLASSES if files.anthropogenic is None else ()
    return LandCover.from_file(files.land_cover, tuple(classes) if classes is not None else usual)


def _area(bbox: Sequence[float] | None, area: str | BaseGeometry | None) -> dict[str, Any] | None:
    if bbox is not None and area is not None:
        raise RequestError("which region", got="both", expected="at most one of bbox and area")
    return None if bbox is None and area is None else dict(mapping(chosen_area(bbox, area)))


def _interval(datetime: str | None, demo: bool) -> tuple[str, str]:
    if datetime is None and not demo:
        raise RequestError("which days", got="no --datetime", expected="e.g. --datetime 2020-07-01/2020-08-30")
    return parse_interval(datetime or DEMO_INTERVAL)

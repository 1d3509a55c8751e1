"""Mapping a region from Python: `plan` says what would be done, `map_region` does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from spacex.areas import box_area, load_area
from spacex.attribution.inference import choose_precision
from spacex.attribution.names import DEFAULT_MAPS
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.errors import RequestError
from spacex.intervals import parse_intervals
from spacex.mapping.plan import Plan
from spacex.mapping.request import MapRequest, chip_settings, parse_request
from spacex.mapping.run import Outcome, Runner, execute, prepare
from spacex.sentinel2.scene_request import CompositeSettings
from spacex.synthetic.archive import demo_archive
from spacex.synthetic.region import DEMO_BBOX, DEMO_INTERVAL
from spacex.synthetic.serving import serve

Box = tuple[float, float, float, float]


class ReadSettings(TypedDict, total=False):
    """Which scenes are read, and how; each has the default of the command `spacex map`."""

    stac_url: str | None
    """Another endpoint that speaks like the catalogue."""
    collection: str | None
    """Another collection of that endpoint."""
    crs: str
    """CRS of the global grid, projected in metres; EPSG:3035."""
    resolution: float
    """Metres per pixel; 10, which networks are trained at."""
    max_cloud_cover: float
    """Percent; cloudier scenes are not used; 60."""
    composite: CompositeSettings
    """Masking, merging and resampling of observations."""


class MapSettings(ReadSettings, total=False):
    """What else `plan` and `map_region` may be told; each has the default of the command `spacex map`."""

    tile_size: int
    """Pixels a side of the unit of work, a multiple of 512; 1024."""
    maps: Sequence[str]
    """Attribution maps, some of ``attribution``, ``lift`` and ``path_attribution``; the first two. The score,
    `naturalness`, is in every cube."""
    stride: int | None
    """Pixels between chips, a multiple of 4; the checkpoint's."""
    path_steps: int
    """Points on the path of the path attribution."""
    precision: str
    """Of the networks' inner layers: ``float32``, ``bfloat16``, or ``auto`` for what the machine is fast at."""
    trust: Sequence[str]
    """Modules whose networks a checkpoint may build; their code runs on every worker."""


@dataclass(frozen=True)
class PlannedMap:
    """A map that could be made: what it takes, and `run` to make it. Nothing is written before that."""

    plan: Plan
    """Tiles, scenes and work."""
    fingerprint: str
    """Names request, checkpoint and code; a cube there already must carry it."""
    output: str
    """Where the cube goes."""
    checkpoint: Checkpoint
    """The networks."""
    device: str = "cpu"
    """Where the networks run."""

    def describe(self) -> dict[str, Any]:
        """What there is to do, as plain numbers: tiles, scenes, chips, bytes."""
        return self.plan.describe(len(self.checkpoint.card.bands))

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
        outcome = execute(self.plan, self.fingerprint, self.output, self.checkpoint, runner or run_local, **how)
        if quicklook is not None:
            from spacex.cube.quicklook import draw
            from spacex.cube.stac import describe_cube

            draw(self.output, quicklook)
            describe_cube(self.output, quicklook)
        return outcome

    def _repr_html_(self) -> str:
        told = self.describe().items()
        rows = "".join(f"<tr><th align=left>{name}</th><td>{value}</td></tr>" for name, value in told)
        return f"<table><caption>{self.output}</caption>{rows}</table>"


def plan(
    bbox: Sequence[float] | None = None,
    *,
    area: str | BaseGeometry | None = None,
    datetime: str | Sequence[str] | None = None,
    output: str = "map.zarr",
    catalogue: str = "earth-search",
    checkpoint: Checkpoint | str | None = None,
    gpu: bool = False,
    grow: bool = False,
    **settings: Unpack[MapSettings],
) -> PlannedMap:
    """Work out a map without reading a pixel or writing anything.

    Args:
        bbox: west, south, east, north in degrees.
        area: instead: a country's name (`spacex.areas.AREAS`), a GeoJSON file, or a polygon in EPSG:4326.
        datetime: days of one time step, ``2020-07-01/2020-08-30``, or a list of them.
        output: where the cube would go: a path or any fsspec URI ending in .zarr.
        catalogue: where scenes come from (`spacex.sentinel2.CATALOGUES`). ``demo`` is the synthetic landscape that
            ships: it needs no network, and box and days have a default there.
        checkpoint: trained networks or their URI; None for the weights that ship, which were trained on the synthetic
            landscape and say nothing reliable about real land.
        gpu: whether the networks will run on a GPU.
        grow: whether a cube already at `output` may take the further days and land; what it holds is kept.
        settings: see `MapSettings`.

    Raises:
        RequestError: if the request cannot be carried out, with what to do about it.

    >>> import spacex
    >>> work = spacex.plan(catalogue="demo", bbox=(24.0, 67.95, 24.02, 67.96), output="none.zarr")
    >>> work.describe()["tiles"]["new"]
    1
    """
    trust = settings.pop("trust", ())
    networks = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, trust=trust)
    demo = catalogue == "demo" and settings.get("stac_url") is None
    if demo and bbox is None and area is None:
        bbox = DEMO_BBOX
    days = [datetime] if isinstance(datetime, str) else list(datetime or ([DEMO_INTERVAL] if demo else []))
    device = "cuda" if gpu else "cpu"
    with _served(demo, settings.get("stac_url")) as stac_url:
        wanted: MapSettings = {**settings, "stac_url": stac_url}
        request = _request(chosen_area(bbox, area), days, catalogue, networks, device, wanted)
        found, fingerprint = prepare(request, output, networks, grow=grow)
    return PlannedMap(found, fingerprint, output, networks, device)


def map_region(
    bbox: Sequence[float] | None = None,
    *,
    area: str | BaseGeometry | None = None,
    datetime: str | Sequence[str] | None = None,
    output: str,
    catalogue: str = "earth-search",
    checkpoint: Checkpoint | str | None = None,
    runner: Runner | None = None,
    quicklook: str | None = None,
    gpu: bool = False,
    grow: bool = False,
    threads: int | None = None,
    **settings: Unpack[MapSettings],
) -> Outcome:
    """Map a region: make or resume the cube at `output`. A bar tells how far it is.

    Args:
        bbox: west, south, east, north in degrees.
        area: instead: a country's name, a GeoJSON file, or a polygon in EPSG:4326.
        datetime: days of one time step, ``2020-07-01/2020-08-30``, or a list of them.
        output: where the cube goes: a path or any fsspec URI ending in .zarr.
        catalogue: where scenes come from; see `plan`.
        checkpoint: trained networks or their URI; None for the weights that ship.
        runner: who does the work; None for this process, ``functools.partial(spacex.execution.ray_actors.run_ray,
            workers=8)`` for Ray.
        quicklook: PNG file to draw when the map is made.
        gpu: whether the networks run on a GPU.
        grow: whether a cube already at `output` may take the further days and land; what it holds is kept.
        threads: of the networks; None leaves them as they are.
        settings: see `MapSettings`.

    Returns:
        What came out: `complete`, tiles given up with reasons, seconds, chips, and the `cube`.

    Raises:
        RequestError: if the request cannot be carried out; nothing was written.

    >>> import spacex
    >>> outcome = spacex.map_region(catalogue="demo", bbox=(24.0, 67.95, 24.02, 67.96), output="lapland.zarr")
    >>> outcome.complete
    True
    """
    where: dict[str, Any] = {"area": area, "datetime": datetime, "output": output, "catalogue": catalogue}
    work = plan(bbox, **where, checkpoint=checkpoint, gpu=gpu, grow=grow, **settings)
    return work.run(runner, quicklook=quicklook, threads=threads)


@contextmanager
def _served(demo: bool, stac_url: str | None) -> Iterator[str | None]:
    """The catalogue's address; the embedded one is served while it is searched."""
    if not demo:
        yield stac_url
        return
    with serve(demo_archive()) as url:
        yield url


def chosen_area(bbox: Sequence[float] | None, area: str | BaseGeometry | None) -> BaseGeometry:
    """The one of both that is given, as a geometry in EPSG:4326; raises RequestError for neither, both, or no box."""
    if (bbox is None) == (area is None):
        raise RequestError("which region", got="both" if bbox else "neither", expected="either bbox or area")
    if bbox is not None:
        if len(bbox) != 4:
            raise RequestError("the bounding box", got=bbox, expected="west, south, east, north")
        return box_area(*bbox)
    return load_area(area) if isinstance(area, str) else area  # type: ignore[return-value]


def _request(
    area: BaseGeometry, days: list[str], catalogue: str, networks: Checkpoint, device: str, settings: MapSettings
) -> MapRequest:
    plain: dict[str, Any] = dict(settings)
    chips = chip_settings(networks.card, tuple(plain.pop("maps", DEFAULT_MAPS)), plain.pop("stride", None))
    composite = plain.pop("composite", CompositeSettings())
    return parse_request(
        area=mapping(area),
        intervals=parse_intervals(days),
        catalogue=catalogue,
        chips=chips,
        composite=lambda: composite,
        precision=choose_precision(plain.pop("precision", "auto"), device),
        **plain,
    )

"""Places that changed: the pixels of a comparison as a GeoTIFF, and the connected ones among them as polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.shutil
import shapely
from rasterio.features import geometry_mask, shapes
from rasterio.windows import Window as RasterWindow

from spacex.changes.difference import PICTURE, SCORE, Block, Comparison, State
from spacex.changes.site_changes import SiteChanges
from spacex.cube.export import COG
from spacex.storage import local_path, publish_file

LAYERS = ("naturalness_before", "change", "standard_error", "exceedance", "state")
"""Bands of the map."""
COLUMNS = ("area_ha", "change", "change_se", "naturalness_before", "exceedance")
"""Attributes of a place."""
MEASURED = (
    "where 10 were asked for, simulated land gave 13 beside fields and 18 to 143 on them, two months of real land 3 to "
    "7 in 7 km²"
)
"""False places per 1,000 km², by `tests/benchmarks/change.py`."""
MEASURED_OF_SCORES = "where 1 was asked for, simulated land gave 0, and where 10 were, 28"
ENDINGS = (".parquet", ".gpkg", ".geojson")
"""Of the file of places."""


@dataclass(frozen=True)
class Changes:
    """What changed between two time steps, and what cannot be told."""

    places: Any
    """A GeoDataFrame with a row per place in the cubes' CRS: `COLUMNS` and the days compared; largest first."""
    areas: dict[str, float]
    """Square kilometres by what is said of them, by the names of `State`."""
    too_small: int
    """Places that changed and are smaller than the smallest area."""
    sites: Any = None
    """A GeoDataFrame with a row per zone, `spacex.changes.site_changes.COLUMNS`; None if no zones were given."""
    doubts: list[str] = field(default_factory=list)
    """What is doubtful, and where the standard error comes from, in sentences."""


def find_changes(
    comparison: Comparison,
    places: str | None,
    map_file: str | None,
    report: Callable[[int], None],
    sites: SiteChanges | None = None,
) -> Changes:
    """Compare, and write what was asked for; files appear only when they are complete.

    Args:
        comparison: the two steps.
        places: file of the places, by its ending one of `ENDINGS`; None for none.
        map_file: GeoTIFF of `LAYERS` at 20 m; None for none.
        report: called with the number of blocks that are done, after each.
        sites: zones to say what changed in; None for none.
    """
    beside = next((local_path(file) for file in (map_file, places) if file is not None), None)
    with TemporaryDirectory(prefix=".change-", dir=None if beside is None else beside.parent) as work:
        raster, mask = f"{work}/map.tif", f"{work}/changed.tif"
        areas = _write_map(comparison, raster, mask, report, sites)
        table, too_small = _table(comparison, raster, mask)
        if map_file is not None:
            rasterio.shutil.copy(raster, f"{work}/cog.tif", driver="COG", **COG)
            publish_file(f"{work}/cog.tif", map_file)
        if places is not None:
            _write_places(table, Path(work) / f"places.{places.rpartition('.')[2].lower()}")
            publish_file(f"{work}/places.{places.rpartition('.')[2].lower()}", places)
    of_sites = None if sites is None else sites.table(table)
    return Changes(table, areas, too_small, of_sites, list(_doubts(comparison, areas)))


def _write_map(
    comparison: Comparison, raster: str, mask: str, report: Callable[[int], None], sites: SiteChanges | None
) -> dict[str, float]:
    """Write the layers, and apart from them where the land changed; gives the areas by state."""
    window, grid = comparison.window, comparison.grid
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": window.height, "width": window.width, "crs": grid.crs,
        "transform": grid.transform(window), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "sparse_ok": True, "compress": "deflate", "bigtiff": "IF_SAFER", "interleave": "band",
    }  # fmt: skip
    counts = np.zeros(len(State), np.int64)
    with (
        rasterio.open(raster, "w", count=len(LAYERS), dtype="float32", nodata=np.nan, **profile) as layers,
        rasterio.open(mask, "w", count=1, dtype="uint8", **profile) as changed,
    ):
        layers.descriptions = LAYERS
        first, last = comparison.earlier.days, comparison.later.days
        layers.update_tags(compared=f"{'/'.join(first)} {'/'.join(last)}", of=comparison.of, software="SpacEX")
        for number, block in enumerate(comparison.blocks(), start=1):
            counts += np.bincount(block.state.ravel(), minlength=len(State))
            here = RasterWindow(
                block.window.col - window.col, block.window.row - window.row, block.window.width, block.window.height
            )
            layers.write(_stack(block), window=here)
            if (is_changed := block.state == State.CHANGED).any():
                changed.write(is_changed.astype(np.uint8), 1, window=here)
            if sites is not None:
                sites.add(block)
            report(number)
    pixel = (grid.resolution / 1000) ** 2
    return {state.name.lower(): float(counts[state] * pixel) for state in State if state is not State.EMPTY}


def _stack(block: Block) -> Any:
    state = np.where(block.state == State.EMPTY, np.nan, block.state).astype(np.float32)
    return np.stack([block.before, block.change, block.error, block.exceedance, state])


def _table(comparison: Comparison, raster: str, mask: str) -> tuple[Any, int]:
    """The places as a GeoDataFrame, and the number of those that are too small."""
    rows, too_small = [], 0
    with rasterio.open(mask) as changed, rasterio.open(raster) as layers:
        # both read from the file, row by row: no more than the polygons are in memory
        band = rasterio.band(changed, 1)
        for shape, _ in shapes(band, mask=band, connectivity=8, transform=changed.transform):
            polygon = shapely.geometry.shape(shape)
            if polygon.area < comparison.least * 1e4:
                too_small += 1
            else:
                rows.append({**_numbers(polygon, layers), "geometry": polygon})
    days = {"from": comparison.earlier.days[0], "to": comparison.later.days[0]}
    columns = [*COLUMNS, "geometry"]
    table = geopandas.GeoDataFrame(rows, columns=columns, geometry="geometry", crs=comparison.grid.crs)
    return table.sort_values("area_ha", ascending=False, ignore_index=True).assign(**days), too_small


def _numbers(polygon: Any, layers: Any) -> dict[str, float]:
    """Means of the map in a polygon. Its pixels share their chips' noise, so the mean is no surer than they are."""
    window = layers.window(*polygon.bounds).round_offsets().round_lengths()
    shape, transform = (int(window.height), int(window.width)), layers.window_transform(window)
    inside = geometry_mask([polygon], shape, transform, invert=True)
    before, change, error, exceedance = (layers.read(band, window=window)[inside] for band in (1, 2, 3, 4))
    # of a place where a step has fewer than two observations no noise is mapped, so that its error stays empty
    means = (float(np.nanmean(p)) if np.isfinite(p).any() else np.nan for p in (change, error, before, exceedance))
    return dict(zip(COLUMNS, (polygon.area / 1e4, *means), strict=True))


def _write_places(table: Any, file: Path) -> None:
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    else:
        table.to_file(file, driver="GPKG" if file.suffix == ".gpkg" else "GeoJSON", engine="pyogrio")


def _doubts(comparison: Comparison, areas: dict[str, float]) -> Iterator[str]:
    """What a reader of the result must know."""
    if comparison.other_networks:
        yield "the cubes were made with different checkpoints: their change of naturalness is one of the networks too"
    if not comparison.noise_is_mapped:
        yield (
            "a step has no map of its noise (--uncertainty pixels): standard errors of naturalness are told from the "
            "sizes of the differences themselves, nine tenths of which lie within their 90 % intervals"
        )
    elif comparison.widening > 1:
        yield (
            f"standard errors of naturalness are {comparison.widening:.1f} times those of the scenes' noise, so that "
            "nine tenths of the land lie within their 90 % intervals: seasons differ too, or much of the land changed"
        )
    areas_left_out = {
        "outside": "unlike the classifier's training chips in a step, not reported",
        "one_step": "without data in one of the steps",
        "unmapped": "not mapped in one of the steps: a tile is not finished, or land lies beyond that cube's area",
        "untold": "with too few observations, or too little data around, to tell the noise",
    }
    for name, what in areas_left_out.items():
        if areas[name] > 0:
            yield f"{areas[name]:,.1f} km² {what}"
    measured = {SCORE: MEASURED_OF_SCORES, PICTURE: MEASURED}.get(comparison.of, f"nothing yet of {comparison.of}")
    yield f"thresholds aim at {comparison.false_alarms:g} false places per 1,000 km²; measured: {measured}"

"""Export a cube as Cloud-Optimised GeoTIFFs, one file per variable and time step.

Blocks are streamed into a sparse, tiled GeoTIFF beside the target, and GDAL's COG driver copies that with overviews
and statistics. So memory does not grow with the cube, and pixels without data take neither time nor disk. Values stay
packed; the band holds scale, offset, unit and no-data value, which QGIS and rasterio (`scales`, `offsets`) apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterWindow
from shapely.geometry.base import BaseGeometry

from spacex.areas import box_area, load_area
from spacex.attribution.names import HIGH, LOW, LOWERED, RAISED
from spacex.cube.levels import crop
from spacex.cube.store import Cube
from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.region import Region
from spacex.settings import RGB
from spacex.storage import local_path, publish_file, write_text

TILE = 512
"""Side of a COG's internal tile in pixels."""
BLOCK = 4 * TILE
"""Side in pixels of the block that is in memory at once."""
CACHE = 256
"""GDAL's block cache in megabytes."""
MOST_OBSERVATIONS = 8
"""Where the colours of the observations end, if their number has no limit."""
COG = {
    "BLOCKSIZE": TILE, "COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEW_RESAMPLING": "AVERAGE",
    "STATISTICS": "YES", "SPARSE_OK": "TRUE", "BIGTIFF": "IF_SAFER",
}  # fmt: skip
"""Options of GDAL's COG driver; DEFLATE rather than ZSTD because every reader supports it."""


@dataclass(frozen=True)
class Layer:
    """One variable at one time step, packed as stored, at the finest level that has it."""

    name: str
    days: tuple[str, str]
    """First and last day, ISO 8601."""
    values: xr.DataArray
    """(y, x) or (bands, y, x), packed, lazily read."""
    grid: Grid
    extent: Window
    """The whole layer on the global grid of its resolution."""

    def read(self, window: Window) -> NDArray[Any]:
        """Stored values of a window, (bands, height, width)."""
        rows, cols = window.slices(self.extent)
        block = np.asarray(self.values.isel(y=rows, x=cols).values)
        return block if block.ndim == 3 else block[None]


def export(
    cube: str | Cube,
    folder: str,
    *,
    variables: Sequence[str] | None = None,
    times: Sequence[str] | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    area: str | BaseGeometry | None = None,
    report: Callable[[str], None] = lambda file: None,
) -> list[str]:
    """Write a cube's maps as Cloud-Optimised GeoTIFFs.

    Args:
        cube: its URI, or the opened cube.
        folder: any fsspec URI, created if missing; the files are named ``<variable>_<first day>_<last day>.tif``.
        variables: which maps; None for all and the composite.
        times: first days of the time steps, e.g. ``2020-07-01``; None for all.
        bbox: west, south, east, north in degrees; the export is the smallest rectangle of the cube's pixels around it.
        area: a country's name, a GeoJSON file or a polygon in EPSG:4326; pixels outside it have no data.
        report: called with each file when it is finished.

    Returns:
        The GeoTIFFs, in the order of variables and time steps; a layer style for QGIS lies beside each. No data is NaN
        in float32 maps, else the band's no-data value.

    Raises:
        RequestError: if there is no such variable or time step, or the window lies outside; nothing is written.
        CubeError: if there is no such cube.

    >>> import spacex
    >>> spacex.export("lapland.zarr", "tif", variables=["naturalness"], bbox=(24.005, 67.953, 24.01, 67.955))
    ['tif/naturalness_2020-07-01_2020-08-31.tif']
    """
    opened = Cube(cube) if isinstance(cube, str) else cube
    if bbox is not None and area is not None:
        raise RequestError("which window", got="a bbox and an area", expected="a bbox or an area, not both")
    mask = load_area(area) if isinstance(area, str) else area
    bounds = mask if bbox is None else box_area(*bbox)
    maps = [*opened.spec.maps, *opened.spec.scores, "observations", "composite"]
    names = _select("variable", opened.uri, variables, maps)
    days = _select("time step", opened.uri, times, [first for first, _ in opened.spec.intervals])
    # every window is computed before the first file is written, so that a wrong one leaves nothing behind
    layers = [(layer, _window(layer, bounds)) for name in names for layer in _layers(opened, name, days)]
    files = []
    for layer, window in layers:
        files.append(_export(layer, window, mask, _tags(opened, layer), folder))
        # colour scales end where the overviews say, which are there once a run has ended
        if opened.published_levels > 1:
            write_text(f"{files[-1].removesuffix('.tif')}.qml", _style(opened, layer))
        report(files[-1])
    return files


def _select(what: str, uri: str, wanted: Sequence[str] | None, known: list[str]) -> list[str]:
    if unknown := [name for name in wanted or () if name not in known]:
        raise RequestError(f"{uri} has no such {what}", got=", ".join(unknown), expected=", ".join(known))
    return list(wanted or known)


def _layers(cube: Cube, name: str, days: list[str]) -> Iterator[Layer]:
    """The layers of one variable, at the finest level that has it: the composite is in the overviews only."""
    for level in range(cube.spec.levels):
        data = xr.open_zarr(cube.uri, group=str(level), chunks=None, mask_and_scale=False, consolidated=False)
        if name in data:
            break
    else:
        raise RequestError(f"{name} is in no level of {cube.uri}", do="The cube is damaged; make it anew.")
    values = crop(data, cube.spec, level)[name]
    grid = Grid(cube.spec.crs, cube.spec.resolution * 2**level)
    # the first coordinates are a pixel's centre, half a pixel from its corner
    left, top = (float(values[axis][0]) / grid.resolution for axis in ("x", "y"))
    extent = Window(round(-top - 0.5), round(left - 0.5), values.sizes["y"], values.sizes["x"])
    for step, interval in enumerate(cube.spec.intervals):
        if interval[0] in days:
            yield Layer(name, interval, values.isel(time=step), grid, extent)


def _window(layer: Layer, area: BaseGeometry | None) -> Window:
    """The layer's pixels to export: the smallest window around the area, in the layer's CRS."""
    if area is None:
        return layer.extent
    bounds = Region(area, layer.grid).outline.bounds
    window = layer.grid.window(*bounds).intersect(layer.extent)
    if window.empty:
        box = layer.grid.geobox(layer.extent).geographic_extent.boundingbox
        raise RequestError(
            "the window lies outside the cube",
            got=tuple(round(value, 3) for value in area.bounds),
            expected=f"some of {tuple(round(value, 3) for value in box)} (west, south, east, north)",
        )
    return window


def _export(layer: Layer, window: Window, mask: BaseGeometry | None, tags: dict[str, str], folder: str) -> str:
    """Write one layer to one file, which appears only when it is complete."""
    local, target = local_path(folder), f"{folder.rstrip('/')}/{layer.name}_{'_'.join(layer.days)}.tif"
    if local is not None:
        local.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=local) as work, rasterio.Env(GDAL_CACHEMAX=CACHE):
        sparse, finished = f"{work}/sparse.tif", f"{work}/cog.tif"
        _stream(layer, window, mask, tags, sparse)
        rasterio.shutil.copy(sparse, finished, driver="COG", **COG)
        publish_file(finished, target)
        return target


def _stream(layer: Layer, window: Window, mask: BaseGeometry | None, tags: dict[str, str], file: str) -> None:
    """Write a window as a sparse GeoTIFF, block by block; blocks that hold no data at all are left out."""
    attributes, floating = layer.values.attrs, layer.values.dtype.kind == "f"
    banded = layer.values.ndim == 3
    bands = layer.values[layer.values.dims[0]].values.tolist() if banded else [attributes["long_name"]]
    stored = nodata = np.nan if floating else attributes.get("_FillValue", 0)
    if attributes.get("add_offset", 0) and not floating:
        # QGIS compares decoded values with it: where 0 is a value, 0 cannot stand for no data
        nodata = np.iinfo(layer.values.dtype).max
    region = None if mask is None else Region(mask, layer.grid)
    with rasterio.open(
        file, "w", driver="GTiff", dtype=layer.values.dtype, count=len(bands), nodata=nodata,
        height=window.height, width=window.width, crs=str(layer.grid.crs), transform=layer.grid.transform(window),
        tiled=True, blockxsize=TILE, blockysize=TILE, sparse_ok=True, bigtiff="IF_SAFER", interleave="band",
        compress="LZW",
    ) as target:  # fmt: skip
        target.scales = [float(attributes.get("scale_factor", 1.0))] * len(bands)
        target.offsets = [float(attributes.get("add_offset", 0.0))] * len(bands)
        target.units = [str(attributes.get("units", "1"))] * len(bands)
        target.descriptions = bands
        colours = dict(zip(RGB, (ColorInterp.red, ColorInterp.green, ColorInterp.blue), strict=True))
        # other bands beside red, green and blue have no colour, and a picture without all three is grey
        rest = ColorInterp.undefined if {*RGB} <= {*bands} else ColorInterp.gray
        target.colorinterp = [colours.get(band, rest) if {*RGB} <= {*bands} else rest for band in bands]
        target.update_tags(**tags)
        corners = product(range(window.row, window.stop_row, BLOCK), range(window.col, window.stop_col, BLOCK))
        for block in (Window(row, col, BLOCK, BLOCK).intersect(window) for row, col in corners):
            values = layer.read(block)
            if not floating:
                values = np.where(values == stored, np.asarray(nodata, values.dtype), values)
            if region is not None:
                values = np.where(region.inside(block), values, np.asarray(nodata, values.dtype))
            if not (np.isnan(values) if floating else values == nodata).all():
                row, col = block.row - window.row, block.col - window.col
                target.write(values, window=RasterWindow(col, row, block.width, block.height))


def _style(cube: Cube, layer: Layer) -> str:
    """The layer's colours in the quicklook, as a style for QGIS."""
    from spacex.cube.layer_style import map_style, picture_style  # with matplotlib, which a refusal need not wait for
    from spacex.cube.quicklook import colour_scale

    if layer.values.ndim == 3:
        return picture_style(layer.values[layer.values.dims[0]].values.tolist())
    if layer.name == "observations":
        most = cube.attributes.get("request", {}).get("composite", {}).get("max_observations")
        return map_style("viridis", float(most or MOST_OBSERVATIONS))
    name = "naturalness" if layer.name in (RAISED, LOWERED, LOW, HIGH) else layer.name
    return map_style(*colour_scale(cube, name, cube.spec.intervals.index(layer.days)))


def _tags(cube: Cube, layer: Layer) -> dict[str, str]:
    """A file's tags: what the layer is, how the cube was made, and under which licence."""
    names = ("title", "source", "references", "license", "attribution", "spacex_code")
    tags = {name: str(cube.attributes[name]) for name in names if name in cube.attributes}
    attributes, (first, last) = layer.values.attrs, layer.days
    description = f"{attributes['long_name']}, {first} to {last}. {attributes.get('comment', '')}".strip()
    tags |= {"TIFFTAG_IMAGEDESCRIPTION": description, "time": f"{first}/{last}"}
    return {**tags, "fingerprint": cube.fingerprint, "software": "SpacEX"}

"""A cube as Cloud-Optimised GeoTIFFs, one file per variable and time step: what every GIS opens.

GDAL does the work. Chunks stream into a sparse, tiled GeoTIFF beside the target, block by block, and GDAL's COG
driver copies that: internal tiles, overviews down to one tile, statistics. So memory does not grow with the cube,
and land that was never mapped takes neither time nor disk. Values stay packed as they are stored, with the band's
scale, offset, unit and no-data value beside them; QGIS and rasterio (`scales`, `offsets`) apply them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from spacex.cube.levels import crop
from spacex.cube.store import Cube
from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.region import Region
from spacex.storage import local_path, publish_file

TILE = 512
"""Side of a COG's internal tile in pixels."""
BLOCK = 4 * TILE
"""Side of the square that is in memory at once."""
CACHE = 256
"""Megabytes GDAL may keep of the files it works on."""
COG = {
    "BLOCKSIZE": TILE, "COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEW_RESAMPLING": "AVERAGE",
    "STATISTICS": "YES", "SPARSE_OK": "TRUE", "BIGTIFF": "IF_SAFER",
}  # fmt: skip
"""GDAL's COG driver; DEFLATE rather than ZSTD because every reader knows it."""


@dataclass(frozen=True)
class Layer:
    """One variable at one time step, as it is stored, on its own pixels."""

    name: str
    first: str
    last: str
    """First and last day, ISO 8601."""
    values: xr.DataArray
    """(y, x) or (band, y, x), packed, lazily read."""
    grid: Grid
    extent: Window
    """The whole layer on the global grid of its resolution."""

    @property
    def file(self) -> str:
        """The layer's file name."""
        return f"{self.name}_{self.first}_{self.last}.tif"

    @property
    def bands(self) -> list[str]:
        """A description per band."""
        names = self.values["band"].values if "band" in self.values.dims else [self.values.attrs["long_name"]]
        return [str(name) for name in names]

    def read(self, window: Window) -> NDArray[Any]:
        """(bands, height, width) stored values of a part of the layer."""
        rows, cols = window.slices(self.extent)
        block = np.asarray(self.values.isel(y=rows, x=cols).values)
        return block if block.ndim == 3 else block[None]


def export(
    cube: str,
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
        cube: URI of the cube.
        folder: gets ``<variable>_<first day>_<last day>.tif``; made if it is not there, any fsspec URI.
        variables: which maps; None for all, the composite (from the finest level that keeps it) included.
        times: first days of the time steps wanted, e.g. ``2020-07-01``; None for all.
        bbox: west, south, east, north in degrees: the pixels around this box, a rectangle in the cube's CRS.
        area: a country's name, a GeoJSON file or a polygon in EPSG:4326: pixels outside it have no data.
        report: called with each file when it is finished.

    Returns:
        The files, in the order of variables and time steps; float32 maps have NaN where there is no data, packed
        ones the band's no-data value, scale and offset.

    Raises:
        RequestError: if there is no such cube, variable or time step, or the window lies outside; nothing is written.

    >>> import spacex
    >>> spacex.export("lapland.zarr", "tif", variables=["naturalness"], bbox=(24.005, 67.953, 24.01, 67.955))
    ['tif/naturalness_2020-07-01_2020-08-31.tif']
    """
    opened, cut = Cube(cube), _cut(bbox, area)
    chosen = [
        (layer, _window(layer, cut)) for name in _names(cube, opened, variables)
        for layer in _layers(cube, opened, name, times)
    ]  # fmt: skip
    mask = cut if area is not None else None
    tags = _tags(opened)
    files = []
    for layer, window in chosen:
        files.append(_export(layer, window, mask, tags, folder))
        report(files[-1])
    return files


def _names(uri: str, cube: Cube, wanted: Sequence[str] | None) -> list[str]:
    known = [*cube.spec.maps, *cube.spec.scores, "observations", "composite"]
    if unknown := [name for name in wanted or () if name not in known]:
        raise RequestError(f"{uri} has no such variable", got=", ".join(unknown), expected=", ".join(known))
    return list(wanted or known)


def _layers(uri: str, cube: Cube, name: str, times: Sequence[str] | None) -> Iterator[Layer]:
    days = [first for first, _ in cube.spec.intervals]
    if unknown := [day for day in times or () if day not in days]:
        raise RequestError(f"{uri} has no such time step", got=", ".join(unknown), expected=", ".join(days))
    level, variable = _finest(uri, cube, name)
    grid = Grid(cube.spec.crs, cube.spec.resolution * 2**level)
    left, top = (float(variable[axis][0]) / grid.resolution for axis in ("x", "y"))  # of the first pixel's centre
    extent = Window(round(-top - 0.5), round(left - 0.5), variable.sizes["y"], variable.sizes["x"])
    for step, (first, last) in enumerate(cube.spec.intervals):
        if times is None or first in times:
            yield Layer(name, first, last, variable.isel(time=step), grid, extent)


def _finest(uri: str, cube: Cube, name: str) -> tuple[int, xr.DataArray]:
    """The variable, packed, at the finest level that has it (the composite is kept in overviews only)."""
    for level in range(cube.spec.levels):
        data = xr.open_zarr(uri, group=str(level), chunks=None, mask_and_scale=False, consolidated=False)
        if name in data:
            return level, crop(data, cube.spec, level)[name]
    raise RequestError(f"{name} is in no level of {uri}", do="The cube is damaged; make it anew.")


def _cut(bbox: tuple[float, float, float, float] | None, area: str | BaseGeometry | None) -> BaseGeometry | None:
    if bbox is not None and area is not None:
        raise RequestError("which window", got="both", expected="a bbox or an area, not both")
    if bbox is not None:
        return box_area(*bbox)
    return load_area(area) if isinstance(area, str) else area


def _window(layer: Layer, cut: BaseGeometry | None) -> Window:
    """The layer's pixels to export."""
    if cut is None:
        return layer.extent
    bounds = Region(cut, layer.grid).outline.bounds
    window = layer.grid.window(*bounds).intersect(layer.extent)
    if window.empty:
        box = layer.grid.geobox(layer.extent).geographic_extent.boundingbox
        raise RequestError(
            "the window lies outside the cube",
            got=tuple(round(value, 3) for value in cut.bounds),
            expected=f"some of {tuple(round(value, 3) for value in box)} (west, south, east, north)",
        )
    return window


def _export(layer: Layer, window: Window, mask: BaseGeometry | None, tags: dict[str, str], folder: str) -> str:
    """One layer to one file; readers see the whole of it or nothing."""
    here, target = local_path(folder), f"{folder.rstrip('/')}/{layer.file}"
    if here is not None:
        here.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=here) as work, rasterio.Env(GDAL_CACHEMAX=CACHE):
        sparse, finished = f"{work}/sparse.tif", f"{work}/cog.tif"
        _stream(layer, window, mask, tags, sparse)
        rasterio.shutil.copy(sparse, finished, driver="COG", **COG)
        publish_file(finished, target)
        return target


def _stream(layer: Layer, window: Window, mask: BaseGeometry | None, tags: dict[str, str], file: str) -> None:
    """The window as a sparse GeoTIFF, block by block; blocks of nothing but no data are never written."""
    attributes, bands = layer.values.attrs, layer.bands
    nodata = attributes.get("_FillValue", 0)
    nodata = np.nan if layer.values.dtype.kind == "f" else nodata
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
        target.colorinterp = _colours(len(bands))
        target.update_tags(**tags, TIFFTAG_IMAGEDESCRIPTION=_sentence(layer), time=f"{layer.first}/{layer.last}")
        for block in _blocks(window):
            values = layer.read(block)
            if region is not None:
                values = np.where(region.inside(block), values, np.asarray(nodata, values.dtype))
            if not (np.isnan(values) if values.dtype.kind == "f" else values == nodata).all():
                row, col = block.row - window.row, block.col - window.col
                target.write(values, window=RasterWindow(col, row, block.width, block.height))


def _blocks(window: Window) -> Iterator[Window]:
    for row in range(window.row, window.stop_row, BLOCK):
        for col in range(window.col, window.stop_col, BLOCK):
            yield Window(row, col, BLOCK, BLOCK).intersect(window)


def _colours(bands: int) -> list[ColorInterp]:
    return [ColorInterp.red, ColorInterp.green, ColorInterp.blue] if bands == 3 else [ColorInterp.gray] * bands


def _sentence(layer: Layer) -> str:
    attributes = layer.values.attrs
    return f"{attributes['long_name']}, {layer.first} to {layer.last}. {attributes.get('comment', '')}".strip()


def _tags(cube: Cube) -> dict[str, str]:
    """What made the map and on what terms, in every file."""
    names = ("title", "source", "references", "license", "attribution", "spacex_code")
    known = {name: str(cube.attributes[name]) for name in names if name in cube.attributes}
    return {**known, "fingerprint": cube.fingerprint, "software": "SpacEX"}


__all__ = ["Layer", "export"]

"""A CORINE raster on the pixels of a cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from spacex.datasets.corine import corine_codes
from spacex.errors import DataError
from spacex.rasters import open_raster


@dataclass(frozen=True)
class Cover:
    """A CORINE raster on a cube's pixels."""

    file: str
    geobox: GeoBox
    """The cube's pixels."""
    nested: bool
    """True if cells are whole blocks of pixels, so that nothing is resampled."""
    crs: str

    @property
    def how(self) -> str:
        """How classes were brought to pixels, for the report."""
        if self.nested:
            return "every CORINE cell is a whole block of the cube's pixels; nothing was resampled"
        return f"classes were brought from {self.crs} to the cube's pixels by nearest neighbour"

    def read(self, rows: slice, cols: slice) -> NDArray[np.uint16]:
        """Three-digit codes of a block of the cube's pixels, 0 where there are none.

        Where cells are whole blocks of pixels, nearest neighbour repeats them: a pixel's centre is never on an edge.
        """
        box = self.geobox[rows, cols]
        with open_raster(self.file) as source:
            target = {"crs": str(box.crs), "transform": box.affine, "width": box.shape.x, "height": box.shape.y}
            target |= {"src_nodata": 0 if source.nodata is None else source.nodata, "nodata": 0, "dtype": "int32"}
            with WarpedVRT(source, **target, resampling=Resampling.nearest) as warped:
                return corine_codes(warped.read(1))


def open_cover(file: str, geobox: GeoBox) -> Cover:
    """Open a CORINE raster, and decide how its cells are brought to the cube's pixels.

    Raises:
        DataError: if it cannot be read, has no CRS, or does not touch the cube.
    """
    try:
        with open_raster(file) as source:
            if source.crs is None:
                raise DataError(f"{file} has no CRS", do="Take the EEA's own GeoTIFF (EPSG:3035).")
            same = source.crs == rasterio.crs.CRS.from_user_input(str(geobox.crs))
            nested = same and _nests(source.transform, geobox.affine)
            cover = Cover(file, geobox, nested, str(source.crs))
            bounds = rasterio.warp.transform_bounds(source.crs, str(geobox.crs), *source.bounds)
    except RasterioError as error:
        raise DataError(f"{file} cannot be read as a land-cover raster", got=error) from error
    box = geobox.boundingbox
    if bounds[0] >= box.right or bounds[2] <= box.left or bounds[1] >= box.top or bounds[3] <= box.bottom:
        raise DataError(
            f"{file} does not touch the cube",
            got=f"{[round(v) for v in bounds]} in the cube's CRS",
            expected=f"some of {[round(v) for v in box]}",
        )
    return cover


def _nests(coarse: Affine, fine: Affine) -> bool:
    """Whether each coarse cell is a whole block of fine pixels: not rotated, multiple size, edges on edges."""
    # from the coarse raster's columns and rows to the fine one's
    scale_x, shear_x, shift_x, shear_y, scale_y, shift_y, *_ = ~fine * coarse
    whole = all(abs(value - round(value)) < 1e-6 for value in (scale_x, scale_y, shift_x, shift_y))
    return whole and max(abs(shear_x), abs(shear_y)) < 1e-6 and min(scale_x, scale_y) >= 1

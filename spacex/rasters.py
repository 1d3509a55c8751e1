"""The one way a raster from outside is opened: as one of the formats Sentinel-2 comes in, and alone.

GDAL knows some two hundred formats and goes by a file's content, not by its name. Some of them name other files
(VRT and its relatives: any file of this machine), some run programs. And beside a plain GeoTIFF it reads
whatever lies there by a fitting name: masks, overviews, ``.aux.xml``. None of that is wanted from a stranger.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.session import Session

FORMATS = ("GTiff", "JP2OpenJPEG")
"""GDAL drivers that may open a file: GeoTIFF (COGs are such) and JPEG 2000."""

PICTURES = ("PNG", "JPEG", "GTiff")
"""Those that may open an ordinary picture of a data set."""

SINGLE: dict[str, str] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no masks or overviews beside it; over HTTP one request per file
    "GDAL_PAM_ENABLED": "NO",  # no .aux.xml, neither read nor written
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # with it, the missing end of a PNG is read as arbitrary bytes without an error
}
"""GDAL configuration that keeps a file by itself, and reports damage. The environment does not override it."""

# pictures and AnthroProtect's tiles have no georeference, and nothing here needs theirs
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=r"spacex\.rasters")

MAX_BLOCK = 64 * 2**20
"""Bytes of a block of all bands, unpacked; COGs have 0.5 to 8 MB. A block is the least that can be read."""


@contextmanager
def open_raster(
    path: str | Path,
    session: Session | None = None,
    options: Mapping[str, str] | None = None,
    formats: Sequence[str] = FORMATS,
) -> Iterator[Any]:
    """Opens a file, or an address GDAL can read from, with one of the drivers `formats`.

    The credentials in `session` and the GDAL configuration `options` hold within the block.

    Raises:
        RasterioError: if it cannot be read, is of any other format, or claims blocks larger than `MAX_BLOCK`.
    """
    with (
        rasterio.Env(session=session, **{**(options or {}), **SINGLE}),
        # rasterio.open takes a single driver; the class behind it takes a list, and GDAL tries no other
        DatasetReader(path, driver=list(formats), sharing=False) as source,
    ):
        _check_blocks(source)
        yield source


def _check_blocks(source: Any) -> None:
    for (rows, cols), dtype in zip(source.block_shapes, source.dtypes, strict=True):
        size = rows * cols * np.dtype(dtype).itemsize * source.count
        if size > MAX_BLOCK:
            raise RasterioIOError(f"blocks of {cols} x {rows} pixels, more than {MAX_BLOCK >> 20} MB each")

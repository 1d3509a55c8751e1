"""Only GeoTIFF and JPEG 2000 are opened, alone, whatever a file calls itself."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin

from spacex.datasets.anthroprotect import read_land_cover
from spacex.datasets.corine_cover import open_cover
from spacex.datasets.tiles import inspect, read_chip
from spacex.errors import DataError
from spacex.evaluation.samples import _read_truth
from spacex.grid import Grid, Window
from spacex.rasters import open_raster

SECRET = 4242


def write(path: Path, driver: str = "GTiff", count: int = 1, side: int = 256, **options) -> Path:
    profile = {"height": side, "width": side, "count": count, "dtype": "uint16", "crs": "EPSG:3035",
               "transform": from_origin(4_900_000, 5_000_000, 10, 10)}  # fmt: skip
    with rasterio.open(path, "w", driver=driver, **{**profile, **options}) as file:
        file.write(np.full((count, side, side), SECRET, "u2"))
    return path


@pytest.fixture
def disguised(tmp_path: Path) -> Path:
    """A file called .tif that is a VRT naming another file of this machine."""
    secret = write(tmp_path / "secret.tif", count=10)
    vrt = tmp_path / "chip.tif"
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{n}"><SimpleSource><SourceFilename>{secret}</SourceFilename>'
        f"<SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
        for n in range(1, 11)
    )
    vrt.write_text(f'<VRTDataset rasterXSize="256" rasterYSize="256">{bands}</VRTDataset>')
    with rasterio.open(vrt) as source:
        assert source.read(1)[0, 0] == SECRET  # plain rasterio falls for it
    return vrt


def test_a_vrt_in_disguise_is_refused_everywhere(disguised: Path) -> None:
    with pytest.raises(RasterioIOError, match="not recognized"), open_raster(disguised):
        pass
    with pytest.raises(DataError, match="not recognized"):
        read_chip(disguised, ["B02"])
    assert "not recognized" in str(inspect(disguised, 10, 256))
    with pytest.raises(DataError, match="not recognized"):
        read_land_cover(disguised)
    with pytest.raises(DataError, match="not recognized"):
        _read_truth(disguised)
    with pytest.raises(DataError, match="not recognized"):
        open_cover(str(disguised), Grid().geobox(Window(-500_000, 490_000, 64, 64)))


@pytest.mark.parametrize("driver", ["PNG", "HFA", "ENVI"])
def test_other_formats_are_refused(tmp_path: Path, driver: str) -> None:
    write(tmp_path / "plain.img", driver)
    with pytest.raises(RasterioIOError), open_raster(tmp_path / "plain.img"):
        pass


@pytest.mark.parametrize("driver", ["GTiff", "COG", "JP2OpenJPEG"])
def test_what_sentinel_2_comes_in_is_read(tmp_path: Path, driver: str) -> None:
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver.startswith("JP2") else {}
    with open_raster(write(tmp_path / "x", driver, **lossless)) as source:
        assert (source.read(1) == SECRET).all()


def test_files_beside_it_are_not_looked_at(tmp_path: Path) -> None:
    """A mask, an overview and metadata that lie beside a plain file change nothing."""
    path = write(tmp_path / "plain.tif")
    write(tmp_path / "plain.tif.msk", side=256)
    write(tmp_path / "plain.tif.ovr", side=128)
    (tmp_path / "plain.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>4242</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    with rasterio.open(path) as naive:
        assert naive.nodata == SECRET
    with open_raster(path) as source:
        assert source.nodata is None
        assert source.overviews(1) == []
        assert source.files == [str(path)]


def test_blocks_that_would_fill_the_memory_are_refused_by_the_header(tmp_path: Path) -> None:
    path = tmp_path / "block.tif"
    size = 90_112  # 16 GB in one block
    with rasterio.open(
        path, "w", driver="GTiff", height=size, width=size, count=1, dtype="uint16", tiled=True, blockxsize=size,
        blockysize=size, SPARSE_OK="TRUE",
    ):  # fmt: skip
        pass
    code = f"""
import resource
from spacex.rasters import open_raster
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with open_raster({str(path)!r}):
        print("opened")
except Exception as error:
    print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    limit = (4 << 30, 4 << 30)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))  # fmt: skip
    assert "more than 64 MB each" in done.stdout
    assert int(done.stdout.split()[-1]) < 100_000  # KiB


def test_a_tile_of_another_size_is_no_truth(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="300 x 300"):
        _read_truth(write(tmp_path / "large.tif", side=300))
    with pytest.raises(DataError, match="300 x 300"):
        read_land_cover(write(tmp_path / "cover.tif", side=300, count=4))

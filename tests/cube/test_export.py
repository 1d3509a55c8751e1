"""The GeoTIFFs hold the cube's values on the cube's pixels, are COGs to GDAL's own validator, and stream."""

import subprocess
import sys

import fsspec
import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import Polygon

from spacex.commands.app import invoke
from spacex.commands.export import app
from spacex.cube.export import export
from spacex.cube.store import Cube, create_cube
from spacex.errors import RequestError
from spacex.execution.tasks import Status, TileTask

from .conftest import SPEC, fill

TASK = TileTask(1, -859, 899)
"""Its pixels are rows 192 to 703 and columns 288 to 799 of the extent, which has 700 rows."""
CORNER = rasterio.Affine(10, 0, 4_600_000, 0, -10, 4_400_000)


def values_of(file):
    """Unpacked values, NaN = no data, by nothing but rasterio."""
    with rasterio.open(file) as source:
        packed = source.read(1, masked=True)
        return (packed * source.scales[0] + source.offsets[0]).astype("f4").filled(np.nan)


def test_every_map_and_step_is_a_valid_cog_with_the_cubes_values(cube, tmp_path):
    tile = fill(cube, TASK)
    files = export(cube.uri, str(tmp_path / "tif"))
    names = ["attribution", "naturalness", "observations", "composite"]
    steps = ["2020-07-01_2020-08-30", "2021-07-01_2021-08-30"]
    assert [file.rsplit("/", 1)[1] for file in files] == [f"{name}_{step}.tif" for name in names for step in steps]
    for file in files:
        valid, errors, warnings = cog_validate(file, strict=True, quiet=True)
        assert valid, (file, errors, warnings)
    here = np.s_[192:700, 288:800]
    for file, name, tolerance in ((files[1], "attribution", 0.0005), (files[3], "naturalness", 0.0021)):
        found = values_of(file)
        assert found.shape == (700, 1100)
        np.testing.assert_allclose(found[here], tile.maps[name][:508], atol=tolerance)
        assert np.isnan(np.delete(found, np.s_[288:800], axis=1)).all()
        assert np.isnan(found[:192]).all()
    with rasterio.open(files[1]) as source:
        assert source.crs.to_epsg() == 3035
        assert source.transform[:6] == (10, 0, 4_600_000, 0, -10, 4_400_000)
        assert source.descriptions == ("attribution",)
        assert source.tags()["license"] == "CC-BY-4.0"
        assert source.tags()["time"] == "2021-07-01/2021-08-30"
        assert "how it was made" in source.tags()["TIFFTAG_IMAGEDESCRIPTION"]
        mean = float(source.tags(1)["STATISTICS_MEAN"])
        assert mean == pytest.approx(float(np.nanmean(tile.maps["attribution"][:508])), rel=1e-3)
    with rasterio.open(files[3]) as source:
        assert (source.nodata, source.scales, source.offsets) == (255, (0.004,), (-0.004,))


def test_overviews_are_means_of_the_valid_pixels_down_to_one_tile(cube, tmp_path):
    tile = fill(cube, TASK)
    (file,) = export(cube.uri, str(tmp_path), variables=["attribution"], times=["2021-07-01"])
    with rasterio.open(file) as source:
        factors = source.overviews(1)
        assert max(source.width, source.height) / factors[-1] <= 512
    with rasterio.open(file, overview_level=0) as coarse:
        got = coarse.read(1)[96:350, 144:400]
    block = tile.maps["attribution"][6:8, 8:10]  # three of its four pixels are valid
    assert np.isnan(block).sum() == 1
    assert got[3, 4] == pytest.approx(float(np.nanmean(block)), rel=1e-3)
    assert np.isnan(got[0, 0])


def test_the_composite_is_a_picture_in_colours(cube, tmp_path):
    tile = fill(cube, TASK)
    (file,) = export(cube.uri, str(tmp_path), variables=["composite"], times=["2021-07-01"])
    with rasterio.open(file) as source:
        assert source.descriptions == ("B04", "B03", "B02")
        assert [colour.name for colour in source.colorinterp] == ["red", "green", "blue"]
        # kept from the first overview on: two by two pixels
        assert source.transform[:6] == (20, 0, 4_600_000, 0, -20, 4_400_000)
        got = source.read()[:, 96 + 10, 144 + 20] * source.scales[0]
    np.testing.assert_allclose(got, tile.composite[:, 20:22, 40:42].mean(axis=(1, 2)), atol=1e-4)


def test_generated_pictures_name_their_bands_and_colours(tmp_path):
    about = {"maps": {"x_plus": "how x+ was made"}, "bands": ("B02", "B03", "B04", "B08")}
    cube = create_cube(str(tmp_path / "c.zarr"), SPEC.model_copy(update=about), "0123", {"title": "test"})
    picture = np.random.default_rng(0).random((4, 512, 512), dtype=np.float32)
    tile = fill(cube, TASK, further={"x_plus": picture})
    (file,) = export(cube.uri, str(tmp_path), variables=["x_plus"], times=["2021-07-01"])
    with rasterio.open(file) as source:
        assert source.descriptions == ("B02", "B03", "B04", "B08")
        assert [colour.name for colour in source.colorinterp] == ["blue", "green", "red", "undefined"]
        got = source.read()[:, 192 + 10, 288 + 20] * source.scales[0]
    np.testing.assert_allclose(got, tile.maps["x_plus"][:, 10, 20], atol=5.1e-5)


def test_a_box_gives_its_pixels_and_a_polygon_only_those_inside(cube, tmp_path):
    fill(cube, TASK)
    whole = values_of(export(cube.uri, str(tmp_path / "all"), variables=["attribution"], times=["2021-07-01"])[0])
    # the tile spans x 4 602 880 .. 4 608 000, y 4 392 960 .. 4 398 080; a triangle in its middle
    metres = [(4_604_000, 4_395_000), (4_606_000, 4_395_000), (4_605_000, 4_397_000)]
    to_degrees = pyproj.Transformer.from_crs(3035, 4326, always_xy=True)
    triangle = Polygon([to_degrees.transform(*point) for point in metres])
    wanted = {"variables": ["attribution"], "times": ["2021-07-01"]}
    (inside,) = export(cube.uri, str(tmp_path / "polygon"), area=triangle, **wanted)
    (around,) = export(cube.uri, str(tmp_path / "box"), bbox=triangle.bounds, **wanted)
    for file in (inside, around):
        assert cog_validate(file, quiet=True)[0]
        with rasterio.open(file) as source:
            col, row = (round(v) for v in (~CORNER @ source.transform) @ (0, 0))
            found, part = values_of(file), np.s_[row : row + source.height, col : col + source.width]
        known = np.isfinite(found)
        np.testing.assert_array_equal(found[known], whole[part][known])
    assert np.isfinite(values_of(around)).all()
    # half of 2000 m x 2000 m, in pixels of 100 m²
    assert np.isfinite(values_of(inside)).sum() == pytest.approx(20_000, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variables": ["ndvi"]}, "no such variable"),
        ({"times": ["2019-07-01"]}, "no such time step"),
        ({"bbox": (20.0, 60.0, 21.0, 61.0)}, "outside the cube"),
        ({"bbox": (4.0, 51.0, 5.0, 52.0), "area": "finland"}, "not both"),
    ],
)
def test_a_wrong_request_writes_nothing(cube, tmp_path, wrong, message):
    with pytest.raises(RequestError, match=message):
        export(cube.uri, str(tmp_path / "tif"), **wrong)
    assert not (tmp_path / "tif").exists()


def test_it_goes_to_any_store(cube):
    fill(cube, TASK)
    (file,) = export(cube.uri, "memory://export/tif", variables=["naturalness"], times=["2021-07-01"])
    with fsspec.open(file, "rb") as stored, rasterio.MemoryFile(stored.read()) as memory, memory.open() as source:
        assert source.count == 1
        assert source.shape == (700, 1100)


def test_memory_does_not_grow_with_the_cube(tmp_path):
    """400 million pixels, 1.6 GB as float32, one tile of them mapped: a quarter of that must do."""
    uri = str(tmp_path / "large.zarr")
    create_cube(uri, SPEC.model_copy(update={"extent": (-440_000, 420_000, 20_000, 30_000)}), "0", {})
    fill(Cube(uri), TileTask(0, -839, 850))
    code = (
        "import sys, resource; from spacex.cube.export import export\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "export(sys.argv[1], sys.argv[2], variables=['attribution'], times=['2020-07-01'])\n"
        "print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    out = subprocess.run([sys.executable, "-c", code, uri, str(tmp_path)], capture_output=True, text=True, check=True)
    before, after = (int(word) / 1024 for word in out.stdout.split())
    assert after - before < 400, f"{before:.0f} to {after:.0f} MiB"
    file = next(tmp_path.glob("*.tif"))
    assert file.stat().st_size < 3_000_000
    with rasterio.open(file) as source:
        assert np.isfinite(source.read(1, window=((10_432, 10_944), (15_200, 15_712)))).sum() == 512 * 512 - 63
    assert xr.open_zarr(uri, group="0", chunks=None).sizes["time"] == 2


def test_the_command_prints_its_files_and_refuses_in_one_line(cube, tmp_path, capsys):
    fill(cube, TASK)
    folder = str(tmp_path / "tif")
    wanted = ["--variables", "naturalness", "--datetime", "2021-07-01", "--bbox", "15.43,62.54,15.48,62.57"]
    assert invoke(app, [cube.uri, folder, *wanted]) == 0
    assert capsys.readouterr().out.split() == [f"{folder}/naturalness_2021-07-01_2021-08-30.tif"]
    assert invoke(app, [cube.uri, str(tmp_path / "none"), "--variables", "ndvi"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "none").exists()


def test_the_command_says_what_is_not_finished(cube, tmp_path, capsys):
    statuses = cube.statuses()
    statuses[:] = Status.DONE
    statuses[1, 0, 0], statuses[0, 0, 0] = Status.FAILED, Status.PENDING
    cube.mark(statuses)
    words = [cube.uri, str(tmp_path / "tif"), "--variables", "naturalness"]
    assert invoke(app, words) == 0
    assert "2 tiles of the cube are not finished" in capsys.readouterr().err
    assert invoke(app, [*words, "--datetime", "2021-07-01"]) == 0
    assert "1 tiles of the cube are not finished" in capsys.readouterr().err

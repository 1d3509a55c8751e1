"""Class statistics of small cubes against a plain group-by."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.warp
from known_cube import tile_of
from rasterio.transform import from_origin

from spacex.cube.layout import CubeSpec
from spacex.cube.store import create_cube
from spacex.datasets.corine import CODES, GRID_CODES
from spacex.errors import CubeError, DataError
from spacex.evaluation import landcover
from spacex.evaluation.cube_report import compare_cube
from spacex.execution.tasks import TileTask

ROW, COL, SIDE = -440_000, 460_000, 600  # 10 m pixels of EPSG:3035: x from 4,600,000, y from 4,400,000


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """A cube of 600 x 600 pixels in four tiles of 512, and its attribution as an array."""
    spec = CubeSpec(
        crs="EPSG:3035", resolution=10.0, extent=(ROW, COL, SIDE, SIDE), tile_size=512,
        intervals=(("2020-07-01", "2020-08-30"),), maps={"attribution": "a", "lift": "b"},
        display=("B04", "B03", "B02"),
    )  # fmt: skip
    uri = str(tmp_path_factory.mktemp("cube") / "demo.zarr")
    values = np.random.default_rng(0).gamma(2.0, 0.02, (SIDE, SIDE)).astype(np.float32)
    values[:50, :50] = np.nan
    opened = create_cube(uri, spec, "test", {})
    maps = {"attribution": values, "lift": values * 2, "naturalness": np.full_like(values, 0.5)}
    for row, col in opened.spec.tiling:
        task = TileTask(0, row, col)
        opened.write(task, tile_of(opened, task, maps, np.zeros((3, SIDE, SIDE), np.float32)))
    return uri, values


def write_corine(file, array, transform, crs="EPSG:3035", nodata=None):
    kind = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": crs, "transform": transform, "nodata": nodata}
    with rasterio.open(file, "w", height=array.shape[0], width=array.shape[1], **kind) as target:
        target.write(array, 1)
    return str(file)


def cells(offset=0):
    """100 m classes around the cube, three cells more on every side, some without data."""
    codes = np.random.default_rng(1).choice([312, 412, 332, 512, 211], (66, 66)).astype(np.uint16)
    codes[10, 10:20] = 0
    return codes, from_origin(4_600_000 - 300 + offset, 4_400_000 + 300, 100, 100)


def expected(values, codes):
    fine = np.repeat(np.repeat(codes[3:63, 3:63], 10, 0), 10, 1)
    known = np.isfinite(values)
    return pd.DataFrame({"class": fine[known], "v": values[known]}).groupby("class")["v"]


def test_cells_nest_exactly_and_statistics_are_those_of_a_group_by(cube, tmp_path):
    uri, values = cube
    codes, transform = cells()
    table, cover = landcover.class_table(uri, write_corine(tmp_path / "c.tif", codes, transform))
    assert cover.nested
    got = table[table["map"] == "attribution"].set_index("class")
    groups = expected(values, codes)
    assert got["area_km2"].to_dict() == pytest.approx((groups.size() * 1e-4).to_dict())
    assert got["mean"].to_dict() == pytest.approx(groups.mean().to_dict(), rel=5e-3)  # the cube rounds mantissas
    for share in landcover.QUANTILES:
        wanted = groups.quantile(share).to_dict()
        assert got[f"p{round(100 * share):02d}"].to_dict() == pytest.approx(wanted, rel=0.015)
    assert got.loc[0, "name"] == "no land cover"
    assert table[table["map"] == "naturalness"]["mean"].to_numpy() == pytest.approx(0.5, abs=0.003)


def test_grid_codes_and_level_three_codes_give_the_same_table(cube, tmp_path):
    codes, transform = cells()
    lookup = np.zeros(600, np.uint8)
    lookup[list(GRID_CODES)] = list(GRID_CODES.values())
    grid = np.where(codes > 0, lookup[codes], 255).astype(np.uint8)
    one, _ = landcover.class_table(cube[0], write_corine(tmp_path / "a.tif", codes, transform))
    two, _ = landcover.class_table(cube[0], write_corine(tmp_path / "b.tif", grid, transform, nodata=255))
    pd.testing.assert_frame_equal(one, two)


def test_a_raster_off_the_grid_is_resampled_and_the_report_says_so(cube, tmp_path):
    codes, transform = cells(offset=4)
    file = write_corine(tmp_path / "c.tif", codes, transform)
    compare_cube(cube[0], file, tmp_path / "report")
    assert "nearest neighbour" in (tmp_path / "report" / "index.html").read_text()
    header = (tmp_path / "report" / "classes.csv").read_text().splitlines()[0]
    assert header.startswith("class,name,time,map,area_km2,mean,p05")


def test_another_crs_is_brought_to_the_cube_by_nearest_neighbour(cube, tmp_path):
    uri, values = cube
    codes = np.full((200, 200), 412, np.uint16)
    codes[:, 100:] = 312
    middle = rasterio.warp.transform("EPSG:3035", "EPSG:32633", [4_603_000], [4_397_000])
    corner = from_origin(middle[0][0] - 10_000, middle[1][0] + 10_000, 100, 100)
    table, cover = landcover.class_table(uri, write_corine(tmp_path / "u.tif", codes, corner, crs="EPSG:32633"))
    got = table[table["map"] == "attribution"].set_index("class")
    assert not cover.nested
    assert set(got.index) == {312, 412}
    assert got["area_km2"].sum() == pytest.approx(np.isfinite(values).sum() * 1e-4)
    assert got.loc[312, "area_km2"] == pytest.approx(18, abs=2.5)  # the edge runs through the cube's middle


@pytest.mark.parametrize(
    ("crs", "shift", "message"),
    [(None, 0, "has no CRS"), ("EPSG:3035", 500_000, "does not touch the cube")],
)
def test_rasters_that_cannot_fit_are_refused_in_one_line(cube, tmp_path, crs, shift, message):
    codes, transform = cells(offset=shift)
    with pytest.raises(DataError, match=message) as refused:
        landcover.class_table(cube[0], write_corine(tmp_path / "c.tif", codes, transform, crs=crs))
    assert "\n" not in str(refused.value)


def test_no_cube_and_no_raster_are_refused(cube, tmp_path):
    codes, transform = cells()
    with pytest.raises(CubeError, match="no SpacEX cube"):
        landcover.class_table(str(tmp_path / "none.zarr"), write_corine(tmp_path / "c.tif", codes, transform))
    with pytest.raises(DataError, match="cannot be read"):
        landcover.class_table(cube[0], str(tmp_path / "missing.tif"))


def test_every_class_of_the_legend_is_counted():
    assert set(CODES) <= set(landcover._CODES.tolist())

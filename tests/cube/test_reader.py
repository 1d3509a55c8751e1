"""A cube opens in every tool that people use, clips, and saves; cubes of the first format open too."""

import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401 - registers .odc
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
import zarr
from shapely.geometry import box

from spacex.cube.attributes import consolidate
from spacex.cube.overviews import make_overviews
from spacex.cube.reader import open_cube, open_tiles
from spacex.cube.store import Cube, TileMaps, create_cube, find_cube
from spacex.errors import CubeError, RequestError
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Grid, Window

from .conftest import SPEC as ONE_MAP

SPEC = ONE_MAP.model_copy(update={"maps": dict.fromkeys(("attribution", "lift"), "how it was made")})
ABOUT = {"title": "a test", "license": "CC-BY-4.0", "request": {"crs": "EPSG:3035", "intervals": [["a", "b"]]}}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """Two time steps; every pixel of the first has a value of its own row and column."""
    cube = create_cube(str(tmp_path_factory.mktemp("c") / "c.zarr"), SPEC, "0123", ABOUT)
    for row, col in cube.spec.tiling:
        window = cube.window(TileTask(0, row, col))
        rows, cols = np.mgrid[window.row : window.stop_row, window.col : window.stop_col]
        slope = ((rows + 440_000) + (cols - 460_000) / 2048).astype("f4")
        maps = {"attribution": slope, "lift": slope * 1e-6, "naturalness": np.full(window.shape, 0.5, "f4")}
        cube.write(
            TileTask(0, row, col), TileMaps(maps, np.ones(window.shape, "u2"), np.full((3, *window.shape), 0.1, "f4"))
        )
        cube.finish(TileTask(0, row, col), Status.DONE, {"scenes": ["a"]})
    make_overviews(cube)
    return cube.uri


@pytest.mark.parametrize("chunks", [None, {}])
def test_maps_are_float32(uri, chunks):
    data = open_cube(uri, 1, chunks)
    assert {str(data[name].dtype) for name in ("attribution", "naturalness", "composite")} == {"float32"}
    assert float(data.naturalness[0, 5, 5]) == pytest.approx(0.5, abs=1e-6)


def test_the_whole_dataset_clips_without_a_warning(uri):
    data = open_cube(uri)
    left, top = float(data.x[0]), float(data.y[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        cut = data.rio.clip([box(left, top - 300, left + 300, top).buffer(-20)], drop=False)
    assert cut.observations.dtype == np.uint16
    assert int(cut.observations[0, 10, 10]) == 1
    assert int(cut.observations[0, -1, -1]) == 0


def test_crs_and_coordinates_are_just_there(uri):
    # the upper-left corner is (460 000, -440 000) pixels of 10 m: x = 4 600 000, y = 4 400 000; the bare arrays begin
    # with the tile around it
    bare = Window(-440_320, 459_776, 1024, 1536)
    for data, window in (
        (open_cube(uri), Window(*SPEC.extent)),
        (xr.open_zarr(uri, group="0"), bare),
        (xr.open_zarr(uri, group="0", consolidated=False), bare),
    ):
        left, top = window.col * 10, -window.row * 10
        assert data.attribution.rio.crs.to_epsg() == 3035
        assert data.attribution.odc.geobox.crs.epsg == 3035
        assert data.attribution.rio.transform()[:6] == (10, 0, left, 0, -10, top)
        assert data.attribution.odc.geobox == Grid().geobox(window)
        assert np.isnan(data.attribution.rio.nodata)
        assert float(data.x[0]) == left + 5
        assert float(data.y[0]) == top - 5
        assert str(data.time.values[1])[:10] == "2021-07-01"
        assert data.attribution.comment == "how it was made"
        assert data.attrs["license"] == "CC-BY-4.0"
    coarse = open_cube(uri, level=2)
    assert coarse.attribution.shape == (2, 175, 275)
    assert coarse.composite.rio.transform()[:6] == (40, 0, 4_600_000, 0, -40, 4_400_000)
    # value and place still belong together: a row's value is its number
    np.testing.assert_allclose(coarse.attribution[0, :, 0], 1.5 + 4 * np.arange(175), rtol=2.0**-9)
    assert list(coarse.band.values) == ["B04", "B03", "B02"]


def test_the_whole_dataset_clips(uri):
    data = open_cube(uri)
    small = data.rio.clip_box(4_600_000 + 2000, 4_400_000 - 3000, 4_600_000 + 2500, 4_400_000 - 2800)
    assert dict(small.sizes) == {"time": 2, "y": 20, "x": 50}
    assert float(small.attribution[0, 0, 0]) == pytest.approx(280, rel=2.0**-11)
    outline = box(4_602_000, 4_397_000, 4_602_500, 4_397_200)
    cut = data.rio.clip([outline], crs=3035)
    np.testing.assert_array_equal(cut.attribution, small.attribution)
    assert set(cut.data_vars) == {"attribution", "lift", "naturalness", "observations"}


@pytest.mark.parametrize("level", [0, 1])
def test_a_subset_is_saved_as_netcdf_and_as_zarr(uri, tmp_path, level):
    subset = open_cube(uri, level).isel(y=slice(20, 50), x=slice(0, 70))
    subset.to_netcdf(tmp_path / "s.nc")
    subset.drop_encoding().to_zarr(tmp_path / "s.zarr", zarr_format=3, consolidated=False)
    subset.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
    again = [xr.open_dataset(tmp_path / "s.nc", decode_coords="all"), *(
        xr.open_zarr(tmp_path / name, consolidated=False) for name in ("s.zarr", "t.zarr"))]  # fmt: skip
    for data in again:
        for name in subset.data_vars:
            np.testing.assert_allclose(data[name], subset[name], rtol=1e-6, err_msg=name)
        assert data.attribution.rio.crs.to_epsg() == 3035
        assert data.attrs["license"] == "CC-BY-4.0"
        assert json.loads(data.attrs["request"]) == ABOUT["request"]


def test_what_saves_netcdf_is_installed_with_spacex():
    """With scipy alone, xarray writes NetCDF 3, which has no bytes without a sign: it refuses the observations."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(line.startswith("netCDF4") for line in project["dependencies"])


def test_the_datatree_opens_without_glue(uri):
    tree = xr.open_datatree(uri, engine="zarr")
    assert set(tree.children) == {"0", "1", "2", "tiles"}
    assert tree["2/lift"].shape == (2, 256, 384)
    assert tree["tiles/status"].sizes["tile_x"] == 3
    assert tree.attrs["title"] == "a test"


def test_tiles_are_reached_from_a_subset(uri):
    tiles = open_cube(uri).isel(x=slice(0, 5)).spacex.tiles
    assert (tiles.status[0] == "done").all()
    assert (tiles.status[1] == "pending").all()
    assert json.loads(str(tiles.provenance[0, 1, 2].values)) == {"scenes": ["a"]}
    # the global lattice's names: the same whatever else the cube holds
    assert tiles.tile_y.values.tolist() == [-860, -859]
    assert str(tiles.status.sel(tile_y=-859, tile_x=900)[0].values) == "done"
    with pytest.raises(RequestError, match="does not come from a cube"):
        _ = xr.Dataset().spacex.tiles


def test_what_is_not_there_is_said(uri, tmp_path):
    with pytest.raises(CubeError, match="0 to 2"):
        open_cube(uri, level=3)
    with pytest.raises(CubeError, match="no SpacEX cube"):
        open_cube(str(tmp_path / "none.zarr"))


def test_groups_have_no_spatial_dimensions_and_arrays_have(uri):
    """With both, GDAL 3.13 and QGIS crash on consolidated metadata."""
    root = Path(uri, "zarr.json")
    document = json.loads(root.read_text())
    nodes = {"": document, **document["consolidated_metadata"]["metadata"]}
    for path, node in nodes.items():
        has = "spatial:dimensions" in node["attributes"]
        raster = node["node_type"] == "array" and node.get("dimension_names", [])[-2:] == ["y", "x"]
        assert has == raster, path
    # what every remote reader fetches first
    assert root.stat().st_size < 100_000


GDAL = tuple(map(int, rasterio.__gdal_version__.split(".")[:2]))


@pytest.mark.skipif(GDAL < (3, 12), reason=f"GDAL {rasterio.__gdal_version__} does not read Zarr format 3; 3.12 does")
def test_gdal_reads_maps_and_overviews(uri):
    stored = find_cube(uri).spec.stored  # whole chunks around the area asked for
    for path, size in (("0/attribution", 10), ("2/attribution", 40), ("0/naturalness", 10)):
        with rasterio.open(f'ZARR:"{uri}":/{path}:0') as source:
            assert source.crs.to_epsg() == 3035
            assert source.transform[:6] == (size, 0, 10 * stored.col, 0, -size, -10 * stored.row)
            values = zarr.open_group(uri, mode="r")[path][0]
            np.testing.assert_array_equal(source.read(1), values)
            assert (values != zarr.open_group(uri, mode="r")[path].fill_value).any()


@pytest.fixture
def first_format(tmp_path):
    """What stood in a cube before: full resolution in the root, overviews `1` and `2`, tiles beside the maps."""
    root = zarr.open_group(str(tmp_path / "old.zarr"), mode="w")
    for level in (0, 1, 2):
        group = root if level == 0 else root.create_group(str(level))
        for name, length in (("y", 8), ("x", 8), ("time", 1)):
            size = length if name == "time" else length >> level
            group.create_array(name, data=np.arange(float(size)), dimension_names=[name])
        group.create_array("time_bounds", data=np.zeros((1, 2)), dimension_names=["time", "bound"])
        values = np.full((1, 8 >> level, 8 >> level), level, "f4")
        group.create_array("attribution", data=values, dimension_names=["time", "y", "x"])
    root.create_array("status", data=np.ones((1, 1, 1), "u1"), dimension_names=["time", "tile_y", "tile_x"])
    root.create_array(
        "provenance", shape=(1, 1, 1), dtype="string", fill_value="{}", dimension_names=["time", "tile_y", "tile_x"]
    )
    root["status"].update_attributes({"long_name": "state"})
    layout = [{"asset": asset} for asset in (".", "1", "2")]
    about = {
        "spacex_format": 1,
        "spacex_spec": SPEC.model_dump_json(),
        "fingerprint": "f",
        "multiscales": {"layout": layout},
    }
    root.update_attributes({**about, "request": {"crs": "EPSG:3035"}})
    consolidate(str(tmp_path / "old.zarr"))
    return str(tmp_path / "old.zarr")


def test_a_cube_of_the_first_format_opens(first_format):
    for level in (0, 1, 2):
        data = open_cube(first_format, level)
        assert (data.attribution == level).all()
        assert "status" not in data.variables
    assert open_tiles(first_format).status.values.tolist() == [[["done"]]]


def test_a_cube_of_the_first_format_is_not_written_to(first_format):
    with pytest.raises(CubeError, match="spacex_format 1") as caught:
        Cube(first_format)
    assert "\n" not in str(caught.value)
    with pytest.raises(CubeError, match="spacex_format 1"):
        find_cube(first_format)

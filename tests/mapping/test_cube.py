"""The cube opens anywhere, survives half-made creation, and keeps what was written to documented precision."""

import json

import numpy as np
import odc.geo.xr  # noqa: F401 - registers .odc
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spacex.errors import CubeError, RequestError
from spacex.grid import Grid, Window
from spacex.mapping.cube import Cube, Status, TileMaps, TileTask, create_cube
from spacex.mapping.layout import KEEP_BITS, CubeSpec, bitround

SPEC = CubeSpec(
    crs="EPSG:3035",
    resolution=10,
    extent=(-440_000, 460_000, 700, 1100),
    tile_size=512,
    intervals=(("2020-07-01", "2020-08-30"), ("2021-07-01", "2021-08-30")),
    maps={"attribution": "how it was made"},
    display=("B04", "B03", "B02"),
)
TASK = TileTask(1, 1, 1)


def tile(seed=0, shape=(188, 512)):
    rng = np.random.default_rng(seed)
    maps = {name: rng.random(shape, dtype=np.float32) for name in ("attribution", "naturalness")}
    maps["attribution"][:7, :9] = np.nan
    return TileMaps(maps, rng.integers(0, 40, shape).astype("u2"), rng.random((3, *shape), dtype=np.float32) * 0.5)


@pytest.fixture
def cube(tmp_path):
    return create_cube(str(tmp_path / "c.zarr"), SPEC, "0123", {"title": "test"})


def test_crs_and_coordinates_are_just_there(cube):
    data = xr.open_zarr(cube.uri)
    assert data.attribution.rio.crs.to_epsg() == 3035
    assert data.attribution.odc.geobox.crs.epsg == 3035
    # the upper-left corner is (460 000, -440 000) pixels of 10 m: x = 4 600 000, y = 4 400 000
    assert data.attribution.rio.transform()[:6] == (10, 0, 4_600_000, 0, -10, 4_400_000)
    assert data.attribution.odc.geobox == Grid().geobox(Window(*SPEC.extent))
    assert np.isnan(data.attribution.rio.nodata)
    assert float(data.x[0]) == 4_600_005
    assert float(data.y[0]) == 4_399_995
    assert str(data.time.values[1])[:10] == "2021-07-01"
    assert data.attribution.comment == "how it was made"
    coarse = xr.open_zarr(cube.uri, group="2")
    assert coarse.attribution.shape == (2, 175, 275)
    assert coarse.composite.rio.transform()[:6] == (40, 0, 4_600_000, 0, -40, 4_400_000)
    assert list(coarse.band.values) == ["B04", "B03", "B02"]


def test_what_is_written_is_read_back(cube):
    written = tile()
    cube.write(TASK, written)
    cube.finish(TASK, Status.DONE, {"scenes": ["a"]})
    data = xr.open_zarr(cube.uri, chunks=None).isel(time=1, y=slice(512, 700), x=slice(512, 1024))
    np.testing.assert_allclose(data.attribution, written.maps["attribution"], rtol=2.0**-KEEP_BITS / 2)
    np.testing.assert_allclose(data.naturalness, written.maps["naturalness"], atol=0.0021)
    np.testing.assert_array_equal(data.observations, written.observations)
    assert cube.provenance(TASK) == {"scenes": ["a"]}
    assert cube.statuses()[1, 1, 1] == Status.DONE
    assert cube.statuses().sum() == Status.DONE
    # nothing outside the tile was touched
    assert np.isnan(xr.open_zarr(cube.uri, chunks=None).attribution.isel(time=0)).all()


def test_overviews_are_means_of_the_valid_pixels(cube):
    written = tile()
    cube.write(TASK, written)
    coarse = xr.open_zarr(cube.uri, group="1", chunks=None).isel(time=1, y=slice(256, 350), x=slice(256, 512))
    block = written.maps["attribution"][10:12, 8:10]
    assert coarse.attribution.values[5, 4] == pytest.approx(float(block.mean()), rel=1e-3)
    partly = written.maps["attribution"][6:8, 8:10]  # three of its four pixels are valid
    assert np.isnan(partly).sum() == 1
    assert coarse.attribution.values[3, 4] == pytest.approx(float(np.nanmean(partly)), rel=1e-3)
    assert np.isnan(coarse.attribution.values[0, 0])
    np.testing.assert_allclose(coarse.composite.values[0, 20, 20], written.composite[0, 40:42, 40:42].mean(), atol=1e-4)


def test_writing_twice_changes_nothing_and_emptying_empties(cube, tmp_path):
    written = tile()
    files = lambda: {p: p.read_bytes() for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()}  # noqa: E731
    cube.write(TASK, written)
    once = files()
    cube.write(TASK, written)
    assert files() == once
    nothing = np.full((188, 512), np.nan, np.float32)
    maps = {"attribution": nothing, "naturalness": nothing}
    cube.write(TASK, TileMaps(maps, np.zeros((188, 512), "u2"), np.stack([nothing] * 3)))
    assert np.isnan(xr.open_zarr(cube.uri, chunks=None).attribution).all()


def test_a_half_made_cube_is_made_anew_and_a_whole_one_is_kept(tmp_path):
    uri = str(tmp_path / "c.zarr")
    create_cube(uri, SPEC, "0123", {})
    with pytest.raises(CubeError, match="already exists"):
        create_cube(uri, SPEC, "0123", {})
    root = tmp_path / "c.zarr" / "zarr.json"
    document = json.loads(root.read_text())
    del document["attributes"]["spacex_spec"]  # as if the driver had died before its last step
    root.write_text(json.dumps(document))
    with pytest.raises(CubeError, match="no SpacEX cube"):
        Cube(uri)
    assert create_cube(uri, SPEC, "4567", {}).fingerprint == "4567"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "thesis.txt").write_text("only copy")
    with pytest.raises(CubeError, match="not a SpacEX cube"):
        create_cube(str(tmp_path / "c.zarr"), SPEC, "0123", {})
    assert (tmp_path / "c.zarr" / "thesis.txt").read_text() == "only copy"


def test_tiles_must_be_whole_chunks(tmp_path):
    with pytest.raises(RequestError, match="512"):
        create_cube(str(tmp_path / "c.zarr"), SPEC.model_copy(update={"tile_size": 600}), "0", {})


def test_a_cube_in_memory():
    cube = create_cube("memory://cube-test.zarr", SPEC, "0123", {})
    cube.write(TASK, tile())
    cube.finish(TASK, Status.DONE, {})
    assert cube.statuses()[1, 1, 1] == Status.DONE


@given(arrays(np.float32, 50, elements=st.floats(-1e6, 1e6, width=32)))
def test_rounding_keeps_the_documented_precision(values):
    rounded = bitround(values)
    np.testing.assert_allclose(rounded, values, rtol=2.0 ** -(KEEP_BITS + 1), atol=1e-38)
    np.testing.assert_array_equal(bitround(rounded), rounded)
    assert not (rounded.view(np.uint32) & ((1 << (23 - KEEP_BITS)) - 1)).any()
    assert np.isnan(bitround(np.array([np.nan], np.float32))).all()

"""The cube survives half-made creation, and keeps what was written to documented precision."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spacex.cube.encoding import KEEP_BITS, bitround, downsample_2x
from spacex.cube.store import Cube, TileMaps, create_cube
from spacex.errors import CubeError, RequestError
from spacex.execution.tasks import Status, TileTask

from .conftest import SPEC

TASK = TileTask(1, -859, 899)
"""Its upper-left pixel is row 192, column 288 of the extent; 508 of its rows are in the extent."""


def tile(seed=0, shape=(512, 512)):
    rng = np.random.default_rng(seed)
    maps = {name: rng.random(shape, dtype=np.float32) for name in ("attribution", "naturalness")}
    maps["attribution"][:7, :9] = np.nan
    return TileMaps(maps, rng.integers(0, 40, shape).astype("u2"), rng.random((3, *shape), dtype=np.float32) * 0.5)


def level(cube, number):
    return xr.open_zarr(cube.uri, group=str(number), chunks=None)


@pytest.fixture
def cube(tmp_path):
    return create_cube(str(tmp_path / "c.zarr"), SPEC, "0123", {"title": "test"})


def test_what_is_written_is_read_back(cube):
    written = tile()
    cube.write(TASK, written)
    cube.finish(TASK, Status.DONE, {"scenes": ["a"]})
    data = level(cube, 0).isel(time=1, y=slice(512, 1024), x=slice(512, 1024))
    np.testing.assert_allclose(data.attribution, written.maps["attribution"], rtol=2.0**-KEEP_BITS / 2)
    np.testing.assert_allclose(data.naturalness, written.maps["naturalness"], atol=0.0021)
    np.testing.assert_array_equal(data.observations, written.observations)
    assert cube.provenance(TASK) == {"scenes": ["a"]}
    assert cube.statuses()[1, 1, 1] == Status.DONE
    assert cube.statuses().sum() == Status.DONE
    # nothing outside the tile was touched
    assert np.isnan(level(cube, 0).attribution.isel(time=0)).all()


def test_writing_twice_changes_nothing_and_emptying_empties(cube, tmp_path):
    written = tile()
    files = lambda: {p: p.read_bytes() for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()}  # noqa: E731
    cube.write(TASK, written)
    once = files()
    cube.write(TASK, written)
    assert files() == once
    nothing = np.full((512, 512), np.nan, np.float32)
    maps = {"attribution": nothing, "naturalness": nothing}
    cube.write(TASK, TileMaps(maps, np.zeros((512, 512), "u2"), np.stack([nothing] * 3)))
    assert np.isnan(level(cube, 0).attribution).all()


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


def test_a_flipped_bit_is_an_error_and_not_data(cube, tmp_path):
    cube.write(TASK, tile())
    chunk = tmp_path / "c.zarr" / "0" / "attribution" / "c" / "1" / "1" / "1"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(Exception, match=r"(?i)checksum|decompress|zstd"):
        level(cube, 0).attribution.isel(time=1).load()


def test_objects_are_kept_as_text_and_given_back_as_objects(tmp_path):
    cube = create_cube(str(tmp_path / "c.zarr"), SPEC, "0", {"request": {"crs": "EPSG:3035"}, "title": "t"})
    assert cube.attributes["request"] == {"crs": "EPSG:3035"}
    stored = json.loads((tmp_path / "c.zarr" / "zarr.json").read_text())["attributes"]
    assert stored["request"] == '{"crs": "EPSG:3035"}'


@given(arrays(np.float32, 50, elements=st.floats(-1e6, 1e6, width=32)))
def test_rounding_keeps_the_documented_precision(values):
    rounded = bitround(values)
    np.testing.assert_allclose(rounded, values, rtol=2.0 ** -(KEEP_BITS + 1), atol=1e-38)
    np.testing.assert_array_equal(bitround(rounded), rounded)
    assert not (rounded.view(np.uint32) & ((1 << (23 - KEEP_BITS)) - 1)).any()
    assert np.isnan(bitround(np.array([np.nan], np.float32))).all()


def test_halving_takes_the_mean_of_the_valid_pixels():
    nan = np.nan
    values = np.array([[1, 2, nan, nan, 7], [3, 6, nan, 5, 9], [nan, nan, 4, 4, nan]], "f4")
    # by hand: (1+2+3+6)/4, the one valid pixel, the odd column's two; below, the odd row's
    np.testing.assert_array_equal(downsample_2x(values), np.array([[3, 5, 8], [nan, 4, nan]], "f4"))

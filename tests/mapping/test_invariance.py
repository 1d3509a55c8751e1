"""The same pixel gets the same answer, whatever was asked around it."""

import numpy as np
import pytest
import xarray as xr

import spacex
from spacex.cube.levels import crop
from spacex.cube.store import Cube
from spacex.execution.local import run_local

MAPS = ("attribution", "lift", "naturalness", "dissimilarity", "observations")


def open_cube(path, level=0):
    data = xr.open_zarr(path, group=str(level), chunks=None, mask_and_scale=False)
    return crop(data, Cube(str(path)).spec, level).load()


@pytest.fixture(scope="module")
def whole_path(make_request, map_offline, tmp_path_factory):
    """The region as one tile."""
    path = tmp_path_factory.mktemp("whole") / "whole.zarr"
    outcome = map_offline(make_request(tile_size=2048), path)
    assert outcome.complete
    assert outcome.cube.statuses().tolist() == [[[1]]]
    return path


@pytest.fixture(scope="module")
def whole(whole_path):
    return open_cube(whole_path)


def assert_same(got, expected, names=MAPS):
    for name in names:
        np.testing.assert_array_equal(got[name].values, expected[name].values, err_msg=name)


def test_the_reference_is_not_empty(whole):
    for name in ("attribution", "lift"):
        values = whole[name].values
        assert np.isfinite(values).mean() > 0.5
        assert np.nanstd(values) > 0
    # two zones on the same day are one observation; the days' clouds differ, so counts do too
    assert set(np.unique(whole.observations)) == {0, 1, 2, 3}


def test_many_tiles_in_another_order_equal_one_tile(whole_path, whole, make_request, map_offline, tmp_path):
    def backwards(job, queue, on_tick):
        queue.todo.reverse()
        run_local(job, queue, on_tick)

    cube = map_offline(make_request(tile_size=512), tmp_path / "tiles.zarr", backwards).cube
    assert cube.statuses().size > 1
    assert_same(open_cube(tmp_path / "tiles.zarr"), whole)
    # the one tile wrote its first overview itself; of 512 the end of the run made them all
    coarse = [open_cube(path, level=1) for path in (tmp_path / "tiles.zarr", whole_path)]
    assert_same(*coarse, names=("attribution", "lift", "naturalness", "composite"))


def test_a_crop_of_the_request_is_a_crop_of_the_map(whole, make_request, map_offline, tmp_path):
    small = make_request(box=(23.96, 67.965, 24.03, 67.985))
    map_offline(small, tmp_path / "crop.zarr")
    crop = open_cube(tmp_path / "crop.zarr")
    inside = small.region.inside(small.region.extent)
    expected = whole.sel(x=crop.x, y=crop.y)
    assert inside.sum() > 10_000
    for name in MAPS:
        np.testing.assert_array_equal(crop[name].values[0][inside], expected[name].values[0][inside], err_msg=name)
        blank = crop[name].values[0][~inside]
        assert np.isnan(blank).all() if blank.dtype.kind == "f" else (blank == 0).all()


@pytest.mark.parametrize(("threads", "batch"), [(1, 3), (2, 2), (3, 5)])
def test_neither_threads_nor_batches_change_a_bit(threads, batch, whole, make_request, map_offline, tmp_path):
    map_offline(make_request(), tmp_path / "batch.zarr", threads=threads, batch=batch)
    assert_same(open_cube(tmp_path / "batch.zarr"), whole)


@pytest.mark.parametrize("chips", [{}, {"window": 0, "margin": 0, "frame": 32}])
def test_generated_pictures_and_their_scores_are_maps_too(chips, make_request, map_offline, tmp_path):
    names = ("attribution", "x_plus", "x_minus", "raised", "lowered")
    settings = make_request().chips.model_copy(update={"maps": names, **chips})
    box = (23.96, 67.965, 24.03, 67.985)
    map_offline(make_request(box=box, tile_size=512, chips=settings), tmp_path / "pictures.zarr")
    cube = spacex.open_cube(str(tmp_path / "pictures.zarr")).isel(time=0).load()
    assert cube.x_plus.dims == ("input_band", "y", "x")
    assert cube.input_band.values.tolist() == ["B02", "B03", "B04"]
    # the paper's attribution is the difference of these very pictures, in steps of 0.0001 and with rounded floats
    difference = abs(cube.x_plus - cube.x_minus).mean("input_band")
    np.testing.assert_allclose(difference, cube.attribution, rtol=2**-10, atol=1.5e-4)
    assert float(cube.attribution.max()) > 1e-3
    for name in ("raised", "lowered"):
        assert np.array_equal(np.isfinite(cube[name]), np.isfinite(cube.naturalness))
    overview = spacex.open_cube(str(tmp_path / "pictures.zarr"), level=1).isel(time=0)
    assert (overview.x_minus.sizes["input_band"], overview.composite.sizes["band"]) == (3, 3)
    assert abs(overview.x_minus.sel(input_band="B04") - overview.composite.sel(band="B04")).mean() < 0.05


def test_generators_that_judge_chips_keep_the_promise_too(make_request, map_offline, tmp_path):
    chips = make_request().chips.model_copy(update={"window": 0, "margin": 0, "frame": 32})
    box = (23.96, 67.965, 24.03, 67.985)
    map_offline(make_request(box=box, tile_size=1024, chips=chips), tmp_path / "one.zarr")
    map_offline(make_request(box=box, tile_size=512, chips=chips), tmp_path / "tiles.zarr")
    assert_same(open_cube(tmp_path / "tiles.zarr"), open_cube(tmp_path / "one.zarr"))

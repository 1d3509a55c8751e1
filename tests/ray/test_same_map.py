"""Real scenes, real networks: one Ray worker or three give the map of this process, to the bit."""

from functools import partial

import numpy as np
import pytest
import xarray as xr

from spacex.mapping.opening import open_tiles

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def local(make_request, map_offline, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "local.zarr"
    map_offline(make_request(), path)
    return xr.open_zarr(path, group="0", chunks=None, mask_and_scale=False).load()


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_the_map(cluster, local, make_request, map_offline, tmp_path, workers):
    from spacex.runners.ray_map import run_ray

    outcome = map_offline(make_request(), tmp_path / "ray.zarr", partial(run_ray, workers=workers, cpus=0.5))
    assert outcome.complete
    ours = xr.open_zarr(tmp_path / "ray.zarr", group="0", chunks=None, mask_and_scale=False).load()
    for name in ("attribution", "lift", "naturalness", "observations"):
        np.testing.assert_array_equal(ours[name], local[name], err_msg=name)
    if workers > 1:
        made = open_tiles(str(tmp_path / "ray.zarr")).provenance.values.ravel()
        assert len({text.split('"worker":"')[1] for text in made if text}) > 1

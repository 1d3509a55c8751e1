"""Real scenes, real networks: one Ray worker or three give the map of this process, to the bit."""

from functools import partial

import numpy as np
import pytest
import third_party_networks
import torch
import xarray as xr

from spacex.checkpoint import Card, save_checkpoint
from spacex.cube.reader import open_tiles
from spacex.mapping.request import chip_settings

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def local(make_request, map_offline, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "local.zarr"
    map_offline(make_request(), path)
    return xr.open_zarr(path, group="0", chunks=None, mask_and_scale=False).load()


def test_workers_build_a_network_that_is_trusted(cluster, make_request, map_offline, tiny_checkpoint, tmp_path):
    """The module must be there; the trust, and the name of the function, come with the job and the card."""
    from spacex.execution.ray_actors import run_ray

    foreign = {"classifier": {"network": "third_party_networks:Stages"}, "applicability": None}
    card = Card.model_validate(tiny_checkpoint.card.model_dump() | foreign)
    modules = {name: getattr(tiny_checkpoint, name) for name in ("maximiser", "minimiser")}
    torch.manual_seed(0)
    checkpoint = save_checkpoint(tmp_path / "stranger", card, {"classifier": third_party_networks.Stages(), **modules})
    chips = chip_settings(checkpoint.card, ("path_attribution",))
    request = make_request(box=(23.98, 67.96, 24.02, 67.97), chips=chips)
    runner = partial(run_ray, workers=1, cpus=0.5)
    assert map_offline(request, tmp_path / "ray.zarr", runner, checkpoint=checkpoint).complete
    map_offline(request, tmp_path / "local.zarr", checkpoint=checkpoint)
    ours, theirs = (xr.open_zarr(tmp_path / name, group="0", chunks=None) for name in ("local.zarr", "ray.zarr"))
    assert float(ours.path_attribution.max()) > 0
    np.testing.assert_array_equal(theirs.path_attribution, ours.path_attribution)


def test_a_worker_is_asked_which_arithmetic_its_machine_has(cluster):
    from spacex.attribution.inference import choose_precision
    from spacex.execution.ray_actors import worker_precision

    assert worker_precision(0.5, 0) == choose_precision("auto")


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_the_map(cluster, local, make_request, map_offline, tmp_path, workers):
    from spacex.execution.ray_actors import run_ray

    outcome = map_offline(make_request(), tmp_path / "ray.zarr", partial(run_ray, workers=workers, cpus=0.5))
    assert outcome.complete
    ours = xr.open_zarr(tmp_path / "ray.zarr", group="0", chunks=None, mask_and_scale=False).load()
    for name in ("attribution", "lift", "naturalness", "observations"):
        np.testing.assert_array_equal(ours[name], local[name], err_msg=name)
    if workers > 1:
        made = open_tiles(str(tmp_path / "ray.zarr")).provenance.values.ravel()
        assert len({text.split('"worker":"')[1] for text in made if text}) > 1

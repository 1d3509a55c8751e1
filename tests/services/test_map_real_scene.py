"""The main job on a real Sentinel-2 scene, through a real STAC API and a real file server."""

import numpy as np
import pytest
from matplotlib.image import imread

from spacex.cube.reader import open_cube
from spacex.cube.statuses import tasks_where
from spacex.cube.store import Cube
from spacex.execution.tasks import Status

pytestmark = [pytest.mark.services, pytest.mark.real]

BOX = ("5.24", "51.23", "5.29", "51.29")


@pytest.fixture(scope="module")
def run_job(load_job):
    module = load_job("map_region")
    return lambda words: module.app(words, standalone_mode=False) or 0


def run(run_job, services, name, output, checkpoint, *more):
    words = ["--local", "--threads", "1", "--bbox", *BOX, "--datetime", "2020-07-01/2020-07-31", "--tile-size", "512"]
    where = ["--catalogue", name, "--stac-url", services.url(name), "--output", str(output)]
    return run_job([*words, *where, "--checkpoint", checkpoint.uri, "--maps", "attribution", *more])


def test_the_job_maps_a_real_scene_from_every_catalogue(run_job, stac_services, tiny_checkpoint, tmp_path):
    cubes = {}
    for name in ("earth-search-c1", "planetary-computer", "cdse"):
        output = tmp_path / f"{name}.zarr"
        picture = ("--quicklook", str(tmp_path / f"{name}.png"))
        assert run(run_job, stac_services, name, output, tiny_checkpoint, *picture) == 0
        cubes[name] = open_cube(str(output)).load()
    first = cubes["earth-search-c1"]
    # the scene in tests/data is 2.5 km wide, the larger one 5 by 10 km
    assert int(np.isfinite(first.attribution).sum()) > 40_000
    for name, cube in cubes.items():
        np.testing.assert_array_equal(cube.attribution, first.attribution, err_msg=name)
        np.testing.assert_array_equal(cube.observations, first.observations, err_msg=name)
    assert imread(tmp_path / "cdse.png")[..., :3].std() > 0.1


def test_provenance_names_scenes_and_decisions_but_no_signature(run_job, stac_services, tiny_checkpoint, tmp_path):
    output = tmp_path / "pc.zarr"
    assert run(run_job, stac_services, "planetary-computer", output, tiny_checkpoint) == 0
    cube = Cube(str(output))
    task = tasks_where(cube.statuses() == Status.DONE, cube.spec.tiling)[0]
    scenes = cube.provenance(task)["scenes"]
    assert len(scenes) == 3
    assert all(scene["offset_reason"] for scene in scenes)
    text = "".join(p.read_text(errors="ignore") for p in tmp_path.rglob("zarr.json"))
    assert "sig=" not in text + str(scenes)

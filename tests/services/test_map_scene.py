"""The main job on a Sentinel-2 scene, through a real STAC API and a real file server."""

import numpy as np
import pytest
from matplotlib.image import imread
from scene_archives import JULY

from spacex.cube.reader import open_cube
from spacex.cube.statuses import tasks_where
from spacex.cube.store import Cube
from spacex.execution.tasks import Status

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def run_job(load_job, stac_services, scene_archive, tiny_checkpoint):
    module = load_job("map_region")

    def run(catalogue, output, *more):
        where = ["--catalogue", catalogue, "--stac-url", stac_services.url(scene_archive, catalogue)]
        what = ["--bbox", *scene_archive.middle, "--datetime", JULY, "--checkpoint", tiny_checkpoint.uri]
        how = ["--local", "--threads", "1", "--tile-size", "512", "--maps", "attribution", "--output", str(output)]
        return module.app([*where, *what, *how, *more], standalone_mode=False) or 0

    return run


def test_the_job_maps_a_scene_from_every_catalogue(run_job, tmp_path):
    cubes = {}
    for name in ("earth-search-c1", "planetary-computer", "cdse"):
        output = tmp_path / f"{name}.zarr"
        assert run_job(name, output, "--quicklook", str(tmp_path / f"{name}.png")) == 0
        cubes[name] = open_cube(str(output)).load()
    first = cubes["earth-search-c1"]
    assert int(np.isfinite(first.attribution).sum()) > 40_000
    for name, cube in cubes.items():
        np.testing.assert_array_equal(cube.attribution, first.attribution, err_msg=name)
        np.testing.assert_array_equal(cube.observations, first.observations, err_msg=name)
    assert imread(tmp_path / "cdse.png")[..., :3].std() > 0.1


def test_provenance_names_scenes_and_decisions_but_no_signature(run_job, tmp_path):
    output = tmp_path / "pc.zarr"
    assert run_job("planetary-computer", output) == 0
    cube = Cube(str(output))
    task = tasks_where(cube.statuses() == Status.DONE, cube.spec.tiling)[0]
    scenes = cube.provenance(task)["scenes"]
    assert len(scenes) == 3
    assert all(scene["offset_reason"] for scene in scenes)
    text = "".join(p.read_text(errors="ignore") for p in tmp_path.rglob("zarr.json"))
    assert "sig=" not in text + str(scenes)

"""What a resumed run asks of the cube that is there."""

from functools import partial

from fakes import IdlePipeline, with_pipeline
from small_archive import DAYS, EAST, NORTH, SOUTH, WEST

import spacex
from spacex.api.declaration import complete
from spacex.api.map_settings import PlanSettings
from spacex.api.mapping import PlannedMap, choose_cube_precision
from spacex.cube.store import Cube, create_cube
from spacex.execution.local import run_local
from spacex.mapping.plan import make_plan
from spacex.mapping.run import describe, execute

BOX = (WEST, SOUTH, EAST, NORTH)


def test_the_driver_opens_the_cube_twice(make_request, tiny_checkpoint, tmp_path, monkeypatch):
    """Once to plan, and once when it is locked, since another run may have worked on it in between."""

    def run():
        plan = make_plan(make_request(), str(tmp_path / "c.zarr"), tiny_checkpoint, scenes=[[]])
        return execute(plan, with_pipeline(run_local, IdlePipeline), threads=1)

    run()
    opened, open_cube = [], Cube.__init__
    monkeypatch.setattr(Cube, "__init__", lambda self, uri, *more: opened.append(uri) or open_cube(self, uri, *more))
    assert run().complete
    assert 1 <= len(opened) <= 2


def test_auto_precision_is_what_a_cube_was_made_with(make_request, tiny_checkpoint, tmp_path, monkeypatch):
    """Another machine, or the same command with --gpu, goes on with a cube in the arithmetic that began it."""
    monkeypatch.setattr("spacex.attribution.inference.native_bfloat16", lambda device: True)
    output, request = str(tmp_path / "c.zarr"), make_request()
    asked = complete(PlanSettings, {"output": output, "catalogue": "demo"})
    fresh = PlannedMap(make_plan(request, output, tiny_checkpoint, scenes=[[]]))
    assert choose_cube_precision(asked, "cpu") == "bfloat16"
    # where a cube is new, the workers' machines decide
    assert fresh.with_precision("bfloat16").plan.request.precision == "bfloat16"
    create_cube(output, request.spec(tiny_checkpoint.card), fresh.fingerprint, describe(request, tiny_checkpoint.card))
    assert request.precision == choose_cube_precision(asked, "cpu") == "float32"
    assert choose_cube_precision(asked | {"precision": "bfloat16"}, "cpu") == "bfloat16"
    begun = PlannedMap(make_plan(request, output, tiny_checkpoint, scenes=[[]]))
    assert begun.with_precision("bfloat16").fingerprint == fresh.fingerprint


def test_auto_precision_of_ray_s_workers_is_decided_by_their_machines(
    archive_list, tiny_checkpoint, tmp_path, monkeypatch
):
    from spacex.execution import ray_actors

    asked_of, made = [], []
    monkeypatch.setattr("spacex.attribution.inference.native_bfloat16", lambda device: False)
    monkeypatch.setattr(ray_actors, "worker_precision", lambda *what: asked_of.append(what) or "bfloat16")
    monkeypatch.setattr(PlannedMap, "run", lambda self, *_, **__: made.append(self.plan.request.precision))
    request = {"bbox": BOX, "datetime": DAYS, "catalogue": "demo", "items": archive_list, "output": tmp_path / "c.zarr"}
    for runner, more in (
        (None, {}),
        (run_local, {}),
        (ray_actors.run_ray, {}),
        (partial(ray_actors.run_ray, workers=2, gpus=1.0), {}),
        (ray_actors.run_ray, {"precision": "float32"}),
    ):
        spacex.map_region(**request, checkpoint=tiny_checkpoint, runner=runner, **more)
    assert made == ["float32", "float32", "bfloat16", "bfloat16", "float32"]
    assert asked_of == [(1.0, 0.0), (1.0, 1.0)]


def test_the_plan_counts_the_bytes_of_the_maps_that_are_asked_for(make_request, tiny_checkpoint, tmp_path):
    def stored(*maps):
        plan = make_plan(make_request(maps=maps), str(tmp_path / "none.zarr"), tiny_checkpoint, scenes=[[]])
        return plan.describe()["bytes_to_store"]

    usual = stored("attribution", "lift")
    pictures = stored("attribution", "lift", "x_plus"), stored("attribution", "lift", "x_plus", "x_minus", "raised")
    assert usual < pictures[0] < pictures[1]
    assert stored() < stored("lift") < usual

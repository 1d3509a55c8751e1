"""What a resumed run asks of the cube that is there."""

from fakes import IdlePipeline, with_pipeline

from spacex.cube.store import Cube
from spacex.execution.local import run_local
from spacex.mapping.plan import make_plan
from spacex.mapping.run import execute


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

"""A cube takes more time and more land without computing what it has, and ends as if all had been asked at once."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import fsspec
import numpy as np
import pytest
import xarray as xr
from fakes import with_pipeline
from shapely import union_all
from shapely.geometry import box, mapping
from small_archive import EAST, NORTH, SOUTH, WEST

from spacex.cube.extend import carried_statuses
from spacex.cube.reader import open_cube
from spacex.cube.statuses import new_statuses
from spacex.cube.store import Cube
from spacex.errors import CatalogueError, CubeError, RequestError
from spacex.execution.local import run_local
from spacex.execution.tasks import Status, TileTask
from spacex.mapping.plan import make_plan
from spacex.mapping.run import execute
from spacex.sentinel2.scene_list import load_scenes
from spacex.storage import run_folder

JULY, LATE = ("2020-07-01", "2020-08-30"), ("2020-07-08", "2020-08-30")


@pytest.fixture
def map_into(archive_scenes, tiny_checkpoint, monkeypatch):
    """Plans and runs a request as the command does, but for the STAC server; gives outcome and tiles computed."""

    def search(request, bands, left_out, before=()):
        return [[scene for scene in archive_scenes if first <= scene.datetime[:10] <= last]
                for first, last in request.intervals]  # fmt: skip

    monkeypatch.setattr("spacex.mapping.plan._search", search)

    def run(request, output, grow=False):
        plan = make_plan(request, str(output), tiny_checkpoint, grow=grow)
        return execute(plan, run_local, threads=1), plan.todo

    return run


def levels(path):
    return xr.open_datatree(path, engine="zarr", chunks=None, mask_and_scale=False).load()


def assert_equal(ours, theirs):
    ours, theirs = levels(ours), levels(theirs)
    assert set(ours.children) == set(theirs.children)
    for group, node in theirs.children.items():
        for name in {*node.variables} - {"provenance"}:
            np.testing.assert_array_equal(ours[group][name], node[name], err_msg=f"{group}/{name}")


def test_more_time(make_request, map_into, tmp_path):
    area = (WEST, SOUTH, WEST + 0.06, SOUTH + 0.02)
    first, both = (make_request(box=area, intervals=days) for days in ((JULY,), (JULY, LATE)))
    map_into(first, tmp_path / "steps.zarr")
    stamps = {f: f.stat().st_mtime_ns for f in (tmp_path / "steps.zarr").glob("0/*/c/0/*/*")}
    assert stamps
    outcome, todo = map_into(make_request(box=area, intervals=(LATE,)), tmp_path / "steps.zarr", grow=True)
    assert outcome.complete
    assert {task.time for task in todo} == {1}
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    map_into(both, tmp_path / "once.zarr")
    assert_equal(tmp_path / "steps.zarr", tmp_path / "once.zarr")
    # the same words again find nothing to do, and so does asking for all of it
    for request in (make_request(box=area, intervals=(LATE,)), both):
        assert map_into(request, tmp_path / "steps.zarr", grow=True)[1] == ()


@pytest.fixture(params=["disk", "s3"])
def steps(request, tmp_path):
    """Where the cube is that grows."""
    if request.param == "disk":
        return str(tmp_path / "steps.zarr")
    return f"{request.getfixturevalue('object_store')}/{tmp_path.name}/steps.zarr"


def test_more_land(make_request, map_into, steps, tmp_path):
    """In the west, so that the cube's corner moves, and with it every tile and chunk."""
    middle = WEST + (EAST - WEST) * 0.28
    after, before = box(WEST, SOUTH, middle, NORTH), box(middle, SOUTH, EAST, NORTH)
    request = make_request(area=mapping(before))
    map_into(request, steps)
    outcome, todo = map_into(make_request(area=mapping(after)), steps, grow=True)
    assert outcome.complete
    once, everything = map_into(make_request(area=mapping(union_all([before, after]))), tmp_path / "once.zarr")
    assert 0 < len(todo) < len(everything)
    assert once.cube.extent != request.region.extent
    assert_equal(steps, tmp_path / "once.zarr")
    fs, folder = fsspec.core.url_to_fs(steps.rpartition("/")[0])
    fs.invalidate_cache()
    assert not [name for name in fs.ls(folder, detail=False) if "growing" in name or "replaced" in name]


def test_tiles_inside_the_old_area_keep_their_chunk_files(make_request, tiny_checkpoint, tmp_path):
    """The files themselves, though the cube's corner moves; tiles on the old area's edge are computed again."""

    def run(bounds, output, grow=False):
        plan = make_plan(make_request(box=bounds), str(output), tiny_checkpoint, grow=grow, scenes=[[]])
        return execute(plan, with_pipeline(run_local), threads=1).cube, plan.todo

    before, larger = (23.95, 67.95, 24.25, 68.06), (23.8, 67.95, 24.25, 68.12)
    cube, _ = run(before, tmp_path / "steps.zarr")
    inside = [TileTask(0, -987, 959), TileTask(0, -986, 959)]
    assert [t for t in cube.spec.tiling if cube.region.inside(cube.spec.tiling.window(*t)).all()] == [
        (task.row, task.col) for task in inside
    ]
    inodes = {task: chunk_of(cube, task).stat().st_ino for task in inside}
    extended, todo = run(larger, tmp_path / "steps.zarr", grow=True)
    assert extended.spec.tiling.tiles.row < cube.spec.tiling.tiles.row
    assert extended.spec.tiling.tiles.col < cube.spec.tiling.tiles.col
    assert not set(todo) & set(inside)
    assert {task: chunk_of(extended, task).stat().st_ino for task in inside} == inodes
    _, everything = run(larger, tmp_path / "once.zarr")
    # kept besides: four tiles of the southern and the eastern edge, which both areas share
    assert len(everything) - len(todo) == 6
    assert_equal(tmp_path / "steps.zarr", tmp_path / "once.zarr")


def test_an_earlier_step_goes_before_the_others(make_request, map_into, steps, tmp_path):
    area = (WEST, SOUTH, WEST + 0.06, SOUTH + 0.02)
    map_into(make_request(box=area, intervals=(LATE,)), steps)
    outcome, todo = map_into(make_request(box=area, intervals=(JULY,)), steps, grow=True)
    assert outcome.complete
    assert {task.time for task in todo} == {0}
    assert outcome.cube.spec.intervals == (JULY, LATE)
    assert open_cube(steps).naturalness.sel(time=slice("2020-07-01", "2020-07-05")).sizes["time"] == 1
    once, _ = map_into(make_request(box=area, intervals=(JULY, LATE)), tmp_path / "once.zarr")
    assert_equal(steps, tmp_path / "once.zarr")
    places = [TileTask(time, row, col) for time in (0, 1) for row, col in once.cube.spec.tiling]
    scenes = [[[s["id"] for s in cube.provenance(t)["scenes"]] for t in places] for cube in (outcome.cube, once.cube)]
    assert scenes[0] == scenes[1]
    assert [len(step) for step in load_scenes(f"{run_folder(steps)}/scenes.gz")] == [4, 2]


def test_a_step_that_begins_on_the_day_of_another_is_refused(make_request, map_into, tmp_path):
    area = (WEST, SOUTH, WEST + 0.03, SOUTH + 0.015)
    map_into(make_request(box=area), tmp_path / "c.zarr")
    same_day = make_request(box=area, intervals=(("2020-07-01", "2020-07-31"),))
    with pytest.raises(RequestError, match=r"same day: got 2020-07-01/2020-07-31 and 2020-07-01/2020-08-30"):
        map_into(same_day, tmp_path / "c.zarr", grow=True)


def test_days_without_scenes_are_refused_when_a_cube_grows_too(make_request, archive_list, tiny_checkpoint, tmp_path):
    area, output = (WEST, SOUTH, WEST + 0.03, SOUTH + 0.015), str(tmp_path / "c.zarr")
    request = make_request(box=area, items=archive_list)
    execute(make_plan(request, output, tiny_checkpoint), with_pipeline(run_local), threads=1)
    june = make_request(box=area, items=archive_list, intervals=(("2020-06-01", "2020-06-30"),))
    with pytest.raises(CatalogueError, match="no scenes for this area and interval: got 2020-06-01/2020-06-30"):
        make_plan(june, output, tiny_checkpoint, grow=True)
    assert Cube(output).spec.intervals == (JULY,)


def test_a_killed_extension_does_not_mix_the_scenes_of_steps(
    make_request, map_into, tiny_checkpoint, tmp_path, monkeypatch
):
    """The scene list is written before the cube is extended."""
    area = (WEST, SOUTH, WEST + 0.03, SOUTH + 0.015)
    map_into(make_request(box=area, intervals=(LATE,)), tmp_path / "c.zarr")
    monkeypatch.setattr("spacex.mapping.run.extend_cube", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        map_into(make_request(box=area, intervals=(JULY,)), tmp_path / "c.zarr", grow=True)
    assert [len(step) for step in load_scenes(tmp_path / "c.run/scenes.gz")] == [4, 2]
    request = make_request(box=area, intervals=(LATE,))
    plan = make_plan(request, str(tmp_path / "c.zarr"), tiny_checkpoint)
    assert [len(step) for step in plan.scenes] == [2]


def test_a_cube_without_its_run_folder_goes_on(make_request, map_into, tmp_path):
    request = make_request(box=(WEST, SOUTH, WEST + 0.06, SOUTH + 0.02))
    cube = map_into(request, tmp_path / "c.zarr")[0].cube
    cube.finish(task := TileTask(0, *next(iter(cube.spec.tiling))), Status.FAILED, {})
    shutil.rmtree(tmp_path / "c.run")
    outcome, todo = map_into(request, tmp_path / "c.zarr")
    assert outcome.complete
    assert todo == (task,)
    assert load_scenes(tmp_path / "c.run/scenes.gz")
    assert (tmp_path / "c.run/report.html").exists()


def test_a_link_is_another_name_of_the_cube(make_request, map_into, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "disk/c.zarr")
    area = (WEST, SOUTH, WEST + 0.03, SOUTH + 0.015)
    map_into(make_request(box=area), tmp_path / "disk/c.zarr")
    outcome, todo = map_into(make_request(box=area), tmp_path / "link.zarr")
    assert outcome.complete
    assert todo == ()
    map_into(make_request(box=(WEST, SOUTH, EAST, SOUTH + 0.015)), tmp_path / "link.zarr", grow=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk", "link.zarr"]
    assert (tmp_path / "link.zarr").is_symlink()
    assert open_cube(str(tmp_path / "link.zarr")).naturalness.notnull().any()


def chunk_of(cube, task):
    return Path(cube.uri, "0/attribution/c").joinpath(*map(str, cube.position(task)))


def test_only_whole_tiles_are_carried_over(make_request, map_into, tmp_path):
    """Where the new area adds a pixel to a tile, or a tile had failed, it is made again."""
    request = make_request(box=(WEST, SOUTH, WEST + 0.06, SOUTH + 0.02))
    cube = map_into(request, tmp_path / "c.zarr")[0].cube
    assert (cube.statuses() == Status.DONE).all()
    np.testing.assert_array_equal(
        carried_statuses(cube, request.region, (JULY,), new_statuses(request.region, 1)), cube.statuses()
    )
    larger = make_request(box=(WEST, SOUTH, WEST + 0.0602, SOUTH + 0.02))
    assert (carried_statuses(cube, larger.region, (JULY,), new_statuses(larger.region, 1)) == Status.PENDING).any()
    cube.mark(np.full_like(cube.statuses(), Status.FAILED))
    assert (carried_statuses(cube, request.region, (JULY,), new_statuses(request.region, 1)) == Status.PENDING).all()


def test_what_differs_is_named_and_growing_is_asked_for(make_request, map_into, tmp_path):
    area = (WEST, SOUTH, WEST + 0.03, SOUTH + 0.015)
    map_into(make_request(box=area), tmp_path / "c.zarr")
    named = r"chips\.stride was \d+ and is now 64, max_cloud_cover was 60\.0 and is now 30\.0; expected [0-9a-f]{16}\."
    with pytest.raises(CubeError, match=named):
        map_into(make_request(box=area, stride=64, max_cloud_cover=30.0), tmp_path / "c.zarr", grow=True)
    with pytest.raises(CubeError, match=r"other days.*2020-07-08/2020-08-30.*--grow"):
        map_into(make_request(box=area, intervals=(LATE,)), tmp_path / "c.zarr")


def test_a_cube_killed_while_it_was_replaced_is_not_begun_anew(make_request, map_into, tmp_path):
    (tmp_path / "c.zarr.replaced").mkdir()
    with pytest.raises(CubeError, match=r"only .*c\.zarr\.replaced\. Move that back"):
        map_into(make_request(), tmp_path / "c.zarr")


def test_the_fingerprint_names_pixels_and_not_where_they_are(make_request, tiny_checkpoint):
    one, other = make_request(), make_request(box=(WEST, SOUTH, WEST + 0.03, NORTH), intervals=(LATE,))
    assert one.fingerprint(tiny_checkpoint) == other.fingerprint(tiny_checkpoint)
    assert one.fingerprint(tiny_checkpoint) != make_request(stride=64).fingerprint(tiny_checkpoint)

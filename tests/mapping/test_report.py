"""The run's report: seams made by hand, and every number where it belongs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import zarr

from spacex.api.mapping import PlannedMap
from spacex.cube.store import Cube
from spacex.execution.run_stats import SLOWEST, RunStats
from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.mapping.plan import make_plan
from spacex.mapping.report import seam
from spacex.storage import run_folder


@pytest.fixture
def made(make_request, map_offline, tmp_path):
    """A small cube of real tiles, its region 2 tiles wide or more."""
    outcome = map_offline(make_request(tile_size=512), tmp_path / "cube.zarr")
    assert outcome.complete
    return outcome.cube


def ramp(cube, jump):
    """Replace the attribution by a slope of 1 per column, with `jump` more at each tile's left edge."""
    array = zarr.open_group(cube.uri, mode="r+")["0/attribution"]
    columns = np.arange(array.shape[-1])
    array[...] = np.broadcast_to(columns + jump * (columns // cube.spec.tile_size), array.shape).astype("f4")


def test_a_smooth_slope_has_no_seam(made):
    ramp(made, 0)
    assert seam(made).score == pytest.approx(1.0)


def test_a_jump_of_four_steps_scores_five(made):
    ramp(made, 4)
    found = seam(made)
    assert found.score == pytest.approx(5.0)  # 1 + 4 across a border, 1 beside it; rows do not vary and do not count
    statuses = made.statuses()[0]
    assert found.borders == int(((statuses[:, 1:] == 1) & (statuses[:, :-1] == 1)).sum())


def test_the_lattice_of_the_generators_is_no_seam(made):
    array = zarr.open_group(made.uri, mode="r+")["0/attribution"]
    columns = np.arange(array.shape[-1])
    array[...] = np.broadcast_to(columns + columns // 4, array.shape).astype("f4")
    assert seam(made).score == pytest.approx(1.0)


def test_unfinished_tiles_have_no_seams(made):
    made.mark(np.full_like(made.statuses(), Status.FAILED))
    assert seam(made) is None


def test_only_the_slowest_tiles_are_remembered():
    stats = RunStats()
    for number in range(500):
        stats.add(TileReport(TileTask(0, 0, number), Status.DONE, seconds={"reading": float(number % 100)}), True)
    assert [report.seconds["reading"] for report in stats.slowest] == [99.0] * 5 + [98.0] * 5 + [97.0] * 5
    assert len(stats.slowest) == SLOWEST


def test_a_run_leaves_a_report_and_its_tiles(made):
    folder = Path(run_folder(made.uri))
    html = (folder / "report.html").read_text()
    done = int((made.statuses() == Status.DONE).sum())
    assert re.search(rf"done {done}\b", html)
    assert made.fingerprint in html
    assert "complete" in html
    assert "Over all finished tiles" in html
    # the picture and its numbers come first, what is doubtful next, tiles last
    places = [
        html.index(part) for part in ("<img alt=", "99th percentile", "keep in mind", "Plan and", 'img class="map"')
    ]
    assert places == sorted(places)
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    features = json.loads((folder / "tiles.geojson").read_text())["features"]
    assert sum(feature["properties"]["state"] == "done" for feature in features) == done


def test_an_interrupted_run_reports_what_there_is(make_request, map_offline, tmp_path):
    def stops(job, queue, on_tick):
        from spacex.execution.local import run_local

        report_progress = queue.on_report

        def on_report(report, finished):
            report_progress(report, finished)
            raise KeyboardInterrupt

        queue.on_report = on_report
        run_local(job, queue, on_tick)

    output = tmp_path / "cube.zarr"
    with pytest.raises(KeyboardInterrupt):
        map_offline(make_request(tile_size=512), output, stops)
    html = (Path(run_folder(str(output))) / "report.html").read_text()
    assert "interrupted" in html
    assert (Cube(str(output)).statuses() == Status.DONE).sum() >= 1


def test_a_plan_is_ten_readable_lines(make_request, tiny_checkpoint, tmp_path):
    planned = PlannedMap(make_plan(make_request(), str(tmp_path / "c.zarr"), tiny_checkpoint, scenes=[[]]))
    lines = repr(planned).splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) < 120
    assert "2020-07-01/2020-08-30" in repr(planned)
    assert "{" not in planned._repr_html_()


def test_a_plan_stores_what_lies_in_the_area_and_no_whole_tiles(make_request, tiny_checkpoint, tmp_path):
    request = make_request(tile_size=512)
    plan = make_plan(request, str(tmp_path / "c.zarr"), tiny_checkpoint, scenes=[[]])
    tiles = [request.region.tiling.window(*tile) for tile in request.region.tiling]
    inside = sum(int(request.region.inside(tile).sum()) for tile in tiles)
    whole = sum(tile.height * tile.width for tile in tiles)
    assert inside <= plan.describe()["bytes_to_store"] / plan.stored_bytes < (inside + whole) / 2

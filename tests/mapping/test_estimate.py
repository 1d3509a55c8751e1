"""Operations, hours and tiles of a plan against numbers worked out by hand."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from shapely.geometry import shape

from spacex.cube.statuses import new_statuses
from spacex.execution.tasks import Status
from spacex.mapping.estimate import Pace, _OperationCounter, calibrate, estimate, operations_per_chip, tiles_geojson
from spacex.mapping.plan import make_plan
from spacex.mapping.request import chip_settings
from spacex.sentinel2.read_estimate import Work


def test_a_convolution_is_counted_forward_and_backward():
    layer, x = torch.nn.Conv2d(3, 5, 3, padding=1), torch.zeros(1, 3, 8, 8, requires_grad=True)
    with _OperationCounter() as counter:
        torch.autograd.grad(layer(x).sum(), x)
    once = 2 * 5 * 3 * 9 * 64  # a product and a sum per weight and pixel
    assert counter.total == 2 * once


def test_each_step_of_the_path_costs_one_forward_and_one_backward_pass(make_request, tiny_checkpoint):
    path = chip_settings(tiny_checkpoint.card, ("attribution", "path_attribution"))
    counts = [operations_per_chip(tiny_checkpoint, make_request(chips=path, path_steps=steps)) for steps in (2, 3, 4)]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0
    plain = make_request(chips=chip_settings(tiny_checkpoint.card, ("attribution",)))
    assert operations_per_chip(tiny_checkpoint, plain) < counts[0]


@pytest.mark.parametrize(
    ("pace", "hours", "set_by"),
    [
        (Pace(per_chip=3.6, per_read=0.0, per_write=0.0, tiles=3), 0.5, "computing"),
        (Pace(per_chip=0.0, per_read=36.0, per_write=1.0, tiles=3), 0.5, "reading"),
        (Pace(per_chip=0.036, per_read=0.0, per_write=360.0, tiles=3), 0.5, "writing"),
    ],
)
def test_the_slowest_activity_sets_the_hours(pace, hours, set_by):
    # 1000 chips, 200 reads by 2 readers, 10 tiles, 2 workers
    plan = SimpleNamespace(work=Work(chips=1000, scene_reads=200), todo=range(10))
    said = estimate(plan, pace, workers=2, readers=2)
    assert said["hours"] == pytest.approx(hours)
    assert said["set_by"] == set_by


def test_tiles_are_drawn_where_they_are_with_their_state(make_request):
    request = make_request()
    statuses = new_statuses(request.region, 1)
    statuses[0, 0, 0] = Status.FAILED
    drawn = tiles_geojson(request, statuses)["features"]
    states = Counter(feature["properties"]["state"] for feature in drawn)
    assert states == {"failed": 1, "pending": int((statuses == Status.PENDING).sum())}
    area = shape(request.area)
    assert all(shape(feature["geometry"]).intersects(area) for feature in drawn)
    together = shape(drawn[0]["geometry"])
    for feature in drawn[1:]:
        together = together.union(shape(feature["geometry"]))
    assert together.intersection(area).area == pytest.approx(area.area, rel=1e-3)


def test_calibration_measures_the_real_pipeline_and_leaves_nothing(make_request, archive_scenes, tiny_checkpoint):
    request = make_request()
    plan = make_plan(request, "none.zarr", tiny_checkpoint, scenes=[archive_scenes])
    pace = calibrate(plan, tiles=1, threads=1)
    assert pace.tiles == 1
    assert min(pace.per_chip, pace.per_read, pace.per_write) > 0

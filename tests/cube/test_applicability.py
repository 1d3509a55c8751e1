"""What lies outside the area of applicability, counted by hand; and where it shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from spacex.cube.applicability import UNKNOWN, share_outside, tiles_outside, trust_line
from spacex.cube.overviews import make_overviews
from spacex.cube.quicklook import draw
from spacex.cube.store import Cube, TileMaps, create_cube
from spacex.execution.tasks import Status, TileTask
from spacex.storage import run_folder

from .conftest import SPEC as TWO_STEPS

SPEC = TWO_STEPS.model_copy(
    update={
        "extent": (-988 * 512, 956 * 512, 1024, 1024),
        "intervals": TWO_STEPS.intervals[:1],
        "dissimilarity": "how unlike",
    }
)
ABOUT = {
    "request": {"area": {"type": "Polygon", "coordinates": [[[0, 40], [40, 40], [40, 80], [0, 80], [0, 40]]]}},
    "checkpoint": {"preset": "delta", "data": {"name": "demo"}},
}
SHARES = {(0, 0): 1.0, (0, 1): 0.25, (1, 0): 0.75}
"""Of each tile, by row and column, that lies outside; the last tile is not mapped."""


def make(uri, spec=SPEC):
    cube = create_cube(str(uri), spec, "0123", ABOUT)
    for (row, col), share in SHARES.items():
        values = np.full((512, 512), 0.6, "f4")
        values[:, : int(512 * share)] = 1.5
        maps = {"attribution": values, "naturalness": values / 2}
        if spec.dissimilarity:
            maps["dissimilarity"] = values
        task = TileTask(0, row - 988, col + 956)
        cube.write(task, TileMaps(maps, np.ones((512, 512), "u2"), np.full((3, 512, 512), 0.1, "f4")))
        cube.finish(task, Status.DONE, {})
    make_overviews(cube)
    return Cube(str(uri))


def test_shares_are_counted(tmp_path):
    cube = make(tmp_path / "a.zarr")
    assert share_outside(cube) == pytest.approx((1.0 + 0.25 + 0.75) / 3)
    assert trust_line(cube).startswith("67 % of the mapped land is unlike")
    assert tiles_outside(cube, 0).tolist() == [[True, False], [True, False]]


def test_a_large_cube_is_looked_at_in_its_overviews(tmp_path, monkeypatch):
    cube = make(tmp_path / "a.zarr")
    monkeypatch.setattr("spacex.cube.applicability.MAX_SIDE", 512)
    assert share_outside(cube) == pytest.approx(2 / 3)
    assert tiles_outside(cube, 0).tolist() == [[True, False], [True, False]]


def test_where_nothing_is_known_nothing_is_claimed(tmp_path):
    cube = make(tmp_path / "a.zarr", SPEC.model_copy(update={"dissimilarity": ""}))
    assert share_outside(cube) is None
    assert trust_line(cube) == UNKNOWN
    assert not tiles_outside(cube, 0).any()


def test_the_quicklook_hatches_what_lies_outside(tmp_path):
    """The last panel, of even colour where nothing is hatched: strokes are there where it is, and only there."""
    cube = make(tmp_path / "a.zarr")
    draw(cube.uri, str(tmp_path / "hatched.png"))
    shown = imread(tmp_path / "hatched.png")[..., :3]
    height, width = shown.shape[:2]
    panel = shown[:, width * 3 // 4 :]
    inside, outside = (np.array(colormaps["viridis"](value / 2)[:3]) for value in (0.6, 1.5))
    even = [np.abs(panel - colour).max(axis=-1) < 0.02 for colour in (inside, outside)]
    rows, cols = np.nonzero(even[1])  # the tile at the upper left lies outside, and is hatched
    corner = panel[rows.min() + 2 : rows.min() + height // 8, cols.min() + 2 : cols.min() + width // 24]
    strokes = np.abs(corner - outside).max(axis=-1) > 0.02
    assert 0.05 < strokes.mean() < 0.8
    rows, cols = np.nonzero(even[0])  # the tile at the upper right does not, but for its left quarter
    corner = panel[rows.min() + 2 : rows.min() + height // 8, cols.max() - width // 24 : cols.max() - 2]
    assert (np.abs(corner - inside).max(axis=-1) < 0.02).all()


def test_a_run_maps_it_and_says_so(make_request, map_offline, tmp_path):
    outcome = map_offline(make_request(), tmp_path / "cube.zarr")
    array = outcome.cube.array("0/dissimilarity")
    values, score = np.asarray(array[0]), np.asarray(outcome.cube.array("0/naturalness")[0])
    assert (np.isfinite(values) == (score > 0)).all()
    # the tiny checkpoint takes white noise for the known, so that every land is strange to it
    assert np.nanmin(values) > 1
    assert "Meyer & Pebesma 2021" in array.attrs["comment"]
    html = (Path(run_folder(outcome.cube.uri)) / "report.html").read_text()
    assert re.search(r"100 % of the mapped land is unlike", html)


def test_of_a_large_cube_without_overviews_nothing_is_claimed(tmp_path, monkeypatch):
    """Interrupted, a country has its two finest levels only: they are not read whole for a line of text."""
    cube = make(tmp_path / "a.zarr")
    cube.publish_levels(1, {})
    monkeypatch.setattr("spacex.cube.applicability.MAX_SIDE", 512)
    assert share_outside(cube) is None
    assert trust_line(cube) == ""
    assert not tiles_outside(cube, 0).any()

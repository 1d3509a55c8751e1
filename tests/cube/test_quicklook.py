"""Colour scales of the quicklook."""

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from shapely.geometry import box, mapping

from spacex.cube import quicklook
from spacex.cube.overviews import make_overviews
from spacex.cube.quicklook import _top
from spacex.cube.store import TileMaps, create_cube
from spacex.execution.tasks import Status, TileTask

from .conftest import SPEC


@pytest.mark.parametrize(("name", "value", "end"), [("attribution", 0.0012, 0.003), ("lift", 7e-6, 5e-5)])
def test_maps_that_show_next_to_nothing_are_not_stretched_to_full_colour(name, value, end):
    assert _top(name, np.full((4, 4), value, "f4")) == (pytest.approx(end), True)


def test_other_maps_end_at_their_own_99th_percentile():
    values = np.linspace(0, 0.1, 10_001, dtype="f4").reshape(73, 137)
    assert _top("attribution", values) == (pytest.approx(0.099), False)
    assert _top("naturalness", values) == (1.0, False)


def test_a_faint_map_is_drawn_faint_and_called_doubtful(tmp_path, monkeypatch):
    said, write = [], matplotlib.axis.Axis.set_label_text
    monkeypatch.setattr(matplotlib.axis.Axis, "set_label_text", lambda *a, **k: said.append(a[1]) or write(*a, **k))
    about = {"request": {"area": mapping(box(15, 62, 16, 63))}, "checkpoint": {"preset": "delta", "data": {}}}
    cube = create_cube(str(tmp_path / "c.zarr"), SPEC, "0123", {"title": "a test", "license": "CC-BY-4.0", **about})
    for place in cube.spec.tiling:
        task = TileTask(0, *place)
        shape = cube.window(task).shape
        maps = {name: np.full(shape, 0.0012, "f4") for name in ("attribution", "naturalness")}
        cube.write(task, TileMaps(maps, np.ones(shape, "u2"), np.full((3, *shape), 0.1, "f4")))
        cube.finish(task, Status.DONE, {})
    make_overviews(cube)
    quicklook.draw(cube, str(tmp_path / "c.png"), time=0)
    drawn = np.rint(imread(tmp_path / "c.png")[..., :3] * 255)
    colour = np.array(matplotlib.colormaps["inferno"](0.0012 / 0.003)[:3]) * 255
    assert (np.abs(drawn - colour).max(axis=-1) < 8).mean() > 0.1
    assert ["doubtful: the generators change next to nothing" in text for text in said].count(True) == 1


def test_a_picture_of_one_state_is_drawn_once(cube, monkeypatch):
    drawn = []
    monkeypatch.setattr(quicklook.Figure, "savefig", lambda self, file, **how: drawn.append(self))
    monkeypatch.setattr("spacex.cube.quicklook._draw_step", lambda *_: None)
    cube.attributes |= {"request": {"area": {"type": "Point", "coordinates": [15.5, 62.6]}}}
    cube.attributes |= {"checkpoint": {"preset": "delta", "kind": "patterns", "data": {}}}
    last = len(cube.spec.intervals) - 1
    quicklook.render(cube, last)
    quicklook.render(cube, last)
    assert len(drawn) == 1
    place = next(iter(cube.spec.tiling))
    cube.finish(TileTask(last, *place), Status.NO_DATA, {})
    quicklook.render(cube, last)
    assert len(drawn) == 2

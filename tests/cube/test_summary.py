"""Numbers of a map, and the sentences that say where they mean little."""

import numpy as np
import pytest
import xarray as xr

from spacex.certificate import Certificate, Check
from spacex.cube.overviews import make_overviews
from spacex.cube.quicklook import render
from spacex.cube.store import TileMaps
from spacex.cube.summary import UNCERTIFIED, MapNumbers, faint_line, grain_line, meaning_lines, summarise_maps
from spacex.display import FLOORS
from spacex.execution.tasks import Status, TileTask


def fill(cube, attribution):
    for row, col in cube.spec.tiling:
        shape = cube.window(TileTask(0, row, col)).shape
        maps = {"attribution": np.full(shape, attribution, "f4"), "naturalness": np.full(shape, 0.8, "f4")}
        task = TileTask(0, row, col)
        cube.write(task, TileMaps(maps, np.ones(shape, "u2"), np.full((3, *shape), 0.1, "f4")))
        cube.finish(task, Status.DONE, {})


def test_a_map_of_generators_that_collapsed_is_called_doubtful(cube):
    assert summarise_maps(cube) == []
    fill(cube, 0.0012)
    numbers = {number.name: number for number in summarise_maps(cube)}
    assert numbers["attribution"].mean == pytest.approx(0.0012, rel=0.01)
    assert numbers["naturalness"].high == pytest.approx(0.8, abs=0.004)
    assert faint_line(list(numbers.values())).startswith("doubtful: next to nothing shows in attribution (0.0012,")


@pytest.mark.parametrize("whole", [8, 1])
def test_the_mean_is_that_of_all_pixels(cube, monkeypatch, whole):
    monkeypatch.setattr("spacex.cube.summary.WHOLE", whole)
    fill(cube, 0.01)
    array = cube.array("0/attribution")
    last = TileTask(0, *list(cube.spec.tiling)[-1])
    array[(0, *cube.window(last).slices(cube.spec.stored))] = 0.1
    with xr.open_zarr(cube.uri, group="0") as data:
        mean = float(data.attribution[0].mean())
    assert 0.01 < mean < 0.1
    assert summarise_maps(cube)[0].mean == pytest.approx(mean, rel=1e-4)


def test_numbers_are_read_once_until_a_tile_is_finished(cube, monkeypatch):
    fill(cube, 0.0012)
    assert summarise_maps(cube) is summarise_maps(cube)
    first = TileTask(0, *next(iter(cube.spec.tiling)))
    cube.finish(first, Status.FAILED, {})
    before = summarise_maps(cube)
    cube.finish(first, Status.DONE, {})
    assert summarise_maps(cube) is not before


def test_one_faint_map_is_named_beside_one_that_is_not():
    lift = MapNumbers("lift", "", FLOORS["lift"] / 20, FLOORS["lift"] / 10)
    attribution = MapNumbers("attribution", "", FLOORS["attribution"], FLOORS["attribution"] * 1.01)
    line = faint_line([attribution, lift])
    assert line.startswith("doubtful: next to nothing shows in lift (5e-06,")
    assert "attribution" not in line


def test_other_maps_are_not(cube):
    fill(cube, 2 * FLOORS["attribution"])
    assert faint_line(summarise_maps(cube)) == ""


def test_the_quicklook_says_it_too(cube, monkeypatch):
    fill(cube, 0.0012)
    make_overviews(cube)
    cube.attributes["request"] = {"area": {"type": "Point", "coordinates": [15.5, 62.6]}}
    cube.attributes["checkpoint"] = {"preset": "delta", "kind": "patterns", "data": {}}
    texts = []
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **how: texts.append(text))
    monkeypatch.setattr(
        "spacex.cube.quicklook._gaps", lambda cube, step, y, x, factor: np.zeros((len(y), len(x)), "u1")
    )
    assert render(cube, 0).startswith(b"\x89PNG")
    assert "doubtful: next to nothing" in texts[0]


@pytest.mark.parametrize(("stride", "said"), [(192, True), (128, True), (64, False)])
def test_a_small_region_says_how_coarse_its_scores_are(cube, stride, said):
    cube.attributes["request"] = {"chips": {"stride": stride, "chip_size": 256}}
    line = grain_line(cube)
    assert bool(line) == said
    if said:
        assert f"squares of {stride / 100:.1f} km" in line
        assert f"--stride 64 makes them 0.6 km, for {(stride / 64) ** 2:.0f} times the chips" in line


def test_a_map_says_what_its_scores_mean_and_how_good_they_are(cube):
    assert meaning_lines(cube) == [UNCERTIFIED]
    checks = (
        Check(name="AUROC", value=0.991, low=0.98, high=0.999, control="colour alone", beside=0.94),
        Check(name="x- turns natural chips", value=1.0),
    )
    certificate = Certificate(data="chips, test split official", chips=1200, places=31, checks=checks)
    card = {"meaning": "Natural means forest.", "certificate": certificate.model_dump(mode="json")}
    cube.attributes["checkpoint"] = card
    assert meaning_lines(cube) == [
        "Natural means forest.",
        "its certificate: AUROC 0.991 [0.98, 0.999] (colour alone 0.94) "
        "(1,200 chips of 31 places of chips, test split official; all 2 checks are in its card)",
    ]


@pytest.mark.parametrize(
    ("check", "doubt"),
    [
        ({"value": 0.18, "low": 0.03, "high": 0.47}, "doubtful, its scores may be no better than chance: its"),
        (
            {"value": 0.7, "low": 0.45, "high": 0.9, "gap": 0.1},
            "doubtful, its scores may be no better than chance: its",
        ),
        ({"value": 0.4}, "doubtful, its scores may be no better than chance: its"),
        (
            {"value": 0.9, "low": 0.8, "high": 0.95, "gap": 0.02, "gap_low": -0.01, "gap_high": 0.05},
            "doubtful, its scores may be no better than colour alone: its",
        ),
        ({"value": 0.9, "gap": 0.1}, "its certificate: AUROC"),
        (
            {"name": "x- turns natural chips", "value": 0.01, "low": 0.0, "high": 0.02},
            "doubtful, its x- may turn no natural chip, as of generators that collapsed: its",
        ),
    ],
)
def test_a_bad_certificate_begins_with_a_doubt(check, doubt):
    checks = (Check(**{"name": "AUROC", "control": "colour alone", "beside": 0.8} | check),)
    line = Certificate(data="demo", chips=8, places=4, checks=checks).line
    assert line.startswith(doubt)
    assert "its certificate: " in line

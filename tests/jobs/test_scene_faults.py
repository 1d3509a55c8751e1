"""Scenes that are broken, doubtful or left out by hand: the map is made of the others, and the run says so."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from small_archive import DAYS, list_items

from spacex.commands.app import invoke
from spacex.cube.reader import open_cube
from spacex.cube.store import Cube
from spacex.errors import CatalogueError
from spacex.mapping.plan import make_plan
from spacex.storage import run_folder


@pytest.fixture(scope="module")
def job(load_job):
    """The mapping job's module."""
    return load_job("map_region")


@pytest.fixture
def items(archive_items):
    """The items of the small archive, to be changed."""
    return json.loads(json.dumps(archive_items))


@pytest.fixture
def map_items(job, tiny_checkpoint, tmp_path, capsys):
    """Lists items and maps them: gives a function (output, further words) to (exit code, what was printed)."""

    @contextmanager
    def served(items):
        folder = tmp_path / "stac"
        folder.mkdir(exist_ok=True)
        file = list_items(items, folder)

        def run(output, *more):
            words = ["--bbox", "23.93,67.95,24.0,67.98", "--datetime", DAYS, "--catalogue", "demo", "--local"]
            words += ["--items", file, "--checkpoint", tiny_checkpoint.uri, "--tile-size", "512"]
            words += ["--threads", "1", "--maps", "attribution", "--output", str(output), *more]
            capsys.readouterr()
            return invoke(job.app, words), capsys.readouterr().err

        yield run

    return served


def report(output):
    return Path(run_folder(str(output)), "report.html").read_text()


def naturalness(output):
    with open_cube(str(output)) as cube:
        return cube.naturalness.values.copy()


def test_items_that_cannot_be_used_are_counted_at_the_end(items, map_items, tmp_path):
    del items[2]["properties"]["s2:processing_baseline"], items[2]["properties"]["earthsearch:boa_offset_applied"]
    with map_items(items) as run:
        code, said = run(tmp_path / "map.zarr")
        assert code == 0
        assert "1 item of the catalogue left out: b34 (cannot tell whether" in said
        assert "b34" in report(tmp_path / "map.zarr")
        # a run that has nothing left to do says it too
        assert "1 item of the catalogue left out: b34" in run(tmp_path / "map.zarr")[1]


def test_scenes_whose_pixels_contradict_their_offset_are_told(items, map_items, tmp_path):
    for item in items[:3]:  # their pixels have no offset
        item["properties"] |= {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.00"}
    with map_items(items) as run:
        for _ in range(2):
            code, said = run(tmp_path / "map.zarr")
            assert code == 0
            assert "doubtful: the pixels of" in said
            assert "at or below zero after -1000 DN" in said
            assert "--leave-out" in said
            assert "at or below zero after -1000 DN" in report(tmp_path / "map.zarr")


def test_sound_scenes_are_not_mentioned(items, map_items, tmp_path):
    with map_items(items) as run:
        code, said = run(tmp_path / "map.zarr", "--leave-out", "b43")
    assert code == 0
    assert "doubtful" not in said
    assert "of the catalogue left out" not in said
    request = Cube(str(tmp_path / "map.zarr")).attributes["request"]
    assert request["leave_out"] == ["b43"]


def test_a_request_that_leaves_nothing_out_has_the_fingerprint_it_had(make_request):
    request = make_request()
    assert "leave_out" not in request.model_dump(mode="json")
    assert make_request(leave_out=("b", "a")).model_dump(mode="json")["leave_out"] == ["a", "b"]


def test_a_map_goes_on_without_an_item_whose_file_is_gone(items, map_items, tmp_path):
    red = tmp_path / "gone.tif"
    items[0]["assets"]["red"]["href"] = str(red)
    output, fresh = tmp_path / "map.zarr", tmp_path / "fresh.zarr"
    with map_items(items) as run:
        code, said = run(output)
        assert code == 3
        assert "--leave-out a34 goes on without it" in said
        code, said = run(output, "--leave-out", "a34")
        assert code == 0, said
        assert "1 item of the catalogue left out: a34 (as asked)" in said
        assert run(fresh, "--leave-out", "a34")[0] == 0
        np.testing.assert_array_equal(naturalness(output), naturalness(fresh))
        # without the option it is another map again
        assert run(output)[0] == 2


def test_finished_tiles_that_read_an_item_are_made_again_without_it(items, map_items, tmp_path):
    output, fresh = tmp_path / "map.zarr", tmp_path / "fresh.zarr"
    with map_items(items) as run:
        assert run(output)[0] == 0
        shutil.copytree(output, tmp_path / "before.zarr")
        code, said = run(output, "--leave-out", "c35")
        assert code == 0, said
        assert run(fresh, "--leave-out", "c35")[0] == 0
        np.testing.assert_array_equal(naturalness(output), naturalness(fresh))
        assert (naturalness(output) != naturalness(tmp_path / "before.zarr")).any()
        assert run(output, "--leave-out", "c35")[0] == 0


def test_missing_keys_are_told_once_before_any_work(make_request, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("CDSE_S3_ACCESS_KEY", raising=False)
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "secret")
    request = make_request(catalogue="cdse", items=None)
    with pytest.raises(CatalogueError, match="no CDSE_S3_ACCESS_KEY in the environment") as caught:
        make_plan(request, str(tmp_path / "map.zarr"), tiny_checkpoint)
    assert "secret" not in str(caught.value)
    assert "AWS" not in str(caught.value)

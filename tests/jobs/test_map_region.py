"""The mapping job from its command line to the file on disk, from a list of scenes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from small_archive import list_items

from spacex.checkpoint import save_checkpoint
from spacex.commands.app import invoke
from spacex.cube.reader import open_cube
from spacex.cube.statuses import tasks_where
from spacex.cube.store import Cube
from spacex.execution.tasks import Status

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "map_region.py"
BOX = (23.93, 67.95, 24.07, 68.00)
DAYS = "2020-07-01/2020-08-30"


@pytest.fixture(scope="module")
def job(load_job):
    """The job's module."""
    return load_job("map_region")


@pytest.fixture(scope="module")
def arguments(archive_list, tiny_checkpoint):
    """The options of a request that works, but for the output; keywords replace or (None) drop options."""

    def make(output, **changes):
        options = {
            "bbox": BOX,
            "datetime": DAYS,
            "catalogue": "demo",
            "items": archive_list,
            "checkpoint": tiny_checkpoint.uri,
            "tile-size": 512,
            "threads": 1,
            "output": output,
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        words = ["--local"]
        for name, value in options.items():
            if value is not None:
                words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
        return words

    return make


def call(job, words):
    """Run the job in this process; gives its exit code."""
    return invoke(job.app, words)


@pytest.fixture(scope="module")
def mapped(job, arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("mapped") / "lapland.zarr"
    picture = output.with_name("lapland.png")
    assert call(job, [*arguments(output), "--quicklook", str(picture)]) == 0
    return output


def test_a_map_from_the_command_line(mapped):
    data = open_cube(str(mapped))
    assert data.rio.crs.to_epsg() == 3035
    assert float(np.isfinite(data.attribution).mean()) > 0.5
    assert (data.spacex.tiles.status.isin(["done", "outside"])).all()
    cube = Cube(str(mapped))
    assert cube.attributes["request"]["catalogue"] == "demo"
    assert data.attrs["license"] == "CC-BY-4.0"
    assert "Copernicus" not in json.dumps(data.attrs)  # synthetic scenes
    assert {data[name].attrs["units"] for name in data.data_vars} == {"1"}
    told = json.loads((mapped.parent / "lapland.run" / "progress.json").read_text())
    assert told["state"] == "complete"
    assert told["tiles"]["done"] == int((data.spacex.tiles.status == "done").sum())
    made = cube.provenance(tasks_where(cube.statuses() == Status.DONE, cube.spec.tiling)[0])
    assert {scene["id"] for scene in made["scenes"]} <= {"a34", "a35", "b34", "c35"}
    assert {scene["offset_dn"] for scene in made["scenes"] if scene["id"] == "c35"} <= {-1000}
    assert set(made["seconds"]) == {"reading", "computing", "writing"}
    assert not any("sig=" in json.dumps(scene) for scene in made["scenes"])


def test_the_quicklook_shows_something(mapped):
    from matplotlib.image import imread

    picture = imread(mapped.with_suffix(".png"))
    assert picture.shape[0] > 300
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 0.1


def test_repeating_a_finished_run_does_nothing(job, mapped, arguments):
    def files():
        return {p: p.stat().st_mtime_ns for p in mapped.rglob("*") if p.is_file()}

    before = files()
    assert call(job, arguments(mapped)) == 0
    assert files() == before


def test_plan_tells_and_writes_nothing(job, mapped, arguments, tmp_path, capsys):
    capsys.readouterr()
    assert call(job, [*arguments(tmp_path / "new.zarr"), "--plan", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []
    assert planned["scenes"] == [4]
    done = int((Cube(str(mapped)).statuses() == Status.DONE).sum())
    assert planned["tiles"] == {"new": done, "redo": 0, "done": 0, "outside": planned["tiles"]["outside"]}
    assert planned["chips"] > 10
    assert planned["bytes_to_read"] > 1e6
    assert call(job, [*arguments(mapped), "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiles"]["done"] == done


def test_the_plan_speaks_to_people(job, arguments, tmp_path, capsys):
    capsys.readouterr()
    assert call(job, [*arguments(tmp_path / "new.zarr"), "--plan", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert call(job, [*arguments(tmp_path / "new.zarr"), "--plan"]) == 0
    told = dict(line.strip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[:1].strip())
    assert told["tiles"].startswith(f"{planned['tiles']['new']} to do")
    assert told["chips"] == f"{planned['chips']:,}"
    assert told["scenes"] == "4"
    assert told["hours"].startswith("not measured")


def test_the_score_alone_can_be_mapped_and_the_end_names_what_is_there(job, arguments, tmp_path, capsys):
    capsys.readouterr()
    output, picture = tmp_path / "score.zarr", tmp_path / "score.png"
    box = ("23.98", "67.97", "24.0", "67.98")
    words = arguments(output, bbox=box, maps="naturalness", quicklook=picture, datetime="2020-07")
    assert call(job, words) == 0
    told = capsys.readouterr()
    assert told.out == f"cube: {output}\n"
    assert f"picture: {picture}\n" in told.err
    assert f"report: {tmp_path / 'score.run' / 'report.html'}\n" in told.err
    assert f"view {output}\n" in told.err
    data = open_cube(str(output))
    assert data.naturalness.notnull().any()
    assert not {"attribution", "lift", "path_attribution"} & set(data)
    assert picture.exists()
    assert "complete" in (tmp_path / "score.run" / "report.html").read_text()
    assert (tmp_path / "score.run" / "tiles.geojson").exists()
    assert json.loads((tmp_path / "score.stac.json").read_text())["assets"]["thumbnail"]
    assert "not written" not in told.err


def test_outputs_that_cannot_be_written_are_named_and_change_the_exit_code(
    job, arguments, tmp_path, monkeypatch, capsys
):
    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr("spacex.mapping.report.render", fail)
    output, picture = tmp_path / "score.zarr", tmp_path / "score.png"
    monkeypatch.setattr("spacex.cube.quicklook.draw", fail)
    words = arguments(output, bbox=("23.98", "67.97", "24.0", "67.98"), maps="naturalness", quicklook=picture)
    assert call(job, words) == 3
    told = capsys.readouterr()
    assert told.out == f"cube: {output}\n"
    assert "not written: report: OSError: no room\n" in told.err
    assert "not written: picture: OSError: no room\n" in told.err
    assert "report: /" not in told.err
    assert f"picture: {picture}" not in told.err
    assert (tmp_path / "score.run" / "tiles.geojson").exists()
    assert (tmp_path / "score.stac.json").exists()


def test_a_classifier_alone_maps_the_score_and_nothing_else(job, arguments, tmp_path, tiny_checkpoint, capsys):
    alone = str(tmp_path / "classifier")
    card = tiny_checkpoint.card.model_copy(update={"kind": "classifier", "generator": None})
    modules = {"classifier": tiny_checkpoint.classifier}
    save_checkpoint(alone, card, modules, tiny_checkpoint.applicability)
    box, output = ("23.98", "67.97", "24.0", "67.98"), tmp_path / "m.zarr"
    assert call(job, arguments(output, bbox=box, checkpoint=alone)) == 2
    assert "has no minimiser" in (told := capsys.readouterr().err)
    assert "--maps naturalness" in told
    assert [file.name for file in tmp_path.iterdir()] == ["classifier"]
    assert call(job, arguments(output, bbox=box, checkpoint=alone, maps="naturalness")) == 0
    assert open_cube(str(output)).naturalness.notnull().any()


def test_several_intervals_become_the_time_axis(job, arguments, tmp_path):
    asked = {"datetime": "2020-07-01/2020-07-05", "maps": "attribution", "bbox": ("23.98", "67.97", "24.0", "67.98")}
    words = arguments(tmp_path / "t.zarr", **asked)
    assert call(job, [*words, "--datetime", "2020-07-15/2020-07-20"]) == 0
    data = open_cube(str(tmp_path / "t.zarr"))
    assert [str(t)[:10] for t in data.time.values] == ["2020-07-01", "2020-07-15"]
    assert "lift" not in data
    assert not np.array_equal(data.attribution[0], data.attribution[1], equal_nan=True)


def square(folder, coordinates):
    file = folder / "area.geojson"
    file.write_text(json.dumps({"type": "Polygon", "coordinates": [coordinates]}))
    return file


WRONG = {
    "west of east": (dict(bbox=(25, 67, 24, 68)), "west"),
    "latitude 95": (dict(bbox=(24, 67, 25, 95)), "95"),
    "no region": (dict(bbox=None), "--bbox or --area"),
    "no such area": (dict(bbox=None, area="atlantis"), "atlantis"),
    "no scenes": (dict(bbox=(10.0, 59.0, 10.1, 59.1)), "no scenes"),
    "no scenes that day": (dict(datetime="1999-07-01/1999-07-02"), "no scenes"),
    "dates backwards": (dict(datetime="2020-08-30/2020-07-01"), "ends before"),
    "no date": (dict(datetime="summer"), "FIRST/LAST"),
    "unreachable": (dict(items=None, stac_url="http://127.0.0.1:9"), "127.0.0.1:9"),
    "unknown catalogue": (dict(catalogue="landsat"), "landsat"),
    "no checkpoint": (dict(checkpoint="/nowhere/at/all"), "/nowhere/at/all"),
    "odd tile": (dict(tile_size=700), "512"),
    "odd stride": (dict(stride=190), "multiple of 4"),
    "stride leaves gaps": (dict(stride=260), "256"),
    "unknown map": (dict(maps="gradcam"), "gradcam"),
    "degrees": (dict(crs="EPSG:4326"), "metres"),
    "resolution": (dict(resolution=7.3), "kilometres"),
    "cloud": (dict(max_cloud_cover=140), "--max-cloud-cover"),
    "no such class": (dict(clear_classes="4,cloudy"), "--clear-classes"),
    "not a zarr": (dict(output_name="map.tif"), ".zarr"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_one_clear_line_and_writes_nothing(job, arguments, tmp_path, name, capsys):
    changes, word = WRONG[name]
    changes = dict(changes)
    output = tmp_path / changes.pop("output_name", "out.zarr")
    assert call(job, arguments(output, **changes)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert word in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_area_is_refused(job, arguments, tmp_path, capsys):
    file = square(tmp_path, [[24, 68], [24, 68], [24, 68], [24, 68]])
    assert call(job, arguments(tmp_path / "out.zarr", bbox=None, area=file)) == 2
    assert "area" in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


def test_another_fingerprint_is_refused_with_both_named(job, mapped, arguments, capsys):
    assert call(job, arguments(mapped, max_cloud_cover=33)) == 2
    said = capsys.readouterr().err
    assert Cube(str(mapped)).fingerprint in said
    assert re.search(r"expected [0-9a-f]{16}\b", said)


def test_bands_the_catalogue_lacks_are_named(job, arguments, tmp_path, tiny_checkpoint, capsys):
    from spacex.checkpoint import save_checkpoint
    from spacex.model_card import Card, Scaling

    card = Card(**{**tiny_checkpoint.card.model_dump(), "bands": ("B02", "B03", "B12"), "hashes": {}})
    assert isinstance(card.scaling, Scaling)
    networks = {name: getattr(tiny_checkpoint, name) for name in ("classifier", "maximiser", "minimiser")}
    other = save_checkpoint(tmp_path / "swir", card, networks)
    assert call(job, arguments(tmp_path / "out.zarr", checkpoint=other.uri)) == 2
    assert re.search(r"B12|swir22", capsys.readouterr().err)


def test_the_shell_sees_one_line_and_exit_code_2(tmp_path):
    words = [
        sys.executable,
        str(JOB),
        "--local",
        "--bbox",
        "25",
        "67",
        "24",
        "68",
        "--output",
        str(tmp_path / "o.zarr"),
    ]
    found = subprocess.run([*words, "--datetime", DAYS], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_poisoned_scene_ends_as_quarantine_with_the_command_that_retries(
    job, archive_items, arguments, tmp_path, capsys
):
    """One file of one scene is cut short: its tiles are given up by name; healed, only they are done again."""
    items = json.loads(json.dumps(archive_items[:1]))
    healthy = Path(items[0]["assets"]["red"]["href"])
    broken = tmp_path / "broken.tif"
    broken.write_bytes(healthy.read_bytes()[: healthy.stat().st_size // 2])
    items[0]["assets"]["red"]["href"] = str(broken)
    folder = tmp_path / "stac"
    folder.mkdir()
    output = tmp_path / "poisoned.zarr"
    file = list_items(items, folder)
    capsys.readouterr()
    assert call(job, arguments(output, items=file, maps="attribution")) == 3
    said = capsys.readouterr().err
    assert "given up" in said
    assert "a34" in said
    assert "To try them again" in said
    failed = (Cube(str(output)).statuses() == Status.FAILED).sum()
    assert failed >= 1
    shutil.copy(healthy, broken)
    assert call(job, arguments(output, items=file, maps="attribution")) == 0
    states = Cube(str(output)).statuses()
    assert not np.isin(states, (Status.FAILED, Status.PENDING)).any()


def finished(output):
    return len([p for p in Path(output, "tiles", "status").glob("c/*/*/*") if p.read_bytes() == bytes([Status.DONE])])


def went_so_far(process, output, tiles):
    """The process ended, or it is at work itself (an earlier one's tiles lie there from the start)."""
    started = Path(output).with_suffix(".run").joinpath("progress.json").exists()
    return process.poll() is not None or (started and finished(output) >= tiles)


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_a_stopped_driver_resumes_to_the_same_cube(job, mapped, arguments, tmp_path, sign):
    output = tmp_path / "stopped.zarr"
    command = [sys.executable, str(JOB), *arguments(output)]
    stamps = {}
    for round_ in (1, 2):
        Path(tmp_path, "stopped.run", "progress.json").unlink(missing_ok=True)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        wait_for(partial(went_so_far, process, output, round_), 120)
        assert process.poll() is None, process.communicate()[1].decode()
        assert finished(output) >= round_
        process.send_signal(sign)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (-9 if sign is signal.SIGKILL else 143)
        if sign is signal.SIGTERM:
            assert b"resumes" in said
            assert json.loads((tmp_path / "stopped.run" / "progress.json").read_text())["state"] == "interrupted"
        for file in Path(output, "tiles", "status").glob("c/*/*/*"):
            # what one run finished, the next one left alone
            assert stamps.setdefault(file, file.stat().st_mtime_ns) == file.stat().st_mtime_ns
    assert call(job, arguments(output)) == 0
    for uri in (output, mapped):
        assert open_cube(str(uri), level=1).composite.notnull().any()
    plain = {"engine": "zarr", "chunks": None, "mask_and_scale": False}
    ours, theirs = (xr.open_datatree(p, **plain).load() for p in (output, mapped))
    names = [f"{level}/{name}" for level in (0, 1) for name in ("attribution", "lift", "naturalness")]
    for name in [*names, "0/observations", "1/composite", "tiles/status"]:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    for file, stamp in stamps.items():
        assert file.stat().st_mtime_ns == stamp

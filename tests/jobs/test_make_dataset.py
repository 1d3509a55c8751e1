"""Making chips from the command line to the folder on disk, from a list of scenes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from small_archive import list_items
from small_labels import frame, words

from spacex.commands.app import invoke
from spacex.dataset_building.contact_sheet import caption
from spacex.dataset_building.folder import DatasetFolder
from spacex.datasets.anthroprotect import AnthroProtect, read_land_cover
from spacex.grid import Window
from spacex.mapping.worker import SceneSource

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "make_dataset.py"
BANDS = ("B02", "B03", "B04")
FOLDERS = ("s2", "lcs", "s2_scl")


@pytest.fixture(scope="module")
def job(load_job):
    """The job's module."""
    return load_job("make_dataset")


@pytest.fixture(scope="module")
def arguments(statements, archive_list):
    """The options of a request that works; keywords replace or (None) drop options."""

    def make(output, **changes):
        return words(statements, changes.pop("items", archive_list), output, **changes)

    return make


def call(job, options):
    return invoke(job.app, options)


@pytest.fixture(scope="module")
def made(job, arguments, statements, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "chips"
    assert call(job, arguments(output, land_cover=statements / "corine.tif")) == 0
    return output


def files(output):
    """Every file of a set by its content."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def test_the_layout_is_anthroprotects_to_the_letter(made):
    table = pd.read_csv(made / "infos.csv")
    assert list(table) == ["file", "lon", "lat", "category", "label", "dataset"]
    assert table["file"].is_unique
    assert len(table) >= 8
    assert set(table["category"]) == {"wdpa-II", "wdpa-V", "anthropo"}
    assert (table["label"] == table["category"].str.startswith("wdpa")).all()
    assert table["label"].mean() == 0.5
    assert set(map(str, (path.name for path in (made / "tiles").iterdir()))) == set(FOLDERS)
    for folder, bands, dtype in (("s2", 10, "uint16"), ("lcs", 4, "uint16"), ("s2_scl", 1, "uint8")):
        assert {path.name for path in (made / "tiles" / folder).iterdir()} == set(table["file"])
        with rasterio.open(made / "tiles" / folder / table["file"][0]) as source:
            assert (source.count, source.dtypes[0], source.shape, source.nodata) == (bands, dtype, (256, 256), 0)
            assert source.crs.to_epsg() == 3035
            assert all(value % 1280 == 0 for value in (source.transform.c, source.transform.f))


def test_every_split_opens_and_no_place_is_in_two(made):
    splits = [AnthroProtect(made, BANDS, split, strict=True) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(pd.read_csv(made / "infos.csv"))
    groups = [set(part.infos["file"].str.replace(r"_[^_]*$", "", regex=True)) for part in splits]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))
    chip, label = splits[0][0]
    assert 0.02 < float(chip.mean()) < 0.2
    assert float(label) in (0, 1)


def test_chips_are_the_pixels_a_map_is_made_from(made, archive_scenes, make_request):
    """Oracle: what the mapping job reads of the same ground. Bands that were not asked for are no data."""
    source = SceneSource(make_request(), BANDS, [archive_scenes])
    for file in sorted(pd.read_csv(made / "infos.csv")["file"])[::3]:
        with rasterio.open(made / "tiles" / "s2" / file) as tile:
            stored, corner = tile.read(), tile.transform
        window = Window(-round(corner.f / 10), round(corner.c / 10), 256, 256)
        seen = source._composites.read(window).reflectance
        expected = np.where(np.isfinite(seen), np.maximum(np.rint(seen * np.float32(10_000)), 1), 0)
        np.testing.assert_array_equal(stored[:3], expected)
        assert not stored[3:].any()
        with rasterio.open(made / "tiles" / "s2_scl" / file) as tile:
            np.testing.assert_array_equal(tile.read(1), np.where(np.isfinite(seen[0]), 4, 0))


def test_land_cover_goes_with_the_chips(made, statements):
    file = sorted(pd.read_csv(made / "infos.csv")["file"])[0]
    codes = read_land_cover(made / "tiles" / "lcs" / file)
    assert set(np.unique(codes)) == {211, 312}
    with rasterio.open(made / "tiles" / "lcs" / file) as tile:
        x = tile.transform.c + 5 + 10 * np.arange(256)
        assert not tile.read([2, 3, 4]).any()
    np.testing.assert_array_equal(codes[0], np.where((x - 4_890_000) // 500 % 2 < 1, 211, 312))


def test_each_chip_lies_in_its_statement(made, statements):
    import shapely

    grounds = {
        1: geopandas.read_file(statements / "natural.gpkg").to_crs(3035).union_all(),
        0: geopandas.read_file(statements / "human.geojson").to_crs(3035).union_all(),
    }
    for file, label in pd.read_csv(made / "infos.csv")[["file", "label"]].itertuples(index=False):
        with rasterio.open(made / "tiles" / "s2" / file) as tile:
            box = shapely.box(*tile.bounds)
        assert (box & grounds[label]).area >= 0.77 * box.area
        assert label == 1 or not box.intersects(grounds[1])


def test_papers_tell_what_was_made(made):
    run = made.with_name("chips.run")
    told = json.loads((run / "progress.json").read_text())
    assert told["state"] == "complete"
    assert told["this_run"]["chips"] == len(pd.read_csv(made / "infos.csv"))
    for name in ("natural", "anthropogenic"):
        with Image.open(run / f"{name}.png") as sheet:
            assert sheet.width > 150
            assert np.asarray(sheet)[10:140, 10:140].std() > 5
    # a line of a sheet says what a chip holds, so that woods among the anthropogenic chips are explained
    natural, fields = (next(c for c in DatasetFolder(str(made)).locations() if c.label == label) for label in (1, 0))
    assert re.fullmatch(r"(8\d|9\d|100) % in natural", caption(made, natural)[1])
    assert re.fullmatch(r"(8\d|9\d|100) % in anthropogenic", caption(made, fields)[1])
    assert re.fullmatch(r"(Non-irrigated arable|Coniferous forest) \d\d %", caption(made, fields)[2])
    report = (run / "report.html").read_text()
    assert report.count("data:image/png;base64") == 3
    assert "wdpa" not in report  # names stand in the pictures
    card = json.loads((made / "dataset.json").read_text())
    assert card["request"]["natural"][0]["digest"]
    assert "synthetic" in card["source"]
    scenes = [scene for file in (run / "tiles").iterdir() for scene in json.loads(file.read_text())["scenes"]]
    assert {scene["id"] for scene in scenes} <= {"a34", "a35", "b34", "c35"}
    assert {scene["offset_dn"] for scene in scenes if scene["id"] == "c35"} <= {-1000}


def test_repeating_a_finished_run_draws_and_makes_nothing(job, made, arguments, statements, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in (made / "tiles").rglob("*.tif")}
    index = (made / "infos.csv").read_bytes()
    monkeypatch.setattr(
        "spacex.dataset_building.plan.search", lambda *_, **__: pytest.fail("asked the catalogue again")
    )
    assert call(job, arguments(made, land_cover=statements / "corine.tif")) == 0
    assert {path: path.stat().st_mtime_ns for path in (made / "tiles").rglob("*.tif")} == before
    assert (made / "infos.csv").read_bytes() == index


def test_the_seed_names_the_draw(job, arguments, tmp_path, capsys):
    drawn = []
    for seed in (1, 1, 2):
        capsys.readouterr()
        assert call(job, [*arguments(tmp_path / "x", seed=seed, count=6), "--plan", "--json"]) == 0
        drawn.append(json.loads(capsys.readouterr().out))
    assert drawn[0] == drawn[1]
    assert list(tmp_path.iterdir()) == []
    assert drawn[0]["chips_to_make"] == 6
    assert drawn[0]["scenes"] == 4
    assert drawn[0]["bytes_to_read"] > 1e5


def test_the_plan_speaks_to_people(job, arguments, tmp_path, capsys):
    assert call(job, [*arguments(tmp_path / "x"), "--plan"]) == 0
    told = dict(line.strip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[:1].strip())
    assert "natural" in told["train"]
    assert told["scenes"] == "4"


def test_a_class_in_several_files_is_that_of_one(job, arguments, statements, tmp_path, capsys):
    """Whatever their formats and CRS: the WDPA ships in three Shapefiles."""
    parks = geopandas.read_file(statements / "natural.gpkg")
    parks.iloc[:1].to_file(tmp_path / "one.geojson", driver="GeoJSON")
    parks.iloc[1:].to_crs(3035).to_file(tmp_path / "other.shp")
    drawn = []
    for files in ([statements / "natural.gpkg"], [tmp_path / "one.geojson", tmp_path / "other.shp"]):
        capsys.readouterr()
        repeated = [word for file in files for word in ("--natural", str(file))]
        assert call(job, [*arguments(tmp_path / "x", natural=None), *repeated, "--plan", "--json"]) == 0
        drawn.append(json.loads(capsys.readouterr().out)["chips"])
    assert drawn[0] == drawn[1]
    assert sum(part["natural"] for part in drawn[0].values()) > 2


def test_threads_are_the_tiles_that_a_worker_reads_at_once(job, arguments, tmp_path, monkeypatch):
    jobs = []

    def stop(job, *_, **__):
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr("spacex.dataset_building.run.run_tiles", stop)
    for given in ({}, {"threads": 5}):
        assert call(job, arguments(tmp_path / "x", **given)) == 130
    assert [job.concurrent_reads for job in jobs] == [2, 5]


def test_land_cover_alone_states_the_anthropogenic_class(job, arguments, statements, tmp_path, capsys):
    """Half of the ground is fields, so a share of .4 finds chips everywhere outside the reserves."""
    options = arguments(tmp_path / "x", anthropogenic=None, land_cover=statements / "corine.tif", share=0.4, count=6)
    assert call(job, [*options, "--plan", "--json"]) == 0
    chips = json.loads(capsys.readouterr().out)["chips"]
    assert sum(part["anthropogenic"] for part in chips.values()) == 3


@pytest.fixture
def wrong_files(tmp_path_factory):
    """Statements that state nothing, by name."""
    import warnings

    place = tmp_path_factory.mktemp("wrong")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = frame([(23.8, 67.9, 24.0, 68.0)], {"a": [1]}).set_crs(None, allow_override=True)
        bare.to_file(place / "bare.gpkg", engine="pyogrio")
    frame([(10.0, 60.0, 10.2, 60.2)], {"a": [1]}).to_file(place / "far.gpkg", engine="pyogrio")
    frame([(23.9, 67.95, 23.91, 67.955)], {"a": [1]}).to_file(place / "small.gpkg", engine="pyogrio")
    return place


WRONG = {
    "no CRS": (dict(natural="bare.gpkg"), "no CRS"),
    "no polygon in reach of a scene": (dict(natural="far.gpkg"), "reach of a scene"),
    "a filter that matches nothing": (dict(natural_where="IUCN_CAT = 'Ia'"), "IUCN_CAT = 'Ia'"),
    "a filter that is no SQL": (dict(natural_where="IUCN_CAT in"), "filter"),
    "a share that no chip reaches": (dict(natural="small.gpkg", share=0.9), "0.9"),
    "no anthropogenic class": (dict(anthropogenic=None), "--anthropogenic or --land-cover"),
    "no natural class": (dict(natural=None, items=None, stac_url="http://127.0.0.1:9"), "--natural"),
    "a filter of nothing": (dict(anthropogenic=None, anthropogenic_where="a=1"), "--anthropogenic-where"),
    "classes of nothing": (dict(anthropogenic_classes="1"), "--land-cover"),
    "no raster": (dict(land_cover="bare.gpkg"), "--land-cover"),
    "no such file": (dict(natural="nowhere.gpkg"), "nowhere.gpkg"),
    "an address": (dict(natural="http://127.0.0.1:9/a.gpkg"), "--natural"),
    "outside the area": (dict(bbox=(10.0, 60.0, 10.2, 60.2)), "area"),
    "no scenes that day": (dict(datetime="1999-07"), "no scenes"),
    "no days": (dict(datetime=None), "--datetime"),
    "unknown band": (dict(bands="B02,B99"), "B99"),
    "a band the catalogue's scenes lack": (dict(bands="B12"), "swir22"),
    "no share": (dict(share=0), "--share"),
    "a cube's name": (dict(output_name="out.zarr"), "cube"),
    "degrees": (dict(crs="EPSG:4326"), "metres"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_one_clear_line_and_writes_nothing(job, arguments, wrong_files, tmp_path, name, capsys):
    changes, word = WRONG[name]
    changes = dict(changes)
    output = tmp_path / changes.pop("output_name", "out")
    for option in ("natural", "land_cover"):
        if str(changes.get(option, "")).endswith(".gpkg") and "://" not in changes[option]:
            changes[option] = wrong_files / changes[option]
    capsys.readouterr()
    assert call(job, arguments(output, **changes)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert word in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_request_or_another_folder_is_refused(job, made, arguments, tmp_path, capsys):
    before = files(made)
    assert call(job, arguments(made, seed=5)) == 2
    assert "fingerprint" in capsys.readouterr().err
    assert files(made) == before
    (tmp_path / "thesis.txt").write_text("mine")
    assert call(job, arguments(tmp_path)) == 2
    assert "something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_chips_without_enough_data_are_left_out_and_told(job, arguments, tmp_path, capsys):
    """Every pixel must have all four observations there are: no chip has."""
    assert call(job, arguments(tmp_path / "x", count=4, min_observations=4, enough=4)) == 3
    said = capsys.readouterr().err
    assert "4 chips were left out for want of data" in said
    assert not list((tmp_path / "x").rglob("*.tif"))


def test_a_poisoned_scene_ends_as_quarantine_and_heals(
    job, archive_items, arguments, made, statements, tmp_path, capsys
):
    items = json.loads(json.dumps(archive_items))
    healthy = Path(items[0]["assets"]["red"]["href"])
    broken = tmp_path / "broken.tif"
    broken.write_bytes(healthy.read_bytes()[: healthy.stat().st_size // 2])
    items[0]["assets"]["red"]["href"] = str(broken)
    (tmp_path / "stac").mkdir()
    output = tmp_path / "chips"
    options = arguments(output, items=list_items(items, tmp_path / "stac"), land_cover=statements / "corine.tif")
    capsys.readouterr()
    assert call(job, options) == 3
    said = capsys.readouterr().err
    assert "given up" in said
    assert "a34" in said
    shutil.copy(healthy, broken)
    assert call(job, options) == 0
    ours, theirs = files(output), files(made)
    assert {name: data for name, data in ours.items() if name != "dataset.json"} == {
        name: data for name, data in theirs.items() if name != "dataset.json"
    }


def test_a_killed_driver_resumes_to_the_same_files(arguments, made, statements, tmp_path):
    output = tmp_path / "chips"
    command = [sys.executable, str(JOB), *arguments(output, land_cover=statements / "corine.tif")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 120
    while not list((tmp_path / "chips.run" / "tiles").glob("*.json")) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (output / "infos.csv").exists()
    there = {path: path.stat().st_mtime_ns for state in (tmp_path / "chips.run" / "tiles").glob("*.json")
             for file in json.loads(state.read_text())["chips"] for path in output.rglob(file)}  # fmt: skip
    assert there
    (output / "tiles" / "s2" / ".half-0.part").touch()  # as a writer leaves it that is killed in the middle of a chip
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    ours, theirs = files(output), files(made)
    ours.pop("dataset.json"), theirs.pop("dataset.json")
    assert ours == theirs
    assert {path: path.stat().st_mtime_ns for path in there} == there

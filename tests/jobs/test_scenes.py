"""Lists and cutouts of scenes, from the command line to a map that is made of them; a tile that is made again."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from small_archive import DAYS, list_items

from spacex.checkpoint import save_checkpoint
from spacex.commands import reproduce, scenes
from spacex.commands.app import invoke
from spacex.execution.tasks import Status
from spacex.mapping.request import other_settings
from spacex.sentinel2 import assets
from spacex.sentinel2.item_list import read_items

BOX = "23.97,67.965,24.03,67.985"


@pytest.fixture
def words(common):
    """The options that a list, a cutout and a map of the small archive have in common; a list to be changed."""
    return list(common)


@pytest.fixture(scope="module")
def common(archive_list, tiny_checkpoint):
    where = ["--bbox", BOX, "--datetime", DAYS, "--items", archive_list, "--catalogue", "demo"]
    return [*where, "--checkpoint", tiny_checkpoint.uri, "--tile-size", "512"]


@pytest.fixture(scope="module")
def mapped(load_job, common):
    """Maps into a folder from another list; gives the cube's name."""
    job = load_job("map_region")

    def run(folder, items=None):
        chosen = list(common)
        if items is not None:
            chosen[chosen.index("--items") + 1] = str(items)
        output = str(folder / "map.zarr")
        always = ["--local", "--threads", "1", "--maps", "attribution", "--output", output]
        assert invoke(job.app, [*chosen, *always]) == 0
        return output

    return run


@pytest.fixture(scope="module")
def archive_map(mapped, tmp_path_factory):
    """A map of the archive itself."""
    return mapped(tmp_path_factory.mktemp("archive"))


def arrays(uri):
    """All arrays of a cube but its provenance, as bytes."""
    members = zarr.open_group(uri, mode="r").members(max_depth=None)
    return {path: np.asarray(array[...]).tobytes() for path, array in members if isinstance(array, zarr.Array)
            and "provenance" not in path}  # fmt: skip


def test_a_map_of_a_cutout_equals_that_of_the_archive(
    words, mapped, archive_map, archive_items, load_job, tmp_path, capsys, monkeypatch
):
    """Moved, without the archive's files, and begun twice: what is there is not fetched again."""
    (tmp_path / "beside").mkdir()
    cut = tmp_path / "beside" / ".." / "cut"
    opened = []
    usual = assets.open_raster
    monkeypatch.setattr(assets, "open_raster", lambda path, *more: opened.append(path) or usual(path, *more))
    gone = json.loads(json.dumps(archive_items))
    gone[-1]["assets"]["red"]["href"] = str(tmp_path / "gone.tif")
    partly = [*words]
    partly[partly.index("--items") + 1] = list_items(gone, tmp_path)
    assert invoke(scenes.app, [*partly, "--cutout", str(cut)]) == 3
    assert f"given up: {gone[-1]['id']}: cannot read asset red" in capsys.readouterr().err
    assert not (cut / "items.json").exists()
    before = len(opened)
    assert invoke(scenes.app, [*words, "--cutout", str(cut)]) == 0
    assert len(opened) - before < before / 2
    before = len(opened)
    assert invoke(scenes.app, [*words, "--cutout", str(cut)]) == 0
    assert len(opened) == before
    text = capsys.readouterr()
    assert "a map of this area is expected to read" in text.err
    assert "a34" in text.out
    (following,) = {line for line in text.err.splitlines() if line.startswith("next: ")}
    monkeypatch.chdir(tmp_path)
    assert invoke(load_job("map_region").app, [*shlex.split(following)[3:], "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiles"]["new"] > 0
    moved = shutil.move(cut, tmp_path / "moved")
    (tmp_path / "b").mkdir()
    assert arrays(archive_map) == arrays(mapped(tmp_path / "b", moved / "items.json"))
    assert not any(str(path).startswith(str(tmp_path / "cut")) for path in opened[before:])
    assert "the cutout" not in capsys.readouterr().err
    (tmp_path / "d").mkdir()
    where = ["--bbox", "23.93,67.95,24.07,68.0"]
    output = ["--local", "--threads", "1", "--maps", "naturalness", "--output", str(tmp_path / "d" / "map.zarr")]
    cut_words = [*where, *words[2:], "--enough", "1", "--cloud-buffer", "2", *output]
    cut_words[cut_words.index("--items") + 1] = str(moved / "items.json")
    assert invoke(load_job("map_region").app, cut_words) == 0
    changed = "cloud_buffer 0, now 2; enough 8, now 1; an area that does not hold this one"
    assert f"it was made for {changed}\n" in capsys.readouterr().err
    lost = next(moved.glob("*/red.tif"))
    content = lost.read_bytes()
    lost.unlink()
    assert invoke(scenes.app, [*words, "--cutout", str(moved)]) == 0
    assert lost.read_bytes() == content
    (tmp_path / "beside" / "red.tif").write_bytes(
        next(file for file in moved.glob("*/red.tif") if file != lost).read_bytes()
    )
    lost.unlink()
    lost.symlink_to(tmp_path / "beside" / "red.tif")
    # a map that is finished reads nothing more; one that is not goes on by the list that it has
    assert invoke(load_job("map_region").app, cut_words) == 0
    statuses = zarr.open_group(cut_words[-1], mode="r+")["tiles/status"]
    statuses[...] = Status.PENDING
    assert invoke(load_job("map_region").app, cut_words) == 2
    assert f"{lost} is not the file that {moved}/items.json lists" in capsys.readouterr().err
    other = [*cut_words[:-1], str(tmp_path / "e.zarr")]
    for again in (other, [*other, "--plan"]):
        assert invoke(load_job("map_region").app, again) == 2
        assert f"{lost} is not the file that {moved}/items.json lists" in capsys.readouterr().err
    assert invoke(scenes.app, [*words, "--cutout", str(moved)]) == 0
    assert lost.read_bytes() == content
    wide = list(words)
    wide[1] = "23.93,67.95,24.07,68.0"
    assert invoke(scenes.app, [*wide, "--cutout", str(moved)]) == 2
    assert "holds a cutout of another area" in capsys.readouterr().err
    assert invoke(scenes.app, [*words, "--cutout", str(tmp_path / "b")]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_a_list_of_the_search_repeats_it(words, tmp_path, capsys):
    assert invoke(scenes.app, [*words, "--output", str(tmp_path / "list.parquet")]) == 0
    again = list(words)
    again[again.index("--items") + 1] = str(tmp_path / "list.parquet")
    del again[again.index("--catalogue") : again.index("--catalogue") + 2]  # the list says it
    assert invoke(scenes.app, [*again, "--output", str(tmp_path / "list.json")]) == 0
    ids = [[item["id"] for item in read_items(str(tmp_path / name))] for name in ("list.parquet", "list.json")]
    assert ids[0] == ids[1]
    assert sorted(ids[0]) == ["a34", "a35", "b34", "c35"]
    assert invoke(scenes.app, [*words, "--stac-url", "http://127.0.0.1:9"]) == 2
    assert "--items needs no server" in capsys.readouterr().err


def test_a_tile_is_made_again_to_the_bit_or_says_why_not(words, archive_map, archive_items, tmp_path, capsys):
    shutil.copytree(Path(archive_map).parent, tmp_path / "own")
    output, ways = str(tmp_path / "own" / "map.zarr"), words[words.index("--checkpoint") :][:2]
    made_again = [output, "--at", "24.0,67.975", *ways]
    assert invoke(reproduce.app, made_again) == 0
    assert "the same to the bit (attribution, naturalness" in capsys.readouterr().out
    # another processing of one scene, another scene gone, and a pixel of the cube that nobody computed
    changed = json.loads(json.dumps(archive_items))
    changed[0]["properties"]["s2:generation_time"] = "2023-01-01T00:00:00Z"
    cloudy = changed[1]["properties"]
    was = cloudy["eo:cloud_cover"]
    cloudy["eo:cloud_cover"] = was + 1
    changed[1]["assets"]["red"]["raster:bands"] = [{"scale": 0.0002}]
    items = ["--items", list_items(changed[:-1], tmp_path)]
    array = zarr.open_group(output, mode="r+")["0/attribution"]
    array[0] = np.where(np.isfinite(array[0]), array[0] + 1, np.nan)
    assert invoke(reproduce.app, [*made_again, *items]) == 1
    said = capsys.readouterr().out
    assert f"{changed[0]['id']}: reprocessed: was 02.14 , is 02.14 20230101T000000" in said
    (line,) = [line for line in said.splitlines() if line.startswith(f"{changed[1]['id']}: described otherwise: ")]
    assert f"cloud_cover was {was}, is {was + 1}, red raster:bands was " in line
    assert "scale': 0.0002}]" in line
    assert f"{archive_items[-1]['id']}: gone from the catalogue; read as it was" in said
    assert "attribution differs in" in said
    assert "naturalness differs" not in said
    refused = {
        "no tile there": ["--at", "10,50"],
        "no such tile": ["--tile", "t0-n1-e1"],
        "t0-n494-e478": ["--tile", "x"],
        "either --at or --tile": [],
        "no time step begins": ["--at", "24.0,67.975", "--datetime", "1999-01-01"],
    }
    for why, wrong in refused.items():
        assert invoke(reproduce.app, [output, *wrong, *ways]) == 2, wrong
        assert why in capsys.readouterr().err


@pytest.mark.parametrize("request_text", ["{", "[]", '{"composite": []}', ""])
def test_a_damaged_request_of_a_cutout(words, tmp_path, capsys, request_text):
    (tmp_path / "cutout.json").write_text(request_text)
    assert invoke(scenes.app, [*words, "--cutout", str(tmp_path)]) == 2
    assert "holds a cutout of another area" in capsys.readouterr().err
    assert other_settings(str(tmp_path / "items.json"), {}) == ""


def test_a_list_for_a_classifier_alone_is_that_of_a_map_of_scores(words, tiny_checkpoint, tmp_path):
    card = tiny_checkpoint.card.model_copy(
        update={"kind": "classifier", "generator": None, "hashes": {}, "applicability": None}
    )
    save_checkpoint(tmp_path / "alone", card, {"classifier": tiny_checkpoint.classifier})
    words[words.index("--checkpoint") + 1] = str(tmp_path / "alone")
    assert invoke(scenes.app, [*words, "--cutout", str(tmp_path / "cut")]) == 0
    assert (tmp_path / "cut" / "items.json").exists()

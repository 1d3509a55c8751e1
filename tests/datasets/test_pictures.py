"""Folders of pictures by class."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from small_pictures import CLASSES, build_pictures, draw_picture, write_picture

from spacex.datasets.classes import class_order
from spacex.datasets.pictures import Pictures, has_pictures, list_pictures, read_picture, read_pictures
from spacex.datasets.places import ORIGIN
from spacex.errors import DataError
from spacex.settings import PICTURE_BANDS
from spacex.training.data import DatasetSettings, open_split


def test_what_is_written_is_read_between_0_and_1(tmp_path):
    pixels = draw_picture("striped", 1)
    for ending in (".png", ".tif"):
        assert np.array_equal(read_picture(write_picture(tmp_path / f"a{ending}", pixels)), pixels / np.float32(255))
    lossy = read_picture(write_picture(tmp_path / "a.jpg", pixels))
    assert np.abs(lossy - pixels / 255).mean() < 0.05


def test_grey_is_three_times_the_same_and_alpha_is_left_out(tmp_path):
    pixels = draw_picture("dotted", 2)
    grey = read_picture(write_picture(tmp_path / "grey.png", pixels[:1]))
    assert np.array_equal(grey, np.repeat(pixels[:1], 3, axis=0) / np.float32(255))
    clear = read_picture(write_picture(tmp_path / "clear.png", np.concatenate([pixels, pixels[:1] * 0])))
    assert np.array_equal(clear, pixels / np.float32(255))


def test_other_files_are_refused_by_what_they_are(tmp_path):
    deep = write_picture(tmp_path / "deep.tif", draw_picture("plain", 0).astype("uint16"))
    with pytest.raises(DataError, match="uint16 instead of 8 bits"):
        read_picture(deep)
    many = write_picture(tmp_path / "many.tif", np.zeros((5, 64, 64), "uint8"))
    with pytest.raises(DataError, match="5 bands instead of grey"):
        read_picture(many)
    coloured = write_picture(tmp_path / "map.tif", np.zeros((1, 64, 64), "uint8"))
    with rasterio.open(coloured, "r+") as sink:
        sink.write_colormap(1, {0: (9, 9, 9, 255)})
    with pytest.raises(DataError, match="got a palette"):
        read_picture(coloured)
    vrt = tmp_path / "tricky.png"
    vrt.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>{deep}</SRS></VRTDataset>')
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(vrt)


def test_splits_are_folders(tmp_path):
    build_pictures(tmp_path)
    data = Pictures(tmp_path, split="val", target="plain")
    assert data.classes == ("dotted", "striped", "plain")
    assert len(data) == 12
    assert set(data.infos["split"]) == {"val"}
    x, label = data[0]
    assert (x.shape, x.dtype, label.dtype) == ((3, 64, 64), torch.float32, torch.float32)
    assert {data.classes[int(data[i][1])] == data.infos["class"][i] for i in range(12)} == {True}
    assert data.valid(3).all()


def test_classes_alone_are_split_by_name_for_good(tmp_path):
    for number in range(60):
        for kind in ("a", "b"):
            path = tmp_path / kind / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    table = list_pictures(tmp_path)
    counts = table["split"].value_counts(normalize=True)
    assert counts["train"] == pytest.approx(0.7, abs=0.1)
    assert counts["val"] == pytest.approx(0.15, abs=0.08)
    (tmp_path / "a" / "7.png").unlink()
    fewer = list_pictures(tmp_path)
    assert fewer.merge(table, on=["path", "split"]).shape[0] == len(fewer)


def test_missing_splits_are_drawn_from_train(tmp_path):
    build_pictures(tmp_path, each=30, side=64, splits=("train", "test"))
    table = list_pictures(tmp_path)
    assert set(table["split"]) == {"train", "val", "test"}
    assert table[table["split"] == "test"]["path"].str.startswith("test/").all()
    assert table[table["split"] == "val"]["path"].str.startswith("train/").all()
    assert len(table) == 180


def test_what_cannot_be_used_is_left_out_or_refused(tmp_path):
    build_pictures(tmp_path, each=3)
    write_picture(tmp_path / "train" / "plain" / "large.png", draw_picture("plain", 1, 96))
    (tmp_path / "train" / "plain" / "torn.png").write_bytes(b"\x89PNG torn")
    (tmp_path / "train" / "plain" / "notes.txt").write_text("not a picture")
    data = Pictures(tmp_path, target="plain")
    assert len(data) == 9
    assert {problem.file for problem in data.problems} == {"train/plain/large.png", "train/plain/torn.png"}
    assert "96 x 96 pixels instead of 64 x 64" in {problem.what for problem in data.problems}
    with pytest.raises(DataError, match="2 of 11 files"):
        Pictures(tmp_path, target="plain", strict=True)


def test_requests_that_do_not_fit(tmp_path):
    build_pictures(tmp_path / "three")
    build_pictures(tmp_path / "one", classes=("plain",))
    for target, sought in (("", "natural"), ("zebra", "zebra")):
        with pytest.raises(DataError, match=rf"is '{sought}'.*one of dotted, plain, striped.*--target"):
            Pictures(tmp_path / "three", target=target)
    # as --help says, no target means natural, where a class has that name
    assert class_order(["natural", "field", "town"], "", tmp_path) == ("field", "town", "natural")
    with pytest.raises(DataError, match="too few classes: got plain"):
        Pictures(tmp_path / "one", target="plain")
    with pytest.raises(DataError, match="holds pictures: got bands B02"):
        Pictures(tmp_path / "three", ("B02",), target="plain")
    with pytest.raises(DataError, match=r"split 'test' of .* is empty"):
        Pictures(build_pictures(tmp_path / "few", each=1, splits=("train", "val")), split="test", target="plain")
    with pytest.raises(DataError, match="other size"):
        read_pictures([tmp_path / "three/train/plain/plain0.png"], 128)
    assert not has_pictures(tmp_path)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_a_picture_cut_short_is_refused(tmp_path, ending):
    """Half of a PNG had been read as arbitrary bytes, another picture each time."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 128, 128)).astype("uint8")
    path = write_picture(tmp_path / f"a{ending}", pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(path)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_than_8_bits_are_refused_by_name(tmp_path, bits):
    profile = {"driver": "PNG", "width": 64, "height": 64, "count": 1, "dtype": "uint8", "nbits": bits}
    with rasterio.open(tmp_path / "a.png", "w", **profile) as sink:
        sink.write(np.eye(64, dtype="uint8")[None])
    with pytest.raises(DataError, match=f"{bits} bits a pixel instead of 8"):
        read_picture(tmp_path / "a.png")


def test_hidden_entries_are_no_classes_and_no_pictures(tmp_path):
    build_pictures(tmp_path)
    before = list_pictures(tmp_path)
    for name in (".ipynb_checkpoints/a.png", "__MACOSX/b.png", "plain/._plain0.png"):
        write_picture(tmp_path / "train" / name, draw_picture("plain", 1))
    assert list_pictures(tmp_path).equals(before)


def test_the_layout_of_cyclegan_is_two_classes_in_two_splits(tmp_path):
    """horse2zebra as published: trainA, trainB, testA, testB; validation is drawn from train."""
    for folder, count in {"trainA": 30, "trainB": 30, "testA": 4, "testB": 5}.items():
        for number in range(count):
            write_picture(tmp_path / folder / f"{folder}_{number}.png", draw_picture("plain", number))
    table = list_pictures(tmp_path)
    assert has_pictures(tmp_path)
    assert set(table["class"]) == {"A", "B"}
    assert table[table["split"] == "test"]["path"].str.startswith("test").sum() == 9
    assert table[table["split"] == "val"]["path"].str.startswith("train").all()
    assert Pictures(tmp_path, split="test", target="B").classes == ("A", "B")


@pytest.mark.parametrize("each", [3, 24])
def test_every_class_is_in_every_split_however_few_pictures_there_are(tmp_path, each):
    build_pictures(tmp_path, each=each, splits=())
    table = list_pictures(tmp_path)
    assert table.groupby(["class", "split"]).ngroups == 9
    assert len(table) == 3 * each


def test_too_few_pictures_are_refused_with_advice(tmp_path):
    build_pictures(tmp_path, each=1, splits=(), classes=("dotted", "plain"))
    missing = ({"train", "val", "test"} - set(list_pictures(tmp_path)["split"])).pop()
    with pytest.raises(DataError, match=f"split '{missing}' .* is empty.*Give more pictures of each class"):
        Pictures(tmp_path, split=missing, target="plain")


def test_grouping_is_refused_where_nothing_says_what_belongs_together(tmp_path):
    build_pictures(tmp_path)
    with pytest.raises(DataError, match=r"--grouped.*places.csv"):
        Pictures(tmp_path, target="plain", grouped=True)


def test_pictures_with_places_are_split_by_them(tmp_path):
    """Without folders of splits at once, with them if grouped is asked for."""
    build_pictures(tmp_path / "classes", each=20, splits=())
    build_pictures(tmp_path / "folders", each=8)
    for root, grouped in ((tmp_path / "classes", False), (tmp_path / "folders", True)):
        names = sorted({path.name for path in root.rglob("*.*")})
        rows = [f"{name},{number},{2 * number}" for number, name in enumerate(names)]
        (root / "places.csv").write_text("\n".join(["file,lat,lon", *rows]))
        splits = [Pictures(root, split=split, target="plain", grouped=grouped) for split in ("train", "val", "test")]
        assert {data.split_origin for data in splits} == {ORIGIN}
        cells = [set(data.infos["group"]) for data in splits]
        assert all(cells)
        assert not cells[0] & (cells[1] | cells[2])
    assert Pictures(tmp_path / "folders", target="plain").split_origin == "by folder"


@pytest.mark.parametrize(("splits", "origin"), [(("train", "val", "test"), "by folder"), ((), "by file name")])
def test_a_data_set_says_who_made_its_split(tmp_path, splits, origin):
    build_pictures(tmp_path, each=12, splits=splits)
    source = DatasetSettings(root=str(tmp_path), bands=PICTURE_BANDS, target="plain")
    assert open_split(source, "train").split_origin == origin


def test_pictures_all_of_the_wrong_kind_are_not_blamed_on_strict(tmp_path):
    for kind in ("a", "b"):
        for number in range(8):
            write_picture(tmp_path / kind / f"{number}.tif", draw_picture("plain", 0).astype("uint16"))
    with pytest.raises(DataError) as caught:
        Pictures(tmp_path, target="a")
    assert "--strict" not in str(caught.value)


def test_reading_a_picture_without_a_georeference_warns_of_nothing(tmp_path):
    path = write_picture(tmp_path / "a.png", draw_picture("plain", 0))
    program = f"from spacex.datasets.pictures import read_picture; read_picture({str(path)!r})"
    ran = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True)
    assert "NotGeoreferencedWarning" not in ran.stderr


def test_a_limit_keeps_all_classes(tmp_path):
    build_pictures(tmp_path, each=5)
    for limit in (3, 7):
        data = Pictures(tmp_path, target="plain", limit=limit)
        assert len(data) == limit
        assert set(data.infos["class"]) == set(CLASSES)
    assert list(data.infos["path"]) == list(Pictures(tmp_path, target="plain", limit=7).infos["path"])


def test_held_in_memory_items_stay_the_same(tmp_path):
    build_pictures(tmp_path, each=2)
    data = Pictures(tmp_path, target="plain")
    before = [data[i][0] for i in range(len(data))]
    data.preload()
    assert all(torch.equal(data[i][0], x) for i, x in enumerate(before))


def test_it_is_found_among_the_data_sets(tmp_path):
    build_pictures(tmp_path)
    split = open_split(DatasetSettings(root=str(tmp_path), bands=PICTURE_BANDS, target="striped"), "train")
    assert (split.side, split.classes) == (64, ("dotted", "plain", "striped"))
    assert len(split.natural) == 4
    assert all("striped" in split.infos["path"][i] for i in split.natural)


def test_classes_stand_in_order_with_the_target_last(tmp_path):
    assert class_order(["b", "a", "c", "a"], "a", tmp_path) == ("b", "c", "a")

"""Folders of pictures by class."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import torch
from small_pictures import CLASSES, build_pictures, draw_picture, write_picture

from spacex.datasets.classes import ordered
from spacex.datasets.pictures import Pictures, has_pictures, list_pictures, read_picture, read_pictures
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
    for target in ("", "zebra"):
        with pytest.raises(DataError, match=r"target is no class.*one of dotted, plain, striped.*--target"):
            Pictures(tmp_path / "three", target=target)
    with pytest.raises(DataError, match="too few classes: got plain"):
        Pictures(tmp_path / "one", target="plain")
    with pytest.raises(DataError, match="holds pictures: got bands B02"):
        Pictures(tmp_path / "three", ("B02",), target="plain")
    with pytest.raises(DataError, match=r"split 'test' of .* is empty"):
        Pictures(build_pictures(tmp_path / "few", each=1, splits=("train", "val")), split="test", target="plain")
    with pytest.raises(DataError, match="other size"):
        read_pictures([tmp_path / "three/train/plain/plain0.png"], 128)
    assert not has_pictures(tmp_path)


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
    assert all("striped" in split.dataset.infos["path"][i] for i in split.natural)


def test_classes_stand_in_order_with_the_target_last(tmp_path):
    assert ordered(["b", "a", "c", "a"], "a", tmp_path) == ("b", "c", "a")

"""MapInWild in both layouts, written here as its authors and torchgeo write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_pictures import build_pictures

from spacex.datasets.mapinwild import MapInWild, pure_windows, read_split_ids
from spacex.errors import DataError
from spacex.settings import PICTURE_BANDS
from spacex.training.data import DatasetSettings, open_split

Writer = Callable[..., Path]
SIDE = 600


@pytest.fixture
def scenes(tmp_path: Path, tif: Writer) -> Path:
    """Three places of 600 x 600 pixels: half protected, all protected, not protected; ids as in the WDPA."""
    (tmp_path / "split_IDs.csv").write_text(",train,validation,test\n0,11.0,33.0,\n1,22.0,,\n")
    masks = {11: np.zeros((1, SIDE, SIDE), np.uint8), 22: np.full((1, SIDE, SIDE), 2, np.uint8)}
    masks[11][:, :, 300:] = 3
    masks[33] = np.zeros((1, SIDE, SIDE), np.uint8)
    for place, mask in masks.items():
        tif(tmp_path / "mask" / f"{place}.tif", mask)
        numbers = np.broadcast_to(np.arange(SIDE, dtype=np.uint16) + 1, (10, SIDE, SIDE)) + place
        part = "s2_temporal_subset" if place < 30 else "s2_temporal_subset_part2"
        tif(tmp_path / part / f"{place}.tif", numbers.astype(np.uint16))
    return tmp_path


def test_chips_are_cut_wholly_inside_or_outside(scenes: Path) -> None:
    data = MapInWild(scenes, ["B03"], "train", side=SIDE)
    rows = sorted(data.infos[["group", "label", "row", "col"]].itertuples(index=False, name=None))
    half = [(11, 0, 0, 0), (11, 0, 256, 0), (11, 1, 0, 304), (11, 1, 256, 304)]
    assert rows == [*half, *[(22, 1, row, col) for row in (0, 256) for col in (0, 256)]]
    index = data.infos.query("group == 11 and label == 1 and row == 0").index[0]
    chip, label = data[index]
    # digital number at column c is c + 1 + place
    assert chip[0, 10, [0, 255]].tolist() == pytest.approx([(304 + 12) / 1e4, (304 + 255 + 12) / 1e4])
    assert label == 1
    assert len(MapInWild(scenes, split="val", side=SIDE)) == 4  # found in the archive's second part
    assert data.split_hash == MapInWild(scenes, split="val", side=SIDE).split_hash


@given(st.integers(0, 5000))
def test_windows_are_pure_and_disjoint(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((600, 700), bool)
    row, col = random.integers(0, 400, 2)
    mask[row : row + random.integers(1, 600), col : col + random.integers(1, 600)] = True
    taken = np.zeros(mask.shape, int)
    for inside in (True, False):
        for r, c in pure_windows(mask, inside):
            assert r % 8 == c % 8 == 0
            assert (mask[r : r + 256, c : c + 256] == inside).all()
            assert mask[r : r + 256, c : c + 256].shape == (256, 256)
            taken[r : r + 256, c : c + 256] += 1
    assert taken.max() <= 1


def test_an_unprotected_scene_of_the_published_size_gives_49_chips() -> None:
    assert len(pure_windows(np.zeros((1920, 1920), bool), inside=False)) == 49


def test_problems_are_named(scenes: Path, tif: Writer) -> None:
    (scenes / "mask" / "11.tif").unlink()
    data = MapInWild(scenes, split="train", side=SIDE)
    assert [str(problem) for problem in data.problems] == ["mask/11.tif: missing"]
    assert set(data.infos["group"]) == {22}
    with pytest.raises(DataError, match=r"1 of 2 files .*mask/11\.tif: missing"):
        MapInWild(scenes, split="train", side=SIDE, strict=True)
    tif(scenes / "s2_temporal_subset" / "22.tif", np.ones((10, 300, 300), np.uint16))
    with pytest.raises(DataError, match="300 x 300 pixels instead of 600 x 600"):
        MapInWild(scenes, split="train", side=SIDE)


@pytest.mark.parametrize(
    ("text", "message"),
    [("train,test\n1,2\n", "validation"), ("train,validation,test\n1.0,1.0,2.0\n", "two splits")],
)
def test_a_split_file_that_is_not_the_published_one(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split_IDs.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_split_ids(tmp_path / "split_IDs.csv")


def test_requests_that_make_no_sense(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown split"):
        MapInWild(scenes, split="validation", side=SIDE)
    with pytest.raises(DataError, match="no folder s2_winter"):
        MapInWild(scenes, season="winter", side=SIDE)
    with pytest.raises(DataError, match="empty"):
        MapInWild(scenes, split="test", side=SIDE)
    with pytest.raises(DataError, match="split_IDs"):
        MapInWild(tmp_path / "mask")


@pytest.fixture
def tiles(tmp_path: Path, tif: Writer) -> Path:
    """The authors' tiled form: two seasons of two tiles, one season of each in the subset."""
    rows = []
    for category, label in (("True", 1), ("False", 0)):
        for season in ("summer", "winter"):
            file = f"{category}/s2_{season}/77_{label}.tif"
            tif(tmp_path / "tiles" / file, np.full((10, 256, 256), 1000 + label, np.uint16))
            subset = season == ("summer" if label else "winter")
            rows.append((file, 0.1, 0.2, 77, season, category, label, 88, subset, "train"))
    columns = ["file", "lon", "lat", "area_id", "season", "category", "label", "quality", "subset", "dataset"]
    (tmp_path / "tile_infos").mkdir()
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "tile_infos" / "file_infos.csv", index=False)
    return tmp_path


def test_the_authors_tiles(tiles: Path) -> None:
    data = MapInWild(tiles, ["B02", "B12"], "train")
    assert data.infos["path"].tolist() == ["tiles/True/s2_summer/77_1.tif", "tiles/False/s2_winter/77_0.tif"]
    chip, label = data[0]
    assert chip.shape == (2, 256, 256)
    assert chip.max().item() == pytest.approx(0.1001)
    assert label == 1
    winter = MapInWild(tiles, split="train", season="winter")
    assert sorted(winter.infos["path"]) == ["tiles/False/s2_winter/77_0.tif", "tiles/True/s2_winter/77_1.tif"]
    source = DatasetSettings(root=str(tiles), bands=("B02", "B12"), season="winter")
    assert open_split(source, "train").split_hash == winter.split_hash


def test_only_mapinwild_has_seasons(tmp_path: Path) -> None:
    build_pictures(tmp_path / "sets" / "stripes")
    asked = {"bands": PICTURE_BANDS, "target": "plain"}
    with pytest.raises(DataError, match="no seasons to choose from: got winter"):
        open_split(DatasetSettings(root=str(tmp_path / "sets/stripes"), season="winter", **asked), "train")
    # a folder above the classes is told apart from one without any
    with pytest.raises(DataError, match=rf"no data set in {tmp_path}/sets: .*Give {tmp_path}/sets/stripes\."):
        open_split(DatasetSettings(root=str(tmp_path / "sets"), **asked), "train")


def test_an_index_of_tiles_without_labels(tiles: Path) -> None:
    index = tiles / "tile_infos" / "file_infos.csv"
    index.write_text(index.read_text().replace("label", "class"))
    with pytest.raises(DataError, match=r"lacks columns.*label"):
        MapInWild(tiles)


def test_the_layout_of_hugging_face_is_read_too(scenes: Path) -> None:
    expected = MapInWild(scenes, side=SIDE)
    (scenes / "split_IDs").mkdir()
    (scenes / "split_IDs.csv").rename(scenes / "split_IDs" / "split_IDs.csv")
    data = MapInWild(scenes, side=SIDE)
    assert data.infos.equals(expected.infos)

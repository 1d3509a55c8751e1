"""AnthroProtect as published: the real index is the oracle; tiny tiles show what is read and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from spacex.datasets.anthroprotect import AnthroProtect, read_infos, read_land_cover
from spacex.datasets.splits import NEIGHBOURS_KM, on_sphere
from spacex.errors import DataError

Writer = Callable[..., Path]


def test_bands_are_taken_by_name_and_scaled(anthroprotect: Path) -> None:
    data = AnthroProtect(anthroprotect, ["B12", "B02"], "train")
    chip, label = data[4]  # the fifth of the six training tiles
    assert chip.shape == (2, 256, 256)
    assert chip.dtype == torch.float32
    assert chip[:, 5, 7].tolist() == pytest.approx([0.0410, 0.0401])
    assert chip[:, 0, 0].tolist() == [0, 0]  # no data stays 0, as the authors feed it
    assert label.item() == 0
    assert data[3][1].item() == 1
    assert not data.valid(4)[0, 0]
    assert data.valid(4).sum() == 256 * 256 - 1
    assert len(data) == 6


def test_reflectance_above_one_is_clipped(anthroprotect: Path, tif: Writer) -> None:
    tif(anthroprotect / "tiles/s2/wdpa-II_0_0.tif", np.full((10, 256, 256), 12_000, np.uint16))
    assert AnthroProtect(anthroprotect, ["B02"], "train")[0][0].max() == 1.0


def test_the_split_column_has_two_names(anthroprotect: Path) -> None:
    before = AnthroProtect(anthroprotect, split="val")
    index = anthroprotect / "infos.csv"
    index.write_text(index.read_text().replace("dataset", "datasplit").replace(",val,", ",validation,"))
    after = AnthroProtect(anthroprotect, split="val")
    assert after.infos["file"].tolist() == before.infos["file"].tolist()
    assert after.split_hash == before.split_hash


def test_tiles_that_cannot_be_used_are_named_and_skipped(anthroprotect: Path, tif: Writer) -> None:
    tiles = anthroprotect / "tiles" / "s2"
    (tiles / "wdpa-II_0_0.tif").unlink()
    tif(tiles / "anthropo_5.5-59.4_1.tif", np.ones((4, 256, 256), np.uint16))
    tif(tiles / "anthropo_5.5-59.4_2.tif", np.ones((10, 128, 128), np.uint16))
    broken = tiles / "wdpa-II_0_3.tif"
    broken.write_bytes(broken.read_bytes()[:200_000])
    data = AnthroProtect(anthroprotect, split="train")
    found = {problem.file.rsplit("/", 1)[-1]: problem.what for problem in data.problems}
    assert found["wdpa-II_0_0.tif"] == "missing"
    assert found["anthropo_5.5-59.4_1.tif"] == "4 bands instead of 10"
    assert found["anthropo_5.5-59.4_2.tif"] == "128 x 128 pixels instead of 256 x 256"
    assert "unreadable" in found["wdpa-II_0_3.tif"]
    assert data.infos["file"].tolist() == ["anthropo_5.5-59.4_4.tif", "anthropo_5.5-59.4_5.tif"]
    with pytest.raises(DataError, match=r"4 of 6 files .*wdpa-II_0_0.tif: missing"):
        AnthroProtect(anthroprotect, split="train", strict=True)


def test_a_tile_that_fails_later_is_replaced_or_refused(anthroprotect: Path) -> None:
    data = AnthroProtect(anthroprotect, split="train")
    strict = AnthroProtect(anthroprotect, split="train", strict=True)
    (anthroprotect / "tiles/s2/anthropo_5.5-59.4_5.tif").unlink()
    chip, label = data[5]
    assert torch.equal(chip, data[1][0])  # the next one of the same label, from the start again
    assert label == 0
    assert [problem.file for problem in data.problems] == ["tiles/s2/anthropo_5.5-59.4_5.tif"]
    with pytest.raises(DataError, match="cannot be read"):
        strict[5]


def test_preloaded_chips_are_the_same_and_need_no_files(anthroprotect: Path, tif: Writer) -> None:
    random = np.random.default_rng(0).integers(0, 12_000, (10, 256, 256)).astype(np.uint16)
    first = tif(anthroprotect / "tiles/s2/wdpa-II_0_0.tif", random)
    data = AnthroProtect(anthroprotect, ["B04", "B8A"], "train")
    before = [data[index] for index in range(len(data))]
    assert data.preload() is data
    first.unlink()
    for (chip, label), (again, label_again) in zip(before, map(data.__getitem__, range(6)), strict=True):
        assert torch.equal(chip, again)
        assert label == label_again


def test_limit_keeps_both_labels(anthroprotect: Path) -> None:
    data = AnthroProtect(anthroprotect, split="train", limit=3)
    assert sorted(data.infos["label"]) == [0, 0, 1]
    again = AnthroProtect(anthroprotect, split="train", limit=3)
    assert data.infos["file"].tolist() == again.infos["file"].tolist()
    assert sorted(AnthroProtect(anthroprotect, split="train", limit=2).infos["label"]) == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label", "class", "lacks columns.*label"),
        (",0,anthropo", ",2,anthropo", "unknown label.*2"),
        (",val,", ",holdout,", "unknown split.*holdout"),
        ("_1.tif", "_2.tif", "lists files twice"),
        (",20,", ",east,", "lon .*east"),
        (",60.0,", ",,", "lat .*nan"),
    ],
)
def test_an_index_that_is_not_the_published_one(anthroprotect: Path, old: str, new: str, message: str) -> None:
    index = anthroprotect / "infos.csv"
    index.write_text(index.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        AnthroProtect(anthroprotect)


def test_requests_that_make_no_sense(anthroprotect: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown bands.*B99"):
        AnthroProtect(anthroprotect, ["B99"])
    with pytest.raises(DataError, match=r"unknown split.*holdout.*train, val, test"):
        AnthroProtect(anthroprotect, split="holdout")
    with pytest.raises(DataError, match="no AnthroProtect"):
        AnthroProtect(tmp_path / "tiles")
    with pytest.raises(DataError, match="limit"):
        AnthroProtect(anthroprotect, limit=0)


def test_land_cover_is_the_first_band_in_level_3_codes(tmp_path: Path, tif: Writer) -> None:
    covers = np.zeros((4, 256, 256), np.uint16)
    covers[0, :, :128], covers[1:] = 412, 7
    assert np.unique(read_land_cover(tif(tmp_path / "a.tif", covers))).tolist() == [0, 412]
    with pytest.raises(DataError, match=r"1 bands.*CORINE, MODIS"):
        read_land_cover(tif(tmp_path / "b.tif", covers[:1]))


@pytest.mark.real
class TestRealIndex:
    """Counts published with the data set; the split's leak is a fact of the published file."""

    def test_counts(self, real_data: Callable[[str], Path]) -> None:
        infos = read_infos(real_data("anthroprotect/infos.csv"))
        counts = infos.groupby(["category", "split"]).size().unstack()[["train", "val", "test"]]
        assert counts.loc["anthropo"].tolist() == [13_534, 1_670, 1_712]
        assert counts.loc["wdpa-Ia"].tolist() == [295, 37, 37]
        assert counts.loc["wdpa-Ib"].tolist() == [3_601, 465, 446]
        assert counts.loc["wdpa-II"].tolist() == [1_693, 220, 209]
        assert len(infos) == 23_919
        assert infos["label"].sum() == 7_003
        assert (infos["label"] == (infos["category"] != "anthropo")).all()

    def test_places_span_the_official_split_and_no_block_spans_the_grouped_one(self, real_data: Callable) -> None:
        index = real_data("anthroprotect/infos.csv")
        official, grouped = read_infos(index), read_infos(index, grouped=True)
        place = official["file"].str.rsplit("_", n=1).str[0]
        assert place.nunique() == 353
        assert (official.groupby(place)["split"].nunique() > 1).sum() == 77
        assert (grouped.groupby(place)["split"].nunique() == 1).all()
        assert (grouped.groupby("group")["split"].nunique() == 1).all()
        assert self.nearest(official) < 2.6
        assert self.nearest(grouped) >= NEIGHBOURS_KM

    def test_the_grouped_split_is_as_large_and_as_balanced(self, real_data: Callable[[str], Path]) -> None:
        index = real_data("anthroprotect/infos.csv")
        official, grouped = read_infos(index), read_infos(index, grouped=True)
        one, two = (table.groupby(["split", "category"]).size() for table in (official, grouped))
        assert ((one - two).abs() <= 0.02 * one + 1).all()
        assert grouped["split"].tolist() == read_infos(index, grouped=True)["split"].tolist()

    @staticmethod
    def nearest(infos) -> float:
        """Least distance in km between tiles of different splits."""
        points = on_sphere(infos["lon"].to_numpy(), infos["lat"].to_numpy())
        held = infos["split"].to_numpy()
        return min(
            cKDTree(points[held != split]).query(points[held == split])[0].min() for split in ("train", "val", "test")
        )


def test_an_index_with_spaces_after_its_commas_is_read(anthroprotect: Path) -> None:
    expected = read_infos(anthroprotect / "infos.csv")
    index = anthroprotect / "infos.csv"
    index.write_text(index.read_text().replace(",", ", "))
    assert read_infos(index).equals(expected)

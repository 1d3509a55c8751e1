"""Mosaics of small chips: what they are made of, and that their truth is where it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_eurosat import build_eurosat

from spacex.datasets.eurosat import EuroSAT
from spacex.datasets.mosaics import Mosaics
from spacex.datasets.splits import on_sphere
from spacex.errors import DataError
from spacex.settings import RGB
from spacex.training.data import DatasetSettings, open_split


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return EuroSAT(build_eurosat(tmp_path_factory.mktemp("eurosat"), each=40), RGB)


@pytest.fixture(scope="module")
def mosaics(chips):
    return Mosaics(chips, 4, limit=90)


def test_its_label_is_the_natural_share_of_what_is_seen(mosaics):
    """Crops and industry are much brighter in red than forest and lakes: the pixels themselves say what a cell is."""
    for i in range(0, 90, 9):
        x, label = mosaics[i]
        dark = x[0].view(4, 64, 4, 64).mean(dim=(1, 3)) < 0.06
        assert torch.equal(dark, torch.from_numpy(mosaics.truth(i)[::64, ::64]))
        assert label == dark.float().mean()
        assert mosaics.truth(i).mean() == label
        assert (x.shape, x.dtype, mosaics.truth(i).shape) == ((3, 256, 256), torch.float32, (256, 256))


def test_every_cell_is_a_whole_chip_of_the_split(chips, mosaics):
    cell = mosaics[5][0][:, 64:128, 128:192]
    assert any(torch.equal(cell, chips[i][0]) for i in chips.all)


def test_a_third_each_is_natural_mixed_and_not(chips):
    labels = Mosaics(chips, 4, limit=900).infos["label"]
    assert (labels == 0).mean() == pytest.approx(1 / 3, abs=0.05)
    assert (labels == 1).mean() == pytest.approx(1 / 3, abs=0.05)
    assert set((labels * 16).astype(int)) == set(range(17))


def test_some_mixtures_lie_on_one_side_and_others_are_scattered(chips):
    """Neighbouring cells of other kinds: an 8 : 8 mosaic has 4 such pairs if divided straight, 12.8 in the mean."""
    mosaics = Mosaics(chips, 4, limit=900)
    half = np.stack([mosaics.truth(i)[::64, ::64] for i in np.flatnonzero(mosaics.infos["label"] == 0.5)])
    pairs = (half[:, 1:] != half[:, :-1]).sum(axis=(1, 2)) + (half[:, :, 1:] != half[:, :, :-1]).sum(axis=(1, 2))
    assert pairs.min() <= 5
    assert pairs.max() >= 13


def test_cells_come_from_the_neighbourhood(chips):
    mosaics = Mosaics(chips, 2, limit=90)

    def where(infos):
        return on_sphere(infos["lon"].to_numpy(), infos["lat"].to_numpy())

    middle = where(mosaics.infos)[:, None]
    distances = np.linalg.norm(where(chips.infos)[mosaics._cells] - middle, axis=2)
    everywhere = np.linalg.norm(where(chips.infos)[None] - middle, axis=2)
    assert np.median(distances) < np.median(everywhere) / 2
    assert set(mosaics.infos["group"]) <= set(chips.infos["group"])


def test_the_same_seed_draws_the_same_and_another_one_others(chips, mosaics):
    again, other = Mosaics(chips, 4, limit=90), Mosaics(chips, 4, limit=90, seed=1)
    assert torch.equal(again[7][0], mosaics[7][0])
    assert again.infos.equals(mosaics.infos)
    assert not other.infos["label"].equals(mosaics.infos["label"])


def test_natural_means_more_than_half(mosaics):
    assert all(mosaics[i][1] > 0.5 for i in mosaics.natural)
    assert sorted(mosaics.natural + mosaics.unnatural) == mosaics.all


def test_it_is_opened_by_a_setting_and_no_split_lends_another_its_chips(chips):
    splits = {
        name: open_split(DatasetSettings(root=f"eurosat:{chips.root}", bands=RGB, mosaic=2), name)
        for name in ("train", "val", "test")
    }
    assert {split.side for split in splits.values()} == {128}
    assert len(splits["train"]) == len(chips.all) // 2
    for name, split in splits.items():
        assert set(split.chips.infos["split"]) == {name}


def test_what_has_no_places_or_only_one_kind_makes_no_mosaics(chips, tmp_path):
    with pytest.raises(DataError, match=r"no mosaics can be made.*got classes"):
        Mosaics(EuroSAT(chips.root, RGB, target="Forest"), 4)
    forest = build_eurosat(tmp_path / "forest", each=30, classes=("Forest", "SeaLake"))
    with pytest.raises(DataError, match="natural and 0 other chips"):
        Mosaics(EuroSAT(forest, RGB), 4)
    (forest / "places.csv").unlink()
    with pytest.raises(DataError, match=r"no mosaics.*got no places"):
        Mosaics(EuroSAT(forest, RGB), 4)

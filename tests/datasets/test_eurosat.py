"""EuroSAT: how its files are found, what their numbers mean, and who is in which split."""

from __future__ import annotations

import hashlib
import math
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from small_eurosat import COLOURS, build_eurosat, write_13_bands

from spacex.datasets.eurosat import TIFF_BANDS, EuroSAT, list_chips, read_chip, to_surface
from spacex.datasets.places import cell_of, split_of_name
from spacex.datasets.tiles import read_bands
from spacex.errors import DataError
from spacex.settings import RGB
from spacex.training.batches import BatchLoader, EpochOrder
from spacex.training.data import DatasetSettings, open_split

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build_eurosat(tmp_path_factory.mktemp("eurosat"))


def all_splits(root, **settings):
    return {split: EuroSAT(root, RGB, split, **settings) for split in SPLITS}


def test_grey_values_are_reflectance_as_seen_from_the_ground(made):
    """The mean of a class, worked out by hand: grey x 0.275 / 255, less the air's share, over its transmittance."""
    data = EuroSAT(made, ("B02", "B04"))
    crops = [data[i][0] for i in np.flatnonzero(data.infos["class"] == "AnnualCrop")]
    blue, red = torch.stack(crops).mean(dim=(0, 2, 3)).tolist()
    assert blue == pytest.approx((110 * 0.275 / 255 - 0.062) / 0.86, abs=0.002)
    assert red == pytest.approx((113 * 0.275 / 255 - 0.017) / 0.93, abs=0.002)


def test_labels_are_natural_land_cover_and_rivers_have_none(made):
    for data in all_splits(made).values():
        kinds = set(data.infos["class"])
        assert kinds == set(COLOURS)
        assert {data.infos["class"][i] for i in data.all} == kinds - {"River"}
        assert {data.infos["class"][i] for i in data.natural} == {"Forest", "SeaLake"}
        assert {data.infos["class"][i] for i in data.unnatural} == {"AnnualCrop", "Industrial"}


def test_with_a_target_all_classes_are_told_apart(made):
    data = EuroSAT(made, RGB, target="River")
    assert data.classes == ("AnnualCrop", "Forest", "Industrial", "SeaLake", "River")
    assert {data.infos["class"][i] for i in data.natural} == {"River"}


def test_a_cell_of_land_is_in_one_split_and_its_name_decides_which(made):
    splits = all_splits(made)
    for split, data in splits.items():
        assert data.split_origin.startswith("by place")
        for row in data.infos.itertuples():
            cell = f"{math.floor(row.lat)}:{math.floor(row.lon / 1.5)}"
            share = int.from_bytes(hashlib.sha256(cell.encode()).digest()[:8], "big") / 2**64
            assert split == ("test" if share < 0.15 else "val" if share < 0.3 else "train")
            assert row.group == cell
    assert sum(map(len, splits.values())) == 60


def test_neighbours_on_both_sides_of_greenwich_and_of_a_cell():
    assert cell_of(51.5, -0.1) == "51:-1"
    assert cell_of(51.5, 0.1) == "51:0"
    assert cell_of(-0.5, 1.5) == "-1:1"
    counts = {split: [split_of_name(f"{i}:{j}") for i in range(60) for j in range(60)].count(split) for split in SPLITS}
    assert counts["test"] / 3600 == pytest.approx(0.15, abs=0.02)
    assert counts["val"] / 3600 == pytest.approx(0.15, abs=0.02)


def test_folders_at_any_depth_and_one_zip_of_all_are_read_alike(made, tmp_path):
    expected = list_chips(made)["file"].tolist()
    deep = tmp_path / "EuroSAT" / "2750"
    with zipfile.ZipFile(tmp_path / "EuroSAT.zip", "w") as whole:
        for kind in COLOURS:
            with zipfile.ZipFile(made / f"{kind}.zip") as archive:
                archive.extractall(deep)
                for name in archive.namelist():
                    whole.writestr(f"2750/{name}", archive.read(name))
    with pytest.raises(DataError, match="holds a chip twice"):
        list_chips(tmp_path)
    (tmp_path / "EuroSAT.zip").rename(tmp_path.parent / f"{tmp_path.name}.zip")
    assert list_chips(tmp_path)["file"].tolist() == expected
    shutil.copy(made / "places.csv", tmp_path)
    folders, zips = EuroSAT(tmp_path, RGB), EuroSAT(made, RGB)
    assert folders.split_hash == zips.split_hash
    assert torch.equal(folders[3][0], zips[3][0])


def test_chips_without_a_place_are_left_out_and_counted(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    lines = (tmp_path / "places.csv").read_text().splitlines()
    (tmp_path / "places.csv").write_text("\n".join(line for line in lines if "Forest_1" not in line) + "\n")
    data = EuroSAT(tmp_path, RGB)
    assert [str(problem) for problem in data.problems] == [
        "places.csv: 4 of 60 chips have no place and are left out"
    ]  # Forest_1, Forest_10, Forest_11, Forest_12
    with pytest.raises(DataError, match="4 of 60 chips have no place"):
        EuroSAT(tmp_path, RGB, strict=True)


def test_without_places_names_decide_and_the_card_says_so(made, tmp_path):
    for kind in COLOURS:
        shutil.copy(made / f"{kind}.zip", tmp_path)
    splits = all_splits(tmp_path)
    assert {data.split_origin for data in splits.values()} == {"by file name"}
    assert sum(map(len, splits.values())) == 60
    with pytest.raises(DataError, match=r"where the chips of .* lie.*places.csv"):
        EuroSAT(tmp_path, RGB, grouped=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,lat\na.jpg,1\n", "lacks columns: got file, lat"),
        ("file,lat,lon\nForest_1.jpg,91,0\n", "a place that is none"),
        ("file,lat,lon\nForest_1.jpg,1,0\nForest_1.tif,1,0\n", "lists a chip twice: got Forest_1.tif"),
    ],
)
def test_tables_of_places_that_cannot_be_right(made, tmp_path, text, message):
    shutil.copy(made / "Forest.zip", tmp_path)
    (tmp_path / "places.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        EuroSAT(tmp_path, RGB)


def test_13_bands_have_their_places_in_their_crs(tmp_path):
    bands = np.arange(1, 14)[:, None, None] * 300 + np.zeros((13, 64, 64))
    bands[:, 0, 0] = 0
    for number in range(1, 40):
        left, top = 3e5 + 4e4 * (number % 7), 5.2e6 + 3e5 * (number % 5)
        write_13_bands(tmp_path / "allBands" / "Forest" / f"Forest_{number}.tif", bands, left, top)
    write_13_bands(tmp_path / "allBands" / "Forest" / "Forest_40.tif", bands, crs=None)
    data = EuroSAT(tmp_path, ("B08", "B8A"))
    assert (data.known_bands[0], data.split_origin[:8]) == ("B02", "by place")
    chip = data[0][0]
    for band, value in zip(("B08", "B8A"), chip[:, 5, 5].tolist(), strict=True):
        seen = (TIFF_BANDS.index(band) + 1) * 300 / 10000
        assert value == pytest.approx(to_surface(np.full((1, 1, 1), seen, "float32"), (band,)).item(), abs=1e-4)
    assert chip[:, 0, 0].tolist() == [0, 0]
    assert not data.valid(0)[0, 0]
    assert data.valid(0).sum() == 64 * 64 - 1
    assert data.infos["lon"].between(10, 20).all()
    assert "1 of 40 chips have no place" in str(data.problems[0])


def test_files_that_are_no_chips_are_left_out(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with zipfile.ZipFile(tmp_path / "Forest.zip", "w") as archive:
        for number in range(1, 13):
            archive.writestr(f"Forest/Forest_{number}.jpg", b"\xff\xd8 torn")
    data = EuroSAT(tmp_path, RGB)
    assert "Forest" not in set(data.infos["class"])
    assert all("unreadable" in problem.what for problem in data.problems)
    assert len(data.problems) + len(data) == len(EuroSAT(made, RGB))
    assert data[0][0].shape == data.__getitems__([0, 2])[0][1].shape
    (tmp_path / "Forest.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"Forest.zip cannot be read"):
        EuroSAT(tmp_path, RGB)


def test_folders_without_chips_are_refused(made, tmp_path):
    with pytest.raises(DataError, match="holds no EuroSAT"):
        EuroSAT(tmp_path, RGB)
    with pytest.raises(DataError, match="GeoTIFFs of 13 bands"):
        EuroSAT(made, ("B08",))


def test_batches_are_the_chips_themselves(made):
    data = open_split(DatasetSettings(root=f"eurosat:{made}", bands=RGB), "train")
    loader = BatchLoader(data, EpochOrder(data.all, 5, 0), 0, torch.device("cpu"))
    order = list(loader.order)
    for indices, (x, label) in zip(order, loader.epoch(0), strict=True):
        assert torch.equal(x, torch.stack([data[i][0] for i in indices]))
        assert torch.equal(label, torch.stack([data[i][1] for i in indices]))


@pytest.mark.real
def test_corrected_chips_are_as_dark_as_the_ground_seen_from_there(real_data):
    """Forests and lakes of the north against L2A patches of Finland and Lithuania: medians differ by at most .004."""
    root, patches = real_data("eurosat"), real_data("bigearthnet")
    table = pd.read_csv(root / "places.csv")

    def medians(kind):
        rows = table[(table["class"] == kind) & (table["lat"] > 54)]
        chips = [read_chip(root / f"{kind}.zip" / kind / f, RGB) for f in rows["file"].sample(130, random_state=0)]
        return np.median([to_surface(chip, RGB) for chip in chips], axis=(2, 3))

    def ground(patch, share):
        files = [next(patches.glob(f"*/*{patch}/*_{band}.tif")) for band in RGB]
        return np.percentile([read_bands(file, 1) for file in files], share, axis=(1, 2)) / 10000

    forests = np.median([ground(patch, 50) for patch in ("43_47", "41_29", "66_56", "69_24")], axis=0)
    assert np.abs(np.median(medians("Forest"), axis=0) - forests).max() < 0.004
    water = medians("SeaLake")
    clear = water[water[:, 0] < np.quantile(water[:, 0], 1 / 3)]
    assert np.abs(np.median(clear, axis=0) - ground("69_24", 5)).max() < 0.004


@pytest.mark.real
def test_real_chips_are_the_same_as_jpeg_and_in_13_bands(real_data):
    """Checks that grey values are L1C reflectance: rms below 3 grey levels for all six chips there are of both."""
    root = real_data("eurosat")
    for path in sorted(root.glob("ms/*/*.tif")):
        jpeg = root / f"{path.parent.name}.zip" / path.parent.name / f"{path.stem}.jpg"
        bands = read_chip(path, RGB).clip(0, 0.275)
        rms = np.sqrt(np.square(read_chip(jpeg, RGB) - bands).mean()) * 255 / 0.275
        assert rms < 3, path

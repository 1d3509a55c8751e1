"""BigEarthNet's patches: labels from CORINE, bands of three sizes, places from the metadata."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest

from spacex.datasets.bigearthnet import METADATA, BigEarthNet
from spacex.errors import DataError
from spacex.settings import RGB
from spacex.training.data import DatasetSettings, open_split

SIDES = {"B02": 120, "B03": 120, "B04": 120, "B08": 120, "B05": 60, "B8A": 60, "B01": 20}
KINDS = [["Coniferous forest", "Peatbogs"], ["Pastures"], ["Pastures", "Broad-leaved forest"]]


def write_patch(root, tif, number: int, labels: list[str]) -> str:
    """Band k of a patch holds 100 * k + number; its pixel (0, 0) has no data."""
    name = f"S2A_MSIL2A_20170613T101031_{number}_{number}"
    for k, (band, side) in enumerate(SIDES.items(), start=1):
        values = np.full((1, side, side), 100 * k + number, "uint16")
        values[:, 0, 0] = 0
        tif(root / name / f"{name}_{band}.tif", values)
    ulx, uly = 3e5 + 4e4 * (number % 9), 5e6 + 2e5 * (number // 9)
    corners = {"ulx": ulx, "uly": uly, "lrx": ulx + 1200, "lry": uly - 1200}
    about = {"labels": labels, "coordinates": corners, "projection": "EPSG:32633"}
    (root / name / f"{name}{METADATA}").write_text(json.dumps(about))
    return name


@pytest.fixture(scope="module")
def patches(tmp_path_factory, tif):
    root = tmp_path_factory.mktemp("bigearthnet")
    for number in range(45):
        write_patch(root / "BigEarthNet-v1.0", tif, number, KINDS[number % 3])
    return root


def test_a_patch_is_natural_if_all_of_it_is_and_has_no_label_if_it_is_both(patches):
    sizes = []
    for split in ("train", "val", "test"):
        data = open_split(DatasetSettings(root=f"bigearthnet:{patches}", bands=RGB), split)
        assert all("Peatbogs" in data.infos["labels"][i] for i in data.natural)
        assert all(data.infos["labels"][i] == ["Pastures"] for i in data.unnatural)
        assert {len(data.infos["labels"][i]) for i in set(range(len(data))) - set(data.all)} <= {2}
        assert data.infos["split"].eq(split).all()
        assert data.split_origin.startswith("by place")
        sizes.append(len(data))
    assert sum(sizes) == 45


def test_bands_of_20_metres_are_repeated(patches):
    data = BigEarthNet(patches, ("B8A", "B02"))
    number = int(data.infos["file"][0].rsplit("_", 1)[1])
    x, _ = data[0]
    assert x.shape == (2, 120, 120)
    assert x[0, 5, 5].item() == pytest.approx((600 + number) / 10000)
    assert x[1, 5, 5].item() == pytest.approx((100 + number) / 10000)
    assert (x[0] == 0).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert data.valid(0).sum() == 120 * 120 - 4


def test_the_middle_of_a_patch_is_where_it_lies(patches):
    data = BigEarthNet(patches)
    assert data.infos["lon"].between(12, 17).all()
    assert data.infos["lat"].between(45, 55).all()


def test_damaged_patches_are_left_out_and_unknown_classes_refused(tmp_path, tif):
    for number in range(30):
        write_patch(tmp_path, tif, number, KINDS[0])
    name = BigEarthNet(tmp_path).infos["file"][0]
    (tmp_path / name / f"{name}_B03.tif").unlink()
    data = BigEarthNet(tmp_path)
    assert [str(problem) for problem in data.problems] == [f"{name}: B03: missing"]
    write_patch(tmp_path, tif, 31, ["Moon dust"])
    with pytest.raises(DataError, match="unknown class of CORINE: got Moon dust"):
        BigEarthNet(tmp_path)
    with pytest.raises(DataError, match="tells two classes apart"):
        BigEarthNet(tmp_path, target="Pastures")


def test_a_folder_without_patches_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no BigEarthNet"):
        BigEarthNet(tmp_path)


@pytest.mark.real
def test_real_patches_are_read_where_they_lie(real_data):
    root = real_data("bigearthnet")
    tables = []
    for split in ("train", "val", "test"):
        with suppress(DataError):  # a split may be empty
            tables.append(BigEarthNet(root, RGB, split))
    labels = {
        file: label for data in tables for file, label in zip(data.infos["file"], data._labels.tolist(), strict=True)
    }
    assert len(labels) == 14
    assert labels["S2A_MSIL2A_20180510T94033_19_86"] == 1
    assert labels["S2A_MSIL2A_20170617T113321_4_55"] == 0
    assert np.isnan(labels["S2A_MSIL2A_20171221T112501_56_35"])
    finland = [data.infos[data.infos["lat"] > 60] for data in tables]
    assert sum(map(len, finland)) == 5

"""Folders of GeoTIFFs by class, with bands, scale and natural classes given once."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest

from spacex.datasets.reflectance_tiles import ReflectanceTiles
from spacex.errors import DataError
from spacex.training.data import DatasetSettings, open_split

ABOUT = {"bands": ["B08", "QA", "B04"], "scale": 0.001, "offset": -0.1, "nodata": 9999, "natural": ["Mire", "Wood"]}


@pytest.fixture
def tiles(tmp_path, tif):
    """Chips of 80 pixels; band k of a chip holds 100 * (k + 1), so 0.1 and 0.3 of B08 and B04."""
    for kind in ("Mire", "Wood", "Field"):
        for number in range(15):
            values = np.array([200, 1, 400], "uint16")[:, None, None] * np.ones((1, 80, 80), "uint16")
            values[:, 3, 4] = 9999
            tif(tmp_path / kind / f"{kind}{number}.tif", values)
    (tmp_path / "tiles.json").write_text(json.dumps(ABOUT))
    return tmp_path


def test_numbers_are_reflectance_by_scale_and_offset(tiles):
    data = ReflectanceTiles(tiles, ("B04", "B08"))
    x, _ = data[0]
    assert x.shape == (2, 80, 80)
    assert x[:, 0, 0].tolist() == pytest.approx([0.3, 0.1])
    assert x[:, 3, 4].tolist() == [0, 0]
    assert data.valid(0).sum() == 80 * 80 - 1
    assert not data.valid(0)[3, 4]


def test_natural_classes_are_those_listed_and_a_target_tells_all_apart(tiles):
    data = open_split(DatasetSettings(root=f"tiles:{tiles}", bands=("B04",)), "train")
    assert {data.infos["class"][i] for i in data.natural} == {"Mire", "Wood"}
    assert {data.infos["class"][i] for i in data.unnatural} == {"Field"}
    assert ReflectanceTiles(tiles, ("B04",), target="Wood").classes == ("Field", "Mire", "Wood")


def test_places_come_from_a_table_or_from_the_files(tiles):
    """All files have the same CRS and corner: one cell, so one split holds all, and the others are empty."""
    table = {split: 0 for split in ("train", "val", "test")}
    for split in table:
        with suppress(DataError):  # where it is empty
            data = ReflectanceTiles(tiles, ("B04",), split)
            table[split] = len(data)
            assert data.split_origin.startswith("by place")
            assert data.infos["lon"].to_numpy() == pytest.approx(15.0, abs=0.1)
    assert sorted(table.values()) == [0, 0, 45]
    rows = [f"{kind}{n}.tif,{30 + n},{n}" for kind in ("Mire", "Wood", "Field") for n in range(15)]
    (tiles / "places.csv").write_text("\n".join(["file,lat,lon", *rows]))
    splits = [ReflectanceTiles(tiles, ("B04",), split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == 45
    for data in splits:
        assert data.infos["group"].tolist() == [
            f"{int(a)}:{int(o // 1.5)}" for a, o in zip(data.infos["lat"], data.infos["lon"], strict=True)
        ]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (None, r"tiles.json cannot be read.*Describe the files"),
        ({"scale": 1}, "does not describe tiles.*bands"),
        (ABOUT | {"natural": ["Bog"]}, "names classes that .* lacks: got Bog; expected Field, Mire, Wood"),
        (ABOUT | {"bands": ["B04"]}, "3 bands instead of 1"),
        (ABOUT | {"natural": []}, "no class of .* is 'natural': expected one of Field, Mire, Wood"),
        (ABOUT | {"bands": ["B08", "QA", "B03"]}, "unknown bands"),
    ],
)
def test_descriptions_that_do_not_fit(tiles, about, message):
    (tiles / "tiles.json").unlink() if about is None else (tiles / "tiles.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=message):
        ReflectanceTiles(tiles, ("B04",), "train" if about is None or "B04" in str(about) else "test")

"""Chips of real land: a forest and fields of the Belgian Kempen, by polygons drawn by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from kempen import FIELDS, LEFT, TOP, WOODS, polygon
from scene_archives import BANDS, DAYS, SceneArchive

from spacex.commands.app import invoke
from spacex.commands.make_dataset import app
from spacex.datasets.anthroprotect import read_infos

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def archive(real_data):
    return SceneArchive(real_data("archive"), "real")


@pytest.fixture(scope="module")
def made(archive, tmp_path_factory):
    """A set made from the archive, described in Earth Search's style and served over HTTP."""
    path = Path(__file__).parents[1] / "ray" / "archive_server.py"
    spec = importlib.util.spec_from_file_location("archive_server", path)
    server = sys.modules.setdefault("archive_server", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(server)
    folder = tmp_path_factory.mktemp("kempen")
    for name, corners in (("woods", WOODS), ("fields", FIELDS)):
        (folder / f"{name}.geojson").write_text(
            json.dumps({"type": "FeatureCollection", "features": [polygon(corners)]})
        )
    with server.serve(server.Archive(archive.folder)) as served:
        served.items[:] = archive.items("earth-search-c1", f"{served.url}/files")
        options = {"natural": folder / "woods.geojson", "anthropogenic": folder / "fields.geojson",
                   "datetime": "2020-07", "catalogue": "earth-search-c1", "stac-url": served.url,
                   "bands": ",".join(BANDS), "crs": "EPSG:32631", "output": folder / "set"}  # fmt: skip
        words = ["--local", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        assert invoke(app, words) == 0
    return folder / "set"


def test_there_are_chips_of_both_classes(made):
    table = read_infos(made / "infos.csv")
    assert set(table["label"]) == {0, 1}
    assert (table["lon"].between(5.22, 5.31) & table["lat"].between(51.21, 51.31)).all()
    assert "Copernicus" in (made / "dataset.json").read_text()


def test_pixels_are_those_of_the_scenes(archive, made):
    """Every clear pixel of a place has the same value on all dates: read one that is, with plain rasterio."""
    for file in pd.read_csv(made / "infos.csv")["file"]:
        with rasterio.open(made / "tiles" / "s2" / file) as tile:
            stored, transform = tile.read(), tile.transform
        row, col = round((TOP - transform.f) / 10), round((transform.c - LEFT) / 10)
        part = slice(row, row + 256), slice(col, col + 256)
        seen = np.zeros((4, 256, 256), np.uint16)
        for day in DAYS:
            clear = archive.clear(day)[part]
            for index, band in enumerate(BANDS):
                seen[index][clear] = archive.dn(day, band)[part][clear]
        np.testing.assert_array_equal(stored[[0, 1, 2, 6]], seen)
        assert (stored[0] > 0).mean() >= 0.9


def test_woods_are_darker_than_fields(made):
    """In red, where leaves absorb and soil does not: what was drawn is what was cut."""
    table = pd.read_csv(made / "infos.csv")
    red = {label: [] for label in (0, 1)}
    for file, label in zip(table["file"], table["label"], strict=True):
        with rasterio.open(made / "tiles" / "s2" / file) as tile:
            red[label].append(np.median(tile.read(3)))
    assert np.mean(red[1]) < np.mean(red[0])

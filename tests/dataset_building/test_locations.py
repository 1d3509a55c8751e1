"""Names in AnthroProtect's manner, and splits that keep neighbours and polygons together."""

import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import CRS

from spacex.dataset_building.labels import ANTHROPOGENIC, NATURAL, Candidates, cover_block_id
from spacex.dataset_building.locations import ChipLocation, load_locations, name_locations, save_locations, split
from spacex.errors import RequestError
from spacex.execution.tasks import TileTask
from spacex.grid import Grid, Window
from spacex.vectors import Polygons

ROW, COL = -504_000, 492_000


def candidates(*found):
    rows, cols, labels, polygon_ids = zip(*found, strict=True)
    columns = zip((rows, cols, labels, polygon_ids), (np.int64, np.int64, np.int8, np.int64), strict=True)
    return Candidates(*(np.array(part, kind) for part, kind in columns), np.full(len(rows), 0.9, "f4"))


def polygons(table, count=2):
    shapes = np.array([shapely.box(0, 0, 1, 1)] * count, dtype=object)
    return Polygons(shapes, CRS.from_epsg(3035), table)


def test_names_follow_the_published_ones():
    square = int(cover_block_id(np.array([ROW + 9000]), np.array([COL]))[0])
    drawn = candidates((ROW, COL, NATURAL, 1), (ROW + 300, COL, NATURAL, 1), (ROW, COL + 5000, NATURAL, 0),
                       (ROW, COL + 9000, ANTHROPOGENIC, 0), (ROW + 9000, COL, ANTHROPOGENIC, square))  # fmt: skip
    field = np.array([shapely.box(4.92e6, 5.03e6, 4.93e6, 5.04e6)], dtype=object)
    table = pd.DataFrame({"IUCN_CAT": ["Ib", "II"], "WDPAID": [654.0, 907.0]})
    locations = name_locations(drawn, Grid(), polygons(table), field)
    names = [location.file for location in locations]
    assert names[:3] == ["wdpa-II_907_0.tif", "wdpa-II_907_1.tif", "wdpa-Ib_654_0.tif"]
    assert [location.category for location in locations] == ["wdpa-II", "wdpa-II", "wdpa-Ib", "anthropo", "anthropo"]
    lon, lat = map(float, names[3].removeprefix("anthropo_").removesuffix("_0.tif").split("-"))
    from pyproj import Transformer

    x, y = Transformer.from_crs(4326, 3035, always_xy=True).transform(lon, lat)
    assert field[0].contains(shapely.Point(x, y))
    assert locations[0].window == Window(ROW, COL, 256, 256)
    assert locations[0].share == 0.9
    assert locations[0].task == TileTask(0, ROW // 1024, COL // 1024)
    x, y = Transformer.from_crs(4326, 3035, always_xy=True).transform(locations[0].lon, locations[0].lat)
    assert (x, y) == pytest.approx(((COL + 128) * 10, -(ROW + 128) * 10), abs=0.2)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (pd.DataFrame(index=range(2)), "natural_2_0.tif"),
        (
            pd.DataFrame({"iucn_cat": ["Not Reported", "a/../b_c"], "site_id": ["x", "é 7_1"]}),
            "wdpa-a-..-b-c_7-1_0.tif",
        ),
        (pd.DataFrame({"IUCN_CAT": [None, None]}), "wdpa-None_2_0.tif"),
    ],
)
def test_whatever_the_attributes_a_name_is_a_name(table, name):
    drawn = candidates((ROW, COL, NATURAL, 1))
    (location,) = name_locations(drawn, Grid(), polygons(table), np.empty(0, dtype=object))
    assert location.file == name
    assert "/" not in location.file


def test_neighbours_and_polygons_stay_together():
    """40 clusters of 6 chips 3 km apart, 100 km from each other; one polygon reaches over two of them."""
    rng = np.random.default_rng(0)
    lat = np.repeat(50 + np.arange(40) * 0.9, 6) + np.tile(np.arange(6) * 0.027, 40)
    lon = np.full(240, 20.0)
    groups = [f"p{n // 3}" for n in range(240)]
    groups[3:9] = ["shared"] * 6
    label = np.tile(np.array([0, 1], np.int8), 120)
    order = rng.permutation(240)
    found = split(lon[order], lat[order], [groups[i] for i in order], label[order])
    by_cluster = {}
    for index, part in zip(order, found, strict=True):
        by_cluster.setdefault(index // 6, set()).add(part)
    assert all(len(parts) == 1 for parts in by_cluster.values())
    assert by_cluster[0] == by_cluster[1]
    share = {part: float((found == part).mean()) for part in ("train", "val", "test")}
    assert share["train"] == pytest.approx(0.8, abs=0.05)
    assert share["val"] == pytest.approx(0.1, abs=0.05)


def test_locations_are_stored_and_damage_is_told(tmp_path):
    location = ChipLocation("a_0.tif", ROW, COL, 24.0, 68.0, "a", 1, "train", share=0.5)
    save_locations(tmp_path / "locations.json", (location,))
    assert load_locations(tmp_path / "locations.json") == (location,)
    (tmp_path / "locations.json").write_text("[{")
    with pytest.raises(RequestError, match="damaged"):
        load_locations(tmp_path / "locations.json")

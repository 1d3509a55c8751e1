"""Records of scenes: items of four services, ours and recorded ones, and the rules that choose among scenes."""

from __future__ import annotations

import copy
import json
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from stand_in_items import Product, item_of

from spacex.sentinel2 import CATALOGUES, Scene, SceneIndex, offset_of, scene_of, touching
from spacex.sentinel2.reflectance import baseline_of
from spacex.sentinel2.scenes import _ASSET_FIELDS, _PROPERTIES, newest_processing

HUNDRED = "stac_items/mpc_100-sentinel-2-items.parquet"

# catalogue, product, offset
STAND_INS = [
    ("cdse", Product(satellite="2C", baseline="05.12"), -1000),
    ("cdse", Product(baseline="02.14"), 0),
    ("earth-search-c1", Product(), -1000),
    ("earth-search", Product(), 0),
    ("earth-search", Product(applied=False), -1000),
    ("earth-search", Product(applied=False, baseline="02.14"), 0),
    ("planetary-computer", Product(tile="01WCV", satellite="2A", baseline="02.12"), 0),
    ("planetary-computer", Product(sun_elevation=4.16), -1000),
]
# file, catalogue, offset, tile, platform, processed, sun elevation
RECORDED = [
    ("cdse_v1_sentinel-2-l2a_S2B_MSIL2A_20200322T074609_N0500_R135_T36NYH_20230612T214223", "cdse", -1000,
     "36NYH", "sentinel-2b", "05.00 20230612T214223", 65.92),
    ("cdse_v1_sentinel-2-l2a_S2C_MSIL2A_20260527T014651_N0512_R017_T55WFR_20260527T042005", "cdse", -1000,
     "55WFR", "sentinel-2c", "05.12 20260527T042005", 43.29),
    ("e84_v1_sentinel-2-c1-l2a_S2A_T20HNJ_20240311T140636_L2A", "earth-search-c1", -1000,
     "20HNJ", "sentinel-2a", "05.10 20240311T194050", 47.95),
    ("e84_v1_sentinel-2-c1-l2a_S2B_T20EPT_20250731T131905_L2A", "earth-search-c1", -1000,
     "20EPT", "sentinel-2b", "05.11 20250731T143919", 4.16),
    ("e84_v1_sentinel-2-l2a_S2B_20EPT_20250731_0_L2A", "earth-search", 0,
     "20EPT", "sentinel-2b", "05.11 20250731T143919", 4.16),
    ("mpc_v1_sentinel-2-l2a_S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651", "planetary-computer", 0,
     "58UFE", "sentinel-2a", "02.12 20201007T214651", 12.50),
    ("mpc_v1_sentinel-2-l2a_S2B_MSIL2A_20240825T173909_R098_T13TDE_20240825T215747", "planetary-computer", -1000,
     "13TDE", "sentinel-2b", "05.11 20240825T215747", 56.34),
]  # fmt: skip


def build(item: dict, style: str) -> Scene:
    catalogue = CATALOGUES[style]
    keys = list(catalogue.assets.values())
    return scene_of(item, offset_of(item, catalogue.rule, keys), [*keys, catalogue.scl])


@pytest.mark.parametrize(("style", "product", "dn"), STAND_INS)
def test_items_of_every_service(style: str, product: Product, dn: int) -> None:
    scene = build(item_of(style, product), style)
    assert scene.offset.dn == dn
    assert scene.datetime == "2020-07-03T10:00:31.024000+00:00"
    assert (scene.tile, scene.platform) == (product.tile, f"sentinel-{product.satellite.lower()}")
    assert scene.processed == f"{product.baseline} 20230612T214223"
    assert scene.datastrip == product.strip
    assert scene.cloud_cover == 18.0
    assert scene.sun_elevation == pytest.approx(product.sun_elevation)
    check_record(scene)


def check_record(scene: Scene) -> None:
    assert len(scene.item["assets"]) == 11  # ten bands and SCL, nothing else
    assert all("?" not in asset["href"] for asset in scene.item["assets"].values())
    assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


TILE = [{"grid:code": "MGRS-34WED"}, {"s2:mgrs_tile": "34WED"}, {"id": "S2A_34WED_20200703_0_L2A"}]
TILE += [
    {f"{prefix}:utm_zone": 34, f"{prefix}:latitude_band": "W", f"{prefix}:grid_square": "ED"}
    for prefix in ("mgrs", "sentinel")
]
MADE = [{"s2:generation_time": "2023-06-12T21:42:23Z"}, {"processing:datetime": "2023-06-12T23:42:23+02:00"}]
MADE += [{"id": "S2A_MSIL2A_20200703T100031_N0500_R122_20230612T214223"}]
OFFSET = [
    {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
    {"raster:scale": 1e-4, "raster:offset": -0.1},
    {"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}]},
]


@pytest.mark.parametrize(
    ("field", "expected", "properties", "asset"),
    [
        *[("tile", "34WED", one, {}) for one in TILE],
        *[("processed", "05.00 20230612T214223", one, {}) for one in MADE],
        *[("offset", -1000, {"s2:processing_baseline": "02.14"}, one) for one in OFFSET],
    ],
)
def test_what_is_stated_in_one_place_alone_is_read_and_kept(field, expected, properties, asset) -> None:
    """Of several places for the same thing; and the trimmed item, of which lists are made, states it too."""
    stated = {"datetime": "2020-07-03T10:00:31Z", "s2:processing_baseline": "05.00", **properties}
    item = {"id": stated.pop("id", "x"), "properties": stated, "assets": {"red": {"href": "red.tif", **asset}}}
    for _ in range(2):
        scene = scene_of(item, offset_of(item, "metadata", ["red"]), ["red"])
        assert (scene.offset.dn if field == "offset" else getattr(scene, field)) == expected
        item = scene.item


@pytest.mark.real
@pytest.mark.parametrize(("name", "style", "dn", "tile", "platform", "processed", "sun"), RECORDED)
def test_recorded_items_of_the_real_services(real_data, name, style, dn, tile, platform, processed, sun) -> None:
    document = json.loads(real_data(f"stac_items/{name}.json").read_text())
    scene = build(document.get("features", [document])[0], style)
    assert scene.offset.dn == dn
    assert (scene.tile, scene.platform, scene.processed) == (tile, platform, processed)
    assert scene.sun_elevation == pytest.approx(sun, abs=0.01)
    check_record(scene)


@pytest.mark.real
@pytest.mark.parametrize(("name", "style"), [recorded[:2] for recorded in RECORDED])
def test_stand_ins_have_the_fields_of_recorded_items(real_data: Callable, name: str, style: str) -> None:
    """No field that a service does not send, none missing that is read, and the same numbers where all items agree."""
    document = json.loads(real_data(f"stac_items/{name}.json").read_text())
    theirs = document.get("features", [document])[0]
    ours = item_of(style, Product(baseline=str(baseline_of(theirs))))
    assert ours.keys() <= theirs.keys()
    assert ours["stac_version"] == theirs["stac_version"]
    said, known = ours["properties"], theirs["properties"]
    assert said.keys() <= known.keys()
    assert said.keys() & {*_PROPERTIES} == known.keys() & {*_PROPERTIES}
    assert {key for key, value in said.items() if kind(value) != kind(known[key])} == set()
    assert ours["assets"].keys() <= theirs["assets"].keys()
    for key in [*CATALOGUES[style].assets.values(), CATALOGUES[style].scl]:
        asset, model = ours["assets"][key], theirs["assets"][key]
        assert asset.keys() <= model.keys(), key
        assert asset.keys() & {*_ASSET_FIELDS} == model.keys() & {*_ASSET_FIELDS}, key
        same = {"type", "gsd", "proj:shape", "nodata", "data_type", "raster:scale", "raster:offset", "raster:bands"}
        assert {field: asset.get(field) for field in same} == {field: model.get(field) for field in same}, key
        for bands in ("bands", "eo:bands"):
            for band, its in zip(asset.get(bands, []), model.get(bands, []), strict=True):
                common = {field for field in band if field.endswith("common_name")} | {"name"}
                assert {field: band[field] for field in common} == {field: its.get(field) for field in common}, key


def kind(value: object) -> type:
    """Its JSON type."""
    return float if type(value) is int else type(value)


@pytest.mark.real
def test_ten_collection_1_items_all_carry_the_offset(real_data: Callable) -> None:
    items = json.loads(real_data("stac_items/e84_c1_10items_T13TDE_2024.json").read_text())["features"]
    scenes = [build(item, "earth-search-c1") for item in items]
    assert {scene.offset.dn for scene in scenes} == {-1000}
    assert {scene.tile for scene in scenes} == {"13TDE"}


@pytest.mark.real
def test_a_hundred_planetary_computer_items(real_data: Callable) -> None:
    """Their product names carry the baseline, so they say independently what the decision must be."""
    table = pytest.importorskip("pyarrow.parquet").read_table(real_data(HUNDRED)).to_pylist()
    assert len(table) == 100
    for row in table:
        item = {"id": row["id"], "assets": row["assets"], "geometry": None,
                "properties": {**row, "datetime": row["datetime"].isoformat()}}  # fmt: skip
        number = int(row["s2:product_uri"].split("_N")[1][:4])
        scene = build(item, "planetary-computer")
        assert scene.offset.dn == (-1000 if number >= 400 else 0)
        assert scene.tile == row["s2:mgrs_tile"]


def test_fifteen_thousand_scenes_fit_in_a_gigabyte() -> None:
    """The driver keeps them all; the largest of the services' items stand for them."""
    text = json.dumps(item_of("cdse", Product()))
    tracemalloc.start()
    scenes = [build(json.loads(text), "cdse") for _ in range(150)]
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(scenes) * 15_000 < 1e9


@pytest.fixture
def base(write_product: Callable) -> Scene:
    return write_product("S2B_34WED_20200703_0_L2A").scene


def test_the_newest_processing_wins_in_any_order(base: Scene) -> None:
    old = replace(base, id="a", processed="02.14 20200704T000000")
    new = replace(base, id="b", processed="05.00 20230801T000000")
    half = replace(base, id="c", datastrip="20200703T101530")
    other_tile = replace(old, id="d", tile="35WMU")
    other_satellite = replace(old, id="e", platform="sentinel-2a")
    scenes = [old, new, half, other_tile, other_satellite]
    kept = newest_processing(scenes)
    assert {scene.id for scene in kept} == {"b", "c", "d", "e"}
    assert [scene.tile for scene in kept] == ["34WED", "34WED", "34WED", "35WMU"]
    for seed in range(10):
        random.Random(seed).shuffle(scenes)
        assert newest_processing(scenes) == kept


def test_an_overpass_is_a_platform_and_a_solar_day(base: Scene) -> None:
    assert base.overpass == "sentinel-2b 2020-07-03"
    # at 177° E the sun says the next day already
    assert replace(base, tile="60WWU", datetime="2020-07-02T23:30:00+00:00").overpass == "sentinel-2b 2020-07-03"
    assert replace(base, tile="01WDR", datetime="2020-07-03T23:30:00+00:00").overpass == "sentinel-2b 2020-07-03"


def test_scenes_are_chosen_by_their_footprint_and_its_slack(write_product: Callable, geobox: GeoBox) -> None:
    here, far = write_product("here").scene, write_product("far", shift=(4000, 0)).scene
    # the product starts about 1 km east of the grid: within the slack, so every tile near it reads it
    near = write_product("near", shift=(175, 0)).scene
    scenes = [far, near, here]
    assert touching(scenes, geobox) == [near, here]
    assert SceneIndex(scenes, "EPSG:3035").touching(geobox) == [near, here]
    assert SceneIndex([], "EPSG:3035").touching(geobox) == []


def test_a_scene_is_chosen_for_itself(write_product: Callable, geobox: GeoBox) -> None:
    """Whether one is chosen does not depend on the others, nor on their number (no "best n of this tile")."""
    scenes = [write_product(f"p{i}", shift=(i * 60, 0)).scene for i in range(8)]
    together = {scene.id for scene in touching(scenes, geobox)}
    alone = {scene.id for scene in scenes if touching([scene], geobox)}
    assert together == alone
    assert 0 < len(alone) < 8


def test_trimming_does_not_touch_the_item(base: Scene) -> None:
    item = copy.deepcopy(base.item)
    scene_of(item, base.offset, ["red"])
    assert item == base.item
    assert np.isfinite(base.cloud_cover)

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from stand_in_items import Product, item_of

from spacex.sentinel2.item_list import read_items
from spacex.settings import SENTINEL2_BANDS
from spacex.synthetic import archive
from spacex.synthetic.items import ASSETS
from spacex.synthetic.scene import project

BOX = (23.97, 67.962, 24.03, 67.982)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A strip of the embedded archive around 24° E, small enough for a test."""
    folder = tmp_path_factory.mktemp("archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "MARGIN_DEGREES", (0.02, 0.002))
        patch.setattr(archive, "UTM_ZONES", ((32634, "34WFA", None, 24.02), (32635, "35WLR", 23.98, None)))
        # the last overpass hides this strip; fewer clouds leave something to look at
        patch.setattr(archive, "OVERPASSES", (*archive.OVERPASSES[:3], _with_fewer_clouds(archive.OVERPASSES[3])))
        items = archive.build_archive(folder, BOX, workers=0)
    return folder, items


def _with_fewer_clouds(last):
    overpass, product = last
    return replace(overpass, clouds=2.6), product


def pixels(folder, item, key):
    with rasterio.open(folder / item["assets"][key]["href"]) as source:
        return source.read(1)


def test_every_overpass_has_a_scene_in_both_zones(built):
    _, items = built
    seen = {(item["properties"]["datetime"][:10], item["properties"]["proj:epsg"]) for item in items}
    days = ("2020-07-06", "2020-07-21", "2020-08-10", "2020-08-25")
    assert seen == {(day, epsg) for day in days for epsg in (32634, 32635)}
    assert len({item["id"] for item in items}) == 8


def test_items_say_what_the_files_are(built):
    folder, items = built
    for item in items[::3]:
        assert set(item["assets"]) == {*ASSETS.values(), "scl"}
        for key, asset in item["assets"].items():
            with rasterio.open(folder / asset["href"]) as source:
                assert list(source.shape) == asset["proj:shape"]
                assert list(source.transform)[:6] == asset["proj:transform"]
                assert source.crs.to_epsg() == item["properties"]["proj:epsg"]
                assert (
                    source.dtypes[0] == asset["raster:bands"][0]["data_type"] == ("uint8" if key == "scl" else "uint16")
                )
                assert source.nodata == 0
                assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.fixture(params=["stand-in", pytest.param("recorded", marks=pytest.mark.real)])
def model(request, real_data):
    """An item as Earth Search sends it."""
    if request.param == "recorded":
        return json.loads(real_data("stac_items/e84_v1_sentinel-2-l2a_S2B_20EPT_20250731_0_L2A.json").read_text())
    return item_of("earth-search", Product())


def test_items_look_like_those_of_earth_search(built, model):
    for item in built[1]:
        assert set(item) <= set(model)
        assert set(item["properties"]) <= set(model["properties"])
        for key, asset in item["assets"].items():
            assert set(asset) <= set(model["assets"][key])
            theirs = model["assets"][key]
            assert (asset["gsd"], asset["roles"], asset["type"]) == (theirs["gsd"], theirs["roles"], theirs["type"])
            assert set(asset["raster:bands"][0]) <= set(theirs["raster:bands"][0])
            if key != "scl":
                assert asset["eo:bands"][0]["common_name"] == theirs["eo:bands"][0]["common_name"]


def test_all_three_offset_styles_give_the_same_reflectance(built):
    folder, items = built
    seen, styles = [], set()
    for item in (item for item in items if item["properties"]["proj:epsg"] == 32634):
        properties = item["properties"]
        applied, modern = properties["earthsearch:boa_offset_applied"], properties["s2:processing_baseline"] >= "04.00"
        carried = 1000 if modern and not applied else 0
        styles.add((applied, modern, carried))
        red = pixels(folder, item, "red")[::2, ::2].astype(float)
        clear = np.isin(pixels(folder, item, "scl"), (4, 5, 6))
        seen.append(np.where(clear, red - carried, np.nan))
        assert item["assets"]["red"]["raster:bands"][0]["offset"] == (-0.1 if modern else 0.0)
    assert styles == {(False, False, 0), (True, True, 0), (False, True, 1000)}
    for other in seen[1:]:
        change = (other - seen[0])[np.isfinite(other) & np.isfinite(seen[0])]
        assert change.size > 2000
        assert abs(np.median(change)) < 150  # haze and gain differ; a forgotten offset would be 1000
    assert 150 < np.nanmedian(seen[1]) < 900


def test_the_scene_classification_tells_clouds_water_and_nothing_apart(built):
    folder, items = built
    found = set()
    for item in items:
        scl, dn = pixels(folder, item, "scl"), pixels(folder, item, "blue")
        offset = 1000 if item["properties"]["datetime"].startswith("2020-08-25") else 0
        assert np.array_equal(scl == 0, dn[::2, ::2] == 0)
        found |= set(np.unique(scl))
        nir = pixels(folder, item, "nir")[::2, ::2].astype(float) - offset
        blue = dn[::2, ::2].astype(float) - offset
        if (scl == 9).sum() > 50:
            assert np.median(blue[scl == 9]) > 3 * np.median(blue[scl == 4])
        if (scl == 6).sum() > 50:
            assert np.median(nir[scl == 6]) < 0.4 * np.median(nir[scl == 4])
        share = np.isin(scl, (8, 9, 10)).sum() / (scl > 0).sum()
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(100 * share, abs=1e-4)
    assert {4, 6} <= found


def test_both_zones_show_the_same_ground(built):
    folder, items = built
    west, east = (next(i for i in items if i["id"].startswith("S2B") and "20200721" in i["id"] and t in i["id"])
                  for t in ("34WFA", "35WLR"))  # fmt: skip
    with (
        rasterio.open(folder / west["assets"]["red"]["href"]) as one,
        rasterio.open(folder / east["assets"]["red"]["href"]) as two,
    ):
        grid = {"crs": one.crs, "transform": one.transform, "width": one.width, "height": one.height}
        with WarpedVRT(two, **grid, resampling=Resampling.bilinear, nodata=0) as warped:
            there = warped.read(1).astype(np.float32)
        here = one.read(1).astype(np.float32)
    both = (there > 0) & (here > 0)
    assert both.sum() > 10_000
    assert np.corrcoef(here[both], there[both])[0, 1] > 0.85
    assert abs(np.median(here[both] - there[both])) < 10


def test_projection_between_nodes_is_right_to_a_centimetre():
    geobox = archive.utm_geobox(32634, 23.9, 67.9, 24.0, 67.95)
    x, y = project(geobox)
    rows, cols = np.array([0, 17, 111, 200]), np.array([0, 9, 77, 301])
    to_metres = archive.Transformer.from_crs(32634, 3035, always_xy=True)
    affine = geobox.affine
    exact = to_metres.transform(affine.c + affine.a * (cols + 0.5), affine.f + affine.e * (rows + 0.5))
    assert np.abs(np.array(exact) - [x[rows, cols], y[rows, cols]]).max() < 0.01
    assert geobox.height % 2 == geobox.width % 2 == 0


def test_the_list_names_files_beside_it(built):
    folder, items = built
    listed = read_items(str(folder / "items.json"))
    assert [item["id"] for item in listed] == [item["id"] for item in items]
    for item in listed:
        assert {Path(asset["href"]).parent for asset in item["assets"].values()} == {folder / item["id"]}
        assert all(Path(asset["href"]).is_file() for asset in item["assets"].values())


def test_bands_have_earth_searchs_names():
    assert list(ASSETS) == list(SENTINEL2_BANDS)
    assert ASSETS["B8A"] == "nir08"

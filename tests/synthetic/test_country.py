"""The embedded country: scenes of several places, and registers that say what the ground really is."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from spacex.datasets.corine import corine_codes
from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.synthetic import country
from spacex.synthetic.dataset import SIZES
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.locations import draw_locations
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.sites import mgrs_tile
from spacex.synthetic.spectra import ANTHROPOGENIC, NATURAL_PATTERN


@pytest.fixture(scope="module")
def built():
    """The smallest country, from the cache."""
    return country.demo_country("tiny")


@pytest.mark.parametrize(
    ("zone", "lat", "easting", "northing", "tile"),
    # worked out elsewhere: Honolulu 04QFJ1559, the White House 18SUJ23, Helsinki 35VLG86, Tromsø 34WDC2129
    [(4, 21.31, 615_500, 2_359_000, "04QFJ"), (18, 38.9, 323_400, 4_307_400, "18SUJ"),
     (35, 60.17, 386_000, 6_672_000, "35VLG"), (34, 69.65, 421_500, 7_729_000, "34WDC")],
)  # fmt: skip
def test_tiles_have_their_real_names(zone, lat, easting, northing, tile):
    assert mgrs_tile(zone, lat, easting, northing) == tile


def test_every_place_is_seen_twice_on_the_grid_of_its_zone(built):
    items = json.loads((built / "items.json").read_text())["features"]
    sites, _ = country.COUNTRIES["tiny"]
    assert len(items) == len({item["id"] for item in items}) == 2 * sites
    assert len({item["properties"]["grid:code"] for item in items}) == sites
    for item in items[:4]:
        zone = int((item["properties"]["proj:centroid"]["lon"] + 180) // 6) + 1
        assert item["properties"]["proj:epsg"] == 32600 + zone
        assert item["properties"]["eo:cloud_cover"] < 60
        with rasterio.open(built / item["assets"]["scl"]["href"]) as source:
            assert set(np.unique(source.read(1))) <= {3, 4, 5, 6, 8, 9, 10}


def test_no_place_is_one_of_validation_or_test(built):
    """Those of the data set that ships, so that it can judge what was trained here."""
    items = json.loads((built / "items.json").read_text())["features"]
    outlines = [shapely.geometry.shape(item["geometry"]) for item in items]
    shown = geopandas.GeoSeries(outlines, crs=4326).to_crs(3035).union_all()
    places = draw_locations(DEMO_SEED, SIZES["default"])
    for split in ("val", "test"):
        for place in places[split]:
            assert not shown.intersects(shapely.box(*Grid().geobox(place.window).boundingbox))


def ground_in(shape):
    """Land cover at 40 m under a polygon."""
    left, bottom, right, top = (round(edge / 40) for edge in shape.bounds)
    window = Window(-top, left, top - bottom, right - left)
    grid = Grid("EPSG:3035", 40.0)
    cover = Landscape(DEMO_SEED).paint_window(window, grid).cover
    inside = rasterio.features.geometry_mask([shape], window.shape, grid.transform(window), invert=True)
    return cover[inside]


def test_registers_are_right_about_the_ground(built):
    protected = geopandas.read_file(built / country.PROTECTED)
    assert protected.crs.to_epsg() == 3035
    assert set(protected["IUCN_CAT"]) <= {"Ia", "Ib", "II", "V"}
    assert protected["WDPAID"].is_unique
    strict = geopandas.read_file(built / country.PROTECTED, where=country.STRICT)
    assert 0 < len(strict) < len(protected)
    for shape in strict.geometry:
        cover = ground_in(shape)
        assert np.isin(cover, ANTHROPOGENIC).mean() < 0.02
        assert np.isin(cover, NATURAL_PATTERN).mean() > 0.03
    uses = geopandas.read_file(built / country.LAND_USE)
    assert set(uses["USE"]) == {"settled", "forestry"}
    for use, shape in zip(uses["USE"], uses.geometry, strict=True):
        cover = ground_in(shape)
        assert np.isin(cover, NATURAL_PATTERN).mean() < 0.01
        assert (np.isin(cover, ANTHROPOGENIC).mean() > 0.04) == (use == "settled")


def test_land_cover_comes_as_the_eeas_and_is_right(built):
    shape = geopandas.read_file(built / country.PROTECTED).geometry[0]
    with rasterio.open(built / country.LAND_COVER) as source:
        assert (source.dtypes[0], source.nodata, source.res) == ("uint8", 48, (100.0, 100.0))
        row, col = source.index(shape.centroid.x, shape.centroid.y)
        codes = source.read(1, window=rasterio.windows.Window(col - 10, row - 10, 20, 20))
        x, y = source.xy(row - 10, col - 10)
    assert codes.max() <= 44
    painted = Landscape(DEMO_SEED).paint(x + 100 * np.arange(20), y - 100 * np.arange(20))
    np.testing.assert_array_equal(corine_codes(codes), painted.corine)


def test_an_unknown_size_is_refused():
    with pytest.raises(RequestError, match="demo country"):
        country.demo_country("huge")

"""One real piece of ground, described by four catalogues, through a real STAC API and a real file server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box

from spacex.errors import CatalogueError, TileError
from spacex.grid import Grid
from spacex.sentinel2 import CatalogueProfile, Composite, get_catalogue, read_composite, search

pytestmark = [pytest.mark.services, pytest.mark.real]

CATALOGUES = ("earth-search", "earth-search-c1", "planetary-computer", "cdse")
AREA = box(5.2245, 51.2132, 5.3023, 51.3066)
JULY = "2020-07-01/2020-07-31"
BANDS = ("B02", "B03", "B04", "B08")
DAYS = ("2020-07-03", "2020-07-13", "2020-07-23")


def catalogue(services: Any, name: str) -> CatalogueProfile:
    return get_catalogue(name, url=services.url(name))


def lattice(archive: Path) -> GeoBox:
    """A piece of the cube's grid, nearly as large as the scene and on its middle."""
    with rasterio.open(archive / "pixels" / "boa" / DAYS[0] / "B04.tif") as source:
        left, bottom, right, top = source.bounds
        to_grid = Transformer.from_crs(source.crs, "EPSG:3035", always_xy=True)
    x, y = to_grid.transform((left + right) / 2, (bottom + top) / 2)
    width, height = 0.488 * (right - left), 0.488 * (top - bottom)
    grid = Grid()
    return grid.geobox(grid.window(x - width, y - height, x + width, y + height))


@pytest.fixture(scope="session")
def composites(stac_services: Any) -> dict[str, Composite]:
    """Each catalogue's composite on the cube's grid, from scenes it found itself."""
    made = {}
    for name in CATALOGUES:
        style = catalogue(stac_services, name)
        scenes = [s for s in search(style, AREA, JULY, bands=BANDS) if s.tile == "31UFS"]
        made[name] = read_composite(scenes, lattice(stac_services.archive), BANDS, style)
    return made


@pytest.mark.parametrize("name", CATALOGUES)
def test_same_reflectance_to_the_bit(composites: dict[str, Composite], name: str) -> None:
    """COG and JPEG 2000, offset in the pixels or not, flagged, advertised or implied: the same ground."""
    first, other = composites["earth-search"], composites[name]
    assert np.isfinite(first.reflectance).mean() > 0.5
    np.testing.assert_array_equal(other.reflectance, first.reflectance)
    np.testing.assert_array_equal(other.observations, first.observations)


def test_offsets_differ_and_none_is_contradicted(composites: dict[str, Composite]) -> None:
    offsets = {name: {use["offset_dn"] for use in made.scene_records} for name, made in composites.items()}
    assert offsets == {
        "earth-search": {0},
        "earth-search-c1": {-1000},
        "planetary-computer": {0, -1000},
        "cdse": {-1000},
    }
    assert not [use for made in composites.values() for use in made.scene_records if "warning" in use]


def test_equals_the_rasters_where_nothing_is_resampled(stac_services: Any) -> None:
    """On the scenes' own grid: every pixel clear on some day has that day's stored value, by plain rasterio."""
    style = catalogue(stac_services, "planetary-computer")
    folder = stac_services.archive / "pixels" / "boa"
    with rasterio.open(folder / DAYS[0] / "B04.tif") as source:
        own = GeoBox(source.shape, source.transform, source.crs)
    made = read_composite(search(style, AREA, JULY, bands=BANDS), own, BANDS, style)
    expected, seen = np.full(own.shape, np.nan, "f4"), np.zeros(own.shape, int)
    for day in DAYS:
        with rasterio.open(folder / day / "SCL.tif") as scl, rasterio.open(folder / day / "B04.tif") as red:
            clear = np.isin(scl.read(1), (2, 4, 5, 6, 7)).repeat(2, 0).repeat(2, 1)
            dn = red.read(1)
        # the archive's promise: a place has the same value on all days it is clear
        assert not (clear & np.isfinite(expected) & (expected != np.float32(dn) / np.float32(10000))).any()
        expected[clear] = np.float32(dn[clear]) / np.float32(10000)
        seen += clear
    np.testing.assert_array_equal(made.reflectance[2], expected)
    np.testing.assert_array_equal(made.observations, seen)
    assert (seen == 0).sum() == 40 * 40


def test_the_neighbouring_zone_only_fills_gaps(stac_services: Any, composites: dict[str, Composite]) -> None:
    """Earth Search holds one scene more, of the same overpass in zone 32: it never counts twice."""
    style, alone = catalogue(stac_services, "earth-search"), composites["earth-search"]
    both = read_composite(search(style, AREA, JULY, bands=BANDS), lattice(stac_services.archive), BANDS, style)
    assert len(both.scene_records) == 4
    more = both.observations > alone.observations
    assert 0 < more.mean() < 0.02
    np.testing.assert_array_equal(both.observations[~more], alone.observations[~more])
    np.testing.assert_array_equal(both.reflectance[:, ~more], alone.reflectance[:, ~more])


def test_pages_and_cloud_limit_on_a_real_server(stac_services: Any) -> None:
    style = catalogue(stac_services, "earth-search")
    everything = search(style, AREA, JULY, bands=BANDS)
    assert len(everything) == 4
    assert search(style, AREA, JULY, bands=BANDS, page_size=1) == everything
    assert {s.cloud_cover for s in search(style, AREA, JULY, 20.0, bands=BANDS, page_size=1)} == {1.0, 18.0}
    assert search(style, AREA, "2020-07-20/2020-07-31", bands=BANDS)[0].datetime.startswith("2020-07-23")


def test_wrong_requests_on_a_real_server(stac_services: Any) -> None:
    url = stac_services.url("earth-search")
    with pytest.raises(CatalogueError, match="no such collection: got sentinel-9; expected sentinel-2-l2a"):
        search(get_catalogue("earth-search", url, "sentinel-9"), AREA, JULY)
    with pytest.raises(CatalogueError, match="no scenes"):
        search(get_catalogue("earth-search", url), box(24.0, 68.0, 24.1, 68.1), JULY)
    with pytest.raises(CatalogueError, match="swir16"):
        search(get_catalogue("earth-search", url), AREA, JULY, bands=["B11"])


def test_a_file_missing_at_a_real_server(stac_services: Any) -> None:
    style = catalogue(stac_services, "earth-search")
    scene = search(style, AREA, JULY, bands=["B02"])[0]
    scene.item["assets"]["blue"]["href"] += ".gone"
    with pytest.raises(TileError, match=f"asset blue of {scene.id}.*404"):
        read_composite([scene], lattice(stac_services.archive), ["B02"], style)

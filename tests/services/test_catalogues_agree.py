"""One piece of ground, described by four catalogues, through a real STAC API and a real file server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scene_archives import BANDS, DAYS, JULY, SceneArchive
from shapely.geometry import box
from stand_in_items import SERVICES

from spacex.errors import CatalogueError, TileError
from spacex.grid import Grid
from spacex.sentinel2 import CatalogueProfile, Composite, get_catalogue, read_composite, search

pytestmark = pytest.mark.services


@pytest.fixture(scope="session")
def profiles(stac_services: Any, scene_archive: SceneArchive) -> dict[str, CatalogueProfile]:
    return {name: get_catalogue(name, url=stac_services.url(scene_archive, name)) for name in SERVICES}


@pytest.fixture(scope="session")
def lattice(scene_archive: SceneArchive) -> GeoBox:
    """A piece of the cube's grid, nearly as large as the scene and on its middle."""
    left, bottom, right, top = scene_archive.grid.boundingbox
    to_grid = Transformer.from_crs(scene_archive.grid.crs, "EPSG:3035", always_xy=True)
    x, y = to_grid.transform((left + right) / 2, (bottom + top) / 2)
    width, height = 0.488 * (right - left), 0.488 * (top - bottom)
    grid = Grid()
    return grid.geobox(grid.window(x - width, y - height, x + width, y + height))


@pytest.fixture(scope="session")
def composites(
    profiles: dict[str, CatalogueProfile], scene_archive: SceneArchive, lattice: GeoBox
) -> dict[str, Composite]:
    """Each catalogue's composite on the cube's grid, from scenes it found itself."""
    made = {}
    for name, profile in profiles.items():
        scenes = [s for s in search(profile, scene_archive.area, JULY, bands=BANDS) if s.tile == scene_archive.tile]
        made[name] = read_composite(scenes, lattice, BANDS, profile)
    return made


@pytest.mark.parametrize("name", SERVICES)
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


def test_equals_the_rasters_where_nothing_is_resampled(
    profiles: dict[str, CatalogueProfile], scene_archive: SceneArchive
) -> None:
    """On the scenes' own grid: every pixel clear on some day has that day's stored value, by plain rasterio."""
    profile, own = profiles["planetary-computer"], scene_archive.grid
    made = read_composite(search(profile, scene_archive.area, JULY, bands=BANDS), own, BANDS, profile)
    expected, seen = np.full(own.shape, np.nan, "f4"), np.zeros(own.shape, int)
    for day in DAYS:
        clear, dn = scene_archive.clear(day), scene_archive.dn(day, "B04")
        # the archive's promise: a place has the same value on all days it is clear
        assert not (clear & np.isfinite(expected) & (expected != np.float32(dn) / np.float32(10000))).any()
        expected[clear] = np.float32(dn[clear]) / np.float32(10000)
        seen += clear
    np.testing.assert_array_equal(made.reflectance[2], expected)
    np.testing.assert_array_equal(made.observations, seen)
    assert (seen == 0).sum() == 40 * 40


def test_the_neighbouring_zone_only_fills_gaps(
    profiles: dict[str, CatalogueProfile],
    scene_archive: SceneArchive,
    lattice: GeoBox,
    composites: dict[str, Composite],
) -> None:
    """Earth Search holds one scene more, of the same overpass in the next zone: it never counts twice."""
    profile, alone = profiles["earth-search"], composites["earth-search"]
    both = read_composite(search(profile, scene_archive.area, JULY, bands=BANDS), lattice, BANDS, profile)
    assert len(both.scene_records) == 4
    more = both.observations > alone.observations
    assert 0 < more.mean() < 0.02
    np.testing.assert_array_equal(both.observations[~more], alone.observations[~more])
    np.testing.assert_array_equal(both.reflectance[:, ~more], alone.reflectance[:, ~more])


def test_pages_and_cloud_limit_on_a_real_server(
    profiles: dict[str, CatalogueProfile], scene_archive: SceneArchive
) -> None:
    profile, area = profiles["earth-search"], scene_archive.area
    everything = search(profile, area, JULY, bands=BANDS)
    assert len(everything) == 4
    assert search(profile, area, JULY, bands=BANDS, page_size=1) == everything
    assert {s.cloud_cover for s in search(profile, area, JULY, 20.0, bands=BANDS, page_size=1)} == {1.0, 18.0}
    assert search(profile, area, "2020-07-20/2020-07-31", bands=BANDS)[0].datetime.startswith("2020-07-23")


def test_wrong_requests_on_a_real_server(profiles: dict[str, CatalogueProfile], scene_archive: SceneArchive) -> None:
    profile, area = profiles["earth-search"], scene_archive.area
    with pytest.raises(CatalogueError, match="no such collection: got sentinel-9; expected sentinel-2-l2a"):
        search(get_catalogue("earth-search", profile.url, "sentinel-9"), area, JULY)
    with pytest.raises(CatalogueError, match="no scenes"):
        search(profile, box(14.0, 62.0, 14.1, 62.1), JULY)
    with pytest.raises(CatalogueError, match="swir16"):
        search(profile, area, JULY, bands=["B11"])


def test_a_file_missing_at_a_real_server(
    profiles: dict[str, CatalogueProfile], scene_archive: SceneArchive, lattice: GeoBox
) -> None:
    profile = profiles["earth-search"]
    scene = search(profile, scene_archive.area, JULY, bands=["B02"])[0]
    scene.item["assets"]["blue"]["href"] += ".gone"
    with pytest.raises(TileError, match=f"asset blue of {scene.id}.*404"):
        read_composite([scene], lattice, ["B02"], profile)

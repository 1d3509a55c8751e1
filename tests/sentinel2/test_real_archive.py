"""Real pixels through four catalogues' profiles, from what every clone has: no database, no web server but Python's."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import real_files
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from spacex.sentinel2 import CatalogueProfile, Composite, get_catalogue, read_composite, search
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.scene_request import CompositeSettings
from spacex.sentinel2.scenes import by_cloud_cover

pytestmark = pytest.mark.real

ARCHIVE = real_files.SMALL / "archive"
AREA = box(5.2245, 51.2132, 5.3023, 51.3066)
JULY = "2020-07-01/2020-07-31"
BANDS = ("B02", "B03", "B04", "B08")
PROFILES = ("earth-search", "earth-search-c1", "planetary-computer", "cdse")
DAYS = ("2020-07-03", "2020-07-13", "2020-07-23")


def archive_server() -> Any:
    if "archive_server" not in sys.modules:
        path = Path(__file__).parents[1] / "ray" / "archive_server.py"
        spec = importlib.util.spec_from_file_location("archive_server", path)
        sys.modules["archive_server"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["archive_server"])
    return sys.modules["archive_server"]


@pytest.fixture(scope="module")
def profiles() -> Iterator[dict[str, CatalogueProfile]]:
    """Every profile at an address of its own, over the same pixels."""
    server, running, made = archive_server(), [], {}
    for name in PROFILES:
        served = server.serve(server.Archive(ARCHIVE))
        archive = served.__enter__()
        running.append(served)
        text = (ARCHIVE / "catalogues" / name / "items.json").read_text()
        archive.items[:] = json.loads(text.replace("{base}", f"{archive.url}/files"))["features"]
        made[name] = get_catalogue(name, url=archive.url)
    yield made
    for served in running:
        served.__exit__(None, None, None)


def own_grid() -> GeoBox:
    with rasterio.open(ARCHIVE / "pixels" / "boa" / DAYS[0] / "B04.tif") as source:
        return GeoBox(source.shape, source.transform, source.crs)


@pytest.fixture(scope="module")
def composites(profiles: dict[str, CatalogueProfile]) -> dict[str, Composite]:
    made = {}
    for name, profile in profiles.items():
        scenes = [scene for scene in search(profile, AREA, JULY, bands=BANDS) if scene.tile == "31UFS"]
        assert len(scenes) == 3
        made[name] = read_composite(scenes, own_grid(), BANDS, profile)
    return made


@pytest.mark.parametrize("name", PROFILES)
def test_every_catalogue_gives_what_plain_rasterio_reads(composites: dict[str, Composite], name: str) -> None:
    """Offset in the pixels or not, flagged, advertised or implied, COG or JPEG 2000: the same ground, to the bit."""
    made = composites[name]
    for index, band in enumerate(BANDS):
        expected, seen = np.full(own_grid().shape, np.nan, "f4"), np.zeros(own_grid().shape, int)
        for day in DAYS:
            folder = ARCHIVE / "pixels" / "boa" / day
            with rasterio.open(folder / "SCL.tif") as scl, rasterio.open(folder / f"{band}.tif") as source:
                clear = np.isin(scl.read(1), (2, 4, 5, 6, 7)).repeat(2, 0).repeat(2, 1)
                expected[clear] = np.float32(source.read(1)[clear]) / np.float32(10000)
            seen += clear
        np.testing.assert_array_equal(made.reflectance[index], expected)
        np.testing.assert_array_equal(made.observations, seen)
    assert (made.observations == 0).sum() == 40 * 40
    assert not [use for use in made.scene_records if "warning" in use]


def test_classes_are_those_of_the_first_clear_observation(profiles: dict[str, CatalogueProfile]) -> None:
    """Oracle: plain rasterio, scene by scene in the order in which pixels take their observations."""
    profile = profiles["earth-search-c1"]
    scenes = [scene for scene in search(profile, AREA, JULY, bands=BANDS[:1]) if scene.tile == "31UFS"]
    composer = Composer(BANDS[:1], profile, CompositeSettings(enough=1), BlockReader(), keep_classes=True)
    made = composer.compose(scenes, own_grid())
    expected = np.zeros(own_grid().shape, np.uint8)
    for scene in by_cloud_cover(scenes):
        with rasterio.open(ARCHIVE / "pixels" / "boa" / scene.datetime[:10] / "SCL.tif") as source:
            classes = source.read(1).repeat(2, 0).repeat(2, 1)
        taken = (expected == 0) & np.isin(classes, (2, 4, 5, 6, 7))
        expected[taken] = classes[taken]
    assert made.classes is not None
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(made.classes, expected)
    whole = Composer(BANDS[:1], profile, CompositeSettings(), BlockReader(), keep_classes=True).compose(
        scenes, own_grid()
    )
    np.testing.assert_array_equal(whole.classes, expected)  # however many more observations a pixel takes
    assert Composer(BANDS[:1], profile, CompositeSettings(), BlockReader()).compose(scenes, own_grid()).classes is None


def test_offsets_are_decided_by_each_catalogues_own_rule(composites: dict[str, Composite]) -> None:
    offsets = {name: {use["offset_dn"] for use in made.scene_records} for name, made in composites.items()}
    assert offsets == {
        "earth-search": {0}, "earth-search-c1": {-1000}, "planetary-computer": {0, -1000}, "cdse": {-1000},
    }  # fmt: skip


def test_jpeg_2000_is_among_them() -> None:
    items = json.loads((ARCHIVE / "catalogues" / "cdse" / "items.json").read_text())["features"]
    assert {Path(asset["href"]).suffix for item in items for asset in item["assets"].values()} == {".jp2"}

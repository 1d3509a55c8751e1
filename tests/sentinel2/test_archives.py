"""The same ground through four catalogues' profiles: no database, no web server but Python's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from scene_archives import BANDS, CLEAR, DAYS, JULY, SceneArchive, load_archive_server
from stand_in_items import SERVICES

from spacex.sentinel2 import CatalogueProfile, Composite, get_catalogue, read_composite, search
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.scene_request import CompositeSettings
from spacex.sentinel2.scenes import Scene, by_cloud_cover


@pytest.fixture(scope="module")
def profiles(scene_archive: SceneArchive) -> Iterator[dict[str, CatalogueProfile]]:
    """Every profile at an address of its own, over the same pixels."""
    server, made = load_archive_server(), {}
    with ExitStack() as running:
        for name in SERVICES:
            served = running.enter_context(server.serve(server.Archive(scene_archive.folder)))
            served.items[:] = scene_archive.items(name, f"{served.url}/files")
            made[name] = get_catalogue(name, url=served.url)
        yield made


def scenes_of(archive: SceneArchive, profile: CatalogueProfile, bands: tuple[str, ...] = BANDS) -> list[Scene]:
    """The three days' scenes that are on the archive's own grid."""
    scenes = [scene for scene in search(profile, archive.area, JULY, bands=bands) if scene.tile == archive.tile]
    assert len(scenes) == 3
    return scenes


@pytest.fixture(scope="module")
def composites(scene_archive: SceneArchive, profiles: dict[str, CatalogueProfile]) -> dict[str, Composite]:
    return {
        name: read_composite(scenes_of(scene_archive, profile), scene_archive.grid, BANDS, profile)
        for name, profile in profiles.items()
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_catalogue_gives_what_plain_rasterio_reads(
    scene_archive: SceneArchive, composites: dict[str, Composite], name: str
) -> None:
    """Offset in the pixels or not, flagged, advertised or implied, COG or JPEG 2000: the same ground, to the bit."""
    made, shape = composites[name], scene_archive.grid.shape
    seen = sum(scene_archive.clear(day).astype(int) for day in DAYS)
    np.testing.assert_array_equal(made.observations, seen)
    assert (seen == 0).sum() == 40 * 40
    for index, band in enumerate(BANDS):
        expected = np.full(shape, np.nan, "f4")
        for day in DAYS:
            clear = scene_archive.clear(day)
            expected[clear] = np.float32(scene_archive.dn(day, band)[clear]) / np.float32(10000)
        np.testing.assert_array_equal(made.reflectance[index], expected)
    assert not [use for use in made.scene_records if "warning" in use]


def test_classes_are_those_of_the_first_clear_observation(
    scene_archive: SceneArchive, profiles: dict[str, CatalogueProfile]
) -> None:
    """Oracle: plain rasterio, scene by scene in the order in which pixels take their observations."""
    profile, grid = profiles["earth-search-c1"], scene_archive.grid
    scenes = scenes_of(scene_archive, profile, BANDS[:1])
    composer = Composer(BANDS[:1], profile, CompositeSettings(enough=1), BlockReader(), keep_classes=True)
    made = composer.compose(scenes, grid)
    expected = np.zeros(grid.shape, np.uint8)
    for scene in by_cloud_cover(scenes):
        classes = scene_archive.classes(scene.datetime[:10])
        taken = (expected == 0) & np.isin(classes, CLEAR)
        expected[taken] = classes[taken]
    assert made.classes is not None
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(made.classes, expected)
    whole = Composer(BANDS[:1], profile, CompositeSettings(), BlockReader(), keep_classes=True).compose(scenes, grid)
    np.testing.assert_array_equal(whole.classes, expected)  # however many more observations a pixel takes
    assert Composer(BANDS[:1], profile, CompositeSettings(), BlockReader()).compose(scenes, grid).classes is None


def test_offsets_are_decided_by_each_catalogues_own_rule(composites: dict[str, Composite]) -> None:
    offsets = {name: {use["offset_dn"] for use in made.scene_records} for name, made in composites.items()}
    assert offsets == {
        "earth-search": {0}, "earth-search-c1": {-1000}, "planetary-computer": {0, -1000}, "cdse": {-1000},
    }  # fmt: skip


def test_jpeg_2000_is_among_them(scene_archive: SceneArchive) -> None:
    assets = [asset for item in scene_archive.items("cdse", "") for asset in item["assets"].values()]
    assert {Path(asset["href"]).suffix for asset in assets} == {".jp2"}

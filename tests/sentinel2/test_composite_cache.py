"""Pieces put together are the composite, made once, whatever was asked before, by whom, and however little is kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from spacex.errors import TileError
from spacex.grid import Grid, Window
from spacex.sentinel2 import CatalogueProfile, CompositeSettings, read_composite
from spacex.sentinel2.assets import READ_STATS
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.composite_cache import CompositeCache

BANDS = ("B02", "B04")


@pytest.fixture
def window(geobox: GeoBox) -> Window:
    """The grid of the products, as a window; it crosses borders of pieces of 16."""
    a = geobox.transform
    return Window(-round(a.f / 10), round(a.c / 10), *geobox.shape)


@pytest.fixture
def scenes(write_product: Callable) -> list:
    return [write_product(f"p{day}", 32634 + day % 2, seed=day, day=f"2020-07-0{day}T10:00:00Z").scene
            for day in (1, 2, 3, 4)]  # fmt: skip


def make_cache(
    scenes: list, catalogue: CatalogueProfile, files: BlockReader, cache_bytes: int = 10**8
) -> CompositeCache:
    composer = Composer(BANDS, catalogue, CompositeSettings(enough=2), files, threads=2)
    return CompositeCache([scenes], Grid(), composer, cache_bytes)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacex.sentinel2.composite_cache.BLOCK_SIZE", 16)
    monkeypatch.setattr("spacex.sentinel2.composite_cache.MAX_WINDOW_BLOCKS", 3)


@pytest.mark.parametrize("cache_bytes", [0, 20_000, 10**8])
def test_any_windows_in_any_order_are_parts_of_one_composite(
    scenes: list, catalogue: CatalogueProfile, geobox: GeoBox, window: Window, cache_bytes: int
) -> None:
    whole = read_composite(scenes, geobox, BANDS, catalogue, CompositeSettings(enough=2))
    assert len(np.unique(whole.observations)) == 3
    made = make_cache(scenes, catalogue, BlockReader(cache_bytes), cache_bytes)
    parts = [Window(window.row + r, window.col + c, h, w)
             for r, c, h, w in ((30, 20, 34, 52), (0, 0, 64, 72), (5, 7, 1, 1), (11, 3, 40, 30))]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        for part, got in zip(parts * 2, pool.map(made.read, parts * 2), strict=True):
            here = part.slices(window)
            np.testing.assert_array_equal(got.reflectance, whole.reflectance[:, *here])
            np.testing.assert_array_equal(got.observations, whole.observations[here])
            assert {use["id"] for use in got.scene_records} == {scene.id for scene in scenes}


def test_what_is_remembered_is_not_read_again(scenes: list, catalogue: CatalogueProfile, window: Window) -> None:
    made = make_cache(scenes, catalogue, BlockReader())
    blocks = READ_STATS.blocks
    first = made.read(window)
    read = READ_STATS.blocks - blocks
    assert read >= 4 + 2 * 2  # the classifications, and the bands of two days
    assert first.fetched > 0
    again = made.read(Window(window.row + 3, window.col + 5, 40, 50))
    assert READ_STATS.blocks - blocks == read
    assert again.fetched == 0


def test_blocks_are_decoded_once_for_many_windows(scenes: list, catalogue: CatalogueProfile, window: Window) -> None:
    """No composite blocks cached, but file blocks: each of the files' blocks still comes in once."""
    at_once = make_cache(scenes, catalogue, BlockReader())
    before = READ_STATS.blocks
    at_once.read(window)
    needed = READ_STATS.blocks - before
    one_by_one = make_cache(scenes, catalogue, BlockReader(), cache_bytes=0)
    for row in range(0, window.height, 16):
        for col in range(0, window.width, 16):
            one_by_one.read(Window(window.row + row, window.col + col, 16, 8))
    assert READ_STATS.blocks - before - needed <= needed


def test_a_fault_leaves_nothing_behind(scenes: list, catalogue: CatalogueProfile, window: Window) -> None:
    made = make_cache(scenes, catalogue, BlockReader())
    href = scenes[0].item["assets"]["red"]["href"]
    scenes[0].item["assets"]["red"]["href"] = href + ".gone"
    for _ in range(2):
        with pytest.raises(TileError, match=f"red of {scenes[0].id}"):
            made.read(window)
    scenes[0].item["assets"]["red"]["href"] = href
    assert np.isfinite(made.read(window).reflectance).any()


def test_halves_are_put_together_too(scenes: list, catalogue: CatalogueProfile, geobox: GeoBox, window: Window) -> None:
    composer = Composer(BANDS, catalogue, CompositeSettings(), BlockReader(0), threads=2, keep_halves=True)
    whole = composer.compose(scenes, geobox).halves
    part = Window(window.row + 5, window.col + 9, 40, 44)
    got = CompositeCache([scenes], Grid(), composer).read(part).halves
    assert whole is not None
    assert np.isfinite(whole).any()
    np.testing.assert_array_equal(got, whole[..., *part.slices(window)])

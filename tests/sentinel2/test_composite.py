"""Composites against an oracle of plain rasterio, pyproj and numpy on tiny products."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from spacex.errors import CatalogueError, TileError
from spacex.grid import Grid, Window
from spacex.sentinel2 import CatalogueProfile, Composite, CompositeSettings, read_composite
from spacex.sentinel2.block_reader import BlockReader
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.scenes import by_cloud_cover as by_rank

BANDS = ("B02", "B04")


def oracle(products: Sequence, geobox: GeoBox, clear=(2, 4, 5, 6, 7)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reflectance, observations, and where a source pixel's edge is too near to say which side is meant.

    One observation per product: callers give products of different days.
    """
    a, (height, width) = geobox.transform, geobox.shape
    x, y = np.meshgrid(a.c + (np.arange(width) + 0.5) * a.a, a.f + (np.arange(height) + 0.5) * a.e)
    values, unsure = [], np.zeros((height, width), bool)
    for product in products:
        east, north = Transformer.from_crs("EPSG:3035", product.epsg, always_xy=True).transform(x, y)
        across, down = (east - product.left) / 10, (product.top - north) / 10
        unsure |= (abs(across - np.rint(across)) < 1e-3) | (abs(down - np.rint(down)) < 1e-3)
        col, row = np.floor(across).astype(int), np.floor(down).astype(int)
        layers = []
        for band in BANDS:
            with rasterio.open(product.paths[{"B02": "blue", "B04": "red"}[band]]) as source:
                stored = source.read(1)
            with rasterio.open(product.paths["scl"]) as source:
                classes = source.read(1)
            inside = (row >= 0) & (col >= 0) & (row < stored.shape[0]) & (col < stored.shape[1])
            r, c = np.where(inside, row, 0), np.where(inside, col, 0)
            dn, scl = stored[r, c].astype(float), classes[r // 2, c // 2]
            good = inside & np.isin(scl, clear) & (dn > 0)
            layers.append(np.where(good, np.maximum(dn + product.scene.offset.dn, 1) / 10000, np.nan))
        values.append(layers)
    stack = np.array(values)
    seen = np.isfinite(stack).sum(axis=0).min(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that nobody saw
        middle = np.nanmedian(stack, axis=0)
    return np.where(seen > 0, middle, np.nan), seen, unsure


def same(result: Composite, expected: np.ndarray, seen: np.ndarray, unsure: np.ndarray) -> None:
    assert unsure.mean() < 0.03
    np.testing.assert_array_equal(result.observations[~unsure], seen[~unsure])
    np.testing.assert_allclose(result.reflectance[:, ~unsure], expected[:, ~unsure], rtol=2e-7, atol=0)


@pytest.fixture
def products(write_product: Callable) -> list:
    """Five days: both zones, both offset styles, one all cloud, one with an empty strip, one partly outside."""

    def strip(shape, rng):
        dn = rng.integers(1, 4000, size=shape).astype("u2")
        dn[:, 20:45] = 0
        return dn

    raw = {"earthsearch:boa_offset_applied": False}
    return [
        write_product("S2B_34WED_20200703_0_L2A", 32634, seed=1, day="2020-07-03T10:00:00Z"),
        write_product("S2B_35WMU_20200706_0_L2A", 32635, seed=2, day="2020-07-06T10:00:00Z", properties=raw),
        write_product("S2B_34WED_20200709_0_L2A", 32634, seed=3, day="2020-07-09T10:00:00Z",
                      scl=lambda shape, rng: np.full(shape, 9, "u1")),
        write_product("S2B_35WMU_20200712_0_L2A", 32635, seed=4, day="2020-07-12T10:00:00Z", dn=strip),
        write_product("S2B_34WED_20200715_0_L2A", 32634, seed=5, day="2020-07-15T10:00:00Z", shift=(31, 17),
                      properties=raw),
    ]  # fmt: skip


def test_equals_plain_rasterio_and_numpy(products: list, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    result = read_composite([p.scene for p in products], geobox, BANDS, catalogue)
    expected, seen, unsure = oracle(products, geobox)
    same(result, expected, seen, unsure)
    assert set(np.unique(seen)) >= {0, 1, 2, 3}  # the case is not trivial
    assert result.reflectance.dtype == np.float32
    assert result.observations.dtype == np.uint16


def test_offsets_and_shares_are_recorded(products: list, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    made = read_composite([p.scene for p in products], geobox, BANDS, catalogue)
    uses = {record["id"]: record for record in made.scene_records}
    assert [uses[p.scene.id]["offset_dn"] for p in products] == [0, -1000, 0, 0, -1000]
    assert uses[products[2].scene.id]["clear_share"] == 0.0
    assert 0.3 < uses[products[0].scene.id]["clear_share"] < 0.7
    # 1 to 3999 DN minus 1000: a quarter falls to zero or below, and that is said (with enough pixels)
    assert all("offset_reason" in use for use in uses.values())


def test_order_and_threads_do_not_matter(products: list, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    scenes = [p.scene for p in products]
    first = read_composite(scenes, geobox, BANDS, catalogue, threads=1)
    for seed in range(5):
        random.Random(seed).shuffle(scenes)
        again = read_composite(scenes, geobox, BANDS, catalogue, threads=3)
        np.testing.assert_array_equal(again.reflectance, first.reflectance)
        np.testing.assert_array_equal(again.observations, first.observations)
        assert again.scene_records == first.scene_records


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("buffer", [0, 3])
def test_a_window_of_a_larger_read_is_the_smaller_read(
    write_product: Callable, catalogue: CatalogueProfile, geobox: GeoBox, resampling: str, buffer: int
) -> None:
    def few_clouds(shape, rng):
        return np.where(rng.random(shape) < 0.02, 9, 4).astype("u1")

    settings = CompositeSettings(resampling=resampling, cloud_buffer=buffer)
    scenes = [
        write_product(f"p{day}", 32634 + day % 2, seed=day, scl=few_clouds, day=f"2020-07-0{day}T10:00:00Z").scene
        for day in (1, 2, 3)
    ]
    whole = read_composite(scenes, geobox, BANDS, catalogue, settings)
    assert len(np.unique(whole.observations)) >= 3
    for rows, cols in (((0, 30), (0, 41)), ((13, 64), (29, 72)), ((5, 6), (7, 8))):
        part = (slice(*rows), slice(*cols))
        small = read_composite(scenes, geobox[part], BANDS, catalogue, settings)
        np.testing.assert_array_equal(small.reflectance, whole.reflectance[:, *part])
        np.testing.assert_array_equal(small.observations, whole.observations[part])


def test_two_tiles_of_one_overpass_are_one_observation(
    write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    """The neighbour fills in where the first has no data, is not asked where it says cloud, and never counts twice."""

    def thirds(shape, rng):
        """No data, cloud, vegetation from west to east."""
        return np.choose(np.arange(shape[1]) * 3 // shape[1], (0, 9, 4)).astype("u1") * np.ones(shape, "u1")

    first = write_product("S2B_34WED_20200703_0_L2A", 32634, seed=1, scl=thirds)
    cloudy = write_product("S2B_34WED_20200704_0_L2A", 32634, seed=1, scl=lambda s, r: thirds(s, r) // 9 * 4)
    second = write_product("S2B_35WMU_20200703_0_L2A", 32635, seed=2, scl=lambda s, r: np.full(s, 4, "u1"))
    both = read_composite([second.scene, first.scene], geobox, BANDS, catalogue)
    one, other = (read_composite([product.scene], geobox, BANDS, catalogue) for product in (first, second))
    in_cloud = read_composite([cloudy.scene], geobox, BANDS, catalogue).observations == 1
    assert both.observations.max() == 1
    expected = np.where(one.observations == 1, one.reflectance, np.where(in_cloud, np.nan, other.reflectance))
    np.testing.assert_array_equal(both.reflectance, expected)
    assert 0.2 < in_cloud.mean() < 0.5


def first_clear(products: Sequence, geobox: GeoBox, catalogue: CatalogueProfile, enough: int) -> np.ndarray:
    """(bands, y, x) the median of each pixel's first clear observations, from composites of the scenes one by one."""
    alone = [read_composite([p.scene], geobox, BANDS, catalogue).reflectance for p in products]
    clear = np.cumsum([np.isfinite(picture[0]) for picture in alone], axis=0)
    stack = np.where((clear <= enough)[:, None], alone, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(stack.astype(float), axis=0)


@pytest.fixture
def ranked(write_product: Callable) -> list:
    """Eight days in the order of their rank, which is neither that of their dates nor of their names."""
    days, clouds = (9, 3, 20, 5, 6, 17, 2, 11), (1.0, 5.0, 5.0, 7.5, 20.0, 30.0, 30.0, None)
    order = sorted(zip(clouds, days, strict=True), key=lambda pair: (100.0 if pair[0] is None else pair[0], pair[1]))
    return [write_product(f"S2B_{34 + day % 2}WED_{30 - day}", 32634 + day % 2, seed=day,
                          day=f"2020-07-{day:02d}T10:00:00Z", properties={"eo:cloud_cover": cloud})
            for cloud, day in order]  # fmt: skip


@pytest.mark.parametrize("enough", [1, 2, 3])
def test_a_pixel_takes_its_first_clear_observations_and_no_more(
    ranked: list, geobox: GeoBox, catalogue: CatalogueProfile, enough: int
) -> None:
    scenes = [p.scene for p in ranked]
    random.Random(enough).shuffle(scenes)
    result = read_composite(scenes, geobox, BANDS, catalogue, CompositeSettings(enough=enough))
    expected = first_clear(ranked, geobox, catalogue, enough)
    np.testing.assert_allclose(result.reflectance, expected, rtol=3e-7)
    everything = read_composite(scenes, geobox, BANDS, catalogue, CompositeSettings(enough=0))
    np.testing.assert_array_equal(result.observations, np.minimum(everything.observations, enough))
    assert everything.observations.max() > enough


def test_halves_are_the_medians_of_every_other_observation(
    ranked: list, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    settings, scenes = CompositeSettings(enough=4), [p.scene for p in ranked]
    reader = BlockReader(cache_bytes=0)
    made = Composer(BANDS, catalogue, settings, reader, keep_halves=True).compose(scenes, geobox)
    plain = read_composite(scenes, geobox, BANDS, catalogue, settings)
    np.testing.assert_array_equal(made.reflectance, plain.reflectance)
    assert plain.halves is None
    assert made.halves is not None
    single = np.array([read_composite([scene], geobox, BANDS, catalogue).reflectance for scene in by_rank(scenes)])
    number = np.isfinite(single[:, 0]).cumsum(axis=0)  # of each observation in its pixel's list, from 1
    used = np.isfinite(single) & (number <= 4)[:, None]
    for half, odd in enumerate((1, 0)):
        mine = np.where(used & (number % 2 == odd)[:, None], single, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = np.nanmedian(mine, axis=0)
        np.testing.assert_allclose(made.halves[half], np.where(plain.observations > 1, expected, np.nan), rtol=3e-7)
    assert set(np.unique(plain.observations)) >= {1, 2, 3}


def test_a_window_of_a_larger_read_is_the_smaller_read_when_enough_is_enough(
    ranked: list, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    settings, scenes = CompositeSettings(enough=2, cloud_buffer=1), [p.scene for p in ranked]
    whole = read_composite(scenes, geobox, BANDS, catalogue, settings)
    assert len(np.unique(whole.observations)) == 3
    for rows, cols in (((0, 30), (0, 41)), ((13, 64), (29, 72)), ((5, 6), (7, 8))):
        part = (slice(*rows), slice(*cols))
        small = read_composite(scenes, geobox[part], BANDS, catalogue, settings)
        np.testing.assert_array_equal(small.reflectance, whole.reflectance[:, *part])
        np.testing.assert_array_equal(small.observations, whole.observations[part])


def test_a_minimum_that_can_never_be_had_is_refused() -> None:
    with pytest.raises(ValueError, match="at least the minimum of observations, 9"):
        CompositeSettings(min_observations=9, enough=8)
    assert CompositeSettings(min_observations=9, enough=0).enough == 0


def test_what_nobody_lacks_is_not_read(write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    def product(day, cloud):
        made = write_product(f"d{day}", scl=lambda s, r: np.full(s, 4, "u1"), seed=day,
                             day=f"2020-07-{day:02d}T10:00:00Z", properties={"eo:cloud_cover": cloud})  # fmt: skip
        if cloud > 10:
            for path in made.paths.values():
                path.unlink()
        return made.scene

    scenes = [product(1, 70.0), product(2, 3.0), product(3, 2.0), product(4, 50.0)]
    result = read_composite(scenes, geobox, BANDS, catalogue, CompositeSettings(enough=2))
    assert (result.observations == 2).all()
    assert [use.get("left_out") for use in result.scene_records] == [None, None, *["every pixel has enough"] * 2]
    with pytest.raises(TileError, match="d4"):
        read_composite(scenes, geobox, BANDS, catalogue, CompositeSettings(enough=3))


def test_a_reprocessed_scene_comes_first_and_counts_once(
    write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    def clear(shape, rng):
        return np.full(shape, 4, "u1")

    old = write_product("S2B_34WED_20200703_0_L2A", seed=1, scl=clear, properties={"s2:processing_baseline": "02.14"})
    new = write_product("S2B_34WED_20200703_1_L2A", seed=2, scl=clear)
    result = read_composite([old.scene, new.scene], geobox, BANDS, catalogue)
    np.testing.assert_array_equal(result.reflectance, read_composite([new.scene], geobox, BANDS, catalogue).reflectance)
    assert result.observations.max() == 1
    assert [use["used_share"] for use in result.scene_records] == [1.0, 0.0]


def test_all_clouds_and_no_scene_are_no_data(
    write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    cloudy = write_product("a", scl=lambda shape, rng: np.full(shape, 8, "u1"))
    elsewhere = write_product("b", shift=(3000, 0))
    for scenes in ([cloudy.scene], [elsewhere.scene], []):
        result = read_composite(scenes, geobox, BANDS, catalogue)
        assert np.isnan(result.reflectance).all()
        assert result.reflectance.shape == (2, *geobox.shape)
        assert result.observations.max() == 0
    assert result.scene_records == []


def test_bands_are_not_read_where_nothing_is_clear(
    write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    cloudy = write_product("a", scl=lambda shape, rng: np.full(shape, 8, "u1"))
    for band in BANDS:
        cloudy.paths[{"B02": "blue", "B04": "red"}[band]].unlink()
    assert read_composite([cloudy.scene], geobox, BANDS, catalogue).observations.max() == 0


def test_snow_sun_and_minimum(write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    snow = write_product("snow", scl=lambda shape, rng: np.full(shape, 11, "u1")).scene
    low = write_product("low", properties={"view:sun_elevation": 12.0}, scl=lambda s, r: np.full(s, 4, "u1")).scene
    unknown = write_product("what", properties={"view:sun_elevation": None}, scl=lambda s, r: np.full(s, 4, "u1")).scene

    def seen(scene, **settings) -> int:
        result = read_composite([scene], geobox, BANDS, catalogue, CompositeSettings(**settings))
        assert np.isfinite(result.reflectance).any() == (
            result.observations.max() >= settings.get("min_observations", 1)
        )
        return int(result.observations.max())

    assert (seen(snow), seen(snow, snow_is_clear=True)) == (0, 1)
    assert (seen(low), seen(low, min_sun_elevation=0)) == (0, 1)
    assert seen(unknown) == 1
    assert seen(unknown, min_observations=2) == 1
    left_out = read_composite([low], geobox, BANDS, catalogue).scene_records[0]
    assert left_out["left_out"] == "sun at 12.0°, below 20°"


def test_a_cloud_buffer_takes_the_disc_around_a_cloud(
    write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    def one_cloud(shape, rng):
        scl = np.full(shape, 4, "u1")
        scl[shape[0] // 2, shape[1] // 2] = 9
        return scl

    scene = write_product("a", scl=one_cloud).scene
    lost = [
        (read_composite([scene], geobox, BANDS, catalogue, CompositeSettings(cloud_buffer=n)).observations == 0).sum()
        for n in (0, 1, 2)
    ]
    # discs of 1, 5 and 13 pixels of 20 m, that is 4 times as many of 10 m, to the resampling's rounding
    assert lost == [pytest.approx(4, abs=2), pytest.approx(20, abs=5), pytest.approx(52, abs=8)]


def test_bilinear_of_a_plane_is_the_plane(write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    def plane(shape, rng):
        return (2000 + 3 * np.arange(shape[1]) + 5 * np.arange(shape[0])[:, None]).astype("u2")

    product = write_product("a", dn=plane, scl=lambda s, r: np.full(s, 4, "u1"))
    result = read_composite([product.scene], geobox, BANDS, catalogue, CompositeSettings(resampling="bilinear"))
    a, (height, width) = geobox.transform, geobox.shape
    x, y = np.meshgrid(a.c + (np.arange(width) + 0.5) * a.a, a.f + (np.arange(height) + 0.5) * a.e)
    east, north = Transformer.from_crs("EPSG:3035", product.epsg, always_xy=True).transform(x, y)
    expected = 2000 + 3 * ((east - product.left) / 10 - 0.5) + 5 * ((product.top - north) / 10 - 0.5)
    np.testing.assert_allclose(result.reflectance[0] * 10000, expected, atol=0.51)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("gone", "red"), ("truncated", "red"), ("shape", "shape"), ("values", "value 77"), ("crs", "EPSG:32635"),
        ("float", "float32"), ("ground", "same ground"), ("moved", "transform"),
    ],
)  # fmt: skip
def test_every_fault_is_an_error_that_names_the_file(
    write_product: Callable, geobox: GeoBox, catalogue: CatalogueProfile, fault: str, words: str
) -> None:
    product = write_product("S2B_34WED_20200703_0_L2A", scl=lambda s, r: np.full(s, 4, "u1"))
    red, scl = product.paths["red"], product.paths["scl"]
    assets = product.scene.item["assets"]
    if fault == "gone":
        red.unlink()
    elif fault == "truncated":
        red.write_bytes(red.read_bytes()[: red.stat().st_size * 2 // 3])
    elif fault == "shape":
        _rewrite(scl, lambda array, profile: (array[:-3, :-3], {}))
    elif fault == "values":
        _rewrite(scl, lambda array, profile: (array + np.uint8(73), {}))
    elif fault == "crs":
        _rewrite(red, lambda array, profile: (array, {"crs": "EPSG:32635"}))
    elif fault == "float":
        _rewrite(red, lambda array, profile: (array.astype("f4"), {"dtype": "float32"}))
    elif fault == "ground":
        _rewrite(red, lambda array, profile: (array[:-40], {}))
        del assets["red"]["proj:shape"]
    elif fault == "moved":
        _rewrite(red, lambda array, profile: (array, {"transform": profile["transform"] @ Affine.translation(0, 3)}))
    with pytest.raises(TileError) as caught:
        read_composite([product.scene], geobox, BANDS, catalogue)
    assert product.scene.id in str(caught.value)
    assert words in str(caught.value)
    assert ("scl" if fault in ("shape", "values") else "red") in str(caught.value)


def _rewrite(path, change) -> None:
    with rasterio.open(path) as source:
        array, profile = source.read(1), source.profile
    array, more = change(array, profile)
    profile.update(height=array.shape[0], width=array.shape[1], **more)
    with rasterio.open(path, "w", **profile) as target:
        target.write(array, 1)


def test_a_band_the_catalogue_lacks_is_a_wrong_request(catalogue: CatalogueProfile, geobox: GeoBox) -> None:
    with pytest.raises(CatalogueError, match="B10"):
        read_composite([], geobox, ["B10"], catalogue)


def test_many_threads_at_once_give_what_one_gives(products: list, catalogue: CatalogueProfile, geobox: GeoBox) -> None:
    scenes = [p.scene for p in products]
    alone = read_composite(scenes, geobox, BANDS, catalogue, threads=1)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: read_composite(scenes, geobox, BANDS, catalogue, threads=2), range(16)))
    for result in results:
        np.testing.assert_array_equal(result.reflectance, alone.reflectance)
        assert (result.scene_records, result.fetched) == (alone.scene_records, alone.fetched)


def test_a_grid_of_another_resolution_samples_its_own_pixel_centres(
    write_product: Callable, catalogue: CatalogueProfile, geobox: GeoBox
) -> None:
    product = write_product("a", scl=lambda s, r: np.full(s, 4, "u1"))
    row, col = -round(geobox.transform.f / 20), round(geobox.transform.c / 20)
    coarse = Grid(resolution=20.0).geobox(Window(row, col, 20, 20))
    result = read_composite([product.scene], coarse, BANDS, catalogue)
    same(result, *oracle([product], coarse))


def test_threads_that_fill_one_stack_lose_nothing_of_each_other():
    """Choosing by bits reads and writes whole rows, others' pixels included."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Lock

    from spacex.sentinel2.contribution import UNASSIGNED, BandStack
    from spacex.sentinel2.median import MISSING

    owner = np.arange(1024 * 1024, dtype=np.uint16).reshape(1024, 1024) % 8
    whole = slice(0, 1024), slice(0, 1024)
    for _ in range(5):
        stack = BandStack(np.full((1, 1024, 1024), MISSING, np.uint16), Lock())
        with ThreadPoolExecutor(8) as pool:
            for number in range(8):
                places = np.where(owner == number, 0, UNASSIGNED).astype(np.uint16)
                pool.submit(stack.put, whole, np.full(owner.shape, number, np.uint16), places)
        np.testing.assert_array_equal(stack.values[0], owner)

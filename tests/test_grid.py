import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacex.errors import RequestError
from spacex.grid import Grid, Tiling, Window, chip_windows

windows = st.builds(Window, st.integers(-600, 600), st.integers(-600, 600), st.integers(1, 300), st.integers(1, 300))


def test_one_degree_of_lapland_by_hand():
    # 24.00 E 67.90 N is 4 903 km east and 5 000 km north in EPSG:3035, give or take; y grows, rows shrink
    window = Grid().window(4_903_123, 4_999_001, 4_905_001, 5_000_999, snap=1000)
    assert window == Window(-500_100, 490_300, 200, 300)
    assert Grid().transform(window)[:6] == (10, 0, 4_903_000, 0, -10, 5_001_000)
    assert Grid().geobox(window).crs.epsg == 3035


@given(windows)
def test_a_window_comes_back_from_its_own_edges(window):
    box = Grid().geobox(window).boundingbox
    assert Grid().window(*box) == window


@given(windows, st.integers(1, 40).map(lambda n: 4 * n))
def test_every_pixel_lies_in_a_chip_and_every_chip_touches_the_area(area, stride):
    size = 160
    chips = chip_windows(area, stride, size)
    covered = np.zeros(area.shape, int)
    for chip in chips:
        shared = chip.intersect(area)
        assert not shared.empty
        assert chip.row % stride == chip.col % stride == 0
        rows, cols = shared.slices(area)
        covered[rows, cols] += 1
    assert covered.min() >= 1
    assert len(set(chips)) == len(chips)
    # a chip further out would not touch: the lattice is complete, not padded
    assert covered.max() <= (-(-size // stride)) ** 2


@given(windows, st.integers(7, 100))
def test_tiles_cover_the_extent_once_and_none_lies_outside(extent, size):
    tiling = Tiling(extent, size)
    covered = np.zeros(tiling.pixels.shape, int)
    assert tiling.pixels.intersect(extent) == extent
    for position, (row, col) in zip(np.ndindex(tiling.shape), tiling, strict=True):
        window = tiling.window(row, col)
        assert not window.intersect(extent).empty
        assert tiling.position(row, col) == position
        rows, cols = window.slices(tiling.pixels)
        covered[rows, cols] += 1
    assert (covered == 1).all()


@given(windows, windows, st.integers(7, 100))
def test_a_pixel_has_one_tile_whatever_was_asked_around_it(one, other, size):
    shared = one.intersect(other)
    if not shared.empty:
        tile = shared.row // size, shared.col // size
        ours, theirs = (Tiling(extent, size) for extent in (one, other))
        assert tile in ours
        assert ours.window(*tile) == theirs.window(*tile)
        assert not ours.window(*tile).intersect(Window(shared.row, shared.col, 1, 1)).empty


def test_tiles_by_hand():
    # the cube's first pixel is 320 rows below the top of tile row -860 (-440 320 = -860 * 512)
    tiling = Tiling(Window(-440_000, 460_000, 700, 1100), 512)
    assert tiling.pixels == Window(-440_320, 459_776, 1024, 1536)
    assert list(tiling) == [(-860, 898), (-860, 899), (-860, 900), (-859, 898), (-859, 899), (-859, 900)]
    with pytest.raises(RequestError, match=r"no such tile.*rows -860 to -859"):
        tiling.window(0, 0)


def test_bad_windows_and_grids_are_refused():
    with pytest.raises(RequestError, match="metres"):
        Grid("EPSG:4326")
    with pytest.raises(RequestError, match="outside its array"):
        Window(0, 0, 5, 5).slices(Window(0, 0, 4, 5))

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
def test_tiles_cover_the_extent_once(extent, size):
    tiling = Tiling(extent, size)
    covered = np.zeros(extent.shape, int)
    for row, col in tiling:
        rows, cols = tiling.window(row, col).slices(extent)
        covered[rows, cols] += 1
    assert (covered == 1).all()


def test_bad_windows_and_grids_are_refused():
    with pytest.raises(RequestError, match="metres"):
        Grid("EPSG:4326")
    with pytest.raises(RequestError, match="outside its array"):
        Window(0, 0, 5, 5).slices(Window(0, 0, 4, 5))

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacex.grid import Grid, Window
from spacex.sentinel2.pixel_grid import PixelGrid
from spacex.sentinel2.resampling import BLOCK, ResamplingTable, any_per_block

LAPLAND = Window(-505_000, 490_000, 90, 110)


@given(
    row=st.integers(0, 60), col=st.integers(0, 60), height=st.integers(1, 30), width=st.integers(1, 50),
    how=st.sampled_from(["nearest", "bilinear"]), size=st.sampled_from([10.0, 20.0]), margin=st.integers(0, 3),
)  # fmt: skip
def test_the_address_of_a_pixel_does_not_depend_on_the_window(row, col, height, width, how, size, margin) -> None:
    source_grid = PixelGrid("EPSG:32634", size)
    whole = ResamplingTable.build(Grid().geobox(LAPLAND), source_grid, how)
    part = Window(LAPLAND.row + row, LAPLAND.col + col, height, width)
    small = ResamplingTable.build(Grid().geobox(part), source_grid, how, margin)
    at = part.slices(LAPLAND)
    for table, index in ((whole, whole.index[at]), (small, small.index)):
        assert index.min() >= 0
        assert index.max() < table.window.height * table.window.width
    absolute = [
        (index // t.window.width + t.window.row, index % t.window.width + t.window.col)
        for t, index in ((whole, whole.index[at]), (small, small.index))
    ]
    np.testing.assert_array_equal(absolute[0], absolute[1])
    if how == "bilinear":
        for large, little in zip(whole.fraction, small.fraction, strict=True):
            np.testing.assert_array_equal(large[at], little)


def test_a_grid_in_the_source_crs_is_a_copy() -> None:
    window = Window(-755_000, 50_000, 40, 30)
    table = ResamplingTable.build(Grid("EPSG:32634").geobox(window), PixelGrid("EPSG:32634", 10.0))
    assert table.window == window
    np.testing.assert_array_equal(table.index.ravel(), np.arange(40 * 30))


def test_two_pixels_of_ten_metres_share_one_of_twenty() -> None:
    table = ResamplingTable.build(Grid("EPSG:32634").geobox(Window(-4, 6, 4, 4)), PixelGrid("EPSG:32634", 20.0))
    assert table.window == Window(-2, 3, 2, 2)
    assert table.index.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_bilinear_by_hand() -> None:
    """A 20 m grid's pixel centres are the corners of four 10 m pixels: their mean, or no data."""
    geobox = Grid("EPSG:32634", 20.0).geobox(Window(-1, 0, 1, 2))
    table = ResamplingTable.build(geobox, PixelGrid("EPSG:32634", 10.0), "bilinear")
    source = np.zeros(table.window.shape, "u2")
    rows = {(-2, 0): 10, (-2, 1): 20, (-1, 0): 30, (-1, 1): 44, (-2, 2): 0, (-2, 3): 9, (-1, 2): 9, (-1, 3): 9}
    for (row, col), dn in rows.items():
        source[row - table.window.row, col - table.window.col] = dn
    assert table.resample(source).tolist() == [[26, 0]]


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 150), width=st.integers(1, 150))
def test_blocks_are_those_with_anything_wanted(seed: int, height: int, width: int) -> None:
    wanted = np.random.default_rng(seed).random((height, width)) < 3e-4
    expected = {(row // BLOCK, col // BLOCK) for row, col in np.argwhere(wanted).tolist()}
    blocks = any_per_block(wanted)
    assert blocks.shape == (-(-height // BLOCK), -(-width // BLOCK))
    assert set(map(tuple, np.argwhere(blocks).tolist())) == expected


def test_each_block_is_told_all_it_needs_and_little_more() -> None:
    part = Window(LAPLAND.row, LAPLAND.col, 150, 200)
    for how, reach in (("nearest", 0), ("bilinear", 1)):
        table = ResamplingTable.build(Grid().geobox(part), PixelGrid("EPSG:32634", 10.0), how)
        row = table.index // table.window.width + table.window.row
        col = table.index % table.window.width + table.window.col
        for r, c in np.ndindex(table.block_bounds.shape[:2]):
            at = slice(r * BLOCK, (r + 1) * BLOCK), slice(c * BLOCK, (c + 1) * BLOCK)
            needed = row[at].min(), row[at].max() + reach, col[at].min(), col[at].max() + reach
            assert tuple(table.block_bounds[r, c]) == needed

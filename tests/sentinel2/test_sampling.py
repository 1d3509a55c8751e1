from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from spacex.grid import Grid, Window
from spacex.sentinel2.sampling import Lattice, _project, sampling

LAPLAND = Window(-505_000, 490_000, 90, 110)


@given(
    row=st.integers(0, 60), col=st.integers(0, 60), height=st.integers(1, 30), width=st.integers(1, 50),
    how=st.sampled_from(["nearest", "bilinear"]), size=st.sampled_from([10.0, 20.0]), margin=st.integers(0, 3),
)  # fmt: skip
def test_the_address_of_a_pixel_does_not_depend_on_the_window(row, col, height, width, how, size, margin) -> None:
    lattice = Lattice("EPSG:32634", size)
    whole = sampling(Grid().geobox(LAPLAND), lattice, how)
    part = Window(LAPLAND.row + row, LAPLAND.col + col, height, width)
    small = sampling(Grid().geobox(part), lattice, how, margin)
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


@pytest.mark.parametrize(("lon", "lat", "epsg"), [(24.0, 68.0, 32634), (24.0, 68.0, 32635), (5.3, 51.2, 32631)])
def test_interpolated_coordinates_are_the_exact_ones(lon: float, lat: float, epsg: int) -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(lon, lat)
    geobox = Grid().geobox(Window(-round(y / 10), round(x / 10), 300, 200))
    a = geobox.transform
    grid = np.meshgrid(a.c + (np.arange(200) + 0.5) * a.a, a.f + (np.arange(300) + 0.5) * a.e)
    exact = Transformer.from_crs("EPSG:3035", epsg, always_xy=True).transform(*grid)
    ours = _project(geobox, f"EPSG:{epsg}")
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-3)  # metres


def test_a_grid_in_the_source_crs_is_a_copy() -> None:
    window = Window(-755_000, 50_000, 40, 30)
    table = sampling(Grid("EPSG:32634").geobox(window), Lattice("EPSG:32634", 10.0))
    assert table.window == window
    np.testing.assert_array_equal(table.index.ravel(), np.arange(40 * 30))


def test_two_pixels_of_ten_metres_share_one_of_twenty() -> None:
    table = sampling(Grid("EPSG:32634").geobox(Window(-4, 6, 4, 4)), Lattice("EPSG:32634", 20.0))
    assert table.window == Window(-2, 3, 2, 2)
    assert table.index.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_bilinear_by_hand() -> None:
    """A 20 m grid's pixel centres are the corners of four 10 m pixels: their mean, or no data."""
    table = sampling(Grid("EPSG:32634", 20.0).geobox(Window(-1, 0, 1, 2)), Lattice("EPSG:32634", 10.0), "bilinear")
    source = np.zeros(table.window.shape, "u2")
    rows = {(-2, 0): 10, (-2, 1): 20, (-1, 0): 30, (-1, 1): 44, (-2, 2): 0, (-2, 3): 9, (-1, 2): 9, (-1, 3): 9}
    for (row, col), dn in rows.items():
        source[row - table.window.row, col - table.window.col] = dn
    assert table.blend(source).tolist() == [[26, 0]]

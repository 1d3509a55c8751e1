from __future__ import annotations

import numpy as np
import pytest
from pyproj import Transformer

from spacex.grid import Grid, Window
from spacex.sentinel2.pixel_grid import PixelGrid, PixelTransform


@pytest.mark.parametrize(("lon", "lat", "epsg"), [(24.0, 68.0, 32634), (24.0, 68.0, 32635), (5.3, 51.2, 32631)])
def test_interpolated_coordinates_are_the_exact_ones(lon: float, lat: float, epsg: int) -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(lon, lat)
    geobox = Grid().geobox(Window(-round(y / 10), round(x / 10), 300, 200))
    a = geobox.transform
    grid = np.meshgrid(a.c + (np.arange(200) + 0.5) * a.a, a.f + (np.arange(300) + 0.5) * a.e)
    exact = Transformer.from_crs("EPSG:3035", epsg, always_xy=True).transform(*grid)
    strips = list(PixelTransform.of(geobox, PixelGrid(f"EPSG:{epsg}", 1.0)).row_strips())
    assert [row for rows, _ in strips for row in range(300)[rows]] == list(range(300))
    north, east = np.concatenate([position for _, position in strips], axis=1) * [[[-1]], [[1]]]
    np.testing.assert_allclose((east, north), exact, rtol=0, atol=1e-3)  # metres

"""The bare cube in GDAL, which reads it from version 3.12 on (rasterio 1.5, Python 3.12)."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from known_cube import known_cube, values

from spacex.cube.encoding import downsample_2x

VERSION = tuple(map(int, rasterio.__gdal_version__.split(".")[:2]))
pytestmark = pytest.mark.skipif(VERSION < (3, 12), reason=f"GDAL {rasterio.__gdal_version__} is older than 3.12")


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    return known_cube(str(tmp_path_factory.mktemp("gdal") / "cube.zarr"))


@pytest.mark.parametrize("level", [0, 1])
def test_values_place_and_no_data(cube, level):
    expected = values(1)[0]["attribution"]
    for _ in range(level):
        expected = downsample_2x(expected)
    with rasterio.open(f'ZARR:"{cube.uri}":/{level}/attribution:1') as source:
        assert source.crs.to_epsg() == 3035
        assert source.transform.a == 10 * 2**level
        assert (source.transform.c, source.transform.f) == (4_894_720, 5_058_560)  # of the first tile
        assert np.isnan(source.nodata)
        found = source.read(1)
    rows, cols = cube.spec.crop(level)
    assert np.isnan(found).sum() - np.isnan(found[rows, cols]).sum() == found.size - found[rows, cols].size
    found = found[rows, cols]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_score_unpacks(cube):
    with rasterio.open(f'ZARR:"{cube.uri}":/0/naturalness:1') as source:
        score = np.ma.filled(source.read(1, masked=True) * source.scales[0] + source.offsets[0], np.nan)
    score = score[cube.spec.crop(0)]
    np.testing.assert_allclose(score, values(1)[0]["naturalness"], atol=0.0021)

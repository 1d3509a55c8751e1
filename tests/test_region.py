"""Which pixels lie inside a country: looked up near the window, the same as asked of the whole outline."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.features import geometry_mask

from spacex.areas import load_area
from spacex.grid import Window
from spacex.region import BLOCK, Region


@pytest.fixture(scope="module")
def norway():
    return Region(load_area("norway"))


def asked_of_the_whole(region, window):
    return geometry_mask([region.outline], window.shape, region.grid.transform(window), invert=True)


@pytest.mark.parametrize("seed", range(8))
def test_windows_on_the_coast_equal_the_whole_outline(norway, seed):
    rng = np.random.default_rng(seed)
    corners = np.concatenate([np.asarray(part.exterior.coords) for part in norway.outline.geoms])
    x, y = corners[rng.integers(len(corners))]
    row, col = int(-y // 10) - int(rng.integers(600)), int(x // 10) - int(rng.integers(600))
    window = Window(row, col, int(rng.integers(1, 900)), int(rng.integers(1, 900)))
    np.testing.assert_array_equal(norway.inside(window), asked_of_the_whole(norway, window))


def test_a_window_across_two_blocks_equals_its_halves(norway):
    x, y = norway.outline.representative_point().coords[0]
    row, col = round(-y / 10 / BLOCK) * BLOCK, round(x / 10 / BLOCK) * BLOCK
    window = Window(row - 300, col - 300, 600, 600)
    np.testing.assert_array_equal(norway.inside(window), asked_of_the_whole(norway, window))


def test_far_at_sea_nothing_is_inside(norway):
    assert not norway.inside(Window(-700_000, 300_000, 512, 512)).any()

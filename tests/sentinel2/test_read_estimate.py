"""Expected reading against sums by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from spacex.grid import Grid, Window
from spacex.sentinel2.read_estimate import ReadEstimator, lacking_before, read_window


def test_the_chance_to_lack_is_that_of_counting_by_hand() -> None:
    chances, enough = [0.9, 0.3, 0.6, 0.5], 2
    for turn, got in enumerate(lacking_before(np.array(chances), enough)):
        by_hand = sum(
            math.prod(c if seen else 1 - c for c, seen in zip(chances, draw, strict=False))
            for draw in itertools.product((0, 1), repeat=turn) if sum(draw) < enough
        )  # fmt: skip
        assert got == pytest.approx(by_hand)


def test_clear_scenes_are_read_until_there_are_enough(make_request, archive_scenes) -> None:
    """Four scenes of three days, the same ground in two zones, taken to be all clear."""
    clear = [type(s)(**{**vars(s), "cloud_cover": 0.0}) for s in archive_scenes]
    window = make_request().region.extent.pad(-100)
    pixels = window.height * window.width
    for enough, scenes in ((1, 1), (2, 2), (3, 3), (0, 3)):
        estimate = ReadEstimator(clear, Grid(), enough).of(window)
        assert estimate.scenes == scenes
        assert estimate.pixels == pytest.approx(scenes * pixels, rel=0.02)


def test_cloudy_scenes_are_read_longer_and_no_place_without_scenes(make_request, archive_scenes) -> None:
    window = make_request().region.extent.pad(-100)
    cloudy = [type(s)(**{**vars(s), "cloud_cover": 50.0}) for s in archive_scenes]
    once = ReadEstimator(archive_scenes, Grid(), 1).of(window)
    longer = ReadEstimator(cloudy, Grid(), 1).of(window)
    assert longer.pixels > 1.3 * once.pixels
    assert longer.classified >= longer.pixels
    assert ReadEstimator(cloudy, Grid(), 1).of(Window(0, 0, 10, 10)).pixels == 0
    assert ReadEstimator([], Grid(), 1).of(window).pixels == 0


def test_a_tile_reads_its_halo_where_it_has_no_neighbour() -> None:
    core = Window(100, 200, 10, 20)
    assert read_window(core, core.pad(5), (False,) * 4) == core
    assert read_window(core, core.pad(5), (True,) * 4) == core.pad(5 + 256)
    assert read_window(core, core.pad(5), (False, True, False, False)) == Window(100, 200, 10 + 261, 20)

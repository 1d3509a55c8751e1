"""Colour scales of the quicklook."""

import numpy as np
import pytest

from spacex.cube.quicklook import _top


@pytest.mark.parametrize(("name", "value", "end"), [("attribution", 0.0012, 0.003), ("lift", 7e-6, 5e-5)])
def test_maps_that_show_next_to_nothing_are_not_stretched_to_full_colour(name, value, end):
    assert _top(name, np.full((4, 4), value, "f4")) == (pytest.approx(end), True)


def test_other_maps_end_at_their_own_99th_percentile():
    values = np.linspace(0, 0.1, 10_001, dtype="f4").reshape(73, 137)
    assert _top("attribution", values) == (pytest.approx(0.099), False)
    assert _top("naturalness", values) == (1.0, False)

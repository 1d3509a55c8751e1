"""Either numbering gives the same codes, and doubtful rasters are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from spacex.datasets.corine import CLASSES, CODES, GRID_CODES, corine_codes
from spacex.errors import DataError


def test_the_legend_is_complete() -> None:
    assert len(CODES) == 44
    assert list(CODES) == sorted(CODES)
    # spot checks against the EEA's legend file
    expected = {
        1: 111,
        12: 211,
        23: 311,
        24: 312,
        25: 313,
        30: 331,
        35: 411,
        36: 412,
        40: 511,
        41: 512,
        44: 523,
    }
    assert {GRID_CODES[code]: code for code in expected.values()} == expected
    assert CLASSES[412] == "Peat bogs"


@given(st.lists(st.sampled_from([0, *CODES]), min_size=1, max_size=30))
def test_both_numberings_mean_the_same(codes: list[int]) -> None:
    grid = [GRID_CODES.get(code, 48) for code in codes]
    wanted = np.array(codes, np.uint16)
    assert np.array_equal(corine_codes(wanted), wanted)
    assert np.array_equal(corine_codes(np.array(grid, np.uint8)), wanted)
    assert np.array_equal(corine_codes(np.array(grid, np.float32)), wanted)


@pytest.mark.parametrize(
    ("empty", "dtype"), [(48, "u1"), (128, "u1"), (255, "u1"), (-128, "i1"), (999, "u2"), (np.nan, "f4")]
)
def test_every_version_of_no_data(empty: float, dtype: str) -> None:
    code = 412 if dtype == "u2" else GRID_CODES[412]
    assert corine_codes(np.array([empty, code], dtype)).tolist() == [0, 412]
    assert corine_codes(np.array([empty, empty], dtype)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [([36, 412], "36 and 412"), ([45], r"not CORINE.*45"), ([222, 224], "224"), ([1.5], "1.5"), ([-1], "-1")],
)
def test_doubt_is_an_error(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        corine_codes(np.array(values))


@pytest.mark.real
def test_a_real_raster_in_grid_codes(real_data: Callable[[str], Path]) -> None:
    with rasterio.open(real_data("corine/ls100_12.tif")) as source:
        values = source.read(1)
    codes = corine_codes(values)
    assert set(np.unique(codes).tolist()) <= {0, *CODES}
    assert ((codes == 0) == (values == 255)).all()
    assert (codes == 512).sum() == (values == 41).sum() > 0  # Lake Geneva

"""Either numbering gives the same codes, and doubtful rasters are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from stand_in_cover import write_land_cover

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


def test_a_raster_of_land(land_cover: Path) -> None:
    with rasterio.open(land_cover) as source:
        values, unknown = source.read(1), source.nodata
    codes = corine_codes(values)
    assert set(np.unique(codes).tolist()) <= {0, *CODES}
    assert ((codes == 0) == (values == unknown)).all()
    lake = 41 if values.dtype == np.uint8 else 512
    assert (codes == 512).sum() == (values == lake).sum() > 0


@pytest.mark.parametrize("grid_codes", [True, False])
def test_either_raster_of_a_country_gives_its_classes(tmp_path: Path, grid_codes: bool) -> None:
    truth = write_land_cover(tmp_path / "cover.tif", grid_codes)
    with rasterio.open(tmp_path / "cover.tif") as source:
        codes = corine_codes(source.read(1))
    np.testing.assert_array_equal(codes, truth)
    assert len(np.unique(truth)) > 8

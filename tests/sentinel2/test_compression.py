"""What is remembered comes back to the bit, and takes less room."""

from __future__ import annotations

import numpy as np
import pytest

from spacex.sentinel2.compression import CompressedArray
from spacex.sentinel2.median import MISSING, median


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_any_array_comes_back(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 200, (3, 17, 31)).astype(dtype)
    packed = CompressedArray.of(values[:, ::2])
    np.testing.assert_array_equal(packed.pixels(), values[:, ::2])
    assert packed.pixels().dtype == values.dtype


@pytest.mark.parametrize(("brightest", "share"), [(3000, 0.45), (MISSING - 1, 1.1)], ids=["land", "white beyond white"])
def test_medians_come_back(brightest: int, share: float) -> None:
    """Of an odd and an even number of observations and of none; too bright ones are kept as they are."""
    stack = np.random.default_rng(0).integers(1, brightest, (4, 64, 64)).astype("u2")
    stack[3, :32] = MISSING
    stack[:, :8] = MISSING
    values, _ = median(stack)
    packed = CompressedArray.of_medians(values)
    np.testing.assert_array_equal(packed.pixels(), values)
    assert packed.pixels().dtype == np.float32
    assert len(packed.data) < share * values.nbytes


def test_other_values_come_back_too() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (3, 8, 8)).astype("f4")
    np.testing.assert_array_equal(CompressedArray.of_medians(values).pixels(), values)

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spacex.sentinel2.median import CHUNK, MISSING, comparators, median


@pytest.mark.parametrize("n", range(1, 11))
def test_the_network_sorts_every_sequence_of_zeros_and_ones(n: int) -> None:
    """The 0-1 principle: a network that sorts all of these sorts everything (Knuth, TAOCP 3, 5.3.4)."""
    for bits in itertools.product((0, 1), repeat=n):
        row = list(bits)
        for low, high in comparators(n):
            row[low], row[high] = min(row[low], row[high]), max(row[low], row[high])
        assert row == sorted(bits)


@given(
    hnp.arrays(
        np.uint16,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=7),
        elements=st.sampled_from([MISSING]) | st.integers(1, 65534),
    )
)
def test_equals_nanmedian(stack: np.ndarray) -> None:
    floats = np.where(stack == MISSING, np.nan, stack.astype(float))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmedian(floats, axis=0) / 10000 if stack.shape[0] else np.full(stack.shape[1:], np.nan)
    value, count = median(stack.copy())
    np.testing.assert_array_equal(count, (stack != MISSING).sum(axis=0))
    # correctly rounded: two DN add up exactly in float32, and one division follows
    np.testing.assert_array_equal(value, expected.astype(np.float32))


def test_blocks_do_not_show() -> None:
    stack = np.random.default_rng(0).integers(1, 65534, size=(5, 3, CHUNK // 2 + 11)).astype("u2")
    value, _ = median(stack.copy())
    np.testing.assert_array_equal(value, (np.median(stack.astype(float), axis=0) / 10000).astype("f4"))

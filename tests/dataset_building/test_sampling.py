"""Draws are balanced, spread over regions and polygons, far enough apart, and the same for the same seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacex.dataset_building.labels import ANTHROPOGENIC, NATURAL, Candidates
from spacex.dataset_building.request import SamplingSettings
from spacex.dataset_building.sampling import sample
from spacex.grid import CHIP

REGION = 10_000  # pixels


def block(label, polygon_id, row, col, rows, cols, step=128):
    """Candidates on a lattice of `step` pixels."""
    r, c = (
        axis.ravel() for axis in np.meshgrid(np.arange(rows) * step + row, np.arange(cols) * step + col, indexing="ij")
    )
    labels, polygon_ids = np.full(r.size, label, np.int8), np.full(r.size, polygon_id, np.int64)
    return Candidates(r.astype(np.int64), c.astype(np.int64), labels, polygon_ids, np.ones(r.size, "f4"))


def drawn(found, **values):
    return found.take(sample(found, SamplingSettings(**values), 10.0))


MANY = Candidates.concatenate([
    block(NATURAL, 0, 0, 0, 40, 40),  # a large park
    block(NATURAL, 1, 0, 6000, 6, 6), block(NATURAL, 2, 2000, 6000, 6, 6),
    block(NATURAL, 3, 20_000, 0, 8, 8),  # the only park of another region
    block(ANTHROPOGENIC, 0, 0, 40_000, 60, 60), block(ANTHROPOGENIC, -7, 20_000, 40_000, 20, 20),
])  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(2, 90), st.sampled_from([0.0, 2560.0, 4000.0]), st.integers(1, 40))
def test_what_every_draw_promises(seed, count, distance, limit):
    found = drawn(MANY, seed=seed, count=count, distance=distance, limit_per_polygon=limit)
    assert len(found) <= count
    assert (found.label == NATURAL).sum() == (found.label == ANTHROPOGENIC).sum()
    assert max(Counter(zip(found.label.tolist(), found.polygon_id.tolist(), strict=True)).values()) <= limit
    down, right = np.abs(found.row[:, None] - found.row), np.abs(found.col[:, None] - found.col)
    other = ~np.eye(len(found), dtype=bool)
    assert (np.maximum(down, right)[other] >= CHIP).all()
    assert (np.hypot(down, right)[other] * 10 >= distance).all()


def test_the_same_seed_draws_the_same_and_another_another():
    one, again, other = (drawn(MANY, seed=seed, count=40) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.row, again.row)
    np.testing.assert_array_equal(one.col, again.col)
    assert set(zip(one.row, one.col, strict=True)) != set(zip(other.row, other.col, strict=True))


def test_one_large_park_does_not_fill_the_set():
    """Region by region, and in a region polygon by polygon: 2 regions, and 3 parks in the first of them."""
    found = drawn(MANY, seed=0, count=24)
    natural = found.take(found.label == NATURAL)
    assert Counter(natural.polygon_id.tolist()) == {0: 2, 1: 2, 2: 2, 3: 6}
    assert Counter((natural.row // REGION).tolist()) == {0: 6, 2: 6}


def test_both_classes_stop_when_one_has_no_more():
    few = Candidates.concatenate([block(NATURAL, 0, 0, 0, 1, 3, step=CHIP), block(ANTHROPOGENIC, 0, 0, 40_000, 30, 30)])
    found = drawn(few, count=1000)
    assert Counter(found.label.tolist()) == {NATURAL: 3, ANTHROPOGENIC: 3}
    assert len(drawn(few, count=3)) == 2  # pairs


def test_nothing_to_draw_from_is_an_empty_draw():
    assert len(drawn(block(ANTHROPOGENIC, 0, 0, 0, 5, 5))) == 0


@pytest.mark.parametrize(
    "wrong", [{"share": 0}, {"share": 1.1}, {"count": 1}, {"limit_per_polygon": 0}, {"distance": -1}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingSettings(**wrong)

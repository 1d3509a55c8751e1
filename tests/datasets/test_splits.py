"""Neighbours stay together, and the split's name does not depend on the order of rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacex.datasets.splits import assign_splits, blocks, split_hash

KM = 1 / 111.195  # a kilometre of latitude in degrees


def test_nearness_and_names_both_connect() -> None:
    north = np.array([0, 4, 8, 30, 60, 61.0]) * KM
    found = blocks(np.full(6, 20.0), 60 + north, ["a", "b", "c", "c", "d", "e"])
    # 0-4-8 km are a chain of neighbours, "c" carries it to 30 km, and 60-61 km are apart from it
    assert found.tolist() == [0, 0, 0, 0, 1, 1]


@given(st.integers(0, 10_000))
def test_blocks_are_never_divided_and_everything_is_given_away(seed: int) -> None:
    random = np.random.default_rng(seed)
    block = random.integers(0, 12, 100)
    block = np.unique(block, return_inverse=True)[1]
    kind = random.choice(["natural", "other"], 100)
    official = random.choice(["train", "val", "test"], 100, p=[0.8, 0.1, 0.1])
    split = assign_splits(block, kind.tolist(), official.tolist())
    assert len(split) == 100
    assert all(len(set(split[block == number])) == 1 for number in np.unique(block))


def test_a_split_that_can_be_exact_is_exact() -> None:
    block = np.repeat(np.arange(10), 10)
    official = ["train"] * 80 + ["val"] * 10 + ["test"] * 10
    split = assign_splits(block, ["one"] * 100, official)
    assert [(split == name).sum() for name in ("train", "val", "test")] == [80, 10, 10]


def test_the_hash_sees_files_and_splits_but_not_their_order() -> None:
    one = split_hash(["a", "b"], ["train", "val"])
    assert one == split_hash(["b", "a"], ["val", "train"])
    assert one != split_hash(["a", "b"], ["val", "train"])

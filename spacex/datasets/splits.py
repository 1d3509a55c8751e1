"""Splits: which chips a set has in each, and splits that keep neighbours together.

AnthroProtect's official split leaks: neighbouring tiles (2.55 km apart, the side of a chip) lie in train and in test,
and 77 of its 353 named sites span several splits. Here, tiles closer than `NEIGHBOURS_KM`, and tiles of one named
site, form a block, and a block is never divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spacex.errors import DataError

SPLITS = ("train", "val", "test")
"""The names used everywhere; `validation` in a file means `val`."""

NEIGHBOURS_KM = 5.0
"""Chips whose centres are nearer than this belong together: two chips' sides, so at least a chip's width of
ground lies between splits along the grid. Larger distances would merge two thirds of AnthroProtect."""

EARTH_KM = 6371.0


def blocks(
    lon: NDArray[np.floating], lat: NDArray[np.floating], site: Sequence[str], near_km: float = NEIGHBOURS_KM
) -> NDArray[np.int64]:
    """Number of the block of each tile, (n,) from 0 in the order in which blocks first appear.

    Tiles are of one block if their sites have the same name, or if their centres (degrees) lie nearer than `near_km`
    along a great circle, or by way of further tiles.
    """
    # a graph of sites, with an edge where two of their tiles are neighbours; blocks are its connected components
    _, code = np.unique(np.asarray(site), return_inverse=True)
    pairs = cKDTree(on_sphere(lon, lat)).query_pairs(near_km, output_type="ndarray")
    size = int(code.max()) + 1
    links = coo_array((np.ones(len(pairs)), (code[pairs[:, 0]], code[pairs[:, 1]])), shape=(size, size))
    component = connected_components(links, directed=False)[1][code]
    first, number = np.unique(component, return_index=True, return_inverse=True)[1:]
    rank = np.argsort(np.argsort(first))
    return np.asarray(rank[number], dtype=np.int64)


def assign_splits(block: NDArray[np.int64], kind: Sequence[str], official: Sequence[str]) -> NDArray[np.str_]:
    """Give whole blocks to splits so that each split gets its official number of tiles of each kind, nearly.

    Fills the splits with the largest blocks first, then moves one block at a time, or exchanges two, always
    where that lowers the sum of squared deviation over expected count most. Nothing is random.

    `block`, `kind` (a category) and `official` (the official split) have one value per tile, (n,), like the result.
    """
    kinds, kind_code = np.unique(np.asarray(kind), return_inverse=True)
    names = [name for name in SPLITS if name in set(official)]
    goal = np.stack([np.bincount(kind_code[np.asarray(official) == s], minlength=len(kinds)) for s in names])
    counts = np.zeros((int(block.max()) + 1, len(kinds)), dtype=np.int64)
    np.add.at(counts, (block, kind_code), 1)
    return np.array(names)[_balance(counts, goal)[block]]


def rows_of_split(table: pd.DataFrame, split: str, root: Path, do: str | None = None) -> pd.DataFrame:
    """The rows of one split, numbered anew; DataError, with the advice `do`, if it is empty."""
    if split not in SPLITS:
        raise DataError("unknown split", got=split, expected=", ".join(SPLITS))
    rows = table[table["split"] == split]
    if rows.empty:
        raise DataError(f"the split {split!r} of {root} is empty", got=f"{len(table)} files in all", do=do)
    return rows.reset_index(drop=True)


def subsample(infos: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """At most `limit` rows, all labels in proportion (at least one of each), the same ones each time."""
    if limit is None or limit >= len(infos):
        return infos
    if limit < 1:
        raise DataError("a limit must leave something", got=limit, expected="1 or more")
    # a fixed shuffle, so that the few chips are not all from one place
    mixed = infos.sample(frac=1, random_state=0)
    if infos["label"].nunique() > 2:
        return _subsample_each(mixed, limit)
    share = mixed["label"].mean()
    few = min(max(round(limit * share), 1), max(limit - 1, 1)) if 0 < share < 1 else round(limit * share)
    natural = mixed[mixed["label"] == 1][:few]
    return pd.concat([natural, mixed[mixed["label"] == 0][: limit - len(natural)]]).sort_index()


def _subsample_each(mixed: pd.DataFrame, limit: int) -> pd.DataFrame:
    """The first rows of every class, in proportion, and at least one of each."""
    # rank of each row within its class as a share of the class; the first of each class comes before all others
    rank = (mixed.groupby("label").cumcount() + 0.5) / mixed.groupby("label")["label"].transform("size")
    first = mixed.groupby("label").cumcount() == 0
    chosen = rank.where(~first, -1.0).sort_values(kind="stable").index[:limit]
    return mixed.loc[chosen].sort_index()


def number_of_name(name: str) -> float:
    """A number in 0..1, uniform over names and decided by the name alone: its SHA-256 digest."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def split_hash(files: Sequence[str], splits: Sequence[str]) -> str:
    """Sixteen hexadecimal digits that name which file is in which split, whatever the order of rows."""
    lines = sorted(f"{file}\t{split}" for file, split in zip(files, splits, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _balance(counts: NDArray[np.int64], goal: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split of each block, (blocks,), for block counts (blocks, kinds) and goals (splits, kinds)."""
    chosen = _largest_first(counts.sum(axis=1), goal.sum(axis=1))
    while True:
        gain, one, other, split = max(_best_step(counts, goal, chosen, split) for split in range(len(goal)))
        if gain < 1e-9:
            return chosen
        if other < len(counts):  # an exchange, not a move
            chosen[other] = chosen[one]
        chosen[one] = split


def _largest_first(sizes: NDArray[np.int64], capacity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assigns each block, the largest first, to the split with the most capacity left."""
    chosen, left = np.zeros(len(sizes), dtype=np.int64), capacity.copy()
    for number in np.argsort(-sizes, kind="stable"):
        chosen[number] = np.argmax(left)
        left[chosen[number]] -= sizes[number]
    return chosen


def _best_step(
    counts: NDArray[np.int64], goal: NDArray[np.int64], chosen: NDArray[np.int64], split: int
) -> tuple[float, int, int, int]:
    """(gain, block that moves into `split`, block that leaves it or one past the last, `split`)."""
    # counts of kinds per split as they are, and candidates: a block that enters, and one that leaves or none
    totals = np.stack([counts[chosen == number].sum(axis=0) for number in range(len(goal))])
    ones = np.flatnonzero(chosen != split)
    others = np.append(np.flatnonzero(chosen == split), len(counts))
    if not len(ones):
        return 0.0, 0, 0, split
    moved = counts[ones][:, None] - np.vstack([counts, np.zeros_like(counts[:1])])[others][None]
    # what each pair would add to `split` and take from the entering block's present split
    home = chosen[ones]
    before = _deviation(totals, goal)
    after = _deviation(totals[split] + moved, goal[split])
    after = after + _deviation(totals[home][:, None] - moved, goal[home][:, None])
    gain = (before[split] + before[home])[:, None] - after
    i, j = np.unravel_index(int(np.argmax(gain)), gain.shape)
    return float(gain[i, j]), int(ones[i]), int(others[j]), split


def _deviation(counts: NDArray[np.int64], goal: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(((counts - goal) ** 2 / np.maximum(goal, 1)).sum(axis=-1))


def on_sphere(lon: NDArray[np.floating], lat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Positions in km from the Earth's centre, (n, 3), of degrees: distances between them are chords."""
    # a chord is shorter than its arc by less than a metre at these distances
    east, north = np.radians(lon), np.radians(lat)
    return EARTH_KM * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)

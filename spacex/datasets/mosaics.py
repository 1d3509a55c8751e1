"""Mosaics: large chips made of n x n small labelled ones of one neighbourhood, with the truth known per cell.

A mosaic's label is its natural share, so a classifier learns mixtures from chips of one kind each, and how a map's
weight lies on natural cells can be measured: the grid pointing game of Boehle, Fritz and Schiele ("Convolutional
Dynamic Alignment Networks for Interpretable Classifications", CVPR 2021), with neighbours instead of random pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from spacex.datasets.splits import on_sphere
from spacex.datasets.tiles import Chips
from spacex.errors import DataError


class Mosaics(Chips):
    """Mosaics of one split of natural and anthropogenic chips whose places are known, all of them made of that split.

    An item is (bands, n * side, n * side) float32 reflectance and the share of its cells that are natural, 0..1. A
    third of the mosaics has natural cells alone, a third none, the others any share in between, at random or on one
    side. Each is made around a chip, of those of both kinds that lie nearest; `group` is that chip's.

    Args:
        chips: the small chips.
        n: cells along a side.
        limit: mosaics; None for as many as there are chips, divided by n.
        seed: names the draw; the same mosaics are drawn each time.

    Raises:
        DataError: if the places of the chips are unknown, their labels are classes, or all are of one kind.
    """

    def __init__(self, chips: Chips, n: int, limit: int | None = None, seed: int = 0) -> None:
        natural, other = np.array(chips.natural), np.array(chips.unnatural)
        if chips.classes or "lat" not in chips.infos:
            got = f"classes {', '.join(chips.classes)}" if chips.classes else "no places"
            expected = "natural and anthropogenic chips with places"
            raise DataError(f"no mosaics can be made of {chips.root}", got=got, expected=expected)
        if not len(natural) or not len(other):
            got = f"{len(natural)} natural and {len(other)} other chips"
            raise DataError(f"no mosaics can be made of this split of {chips.root}", got=got, expected="both kinds")
        self.chips, self.n = chips, n
        self.root, self.bands, self.strict, self.steps = chips.root, chips.bands, chips.strict, chips.steps
        self.known_bands, self.meaning, self.problems = chips.known_bands, chips.meaning, chips.problems
        self.side, self.split_hash, self.split_origin = n * chips.side, chips.split_hash, chips.split_origin
        rng = np.random.default_rng(seed)
        count = limit or max(1, len(chips.all) // n)
        anchors = rng.choice(chips.all, size=count)
        kind = rng.integers(3, size=count)
        naturals = np.choose(kind, [0, n * n, rng.integers(1, max(n * n, 2), size=count)])
        self._natural = _rank(_heights(n, count, rng)) < naturals[:, None]
        where = on_sphere(chips.infos["lon"].to_numpy(), chips.infos["lat"].to_numpy())
        self._cells = np.where(
            self._natural, *(_neighbours(where, anchors, members, n * n, rng) for members in (natural, other))
        )
        columns = ["lat", "lon", "group", "split"]
        self.infos = chips.infos.iloc[anchors][columns].reset_index(drop=True)
        names = [f"mosaic-{number}" for number in range(count)]
        self.infos = self.infos.assign(file=names, path=names, label=self._natural.mean(axis=1))
        self._labels = torch.tensor(self.infos["label"].to_numpy(dtype=np.float32))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, labels = self.__getitems__([index])
        return x[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mosaics (m, bands, side, side) float32 and their natural shares (m,)."""
        cells, _ = self.chips.__getitems__(self._cells[list(indices)].ravel().tolist())
        return assemble(cells, self.n), self._labels[torch.as_tensor(indices)]

    def truth(self, index: int) -> NDArray[np.bool_]:
        """(side, side), True on natural cells."""
        cells = self._natural[index].reshape(self.n, self.n)
        return np.asarray(cells.repeat(self.chips.side, axis=0).repeat(self.chips.side, axis=1))

    def valid(self, index: int) -> NDArray[np.bool_]:
        """(side, side), True where all of the data set's bands have data."""
        return np.asarray((self[index][0] > 0).all(dim=0))


def assemble(cells: Tensor, n: int) -> Tensor:
    """Cells (m * n * n, bands, side, side), row by row of each mosaic, to mosaics (m, bands, n * side, n * side)."""
    bands, side = cells.shape[1:3]
    apart = cells.view(-1, n, n, bands, side, side)
    return apart.permute(0, 3, 1, 4, 2, 5).reshape(-1, bands, n * side, n * side)


def _heights(n: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A number for each cell (count, n * n): a slope in a random direction, in half of the mosaics lost in noise."""
    rows, cols = np.divmod(np.arange(n * n), n)
    angle = rng.uniform(0, 2 * np.pi, (count, 1))
    noise = np.where(rng.random((count, 1)) < 0.5, 100.0, 0.2) * rng.normal(size=(count, n * n))
    return np.asarray(rows * np.sin(angle) + cols * np.cos(angle) + noise)


def _rank(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return values.argsort(axis=1).argsort(axis=1)


def _neighbours(
    where: NDArray[np.float64], anchors: NDArray[np.int64], members: NDArray[np.int64], cells: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:  # fmt: skip
    """`cells` of the `members` nearest to each anchor, (anchors, cells): half of twice as many, where there are."""
    near = min(2 * cells, len(members))
    nearest = cKDTree(where[members]).query(where[anchors], k=np.arange(1, near + 1))[1]
    order = rng.random((len(anchors), near)).argsort(axis=1)
    # where there are fewer than cells, some come twice
    return np.asarray(members[np.take_along_axis(nearest, order[:, np.arange(cells) % near], axis=1)])

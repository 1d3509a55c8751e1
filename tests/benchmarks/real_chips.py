"""EuroSAT's chips of one split in memory, and mosaics of natural and other chips of one neighbourhood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from spacex.training.data import DatasetSettings, open_split

RGB = ("B02", "B03", "B04")
SIDE = 64
"""Pixels of a chip."""
RIVER = "River"


@dataclass(frozen=True)
class Land:
    """The chips of one split, in memory, with their places."""

    x: Tensor
    """Surface reflectance (n, bands, 64, 64)."""
    natural: NDArray[np.bool_]
    """(n,)."""
    infos: pd.DataFrame
    """`class`, `lat`, `lon`, `group`."""

    @classmethod
    def open(cls, data: str, split: str) -> Land:
        """A split of a data set of single chips, without rivers, whose chips show their banks as well."""
        chips = open_split(DatasetSettings(root=data, bands=RGB), split)  # type: ignore[arg-type]
        infos = chips.infos[chips.infos["class"] != RIVER]
        x, _ = chips.__getitems__(infos.index.tolist())
        return cls(x, infos["label"].to_numpy() == 1, infos.reset_index(drop=True))

    @property
    def places(self) -> list[str]:
        """The cell of each chip."""
        return [str(group) for group in self.infos["group"]]

    def mosaics(self, count: int, n: int, seed: int) -> Iterator[tuple[Tensor, Tensor, str]]:
        """Mosaics of n x n natural chips and of n x n others around the same chips, and the place."""
        rng = np.random.default_rng(seed)
        lat, lon = (np.radians(self.infos[name].to_numpy()) for name in ("lat", "lon"))
        points = np.stack([lat, lon * np.cos(lat)], axis=1)
        members = {kind: np.flatnonzero(self.natural == kind) for kind in (True, False)}
        trees = {kind: cKDTree(points[index]) for kind, index in members.items()}
        for centre in rng.choice(len(points), count, replace=False):
            sides = []
            for kind in (True, False):
                near = members[kind][np.atleast_1d(trees[kind].query(points[centre], k=n * n)[1])]
                grid = self.x[rng.permutation(near)].reshape(n, n, -1, SIDE, SIDE)
                sides.append(grid.permute(2, 0, 3, 1, 4).reshape(-1, n * SIDE, n * SIDE))
            yield sides[0], sides[1], self.places[centre]


def checkerboard(n: int, share: float, rng: np.random.Generator) -> Tensor:
    """(n, n) bool: which cells are natural, as many as the share says, at random."""
    cells = np.arange(n * n) < round(share * n * n)
    return torch.from_numpy(rng.permutation(cells).reshape(n, n))


def mixed(land: Land, count: int, n: int, cell: int, share: float, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """Mosaics (count, bands, h, w) of natural cells and others, where they are natural (count, h, w), and places."""
    rng, pictures, masks, places = np.random.default_rng(seed), [], [], []
    for natural, other, place in land.mosaics(count, n, seed):
        mask = checkerboard(n * SIDE // cell, share, rng).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
        pictures.append(torch.where(mask, natural, other))
        masks.append(mask)
        places.append(place)
    return torch.stack(pictures), torch.stack(masks), places

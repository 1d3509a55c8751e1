"""Ordinary pictures for an evaluation: the same batches as of chips, but nothing is known about what should matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.datasets.pictures import Pictures, read_pictures
from spacex.errors import DataError
from spacex.evaluation.masks import NO_REGION, Definition
from spacex.evaluation.samples import Samples, draw_target


class PictureSource:
    """One split of a folder of pictures by class, as batches of :class:`~spacex.evaluation.samples.Samples`.

    Args:
        root: folder of the pictures.
        bands: bands of the checkpoint.
        split: "test" unless a selection is being made.
        limit: use that many pictures of the target class, drawn with `seed`; None for all.
        seed: of that draw.
        target: the class that is explained.

    Raises:
        DataError: if the folder is not laid out as `spacex.datasets.pictures` says, or the class has no picture.
    """

    def __init__(
        self,
        root: str | Path,
        bands: Sequence[str],
        split: str,
        limit: int | None = None,
        seed: int = 0,
        target: str = "",
    ) -> None:
        self.data, self.bands = Pictures(root, bands, split, target=target), tuple(bands)
        self._seed, self._target = seed, target
        self.natural, self.other = draw_target(self.data.infos, self.data.classes, limit, seed)
        if self.natural.empty:
            raise DataError(f"the split {split!r} has no picture of class {target}", got=f"{len(self.other)} of others")

    def beside(self, split: str, limit: int) -> PictureSource:
        """A few pictures of another split."""
        return PictureSource(self.data.root, self.bands, split, limit, self._seed, self._target)

    @property
    def definitions(self) -> list[Definition]:
        """Only that nothing is known."""
        return [NO_REGION]

    def batches(self, size: int, *, natural: bool = True) -> Iterator[Samples]:
        """The pictures of the target class, or the others, in batches of at most `size`."""
        rows = self.natural if natural else self.other
        for start in range(0, len(rows), size):
            yield self._read(rows.iloc[start : start + size])

    def _read(self, rows: pd.DataFrame) -> Samples:
        paths = tuple(rows["path"])
        x = read_pictures([self.data.root / path for path in paths], self.data.side)
        shape = (len(rows), self.data.side, self.data.side)
        nothing: NDArray[np.integer] = np.zeros(shape, np.uint8)
        return Samples(paths, paths, x, np.ones(shape, dtype=bool), {NO_REGION.source: nothing})

"""Ordinary pictures for an evaluation: the same batches as of chips, but nothing is known about what should matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.datasets.pictures import Pictures, read_pictures
from spacex.evaluation.masks import NO_REGION, Definition
from spacex.evaluation.samples import ChipSource, Samples


class PictureSource(ChipSource):
    """One split of a folder of pictures by class, as `spacex.datasets.pictures` lays it out."""

    reads = Pictures
    data: Pictures

    @property
    def definitions(self) -> list[Definition]:
        """Only that nothing is known."""
        return [NO_REGION]

    def _read(self, rows: pd.DataFrame) -> Samples:
        paths = tuple(rows["path"])
        x = read_pictures([self.data.root / path for path in paths], self.data.side)
        shape = (len(rows), self.data.side, self.data.side)
        nothing: NDArray[np.integer] = np.zeros(shape, np.uint8)
        return Samples(paths, paths, x, np.ones(shape, dtype=bool), {NO_REGION.source: nothing})

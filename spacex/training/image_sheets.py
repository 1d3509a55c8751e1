"""Contact sheet of a few chips: the input, what the generators made of it, and where they differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spacex.display import to_rgb

GAP = 4
"""White pixels between images."""


def contact_sheet(x: Tensor, plus: Tensor, minus: Tensor, bands: tuple[str, ...]) -> NDArray[np.uint8]:
    """One row per chip: x, x₊, x₋ and |x₊ − x₋|, chips by `spacex.display`; (rows, columns, 3) uint8.

    Chips are (n, bands, height, width) float32 reflectance.
    """
    from matplotlib import colormaps

    columns = [to_rgb(t.detach().float().cpu().numpy(), bands) for t in (x, plus, minus)]
    change = (plus - minus).detach().float().abs().mean(1).cpu().numpy()
    top = max(float(np.percentile(change, 99)), 1e-6)
    columns.append(colormaps["cividis"](np.clip(change / top, 0, 1))[..., :3].astype(np.float32))
    rows = [_join([column[chip] for column in columns], axis=1) for chip in range(len(x))]
    return (_join(rows, axis=0) * 255).astype(np.uint8)


def _join(images: list[NDArray[np.float32]], axis: int) -> NDArray[np.float32]:
    shape = list(images[0].shape)
    shape[axis] = GAP
    gap = np.ones(shape, np.float32)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=axis)

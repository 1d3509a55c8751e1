"""Which pixels a map should point at: the published definition `corine-wb-v1`, its variants, and exact truth.

The paper compares its maps with "wetlands and bare land" of CORINE without saying how. `corine-wb-v1` is a
definition anyone can recompute:

* chips of the test split with label 1 that the classifier also takes for protected (score >= 0.5), on which
  the region covers 5 to 95 % of the counted pixels;
* the region is CORINE 411, 412, 421, 422, 423 (wetlands) and 331, 332, 333 (beaches, bare rock, sparse
  vegetation);
* pixels within 10 px of the region's edge do not count: CORINE is a 100 m raster with a minimum area of
  25 ha, its outlines are wrong at 10 m. Nor do a frame of 16 px, and pixels without land cover or values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from spacex.settings import Settings

WETLANDS = (411, 412, 421, 422, 423)
"""CORINE: inland marshes, peat bogs, salt marshes, salines, intertidal flats."""
BARE = (331, 332, 333)
"""CORINE: beaches and dunes, bare rock, sparsely vegetated areas."""

Flags = NDArray[np.bool_]


class Definition(Settings):
    """One way to say which pixels are inside, which are outside, and which do not count."""

    name: str
    source: str = "corine"
    """`corine`: three-digit land-cover codes; `truth`: the embedded world's exact masks; `none`: nothing is known."""
    codes: tuple[int, ...] = WETLANDS + BARE
    """Values that make up the region."""
    band: int = 10
    """Pixels on either side of the region's edge that do not count."""
    frame: int = 16
    """Pixels along the chip's edge that do not count."""
    block: int = 1
    """Side in pixels of the blocks over which map and region are averaged first (10: CORINE's 100 m)."""
    smallest: float = 0.05
    """Smallest share of the counted pixels that the region may cover."""
    largest: float = 0.95
    """Largest such share."""


CORINE_WB_V1 = Definition(name="corine-wb-v1")
"""The published definition."""

TRUTH = Definition(name="truth-v1", source="truth", codes=(1,), band=0)
"""The embedded world's own pattern, strictly: no ignore band, because its edges are exact."""

MOSAIC = Definition(name="mosaic-v1", source="truth", codes=(1,), band=0, frame=0)
"""The natural cells of mosaics, whose edges are exact."""

NO_REGION = Definition(name="none", source="none", codes=(), band=0, frame=0, smallest=0.0, largest=1.0)
"""Ordinary pictures: every pixel counts, and none is known to matter."""

CORINE_VARIANTS = (
    Definition(name="corine-wb-v1+335", codes=WETLANDS + BARE + (335,)),
    Definition(name="corine-wetlands", codes=WETLANDS),
    Definition(name="corine-wb-v1-no-band", band=0),
    Definition(name="corine-wb-v1-no-frame", frame=0),
    Definition(name="corine-wb-v1-100m", block=10),
)
"""Shown beside the published definition, so that the effect of every choice can be seen."""

TRUTH_VARIANTS = (
    Definition(name="truth-v1-no-frame", source="truth", codes=(1,), band=0, frame=0),
    Definition(name="truth-v1-band-10", source="truth", codes=(1,), band=10),
)
"""The same for the embedded world."""


def region(codes: NDArray[np.integer], definition: Definition) -> Flags:
    """Pixels whose code belongs to the region, ``(n, h, w)`` bool."""
    return np.isin(codes, definition.codes)


def counted(codes: NDArray[np.integer], seen: Flags, definition: Definition) -> Flags:
    """Pixels that count: seen, with a land cover, outside the ignore band and outside the frame.

    `codes` are three-digit CORINE codes (0: none) or truth values, and `seen` says which pixels have reflectance in
    every band; both ``(n, h, w)``.
    """
    known = seen & (codes > 0) if definition.source == "corine" else seen.copy()
    if definition.band:
        known &= ~edge_band(region(codes, definition), definition.band)
    if frame := definition.frame:
        known[:, :frame] = known[:, -frame:] = known[:, :, :frame] = known[:, :, -frame:] = False
    return known


def edge_band(inside: Flags, width: int) -> Flags:
    """Pixels within `width` pixels of the region's edge, on both sides (square distance), ``(n, h, w)`` bool.

    The chip's own border is not an edge of the region.
    """
    square = np.ones((1, 2 * width + 1, 2 * width + 1), dtype=bool)
    grown = binary_dilation(inside, square)
    # beyond the chip's border everything counts as inside, so that erosion does not start there
    kept = binary_erosion(inside, square, border_value=1)
    return np.asarray(grown & ~kept)


def blocks(values: NDArray[np.floating], valid: Flags, side: int) -> tuple[NDArray[np.float64], Flags]:
    """Means over `side` x `side` blocks of the valid pixels ``(n, h, w)``, and which blocks are at least half valid.

    Rows and columns that do not fill a block are left out on the lower and right edges.
    """
    n, height, width = values.shape
    rows, cols = height // side, width // side
    cut = (slice(None), slice(0, rows * side), slice(0, cols * side))
    # axes 2 and 4 run within a block
    shape = (n, rows, side, cols, side)
    # sums and counts rather than means: pixels that are not valid weigh nothing
    weight = valid[cut].reshape(shape).sum(axis=(2, 4)).astype(np.float64)
    total = np.where(valid, values, 0.0)[cut].reshape(shape).sum(axis=(2, 4), dtype=np.float64)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), weight >= side * side / 2


def within_limits(inside: Flags, valid: Flags, definition: Definition) -> Flags:
    """Chips whose region covers between `smallest` and `largest` of the counted pixels, ``(n,)`` bool."""
    pixels = valid.sum(axis=(1, 2))
    share = (inside & valid).sum(axis=(1, 2)) / np.maximum(pixels, 1)
    return np.asarray((pixels > 0) & (share >= definition.smallest) & (share <= definition.largest))

"""How much of the scenes a map will read, expected from what the catalogue says of their clouds and outlines.

Scenes are read in their rank, and only where a pixel still lacks observations. Each is taken to be clear at a place
with the chance 1 - cloud cover, whatever the others were. The chance that a pixel lacks something after the first i
follows from that by counting (a Poisson-binomial distribution); a block is read for any of its pixels, so what counts
is the chance that one of `PLACES` independent places in it does. Everything is a share of the tile's pixels: of
`around` the tile only what no other tile of the plan reads, since neighbours share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from spacex.grid import Grid, Window
from spacex.sentinel2.observation import in_rank
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, footprint_in

PLACES = 16
"""Places in a block of a band whose clouds come and go independently: 1.3 km apart in blocks of 5 km."""
PLACES_OF_A_CLASSIFICATION = 64
"""The same in a block of a classification, which has four times the ground."""
EDGE = 256
"""Pixels read beyond the edge of a plan's tiles because blocks are read whole: half a block of 512."""


@dataclass(frozen=True)
class ReadEstimate:
    """What one tile is expected to read."""

    scenes: float
    """Scenes whose bands are read."""
    pixels: float
    """Pixels per band."""
    classified: float
    """Pixels of classifications, at the cube's resolution."""


class ReadEstimator:
    """Expects reading for the tiles of one time step.

    Args:
        scenes: of the time step.
        grid: the cube's.
        enough: observations a pixel takes; 0 for all.
    """

    def __init__(self, scenes: Sequence[Scene], grid: Grid, enough: int) -> None:
        self._grid, self._enough = grid, enough
        self._scenes = in_rank(scenes)
        # a hundred metres of a hundred kilometres do not matter here, hundreds of corners would
        outlines = (footprint_in(scene, grid.crs).buffer(-FOOTPRINT_SLACK) for scene in self._scenes)
        self._outlines = np.array([outline.simplify(100.0) for outline in outlines])
        shapely.prepare(self._outlines)
        self._tree = shapely.STRtree(self._outlines)
        self._clear = np.array([1 - (scene.cloud_cover or 0.0) / 100 for scene in self._scenes])

    def of(self, read: Window) -> ReadEstimate:
        """What is expected for the pixels of a window."""
        box = shapely.box(*self._grid.geobox(read).boundingbox)
        hits = np.sort(self._tree.query(box, predicate="intersects"))
        shares = self._new_ground(hits, self._covered(hits, box))
        lacking = np.array(lacking_before(shares * self._clear[hits], self._enough or len(hits)))
        wanted = shares * (1 - (1 - lacking) ** PLACES)
        looked = shares * (1 - (1 - lacking) ** PLACES_OF_A_CLASSIFICATION)
        area = read.height * read.width
        return ReadEstimate(float((wanted > 0.01).sum()), area * float(wanted.sum()), area * float(looked.sum()))

    def _covered(self, hits: NDArray[np.intp], box: BaseGeometry) -> NDArray[np.float64]:
        """Share of the box that each scene covers."""
        outlines = self._outlines[hits]
        whole = shapely.covers(outlines, box)
        shares = np.ones(len(hits))
        shares[~whole] = shapely.area(shapely.intersection(outlines[~whole], box)) / box.area
        return shares

    def _new_ground(self, hits: NDArray[np.intp], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the box for which each scene is the first of its overpass to have data."""
        answered: dict[str, float] = {}
        new = np.zeros(len(hits))
        for index, (hit, share) in enumerate(zip(hits, shares, strict=True)):
            before = answered.get(self._scenes[hit].overpass, 0.0)
            new[index] = max(0.0, min(share, 1 - before))
            answered[self._scenes[hit].overpass] = before + new[index]
        return new


def lacking_before(chances: NDArray[np.float64], enough: int) -> list[float]:
    """Chance that a pixel still lacks observations when each scene's turn comes.

    Args:
        chances: that each scene supplies one, in their order.
        enough: observations it takes.
    """
    have, lacking = np.zeros(enough + 1), [0.0] * len(chances)  # chance of having 0, 1, … observations; last: enough
    have[0] = 1.0
    for turn, chance in enumerate(chances):
        if (lack := 1 - float(have[-1])) < 1e-6:
            break
        lacking[turn] = lack
        moved = have[:-1] * chance
        have[:-1] -= moved
        have[1:] += moved
    return lacking


def read_of(core: Window, around: Window, alone: tuple[bool, bool, bool, bool]) -> Window:
    """What is read for a tile beyond what its neighbours read: its core, grown where it has no neighbour.

    Args:
        core: the tile.
        around: what its chips need.
        alone: no neighbour above, below, left, right.
    """
    above, below, left, right = (EDGE * side for side in alone)
    above += (core.row - around.row) * alone[0]
    below += (around.stop_row - core.stop_row) * alone[1]
    left += (core.col - around.col) * alone[2]
    right += (around.stop_col - core.stop_col) * alone[3]
    return Window(core.row - above, core.col - left, core.height + above + below, core.width + left + right)


READ_BYTES = 1.2
"""Bytes to fetch per pixel and 10 m band: 16-bit Sentinel-2 COGs deflate to 1.11 in the embedded archive; the visible
bands of a real scene to 1.25 to 1.5 with their overviews, which take a quarter of a file and are not read."""


SCL_BYTES = 0.1
"""The same for a classification, per pixel of 10 m."""


@dataclass
class Work:
    """Amounts of work in a plan."""

    chips: int = 0
    """Chips to attribute, those that tiles share counted once; several workers do those between them twice."""
    scene_reads: float = 0.0
    """Scenes whose bands are expected to be read, tile by tile."""
    pixels_read: float = 0.0
    """Pixels per band expected to be read, at the cube's resolution."""
    pixels_classified: float = 0.0
    """The same of classifications."""
    pixels_written: int = 0
    """Pixels of the tiles to do."""


def bytes_to_fetch(work: Work, bands: int, resolution: float) -> int:
    """Bytes to fetch for an amount of work.

    Args:
        work: pixels expected to be read, at `resolution`.
        bands: bands that are read.
        resolution: metres per pixel.
    """
    finest = (10 / resolution) ** -2
    return round((READ_BYTES * bands * work.pixels_read + SCL_BYTES * work.pixels_classified) * finest)

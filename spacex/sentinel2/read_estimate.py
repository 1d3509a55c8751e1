"""Estimates how much of the scenes a map will read, from the catalogue's cloud cover and footprints.

Scenes are read in the order of their cloud cover, and only where a pixel still lacks observations. Each scene is
assumed clear at a place with probability 1 - cloud cover, independently of the others. The probability that a pixel
lacks observations after the first i scenes follows by counting (a Poisson-binomial distribution). A block is read if
any of its pixels lacks something, so what counts is the probability that one of `PLACES` independent places in it does.
The halo counts only where no neighbouring tile of the plan reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from spacex.grid import Grid, Window
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, by_cloud_cover, footprint_in

PLACES = 16
"""Places in a block of a band whose clouds are independent: 1.3 km apart in blocks of 5 km."""
SCL_PLACES = 64
"""The same in a block of a classification, which covers four times the ground."""
EDGE = 256
"""Pixels read beyond the edge of a plan's tiles because blocks are read whole: half a block of 512."""
READ_BYTES = 1.2
"""Bytes to fetch per pixel and 10 m band: 16-bit Sentinel-2 COGs deflate to 1.11 in the embedded archive; the visible
bands of a real scene to 1.25 to 1.5 with their overviews, which take a quarter of a file and are not read."""
SCL_BYTES = 0.1
"""The same for a classification, per pixel of 10 m."""


@dataclass(frozen=True)
class ReadEstimate:
    """What one tile is expected to read: scenes, pixels per band, and pixels of classifications."""

    scenes: float
    pixels: float
    classified: float
    by_scene: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Pixels per band and of the classification, by the scenes' ids."""


class ReadEstimator:
    """Estimates what the tiles of one time step read, if a pixel takes so many observations at most (0: all)."""

    def __init__(self, scenes: Sequence[Scene], grid: Grid, max_observations: int) -> None:
        self._grid, self._max_observations = grid, max_observations
        self._scenes = by_cloud_cover(scenes)
        # simplified: a hundred metres do not matter here, hundreds of corners would
        footprints = (footprint_in(scene, grid.crs).buffer(-FOOTPRINT_SLACK) for scene in self._scenes)
        self._footprints = np.array([footprint.simplify(100.0) for footprint in footprints])
        shapely.prepare(self._footprints)
        self._tree = shapely.STRtree(self._footprints)
        self._clear = np.array([1 - (scene.cloud_cover or 0.0) / 100 for scene in self._scenes])

    def of(self, window: Window) -> ReadEstimate:
        """What is expected to be read for the pixels of a window."""
        box = shapely.box(*self._grid.geobox(window).boundingbox)
        hits = np.sort(self._tree.query(box, predicate="intersects"))
        footprints = self._footprints[hits]
        partial = ~shapely.covers(footprints, box)
        shares = np.ones(len(hits))
        shares[partial] = shapely.area(shapely.intersection(footprints[partial], box)) / box.area
        shares = self._new_shares(hits, shares)
        lacking = np.array(lacking_before(shares * self._clear[hits], self._max_observations or len(hits)))
        in_bands, in_scl = (shares * (1 - (1 - lacking) ** places) for places in (PLACES, SCL_PLACES))
        area = window.height * window.width
        parts = zip(hits, (area * in_bands).tolist(), (area * in_scl).tolist(), strict=True)
        by_scene = {self._scenes[hit].id: (pixels, classified) for hit, pixels, classified in parts}
        sums = area * float(in_bands.sum()), area * float(in_scl.sum())
        return ReadEstimate(float((in_bands > 0.01).sum()), *sums, by_scene)

    def _new_shares(self, hits: NDArray[np.intp], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the window for which each scene is the first of its overpass to have data."""
        covered: dict[str, float] = {}
        new = np.zeros(len(hits))
        for index, (hit, share) in enumerate(zip(hits, shares, strict=True)):
            before = covered.get(self._scenes[hit].overpass, 0.0)
            new[index] = max(0.0, min(share, 1 - before))
            covered[self._scenes[hit].overpass] = before + new[index]
        return new


def lacking_before(chances: NDArray[np.float64], max_observations: int) -> list[float]:
    """Probability that a pixel still lacks observations when each scene's turn comes.

    `chances` are the probabilities that each scene gives one, in their order.
    """
    # probability of having 0, 1, ..., max_observations; the last entry means the pixel is complete
    have, lacking = np.zeros(max_observations + 1), [0.0] * len(chances)
    have[0] = 1.0
    for turn, chance in enumerate(chances):
        if (lack := 1 - float(have[-1])) < 1e-6:
            break
        lacking[turn] = lack
        moved = have[:-1] * chance  # from having n to having n + 1
        have[:-1] -= moved
        have[1:] += moved
    return lacking


def read_window(window: Window, padded: Window, at_edge: tuple[bool, bool, bool, bool]) -> Window:
    """What is read for a tile and not for its neighbours: its window, grown to `padded` and more at the edges.

    `at_edge` tells whether there is no neighbour above, below, left, right.
    """
    rows = window.row - padded.row, padded.stop_row - window.stop_row
    halo = *rows, window.col - padded.col, padded.stop_col - window.stop_col
    above, below, left, right = ((pixels + EDGE) * edge for pixels, edge in zip(halo, at_edge, strict=True))
    return Window(window.row - above, window.col - left, window.height + above + below, window.width + left + right)


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
    by_scene: dict[str, Work] = field(default_factory=dict)
    """Pixels read and classified of each scene, by their ids."""

    def read(self, expected: ReadEstimate) -> None:
        """Add what a tile is expected to read."""
        self.scene_reads += expected.scenes
        self.pixels_read += expected.pixels
        self.pixels_classified += expected.classified
        for name, (pixels, classified) in expected.by_scene.items():
            scene = self.by_scene.setdefault(name, Work())
            scene.pixels_read += pixels
            scene.pixels_classified += classified


def bytes_to_fetch(work: Work, bands: int, resolution: float) -> int:
    """Bytes to fetch for an amount of work: its pixels have a side of `resolution` metres, the files' of 10 m."""
    per_pixel = (resolution / 10) ** 2
    return round((READ_BYTES * bands * work.pixels_read + SCL_BYTES * work.pixels_classified) * per_pixel)

"""One scene's part in a composite: which pixels it supplies, and the stack that its values go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from spacex.sentinel2.median import every_bit
from spacex.sentinel2.observation import CompositeSettings, Use
from spacex.sentinel2.reflectance import DarkPixels
from spacex.sentinel2.sampling import Part
from spacex.sentinel2.scenes import Scene

NOT_HERE = 65_535
"""In `Look.places`: the scene supplies nothing to this pixel."""


@dataclass
class Look:
    """One scene while it is being read."""

    scene: Scene
    part: Part | None = None
    """Rows and columns of the grid within which it supplies pixels; None if it supplies none."""
    places: NDArray[np.uint16] | None = None
    """Which observation of its pixel it supplies, over `part`: 0 for the first; `NOT_HERE`."""
    bounds: tuple[float, ...] = ()
    looked: int = 0
    clear: int = 0
    used: int = 0
    dark: dict[str, DarkPixels] = field(default_factory=dict)
    fetched: int = 0

    def take(
        self,
        clear: NDArray[np.bool_],
        says: NDArray[np.bool_],
        count: NDArray[np.uint16],
        enough: int,
        answered: NDArray[np.bool_] | None,
    ) -> None:
        """Supply the pixels that the scene sees clear, that lack something, and that its overpass has not seen."""
        lacking = count < enough
        mine = clear & lacking
        self.looked, self.clear = int(np.count_nonzero(lacking)), int(np.count_nonzero(mine))
        if answered is not None:
            mine &= ~answered
            answered |= says
        if not mine.any():
            return
        self.part = part = _part(mine)
        self.used = int(np.count_nonzero(mine))
        self.places = count[part] | every_bit(~mine[part])
        count[part] += mine[part]

    def use(self, pixels: int, settings: CompositeSettings) -> Use:
        """What came of it on a grid of so many pixels."""
        sun, scene = settings.min_sun_elevation, self.scene
        left_out = f"sun at {scene.sun_elevation:.1f}°, below {sun:g}°" if settings.too_dark(scene) else ""
        return Use(scene, pixels, self.looked, self.clear, self.used, self.dark, left_out)


@dataclass(frozen=True)
class Stack:
    """The observations of one band, filled by several threads."""

    values: NDArray[np.uint16]
    """(n, y, x) DN, `MISSING`, which is every bit, where nothing was put yet."""
    lock: Lock
    """One at a time: choosing by bits writes the pixels of others back too, as they were when it read them."""

    def put(self, part: Part, values: NDArray[np.uint16], places: NDArray[np.uint16]) -> None:
        """Writes each value at its place, which nothing else is put at."""
        here = places[places != NOT_HERE]
        for place in range(int(here.min()), int(here.max()) + 1) if here.size else ():
            chosen = values | every_bit(places != place)
            with self.lock:
                self.values[place][part] &= chosen


def _part(mask: NDArray[np.bool_]) -> Part:
    """The smallest part of the grid that holds all True."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)

"""One scene's part in a composite: which pixels it supplies, and the stack that its values go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spacex.sentinel2.median import every_bit
from spacex.sentinel2.observation import CompositeSettings, SceneUsage
from spacex.sentinel2.reflectance import DarkPixels
from spacex.sentinel2.resampling import CELL, Part, squares
from spacex.sentinel2.scenes import Scene

NOT_HERE = 65_535
"""Among places: the scene supplies nothing to this pixel."""


class Supply(NamedTuple):
    """What a scene supplies within a part of a grid."""

    part: Part
    """A row of squares, and the columns between the first and the last it supplies there."""
    places: NDArray[np.uint16]
    """(y, x) which observation of its pixel it supplies: 0 for the first; `NOT_HERE`."""

    @property
    def here(self) -> NDArray[np.bool_]:
        """Where it supplies anything."""
        here: NDArray[np.bool_] = self.places != NOT_HERE
        return here


@dataclass
class SceneContribution:
    """One scene while it is being read."""

    scene: Scene
    supplies: list[Supply] = field(default_factory=list)
    """What it supplies, part by part; the parts do not overlap."""
    squares: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    """Which squares of the grid these are in, as from `spacex.sentinel2.resampling.squares`."""
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
        found = []
        for start in range(0, len(count), CELL):  # arrays so small stay in the processor's cache
            rows = slice(start, start + CELL)
            lacking = count[rows] < enough
            mine = clear[rows] & lacking
            self.looked += int(np.count_nonzero(lacking))
            self.clear += int(np.count_nonzero(mine))
            if answered is not None:
                mine &= ~answered[rows]
                answered[rows] |= says[rows]
            found.append(squares(mine))
            if not found[-1].any():
                continue
            cols = np.flatnonzero(mine.any(axis=0))
            part = rows, slice(int(cols[0]), int(cols[-1]) + 1)
            mine = mine[:, part[1]]
            self.used += int(np.count_nonzero(mine))
            taken = every_bit(mine)
            self.supplies.append(Supply(part, count[part] | ~taken))
            count[part] -= taken  # one more: of 16 bits, every bit is -1
        self.squares = np.concatenate(found)

    def use(self, pixels: int, settings: CompositeSettings) -> SceneUsage:
        """What came of it on a grid of so many pixels."""
        sun, scene = settings.min_sun_elevation, self.scene
        left_out = f"sun at {scene.sun_elevation:.1f}°, below {sun:g}°" if settings.too_dark(scene) else ""
        return SceneUsage(scene, pixels, self.looked, self.clear, self.used, self.dark, left_out)


@dataclass(frozen=True)
class Stack:
    """The observations of one band, filled by several threads."""

    values: NDArray[np.uint16]
    """(n, y, x) DN, `MISSING`, which is every bit, where nothing was put yet."""
    lock: Lock
    """One at a time: choosing by bits writes the pixels of others back too, as they were when it read them."""

    def put(self, part: Part, values: NDArray[np.uint16], places: NDArray[np.uint16]) -> None:
        """Writes each value at its place, which nothing else is put at."""
        last = int((places + np.uint16(1)).max(initial=0))  # `NOT_HERE` wraps round to 0
        for place in range(int(places.min(initial=NOT_HERE)), last):
            chosen = values | every_bit(places != place)
            with self.lock:
                self.values[place][part] &= chosen

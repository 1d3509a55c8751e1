"""Height and human influence at any point, and the masks of water, shore, mire and fell that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spacex.synthetic.landscape_params import LandscapeParams, params_of
from spacex.synthetic.noise import Bools, Coords, Floats, key_of, ramp, smooth

SETTLED_INFLUENCE = 0.28
"""Human influence above which roads, villages and fields can be."""


@dataclass(frozen=True)
class Fields:
    """Named random fields of one landscape.

    A field's name is part of its random key: another name draws another landscape.
    """

    seed: int

    def key(self, name: str) -> int:
        """The key of a named field or mosaic."""
        return key_of(self.seed, name)

    @property
    def params(self) -> LandscapeParams:
        """How much there is of every cover."""
        return params_of(self.seed)

    def noise(self, name: str, x: Coords, y: Coords, *octaves: tuple[float, float]) -> Floats:
        """Sum of ``weight * smooth noise`` over (wavelength in metres, weight) pairs; f4."""
        parts = [smooth(x, y, size, key_of(self.seed, name, size)) for size, _ in octaves]
        out = parts[0] * np.float32(octaves[0][1])
        for part, (_, weight) in zip(parts[1:], octaves[1:], strict=True):
            out += part * np.float32(weight)
        return out


class Terrain:
    """The fields and masks that decide the covers at some points; computed on first use, each once.

    Points are EPSG:3035 metres: `x` (1, w) with `y` (h, 1), or both of any one shape.
    """

    def __init__(self, fields: Fields, x: Coords, y: Coords) -> None:
        self.fields, self.x, self.y = fields, x, y

    def noise(self, name: str, *octaves: tuple[float, float]) -> Floats:
        """A named field at these points."""
        return self.fields.noise(name, self.x, self.y, *octaves)

    def at(self, mask: Bools) -> Terrain:
        """The same terrain where `mask` holds, as flat arrays; what has been computed is kept."""
        x, y = (np.broadcast_to(axis, mask.shape)[mask] for axis in (self.x, self.y))
        part = Terrain(self.fields, x, y)
        computed = {name: value[mask] for name, value in vars(self).items() if name not in ("fields", "x", "y")}
        vars(part).update(computed)  # functools.cached_property keeps its values there
        return part

    @cached_property
    def height(self) -> Floats:
        """Elevation in standard deviations: from hills of 26 km down to mounds of about 1 km."""
        return self.noise("height", (26000, 0.66), (9000, 0.52), (3200, 0.40), (1100, 0.24))

    @cached_property
    def influence(self) -> Floats:
        """How much people shape the land, in standard deviations; valleys attract them."""
        influence = self.noise("influence", (30000, 0.65), (9500, 0.80)) - np.float32(0.25) * self.height
        return np.asarray(influence + np.float32(self.fields.params.people))

    @cached_property
    def relief(self) -> Floats:
        """Slope towards the sun (south-east), unitless, about -2 to 2."""
        octaves = ((1100, 0.8), (420, 0.45))
        lit = self.fields.noise("relief", self.x + 110.0, self.y - 90.0, *octaves)
        return np.asarray(lit - self.noise("relief", *octaves))

    @cached_property
    def basin(self) -> Floats:
        """Above 0: lake. Long axes run with the old ice flow, north-west to south-east."""
        along, across = 0.78 * self.x - 0.62 * self.y, 0.62 * self.x + 0.78 * self.y
        ice = self.fields.noise("basin", along, across * 1.9, (2600, 0.85))
        shape = self.noise("basin", (5200, 0.35), (900, 0.42), (310, 0.2), (110, 0.08))
        steep = np.float32(0.35) * np.abs(self.height + np.float32(0.3))
        return np.asarray(ice + shape - steep - np.float32(self.fields.params.lakes))

    @cached_property
    def river(self) -> Floats:
        """Distance from a river's middle in metres, roughly; large on high ground."""
        line = self.noise("river", (6500, 1.0), (1500, 0.30), (430, 0.10))
        high = ramp(self.height, 0.35, 0.8)
        return np.abs(line) * np.float32(2100.0) + high * np.float32(500.0)

    @cached_property
    def water(self) -> Bools:
        """Lake or river."""
        return np.asarray((self.basin > 0) | (self.river < 16))

    @cached_property
    def shore(self) -> Floats:
        """Above 0: a beach or wet shore strip beside a lake; its width changes from bay to bay."""
        width = np.float32(0.075) + np.float32(0.055) * self.noise("beach", (700, 0.8), (180, 0.5))
        return np.where(self.water, np.float32(-1), self.basin + width)

    @cached_property
    def remoteness(self) -> Floats:
        """Above 0: far enough from people for mires to be undrained and fells unspoilt."""
        return np.float32(0.1) - self.influence + self.noise("wild", (900, 0.16), (300, 0.10), (100, 0.05))

    @cached_property
    def mire(self) -> Bools:
        """Open mire: low, flat, remote, and not water."""
        bog = self.noise("mire", (3000, 0.72), (1100, 0.55), (400, 0.34), (140, 0.15), (55, 0.06))
        bog -= np.float32(0.32) * np.abs(self.height + np.float32(0.35))
        return (bog > np.float32(self.fields.params.mire)) & (self.remoteness > 0) & ~self.water

    @cached_property
    def fell(self) -> Bools:
        """Bare fell: the tops, with ragged edges and outlying rocky knobs."""
        top = self.height + self.noise("fell", (1500, 0.30), (480, 0.24), (150, 0.14), (60, 0.07))
        return (top > np.float32(self.fields.params.fell)) & (self.remoteness > 0) & ~self.water & ~self.mire

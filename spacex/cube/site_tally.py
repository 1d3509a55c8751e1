"""Sums over the pixels of zones at one time step, from which a table of sites is made.

They add up, so blocks of a cube may come in any order, and nothing but a block's pixels is in memory at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.cube.layout import variables_by_name
from spacex.cube.store import Cube
from spacex.cube.zonal import ZoneBlock
from spacex.execution.tasks import Status, TileTask
from spacex.grid import CHIP

CODES = 256
"""Values that a stored score may have; 0 is no data."""
CELL = ["zone", "class", "row", "col"]
"""What names a cell of the land: of one zone and land-cover class, within one chip of the lattice."""


@dataclass
class SiteTally:
    """Sums of every zone at one time step; areas in pixels."""

    step: int
    """Index of the time step."""
    zones: int
    """How many there are."""
    codes: NDArray[np.float64] = field(init=False)
    """(zones, `CODES`) area by stored code of naturalness: the whole distribution; code 0 has no data."""
    unfinished: NDArray[np.float64] = field(init=False)
    """(zones,) area in tiles that are pending or failed."""
    unlike: NDArray[np.float64] = field(init=False)
    """(zones,) mapped area whose dissimilarity is above 1."""
    observed: NDArray[np.float64] = field(init=False)
    """(zones,) observations, summed over the mapped area."""
    least: NDArray[np.float64] = field(init=False)
    """(zones,) fewest observations of a mapped pixel; infinite where nothing is mapped."""
    scenes: dict[int, dict[str, tuple[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    """By zone and scene: its day, and what it supplied, as used share times the zone's mapped area in the tile."""
    cells: list[pd.DataFrame] = field(default_factory=list)
    """Mapped area, lift and naturalness, summed by `CELL`; a cell that spans blocks is there several times."""

    def __post_init__(self) -> None:
        self.codes = np.zeros((self.zones, CODES))
        self.unfinished, self.unlike, self.observed = np.zeros((3, self.zones))
        self.least = np.full(self.zones, np.inf)

    @property
    def mapped(self) -> NDArray[np.float64]:
        """(zones,) area with a score."""
        return np.asarray(self.codes[:, 1:].sum(axis=1))

    def add(self, cube: Cube, block: ZoneBlock, classes: NDArray[np.uint16] | None) -> None:
        """Add a block's pixels; `classes` (height, width) has their land cover, None where it is not asked for."""
        status = Status(int(block.statuses[self.step]))
        if status is Status.DONE:
            self._add_pixels(cube, block, classes)
        elif status is Status.NO_DATA:
            self.codes[block.zones, 0] += block.areas
        elif status is not Status.OUTSIDE:
            self.unfinished[block.zones] += block.areas

    def _add_pixels(self, cube: Cube, block: ZoneBlock, classes: NDArray[np.uint16] | None) -> None:
        """Add the pixels of a tile that is done."""
        known = variables_by_name(cube.spec)
        place = (self.step, *block.window.slices(cube.spec.stored))
        covered = block.pixels

        def read(name: str) -> NDArray[Any]:
            return np.asarray(cube.array(f"0/{name}")[place]).ravel()[covered.pixels]

        codes = read("naturalness")
        np.add.at(self.codes, (covered.zones, codes), covered.shares)
        mapped = codes > 0
        zones, shares = covered.zones[mapped], covered.shares[mapped]
        observations = read("observations")[mapped]
        np.add.at(self.observed, zones, shares * observations)
        np.minimum.at(self.least, zones, observations)
        if "dissimilarity" in known:
            unlike = read("dissimilarity")[mapped] > 1
            np.add.at(self.unlike, zones[unlike], shares[unlike])
        if "lift" in known:
            rows, cols = np.divmod(covered.pixels[mapped], block.window.width)
            chip = cube.attributes["request"].get("chips", {}).get("chip_size", CHIP)
            land = {
                "zone": zones,
                "class": 0 if classes is None else classes.ravel()[covered.pixels[mapped]],
                "row": (rows + block.window.row) // chip,
                "col": (cols + block.window.col) // chip,
                "area": shares,
                "lift": shares * np.nan_to_num(read("lift")[mapped]),
                "naturalness": shares * known["naturalness"].decode(codes[mapped]),
            }
            self.cells.append(pd.DataFrame(land).groupby(CELL, as_index=False).sum())
        self._add_scenes(cube, block, np.bincount(zones, weights=shares, minlength=self.zones).astype(np.float64))

    def _add_scenes(self, cube: Cube, block: ZoneBlock, areas: NDArray[np.float64]) -> None:
        """Add the scenes of a tile to its zones, by their mapped areas (zones,)."""
        first = cube.spec.tiling.tiles
        task = TileTask(self.step, first.row + block.position[0], first.col + block.position[1])
        for record in cube.provenance(task).get("scenes", ()):
            if isinstance(record, Mapping) and record.get("used_share", 0) > 0:
                for zone in block.zones[areas[block.zones] > 0].tolist():
                    before = self.scenes[zone].get(record["id"], ("", 0.0))[1]
                    supplied = before + record["used_share"] * areas[zone]
                    self.scenes[zone][record["id"]] = (record["datetime"][:10], supplied)

    def land(self) -> pd.DataFrame:
        """Area in pixels, lift and naturalness of every cell once."""
        if not self.cells:
            return pd.DataFrame(columns=[*CELL, "area", "lift", "naturalness"], dtype=float)
        return pd.concat(self.cells).groupby(CELL, as_index=False).sum()

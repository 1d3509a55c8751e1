"""Tile tasks, their states, and the report that a worker makes of each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum

from spacex.errors import RequestError


class Status(IntEnum):
    """State of a tile; the values of the cube's `status` variable."""

    PENDING = 0
    """Not finished: a resumed run computes it."""
    DONE = 1
    """Data, provenance and status are written."""
    NO_DATA = 2
    """Read, but no pixel had enough clear observations."""
    OUTSIDE = 3
    """The tile does not touch the area; it is never read."""
    FAILED = 4
    """Quarantined after repeated failures; a resumed run tries again."""

    @property
    def label(self) -> str:
        """Its name in cubes, progress files and reports: pending, done, no_data, outside or failed."""
        return self.name.lower()


@dataclass(frozen=True, order=True)
class TileTask:
    """One tile at one time step, the unit of work. Only these names travel to the workers."""

    time: int
    """Index of the time step."""
    row: int
    """Tile row of the global tile lattice, southwards from the CRS origin; negative north of it."""
    col: int
    """Tile column of the global tile lattice, eastwards from the CRS origin; negative west of it."""

    def __str__(self) -> str:
        """E.g. ``t0-n494-e478``: step 0, the tile at row -494 and column 478, so north and east of the origin."""
        row = f"n{-self.row}" if self.row < 0 else f"s{self.row}"
        return f"t{self.time}-{row}-" + (f"w{-self.col}" if self.col < 0 else f"e{self.col}")

    @classmethod
    def parse(cls, name: str) -> TileTask:
        """The task of a name.

        Raises:
            RequestError: if it is none.
        """
        match = re.fullmatch(r"t(\d+)-([ns])(\d+)-([we])(\d+)", name)
        if match is None:
            raise RequestError("no name of a tile", got=name, expected="e.g. t0-n494-e478")
        step, ns, row, we, col = match.groups()
        return cls(int(step), int(row) * (-1 if ns == "n" else 1), int(col) * (-1 if we == "w" else 1))


@dataclass(frozen=True)
class TileReport:
    """What a worker tells the driver about one try of a tile; small, and plain data."""

    task: TileTask
    status: Status
    reason: str = ""
    """Why the tile failed; empty otherwise."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent reading, computing and writing."""
    chips: int = 0
    """Chips computed or written for this tile (one that tiles share counts for the first)."""
    scenes: int = 0
    """Scenes read."""
    fetched: int = 0
    """Bytes of scenes fetched."""
    worker: str = ""
    """Host and process id."""
    doubtful_scenes: dict[str, str] = field(default_factory=dict)
    """Ids of scenes whose pixels here contradict their offset, and how."""

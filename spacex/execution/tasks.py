"""The unit of work, its states, and what a worker reports of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Status(IntEnum):
    """What is known of a tile; the values of the cube's `status` variable."""

    PENDING = 0
    """Nobody has finished this tile: a resumed run computes it."""
    DONE = 1
    """Data, provenance and status are down."""
    NO_DATA = 2
    """Read, but no pixel had enough clear observations."""
    OUTSIDE = 3
    """The tile does not touch the area; it is never read."""
    FAILED = 4
    """Quarantined after repeated failures; a resumed run tries again."""


@dataclass(frozen=True, order=True)
class TileTask:
    """The unit of work: one tile at one time step. Only these names travel to the workers."""

    time: int
    """Index of the cube's time step."""
    row: int
    """Tile row, from the top."""
    col: int
    """Tile column, from the left."""

    def __str__(self) -> str:
        return f"t{self.time}-r{self.row}-c{self.col}"


@dataclass(frozen=True)
class TileReport:
    """What a worker tells the driver about one tile; small, and plain data."""

    task: TileTask
    status: Status
    reason: str = ""
    """Why the tile failed; empty otherwise."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent reading, computing and writing."""
    chips: int = 0
    """Chips the network ran for this tile (shared ones count for the first)."""
    scenes: int = 0
    """Scenes read."""
    fetched: int = 0
    """Bytes of scenes fetched."""
    worker: str = ""
    """Host and process."""

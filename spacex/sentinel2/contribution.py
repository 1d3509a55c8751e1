"""What one scene contributes to a composite: the pixels assigned to it, and its statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spacex.sentinel2.median import bit_mask
from spacex.sentinel2.reflectance import DarkPixels, contradiction
from spacex.sentinel2.resampling import BLOCK, Roi, any_per_block
from spacex.sentinel2.scenes import Scene

UNASSIGNED = 65_535
"""In `Assignment.slots`: the scene gives this pixel no observation."""


@dataclass
class SceneUsage:
    """How much of one scene was used, in pixels, so that the usages of several windows add up."""

    scene: Scene
    pixels: int = 0
    """Pixels of the windows that the scene can touch."""
    considered: int = 0
    """Those that still needed observations when the scene's turn came."""
    clear: int = 0
    """Those of them that are clear in the scene."""
    used: int = 0
    """Those that took an observation from it."""
    dark: dict[str, DarkPixels] = field(default_factory=dict)
    """Evidence about the offset, by band."""
    left_out: str = ""
    """Why the scene was not used; empty if the only reason is that all pixels had enough."""

    def __add__(self, other: SceneUsage) -> SceneUsage:
        bands = {**self.dark, **other.dark}
        dark = {band: self.dark.get(band, DarkPixels()) + other.dark.get(band, DarkPixels()) for band in bands}
        names = ("pixels", "considered", "clear", "used")
        counts = {name: getattr(self, name) + getattr(other, name) for name in names}
        return SceneUsage(self.scene, **counts, dark=dark, left_out=self.left_out)

    def to_json(self) -> dict[str, Any]:
        """JSON values, for the tile's provenance."""
        scene = self.scene
        record: dict[str, Any] = {
            "id": scene.id,
            "datetime": scene.datetime,
            "processed": scene.processed,
            "offset_dn": scene.offset.dn,
            "offset_reason": scene.offset.reason,
            "sun_elevation": scene.sun_elevation,
            "clear_share": round(self.clear / max(1, self.considered), 6),
            "used_share": round(self.used / max(1, self.pixels), 6),
        }
        if left_out := self.left_out or ("" if self.considered else "every pixel has enough"):
            record["left_out"] = left_out
        if self.dark and (warning := contradiction(self.dark, scene.offset)):
            record["warning"] = warning
        return record


def doubtful_scenes(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Ids of the scenes whose pixels contradict their offset, and how, from `SceneUsage.to_json` of each."""
    return {record["id"]: record["warning"] for record in records if "warning" in record}


class Assignment(NamedTuple):
    """The pixels of a region that take an observation from a scene."""

    roi: Roi
    """One row of blocks, and the columns from the first to the last assigned pixel in it."""
    slots: NDArray[np.uint16]
    """(y, x) index of the observation in its pixel's stack, 0 for the first; `UNASSIGNED`."""


@dataclass
class SceneContribution:
    """One scene while its files are read."""

    scene: Scene
    assignments: list[Assignment] = field(default_factory=list)
    """The pixels that take an observation from the scene; the regions do not overlap."""
    blocks: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    """Which blocks of the grid hold such pixels, as from `spacex.sentinel2.resampling.any_per_block`."""
    bounds: tuple[float, ...] = ()
    """Left, bottom, right, top of its classification."""
    fetched: int = 0
    """Bytes of its file blocks fetched."""

    def __post_init__(self) -> None:
        self.usage = SceneUsage(self.scene)

    def assign_pixels(
        self,
        clear: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        count: NDArray[np.uint16],
        max_observations: int,
        covered: NDArray[np.bool_] | None,
    ) -> None:
        """Assign the scene's clear pixels to every pixel that needs observations and that its overpass has not covered.

        Args:
            clear: (y, x) where the scene is clear.
            valid: (y, x) where the scene has data, clear or not.
            count: (y, x) observations per pixel so far; updated in place.
            max_observations: observations a pixel takes at most.
            covered: (y, x) where earlier scenes of the overpass have data; updated in place. None if there are none.
        """
        blocks = []
        # one row of blocks at a time: arrays this small stay in the processor's cache
        for start in range(0, len(count), BLOCK):
            rows = slice(start, start + BLOCK)
            lacking = count[rows] < max_observations
            assigned = clear[rows] & lacking
            self.usage.considered += int(np.count_nonzero(lacking))
            self.usage.clear += int(np.count_nonzero(assigned))
            if covered is not None:
                # the first scene with data decides for its overpass, even where it is cloudy
                assigned &= ~covered[rows]
                covered[rows] |= valid[rows]
            blocks.append(any_per_block(assigned))
            if not blocks[-1].any():
                continue
            cols = np.flatnonzero(assigned.any(axis=0))
            roi = rows, slice(int(cols[0]), int(cols[-1]) + 1)
            assigned = assigned[:, roi[1]]
            self.usage.used += int(np.count_nonzero(assigned))
            # 65535 where assigned, else 0. The new observation's slot is the pixel's count so far; OR with the
            # complement turns the slots of all other pixels into `UNASSIGNED`.
            ones = bit_mask(assigned)
            self.assignments.append(Assignment(roi, count[roi] | ~ones))
            count[roi] -= ones  # adds 1 where assigned: in 16 bits 65535 is -1
        self.blocks = np.concatenate(blocks)


@dataclass(frozen=True)
class BandStack:
    """The observations of one band, filled by several threads."""

    values: NDArray[np.uint16]
    """(n, y, x) DN; `MISSING`, which has every bit set, where nothing was written yet."""
    lock: Lock
    """Held while writing: `put` rewrites unassigned pixels with the value they had when it read them."""

    def put(self, roi: Roi, values: NDArray[np.uint16], slots: NDArray[np.uint16]) -> None:
        """Write each value into its slot; every slot of a pixel is written once."""
        stop = int((slots + np.uint16(1)).max(initial=0))  # `UNASSIGNED` overflows to 0
        for slot in range(int(slots.min(initial=UNASSIGNED)), stop):
            # AND with the value where it belongs, with all ones elsewhere: faster than numpy's masked assignment
            masked = values | bit_mask(slots != slot)
            with self.lock:
                self.values[slot][roi] &= masked

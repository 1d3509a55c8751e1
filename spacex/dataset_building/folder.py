"""A set of chips on disk: AnthroProtect's layout, the request that made it, and the run's outputs beside it.

::

    X/infos.csv             file,lon,lat,category,label,dataset; written when a run ends
    X/tiles/s2/*.tif        10 bands, uint16 reflectance x 10000, 0 = no data
    X/tiles/lcs/*.tif       4 bands uint16: CORINE of the land cover that was given; 0, unknown: MODIS, CGLS, GlobCover
    X/tiles/s2_scl/*.tif    SCL of each pixel's first clear observation, 0 = none
    X/dataset.json          request, fingerprint and code that made it
    X.run/                  lock, scenes, locations, a file per finished tile, progress, report, contact sheets

A tile's chips are written one by one, each under a temporary name first, and the tile's own file, with its status,
last.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.dataset_building.locations import ChipLocation, load_locations, save_locations
from spacex.dataset_building.request import DatasetRequest
from spacex.datasets.splits import SPLITS
from spacex.datasets.writing import COLUMNS, FOLDERS, remove_incomplete
from spacex.errors import DataError
from spacex.execution.tasks import Status, TileTask
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_list import Scenes, known_scenes, load_left_out, save_scenes
from spacex.storage import run_folder, write_text


class DatasetFolder:
    """A set's folder, which need not exist, and the run's beside it."""

    def __init__(self, output: str) -> None:
        self.root, self.run = Path(output).absolute(), Path(run_folder(str(Path(output).absolute())))
        self._locations_file, self._scenes_file = self.run / "locations.json", self.run / "scenes.gz"
        self._states = self.run / "tiles"

    def fingerprint(self) -> str | None:
        """Of the set that is there; None if there is none yet.

        Raises:
            DataError: if the folder holds something else.
        """
        card = self.root / "dataset.json"
        if card.is_file():
            try:
                return str(json.loads(card.read_text())["fingerprint"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{card} is damaged", got=error, do="Choose another --output.") from error
        if self.root.is_dir() and any(path.name != "tiles" for path in self.root.iterdir()):
            expected, do = "an empty folder or a set made here", "Choose another --output."
            raise DataError(f"{self.root} holds something else", expected=expected, do=do)
        return None

    def begin(
        self,
        request: DatasetRequest,
        locations: tuple[ChipLocation, ...],
        scenes: Scenes,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """Lay out a new set: the inputs first, and last the file by which it counts as a set."""
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._states.mkdir(parents=True, exist_ok=True)
        for old in self._states.glob("*.json"):
            old.unlink()
        save_scenes(str(self._scenes_file), scenes, left_out=left_out)
        save_locations(self._locations_file, locations)
        card = {
            "fingerprint": request.fingerprint(),
            "made_with": code_digest(),
            "layout": "AnthroProtect",
            "request": request.model_dump(mode="json"),
            "source": request.source,
        }
        write_text(self.root / "dataset.json", json.dumps(card, indent=1))

    def locations(self) -> tuple[ChipLocation, ...]:
        """The chips of the set that exists."""
        return load_locations(self._locations_file)

    def scenes(self) -> Scenes:
        """The scenes it is made from."""
        scenes = known_scenes(str(self._scenes_file))
        if scenes is None:
            raise DataError(f"there is no {self._scenes_file}", do="Remove the set and begin anew.")
        return scenes

    def items_left_out(self) -> dict[str, str]:
        """Ids of the catalogue's items that are not used, with reasons."""
        return load_left_out(str(self._scenes_file))

    def finish(self, task: TileTask, status: Status, record: dict[str, Any]) -> None:
        """Record the outcome of a tile."""
        write_text(self._states / f"{task}.json", json.dumps({"status": status.label, **record}))

    def record(self, task: TileTask) -> dict[str, Any]:
        """The record of a tile; empty if it is not finished, or the record cannot be read."""
        try:
            record = json.loads((self._states / f"{task}.json").read_text())
            Status[record["status"].upper()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return dict(record)

    def status(self, task: TileTask) -> Status:
        """State of a tile."""
        return Status[str(self.record(task).get("status", "pending")).upper()]

    def outcome(self, locations: tuple[ChipLocation, ...]) -> tuple[tuple[ChipLocation, ...], dict[str, str]]:
        """The chips that exist, and the reasons why others do not."""
        records = [self.record(task) for task in sorted({location.task for location in locations})]
        files = {file for record in records for file in record.get("chips", {})}
        left_out = {file: reason for record in records for file, reason in record.get("left_out", {}).items()}
        return tuple(location for location in locations if location.file in files), left_out

    def write_index(self, locations: tuple[ChipLocation, ...]) -> list[ChipLocation]:
        """Write `infos.csv`, remove incomplete files that killed writers left, and return the chips that exist."""
        remove_incomplete(self.root)
        made = sorted(self.outcome(locations)[0], key=lambda chip: chip.file)
        # the index comes after all chips, in one step: without it a folder is no data set
        rows = [(chip.file, chip.lon, chip.lat, chip.category, chip.label, chip.split) for chip in made]
        write_text(self.root / "infos.csv", pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False))
        return made


def counts(locations: Iterable[ChipLocation]) -> dict[str, dict[str, int]]:
    """Chips by split and label: ``{"train": {"natural": 40, "anthropogenic": 40}, …}``."""
    numbers = {part: {"natural": 0, "anthropogenic": 0} for part in SPLITS}
    for location in locations:
        numbers[location.split]["natural" if location.label else "anthropogenic"] += 1
    return numbers


def status_map(folder: DatasetFolder, tasks: Collection[TileTask]) -> NDArray[np.uint8]:
    """(tile rows, tile columns) of `Status` on the rectangle around the tiles; *outside* where no chip is."""
    rows, cols = [t.row for t in tasks], [t.col for t in tasks]
    statuses = np.full((max(rows) - min(rows) + 1, max(cols) - min(cols) + 1), Status.OUTSIDE, np.uint8)
    for task in tasks:
        statuses[task.row - min(rows), task.col - min(cols)] = folder.status(task)
    return statuses

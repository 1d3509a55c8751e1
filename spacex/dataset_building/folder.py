"""A set on disk: AnthroProtect's layout, what made it, and the run's own papers beside it.

::

    X/infos.csv             file,lon,lat,category,label,dataset; written when a run ends
    X/tiles/s2/*.tif        10 bands, uint16 reflectance x 10000, 0 = no data
    X/tiles/lcs/*.tif       4 bands uint16: CORINE of the land cover that was given; 0, unknown: MODIS, CGLS, GlobCover
    X/tiles/s2_scl/*.tif    SCL of each pixel's first clear observation, 0 = none
    X/dataset.json          request, fingerprint, code: what made it
    X.run/                  claim, scenes, places, a file per finished tile, progress, report, contact sheets

A tile's chips are put down one by one, each under another name first, and its own file, with its status, comes last.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spacex.dataset_building.locations import ChipLocation, load_places, save_places
from spacex.dataset_building.request import DatasetRequest
from spacex.datasets.writing import COLUMNS, FOLDERS, sweep
from spacex.errors import DataError
from spacex.execution.tasks import Status, TileTask
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_list import Scenes, known_scenes, save_scenes
from spacex.storage import run_folder, write_text


class DatasetFolder:
    """A set's folder and the run's beside it.

    Args:
        output: path of the set, there or not.
    """

    def __init__(self, output: str) -> None:
        self.root, self.run = Path(output).absolute(), Path(run_folder(str(Path(output).absolute())))
        self.places_file, self.scenes_file = self.run / "places.json", self.run / "scenes.gz"
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
            raise DataError(f"{self.root} holds something else", expected="an empty folder or a set made here",
                            do="Choose another --output.")  # fmt: skip
        return None

    def begin(self, request: DatasetRequest, places: tuple[ChipLocation, ...], scenes: Scenes) -> None:
        """Lay out a new set; what it is made from first, and last the file by which it counts as one."""
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._states.mkdir(parents=True, exist_ok=True)
        for old in self._states.glob("*.json"):
            old.unlink()
        save_scenes(str(self.scenes_file), scenes)
        save_places(self.places_file, places)
        told = {"fingerprint": request.fingerprint(), "made_with": code_digest(), "layout": "AnthroProtect"}
        told["request"] = request.model_dump(mode="json")  # type: ignore[assignment]
        write_text(self.root / "dataset.json", json.dumps({**told, "source": source_of(request)}, indent=1))

    def places(self) -> tuple[ChipLocation, ...]:
        """The places of the set that is there."""
        return load_places(self.places_file)

    def scenes(self) -> Scenes:
        """The scenes it is made from.

        Raises:
            DataError: if the list is gone.
        """
        found = known_scenes(str(self.scenes_file))
        if found is None:
            raise DataError(f"there is no {self.scenes_file}", do="Remove the set and begin anew.")
        return found

    def finish(self, task: TileTask, status: Status, told: dict[str, Any]) -> None:
        """Record what became of a tile."""
        write_text(self._states / f"{task}.json", json.dumps({"status": status.name.lower(), **told}))

    def told(self, task: TileTask) -> dict[str, Any]:
        """What is recorded of a tile; nothing if it is not finished, or the record cannot be read."""
        try:
            found = json.loads((self._states / f"{task}.json").read_text())
            Status[found["status"].upper()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return dict(found)

    def status(self, task: TileTask) -> Status:
        """State of a tile."""
        return Status[str(self.told(task).get("status", "not_yet")).upper()]

    def write_index(self, places: tuple[ChipLocation, ...]) -> list[ChipLocation]:
        """Write `infos.csv` of the chips that are there, in one step; gives those chips.

        What killed writers left half done is swept out: no tile that counts is being written any more.
        """
        sweep(self.root)
        chips: dict[TileTask, set[str]] = {}
        for place in places:
            if place.task not in chips:
                chips[place.task] = set(self.told(place.task).get("chips", {}))
        there = sorted((p for p in places if p.file in chips[p.task]), key=lambda p: p.file)
        rows = [(p.file, p.lon, p.lat, p.category, p.label, p.split) for p in there]
        write_text(self.root / "infos.csv", pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False))
        return there


def source_of(request: DatasetRequest) -> str:
    """What the pixels are, and under which terms."""
    if request.catalogue == "demo":
        return "synthetic scenes of the landscape that ships with SpacEX; no observation of the Earth"
    return f"Sentinel-2 Level-2A through STAC ({request.catalogue}); contains modified Copernicus Sentinel data"


def counts(places: tuple[ChipLocation, ...] | list[ChipLocation]) -> dict[str, dict[str, int]]:
    """Chips by split and label: ``{"train": {"natural": 40, "anthropogenic": 40}, …}``."""
    names = ("anthropogenic", "natural")
    found = {part: dict.fromkeys(reversed(names), 0) for part in ("train", "val", "test")}
    for place in places:
        found[place.split][names[place.label]] += 1
    return found


def states(folder: DatasetFolder, tasks: tuple[TileTask, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(tile rows, tile columns) of `Status` on the rectangle around the tiles; *outside* where no chip is."""
    rows, cols = [t.row for t in tasks], [t.col for t in tasks]
    found = np.full((max(rows) - min(rows) + 1, max(cols) - min(cols) + 1), Status.OUTSIDE, np.uint8)
    for task in tasks:
        found[task.row - min(rows), task.col - min(cols)] = folder.status(task)
    return found

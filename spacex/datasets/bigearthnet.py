"""BigEarthNet-S2 version 1: 590,326 surface reflectance (L2A) patches of ten European countries with CORINE labels.

Sumbul, Charfuelan, Demir, Markl: "BigEarthNet: A Large-Scale Benchmark Archive for Remote Sensing Image Understanding",
IGARSS 2019. Layout as published, at any depth::

    <patch>/<patch>_B02.tif                 a GeoTIFF for each of 12 bands, uint16 reflectance x 10000: 120 x 120 pixels
                                            of 10 m, 60 x 60 of 20 m, 20 x 20 of 60 m
    <patch>/<patch>_labels_metadata.json    labels (CORINE level 3), coordinates, projection

All scenes are older than the offset of 2022, so numbers are reflectance as they are.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from spacex.datasets import places
from spacex.datasets.corine import CLASSES
from spacex.datasets.tiles import READERS, Chips, inspect, read_bands, to_reflectance
from spacex.errors import DataError

METADATA = "_labels_metadata.json"
NATURAL = {code for code in CLASSES if code >= 311} - {422}
"""CORINE's forests, semi-natural land, wetlands and water; salines are made by people."""


class BigEarthNet(Chips):
    """One split of BigEarthNet: patches of 120 x 120 pixels, bands of 20 m repeated to 10 m.

    A patch is natural (label 1) if all its CORINE classes are natural, anthropogenic (0) if none is, and has no label
    (NaN) if it shows both: it is then not in `all`. Splits keep cells of land together (`spacex.datasets.places`).
    `infos` also has `labels`, `lat` and `lon`. A patch that is there twice is read once. There is no `target`.
    """

    side = 120
    meaning = (
        "Natural means natural land cover: CORINE's forests, semi-natural land, wetlands and water, against built-up "
        "and agricultural land, as BigEarthNet labels whole patches in ten European countries; not protection."
    )

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        if target:
            raise DataError(f"{self.root} tells two classes apart", got=f"target {target}", do="Leave --target out.")
        files = {file.name.removesuffix(METADATA): file for file in sorted(self.root.rglob(f"*{METADATA}"))}
        if not files:
            expected = f"folders of patches, each with a *{METADATA}"
            raise DataError(f"{self.root} holds no BigEarthNet", expected=expected, do="Unpack it there as published.")
        with ThreadPoolExecutor(READERS) as readers:
            rows = list(readers.map(_read_metadata, files.values()))
        folders = [file.parent.relative_to(self.root).as_posix() for file in files.values()]
        table = pd.DataFrame(rows, columns=["labels", "lat", "lon"])
        natural = [[_code(name) in NATURAL for name in names] for names in table["labels"]]
        label = [float(all(one)) if all(one) or not any(one) else np.nan for one in natural]
        self.split_origin = places.ORIGIN
        return places.with_cells(table.assign(file=list(files), path=folders, label=label))

    def _check(self, path: Path) -> str | None:
        for band in self.bands:
            size = 120 if band in ("B02", "B03", "B04", "B08") else 60
            if problem := inspect(path / f"{path.name}_{band}.tif", 1, size):
                return f"{band}: {problem}"
        return None

    def _reflectance(self, index: int) -> NDArray[np.float32]:
        folder = self.root / self._files[index]
        numbers = [read_bands(folder / f"{folder.name}_{band}.tif", 1) for band in self.bands]
        full = [np.kron(band, np.ones(2 * (self.side // len(band),), band.dtype)) for band in numbers]
        return to_reflectance(np.stack(full))


def _read_metadata(file: Path) -> tuple[list[str], float, float]:
    """Names of the classes, latitude and longitude of the middle of a patch."""
    try:
        about: dict[str, Any] = json.loads(file.read_text())
        corners = about["coordinates"]
        middle = (corners["ulx"] + corners["lrx"]) / 2, (corners["uly"] + corners["lry"]) / 2
        return list(about["labels"]), *places.to_degrees(about["projection"], *middle)
    except (OSError, ValueError, KeyError, TypeError, ProjError) as error:
        raise DataError(
            f"{file} cannot be read", got=f"{type(error).__name__}: {error}", do="Copy it again."
        ) from error


def _plain(name: str) -> str:
    """Of "Peat bogs" and "Peatbogs", "Bare rocks" and "Bare rock", the same."""
    return re.sub("[^a-z]", "", name.lower()).rstrip("s")


_CODES = {_plain(name): code for code, name in CLASSES.items()}


def _code(name: str) -> int:
    if _plain(name) not in _CODES:
        raise DataError("unknown class of CORINE", got=name, expected=", ".join(list(CLASSES.values())[:3]) + ", ...")
    return _CODES[_plain(name)]

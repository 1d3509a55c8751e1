"""GeoTIFFs of reflectance by class, of any bands, scale and size, described once in a file beside them.

::

    root/tiles.json                     {"bands": ["B02", "B03", "B04", "B08"], "scale": 0.0001, "offset": 0,
                                         "nodata": 0, "natural": ["Forest", "Mire"]}
    root/Forest/*.tif                   a folder per class; or root/train/Forest/*.tif, with val and test
    root/places.csv                     file, lat, lon, and class: where files without a CRS lie

`bands` names the bands of each file in order, reflectance is number * scale + offset, and `nodata` is a number that
stands for none. `natural` names the classes of natural land; without it a `target` is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from spacex.datasets import places
from spacex.datasets.classes import class_order
from spacex.datasets.pictures import list_pictures, most_frequent_side
from spacex.datasets.splits import subsample
from spacex.datasets.tiles import Chips, Problem, band_numbers, inspect, read_bands
from spacex.errors import DataError
from spacex.settings import Settings, refusal

FILE = "tiles.json"


class TilesDescription(Settings):
    """What `FILE` says of the files of a set."""

    bands: tuple[str, ...] = Field(min_length=1)
    """Names of the bands of each file, in order: Sentinel-2's for those that are used."""
    scale: float = Field(default=0.0001, gt=0)
    """Reflectance of one step."""
    offset: float = 0.0
    """Reflectance of number 0: -0.1 where Sentinel-2's offset of 1000 was left in."""
    nodata: float | None = 0
    """Number without data; null: every pixel has data, but for NaN."""
    natural: tuple[str, ...] = ()
    """Classes of natural land."""


class ReflectanceTiles(Chips):
    """One split of a folder of GeoTIFFs by class; chips are square, of the most frequent size.

    Splits that are folders are kept unless `grouped`. Otherwise cells of land stay together (`spacex.datasets.places`)
    where places are known, and a file's name decides where they are not. `infos` also has `file`, `class`, and `lat`
    and `lon` where known.
    """

    meaning = "Natural is what the folders of its training data were called natural."

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        self.about = _read_description(self.root / FILE)
        self.known_bands = self.about.bands
        table = list_pictures(self.root, (".tif", ".tiff"))
        if strange := set(self.about.natural) - set(table["class"]):
            got, expected = ", ".join(sorted(strange)), ", ".join(sorted(set(table["class"]))) or "folders of GeoTIFFs"
            raise DataError(f"{FILE} names classes that {self.root} lacks", got=got, expected=expected)
        if target or not self.about.natural:
            self.classes = class_order(table["class"], target, self.root)
            table["label"] = table["class"].map({name: number for number, name in enumerate(self.classes)})
        else:
            table["label"] = table["class"].isin(self.about.natural).astype(int)
        table, self.split_origin, self._unplaced = places.split(table, self.root, grouped, places.of_geotiff)
        return table

    def _select(self, rows: pd.DataFrame, limit: int | None) -> tuple[pd.DataFrame, list[Problem], int]:
        rows = subsample(rows, limit)
        self.side = most_frequent_side(self.root, rows["path"].tolist())
        rows, problems, checked = super()._select(rows, limit)
        return rows, self._unplaced + problems, checked

    def _check(self, path: Path) -> str | None:
        return inspect(path, len(self.known_bands), self.side)

    def _reflectance(self, index: int) -> NDArray[np.float32]:
        numbers = read_bands(self.root / self._files[index], band_numbers(self.bands, self.known_bands))
        x = numbers.astype(np.float32) * np.float32(self.about.scale) + np.float32(self.about.offset)
        # a valid pixel is never 0, which stands for no data
        return np.where(numbers == self.about.nodata, np.float32(np.nan), np.clip(x, 1 / self.steps, 1))


def _read_description(file: Path) -> TilesDescription:
    try:
        return TilesDescription.model_validate_json(file.read_text())
    except OSError as error:
        do = 'Describe the files there, e.g. {"bands": ["B02", "B03", "B04"], "natural": ["Forest"]}.'
        raise DataError(f"{file} cannot be read", got=error, do=do) from error
    except ValidationError as error:
        raise DataError(f"{file} does not describe tiles", got=refusal(error)) from error

"""EuroSAT: 27,000 Sentinel-2 chips of 34 European countries by land cover, at 64 x 64 pixels of 10 m.

Helber, Bischke, Dengel, Borth: "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land Cover
Classification", IEEE JSTARS 12 (2019). Read as published, in any of its archives: zips or folders, at any depth, whose
innermost folder is the name of a class::

    root/Forest.zip                    Forest/Forest_1.jpg
    root/EuroSAT.zip                   2750/Forest/Forest_1.jpg
    root/EuroSAT/2750/Forest/          Forest_1.jpg
    root/EuroSATallBands.zip           .../Forest/Forest_1.tif
    root/places.csv                    file,class,lat,lon

The JPEGs hold top-of-atmosphere (L1C) reflectance of B04, B03 and B02: grey value v is v * 0.275 / 255, up to 0.275.
The GeoTIFFs hold it in 13 bands, times 10000, and their CRS gives their places; the JPEGs' places are in `places.csv`.
Maps see surface (L2A) reflectance, so chips are corrected (`to_surface`).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from spacex.datasets import places
from spacex.datasets.classes import class_order
from spacex.datasets.splits import subsample
from spacex.datasets.tiles import READERS, Chips, Problem
from spacex.errors import DataError
from spacex.rasters import open_raster
from spacex.settings import RGB

NATURAL = ("Forest", "HerbaceousVegetation", "SeaLake")
"""Classes of natural land cover, label 1."""
ANTHROPOGENIC = ("AnnualCrop", "PermanentCrop", "Pasture", "Highway", "Industrial", "Residential")
"""The others, label 0."""
APART = "River"
"""Its chips show banks with fields and towns, so they have no label."""
CLASSES = (*NATURAL, *ANTHROPOGENIC, APART)
TIFF_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
"""Of the GeoTIFFs, in their order."""
JPEG_STEP = 0.275 / 255
"""Reflectance of one grey value."""

PATH_REFLECTANCE = {
    **{"B02": 0.062, "B03": 0.036, "B04": 0.017, "B05": 0.0135, "B06": 0.011},
    **{"B07": 0.0088, "B08": 0.0069, "B8A": 0.006, "B11": 0.0005, "B12": 0.0001},
}
"""What the air reflects. B02 to B04 make the medians of dark classes (forest, clear lakes) equal to those of L2A
patches; the longer waves follow Rayleigh's wavelength ** -4 from B04."""
TRANSMITTANCE = {"B02": 0.86, "B03": 0.88, "B04": 0.93}
"""Of the air, down and up; 0.95 in the other bands."""


class EuroSAT(Chips):
    """One split of EuroSAT; chips are kept in memory, 24 KiB for three bands.

    Splits keep cells of 1 x 1.5 degrees together (`spacex.datasets.places`) where places are known, else a file's name
    decides. Chips without a place among others with one are left out, and counted in `problems`. `infos` also has
    `file`, `class`, and `lat` and `lon` where known. Rivers have no label (NaN): they are among a split's chips, but
    not in `all`. With a `target` all ten classes are told apart.

    Bands other than B02, B03 and B04 need the GeoTIFFs. Where there are both, JPEGs are read if there are more.
    """

    side = 64
    hashed = "file"
    meaning = (
        "Natural means natural land cover: forest, herbaceous vegetation, sea and lakes, against crops, pasture, "
        "roads, industry and housing, as EuroSAT labels them in 34 European countries; not protection, and no mires. "
        "Trained on top-of-atmosphere reflectance corrected to the surface by constants."
    )

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        table = list_chips(self.root, jpeg=set(self.bands) <= set(RGB))
        if target:
            self.classes = class_order(table["class"], target, self.root)
            table["label"] = table["class"].map({name: number for number, name in enumerate(self.classes)})
        else:
            table["label"] = table["class"].isin(NATURAL).astype(float).where(table["class"] != APART)
        named = table.assign(
            group=table["file"], split=[places.split_of_name(name) for name in table["file"]], given=False
        )
        locate = None if table["path"].str.endswith(".jpg").all() else _locate
        table, self.split_origin, self._unplaced = places.split(named, self.root, grouped, locate)
        return table

    def _select(self, rows: pd.DataFrame, limit: int | None) -> tuple[pd.DataFrame, list[Problem], int]:
        rows = subsample(rows, limit)
        chips = torch.empty((len(rows), len(self.bands), self.side, self.side), dtype=torch.int16)

        def read(number: int, path: str) -> str | None:
            try:
                chip = to_surface(read_chip(self.root / path, self.bands), self.bands)
            except DataError as error:
                return error.what
            # valid pixels are at least 1, 0 is no data, as in every other data set
            chips[number] = torch.from_numpy(np.nan_to_num(np.maximum(chip * self.steps, 1)).round().astype(np.int16))
            return None

        with ThreadPoolExecutor(READERS) as readers:
            answers = list(readers.map(read, range(len(rows)), rows["path"]))
        good = [answer is None for answer in answers]
        problems = [Problem(path, what) for path, what in zip(rows["path"], answers, strict=True) if what]
        self._preloaded = chips if all(good) else chips[torch.tensor(good)]
        self._preloaded.share_memory_()  # type: ignore[no-untyped-call]
        return rows[good], self._unplaced + problems, len(rows)

    def _reflectance(self, index: int) -> NDArray[np.float32]:
        assert self._preloaded is not None
        numbers = self._preloaded[index].numpy()
        return np.where(numbers > 0, numbers / np.float32(self.steps), np.float32(np.nan))


def list_chips(root: Path, jpeg: bool = True) -> pd.DataFrame:
    """A row per chip, sorted by name: `file`, `path` below `root` (through a zip as through a folder), `class`.

    JPEGs are listed if `jpeg` allows it and there are at least as many of them as of GeoTIFFs.

    Raises:
        DataError: if there are none of the kind, or one is there twice.
    """
    rows = [
        {"file": path.name, "path": str(path), "class": path.parent.name}
        for path in _files(root)
        if path.parent.name in CLASSES and re.fullmatch(rf"{path.parent.name}_\d+\.(jpg|tif)", path.name)
    ]
    table = pd.DataFrame(rows, columns=["file", "path", "class"])
    jpegs = table["file"].str.endswith(".jpg")
    table = table[jpegs] if jpeg and jpegs.mean() >= 0.5 else table[~jpegs]
    if table.empty:
        expected = f"zips or folders named {', '.join(CLASSES[:2])}, ..." + (
            "" if jpeg else " with GeoTIFFs of 13 bands"
        )
        raise DataError(f"{root} holds no EuroSAT", expected=expected, do="Unpack or copy it there as published.")
    if (twice := table["file"].duplicated()).any():
        two = table[table["file"] == table["file"][twice].iloc[0]]["path"]
        raise DataError(f"{root} holds a chip twice", got=", ".join(two), do="Keep one copy of the data set there.")
    return table.sort_values("file", ignore_index=True)


def read_chip(path: Path, bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Top-of-atmosphere reflectance of a chip's bands: (bands, 64, 64) float32; NaN where a GeoTIFF has no data.

    Raises:
        DataError: if it cannot be read or is of another size.
    """
    data = _read_bytes(path)
    try:
        if path.suffix == ".jpg":
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
                size, form = picture.size, picture.mode
                if (*size, form) == (64, 64, "RGB"):
                    grey = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)
                    return np.asarray(grey[[RGB.index(band) for band in bands]] * np.float32(JPEG_STEP))
        else:
            with MemoryFile(data) as memory, open_raster(memory.name) as source:
                size, form = (source.width, source.height), f"{source.count} bands"
                if (*size, source.count) == (64, 64, len(TIFF_BANDS)):
                    numbers = source.read([TIFF_BANDS.index(band) + 1 for band in bands]).astype(np.float32)
                    return np.where(numbers > 0, numbers / np.float32(10000), np.float32(np.nan))
    except UnidentifiedImageError as error:
        raise DataError("unreadable (no JPEG)", do="Copy the file again.") from error
    except (RasterioError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable ({error})", do="Copy the file again.") from error
    raise DataError(f"{size[0]} x {size[1]} pixels, {form}; expected 64 x 64 of EuroSAT", do="Copy it again.")


def to_surface(x: NDArray[np.float32], bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Surface reflectance of top-of-atmosphere chips (bands, rows, columns), at least 0 and at most 1.

    (x - `PATH_REFLECTANCE`) / `TRANSMITTANCE`: one clear summer atmosphere for all chips, while each scene had its own.
    What remains of it is for random gains and offsets in training.
    """
    path = np.array([PATH_REFLECTANCE[band] for band in bands], np.float32)[:, None, None]
    through = np.array([TRANSMITTANCE.get(band, 0.95) for band in bands], np.float32)[:, None, None]
    return np.asarray(np.clip((x - path) / through, 0, 1))


def _files(root: Path) -> Iterator[PurePosixPath]:
    """All files below a folder, those in zips too, relative to it."""
    for file in sorted(root.rglob("*")):
        inside = PurePosixPath(file.relative_to(root).as_posix())
        if file.suffix == ".zip":
            try:
                yield from (inside / name for name in _archive(file, file.stat().st_mtime_ns).namelist())
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"{file} cannot be read", got=error, do="Download it again.") from error
        else:
            yield inside


@lru_cache(maxsize=32)
def _archive(path: Path, modified: int) -> zipfile.ZipFile:
    # kept open while it stays the same: its directory takes longer to read than a chip
    return zipfile.ZipFile(path)


def _read_bytes(path: Path) -> bytes:
    archive = next((parent for parent in path.parents if parent.suffix == ".zip"), None)
    try:
        if archive is None:
            return path.read_bytes()
        return _archive(archive, archive.stat().st_mtime_ns).read(path.relative_to(archive).as_posix())
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"unreadable ({error})", do="Copy the file again.") from error


@cache
def _locate(path: Path) -> tuple[float, float] | None:
    """Latitude and longitude of the middle of a GeoTIFF, or None."""
    try:
        with MemoryFile(_read_bytes(path)) as memory:
            return places.of_geotiff(memory.name)
    except DataError:
        return None

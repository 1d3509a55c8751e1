"""Contact sheets: what the chips of a class look like, a few from as many places as there are."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spacex.dataset_building.locations import ChipLocation
from spacex.datasets.tiles import read_chip
from spacex.settings import RGB

MOST = 48
"""Chips on a sheet."""
ACROSS = 8
THUMB, CAPTION, GAP = 150, 13, 5
"""Pixels of a chip's picture, of the line under it, and between."""


def contact_sheet(root: Path, places: list[ChipLocation], bands: tuple[str, ...], top: NDArray[np.float32]) -> bytes:
    """A PNG of chips side by side, each with its name.

    Args:
        root: the set's folder.
        places: the chips, already chosen (`chosen`).
        bands: bands of the set; red, green and blue where they are there, else the first.
        top: reflectance shown as white, per colour (`stretch`).
    """
    rows, step = math.ceil(len(places) / ACROSS), (THUMB + GAP, THUMB + CAPTION + GAP)
    sheet = Image.new("RGB", (min(ACROSS, len(places)) * step[0] + GAP, rows * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, place in enumerate(places):
        x, y = GAP + number % ACROSS * step[0], GAP + number // ACROSS * step[1]
        sheet.paste(Image.fromarray(_picture(root, place, bands, top)).resize((THUMB, THUMB)), (x, y))
        pen.text((x, y + THUMB), place.file.removesuffix(".tif")[:32], fill="black", font_size=8)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def chosen(places: list[ChipLocation]) -> list[ChipLocation]:
    """At most `MOST` chips, one of every polygon in turn."""
    groups: dict[str, list[ChipLocation]] = defaultdict(list)
    for place in places:
        groups[place.file.rpartition("_")[0]].append(place)
    turns = sorted((turn, name, place) for name, members in groups.items() for turn, place in enumerate(members))
    return [place for *_, place in turns[:MOST]]


def stretch(root: Path, places: list[ChipLocation], bands: tuple[str, ...]) -> NDArray[np.float32]:
    """The one stretch of all sheets: the 99th percentile of each colour over the chips shown."""
    values = np.concatenate([_reflectance(root, place, bands)[:, ::8, ::8].reshape(3, -1) for place in places], axis=1)
    return np.asarray(np.maximum(np.nanpercentile(values, 99, axis=1), 1e-3), np.float32)


def _reflectance(root: Path, place: ChipLocation, bands: tuple[str, ...]) -> NDArray[np.float32]:
    colours = RGB if set(RGB) <= set(bands) else bands[:1] * 3
    return read_chip(root / "tiles" / "s2" / place.file, colours)


def _picture(root: Path, place: ChipLocation, bands: tuple[str, ...], top: NDArray[np.float32]) -> NDArray[np.uint8]:
    shown = np.nan_to_num(_reflectance(root, place, bands) / top[:, None, None], nan=1.0)
    # a gentle curve: woods are a tenth as bright as fields
    return np.asarray(255 * np.clip(shown, 0, 1) ** (1 / 1.5), np.uint8).transpose(1, 2, 0)

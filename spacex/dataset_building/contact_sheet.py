"""Contact sheets: a picture of some chips of a class, from as many polygons as possible."""

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

MAX_CHIPS = 48
"""Chips on a sheet."""
ACROSS = 8
THUMBNAIL, CAPTION, GAP = 150, 13, 5
"""Heights in pixels of a chip's picture and of the line under it, and the space between chips."""


def contact_sheet(root: Path, locations: list[ChipLocation], bands: tuple[str, ...], top: NDArray[np.float32]) -> bytes:
    """A PNG of chips side by side, each with its name.

    Shows red, green and blue where `bands` has them, else the first band; `top` is the reflectance shown as white, per
    colour (`stretch`).
    """
    rows, step = math.ceil(len(locations) / ACROSS), (THUMBNAIL + GAP, THUMBNAIL + CAPTION + GAP)
    sheet = Image.new("RGB", (min(ACROSS, len(locations)) * step[0] + GAP, rows * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, location in enumerate(locations):
        x, y = GAP + number % ACROSS * step[0], GAP + number // ACROSS * step[1]
        shown = np.nan_to_num(_reflectance(root, location, bands) / top[:, None, None], nan=1.0)
        # a gamma of 1.5, because woods are a tenth as bright as fields
        pixels = np.asarray(255 * np.clip(shown, 0, 1) ** (1 / 1.5), np.uint8).transpose(1, 2, 0)
        sheet.paste(Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL)), (x, y))
        pen.text((x, y + THUMBNAIL), location.file.removesuffix(".tif")[:32], fill="black", font_size=8)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def choose_chips(locations: list[ChipLocation]) -> list[ChipLocation]:
    """At most `MAX_CHIPS` chips, one of every polygon in turn."""
    groups: dict[str, list[ChipLocation]] = defaultdict(list)
    for location in locations:
        groups[location.file.rpartition("_")[0]].append(location)
    # the first chip of every polygon, then the second ones, and so on
    turns = sorted((turn, name, location) for name, members in groups.items() for turn, location in enumerate(members))
    return [location for *_, location in turns[:MAX_CHIPS]]


def stretch(root: Path, locations: list[ChipLocation], bands: tuple[str, ...]) -> NDArray[np.float32]:
    """The stretch shared by all sheets: the 99th percentile of each colour over the chips shown."""
    samples = [_reflectance(root, location, bands)[:, ::8, ::8].reshape(3, -1) for location in locations]
    return np.asarray(np.maximum(np.nanpercentile(np.concatenate(samples, axis=1), 99, axis=1), 1e-3), np.float32)


def _reflectance(root: Path, location: ChipLocation, bands: tuple[str, ...]) -> NDArray[np.float32]:
    colours = RGB if set(RGB) <= set(bands) else bands[:1] * 3
    return read_chip(root / "tiles" / "s2" / location.file, colours)

"""Contact sheets: a picture of some chips of a class, from as many polygons as possible, with what each chip holds."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from spacex.dataset_building.locations import ChipLocation
from spacex.datasets.anthroprotect import read_land_cover
from spacex.datasets.corine import CLASSES
from spacex.datasets.tiles import read_chip
from spacex.display import to_rgb
from spacex.settings import RGB

MAX_CHIPS = 48
"""Chips on a sheet."""
ACROSS = 8
THUMBNAIL, CAPTION, GAP = 150, 36, 5
"""Heights in pixels of a chip's picture and of the lines under it, and the space between chips."""


def contact_sheet(root: Path, locations: list[ChipLocation], bands: tuple[str, ...]) -> bytes:
    """A PNG of chips side by side, in the colours of `spacex.display`, each with the lines of `caption`."""
    rows, step = math.ceil(len(locations) / ACROSS), (THUMBNAIL + GAP, THUMBNAIL + CAPTION + GAP)
    sheet = Image.new("RGB", (min(ACROSS, len(locations)) * step[0] + GAP, rows * step[1] + GAP), "white")
    pen, shown = ImageDraw.Draw(sheet), RGB if set(RGB) <= set(bands) else bands[:1]
    for number, location in enumerate(locations):
        x, y = GAP + number % ACROSS * step[0], GAP + number // ACROSS * step[1]
        colours = np.nan_to_num(to_rgb(read_chip(root / "tiles" / "s2" / location.file, shown), shown), nan=1.0)
        picture = Image.fromarray(np.asarray(255 * colours, np.uint8))
        sheet.paste(picture.resize((THUMBNAIL, THUMBNAIL)), (x, y))
        pen.multiline_text((x, y + THUMBNAIL), "\n".join(caption(root, location)), "black", font_size=9, spacing=1)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def caption(root: Path, location: ChipLocation) -> list[str]:
    """A chip's name, its share in its class, and the most frequent land cover on it where that is known."""
    label = "natural" if location.label else "anthropogenic"
    share = "" if math.isnan(location.share) else f"{100 * location.share:.0f} % in "
    lines = [location.file.removesuffix(".tif")[:28], f"{share}{label}"]
    codes, counts = np.unique(read_land_cover(root / "tiles" / "lcs" / location.file), return_counts=True)
    code, count = codes[counts.argmax()], counts.max() / counts.sum()
    return [*lines, f"{CLASSES[code][:20]} {100 * count:.0f} %"] if code else lines


def choose_chips(locations: list[ChipLocation]) -> list[ChipLocation]:
    """At most `MAX_CHIPS` chips, one of every polygon in turn."""
    groups: dict[str, list[ChipLocation]] = defaultdict(list)
    for location in locations:
        groups[location.file.rpartition("_")[0]].append(location)
    # the first chip of every polygon, then the second ones, and so on
    turns = sorted((turn, name, location) for name, members in groups.items() for turn, location in enumerate(members))
    return [location for *_, location in turns[:MAX_CHIPS]]

"""Small pictures by class: one class is striped, one dotted, one plain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio

CLASSES = ("dotted", "plain", "striped")
DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff"}


def draw_picture(kind: str, seed: int, side: int = 64) -> np.ndarray:
    """(3, side, side) uint8."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(90, 6, (3, side, side)) + rng.normal(0, 15, (3, 1, 1))
    rows, cols = np.mgrid[:side, :side]
    if kind == "striped":
        picture += 60 * ((rows + int(rng.integers(8))) % 8 < 4)
    if kind == "dotted":
        picture += 90 * ((rows % 8 < 4) & (cols % 8 < 4))
    return picture.clip(0, 255).astype("uint8")


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """As the format its ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"width": pixels.shape[2], "height": pixels.shape[1], "count": len(pixels), "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver=DRIVERS[path.suffix], **profile) as sink:
        sink.write(pixels)
    return path


def build_pictures(
    root: Path, each: int = 4, side: int = 64, splits: Sequence[str] = ("train", "val", "test"),
    classes: Sequence[str] = CLASSES,
) -> Path:  # fmt: skip
    """`each` pictures of every class in every split; without splits, classes alone."""
    for i, split in enumerate(splits or [""]):
        for j, kind in enumerate(classes):
            for number in range(each):
                ending = list(DRIVERS)[number % 3]
                pixels = draw_picture(kind, 1000 * i + 100 * j + number, side)
                write_picture(root / split / kind / f"{kind}{number}{ending}", pixels)
    return root

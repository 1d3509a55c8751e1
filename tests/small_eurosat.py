"""Small sets of EuroSAT's form: one zip of JPEGs per class and a table of places."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

COLOURS = {
    "Forest": (37, 62, 76),
    "SeaLake": (37, 56, 77),
    "AnnualCrop": (113, 113, 110),
    "Industrial": (106, 107, 120),
    "River": (56, 82, 93),
}
"""Red, green and blue grey values of each class."""


def build_eurosat(root: Path, each: int = 12, classes: Sequence[str] = tuple(COLOURS), seed: int = 0) -> Path:
    """`each` JPEGs of every class in a zip of their own, at places all over Europe; noise of 3 grey levels."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows = ["file,class,lat,lon"]
    for kind in classes:
        with zipfile.ZipFile(root / f"{kind}.zip", "w") as archive:
            for number in range(1, each + 1):
                grey = np.array(COLOURS[kind]) + rng.normal(0, 3, (64, 64, 3))
                picture = io.BytesIO()
                Image.fromarray(grey.clip(0, 255).astype("uint8")).save(picture, "JPEG", quality=95)
                archive.writestr(f"{kind}/{kind}_{number}.jpg", picture.getvalue())
                rows.append(f"{kind}_{number}.jpg,{kind},{rng.uniform(36, 65):.4f},{rng.uniform(-9, 30):.4f}")
    (root / "places.csv").write_text("\n".join(rows) + "\n")
    return root


def write_13_bands(
    path: Path, numbers: np.ndarray, left: float = 5e5, top: float = 7e6, crs: str | None = "EPSG:32633"
):
    """A GeoTIFF of 13 bands (13, rows, columns) uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"count": len(numbers), "height": numbers.shape[1], "width": numbers.shape[2], "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=from_origin(left, top, 10, 10), **profile) as sink:
        sink.write(numbers.astype("uint16"))
    return path

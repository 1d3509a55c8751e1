"""Tiny data sets in the published layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

Writer = Callable[..., Path]


def write_tif(path: Path, values: np.ndarray) -> Path:
    """A GeoTIFF of (bands, rows, columns)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32633", transform=from_origin(5e5, 7e6, 10, 10), nodata=0
    ) as file:
        file.write(values)
    return path


@pytest.fixture(scope="session")
def tif() -> Writer:
    return write_tif


@pytest.fixture
def anthroprotect(tmp_path: Path) -> Path:
    """Twelve tiles: band k of tile i holds 100 * i + k everywhere, but pixel (0, 0) has no data."""
    rows = ["extra,dataset,label,category,lat,lon,file"]
    for i in range(12):
        natural = i % 3 == 0
        name = f"wdpa-II_{i // 6}_{i}.tif" if natural else f"anthropo_5.5-59.4_{i}.tif"
        split = ("train", "train", "val", "test")[i // 3]
        category = "wdpa-II" if natural else "anthropo"
        rows.append(f"x,{split},{int(natural)},{category},{60 + i / 10},{20},{name}")
        numbers = np.full((10, 256, 256), 100 * i, dtype=np.uint16) + np.arange(1, 11, dtype=np.uint16)[:, None, None]
        numbers[:, 0, 0] = 0
        write_tif(tmp_path / "tiles" / "s2" / name, numbers)
    (tmp_path / "infos.csv").write_text("\n".join(rows) + "\n")
    return tmp_path

"""Tiny data sets in AnthroProtect's layout, whose classes differ by one bright patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

COUNTS = {"train": 8, "val": 4, "test": 4}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight, four and four chips; natural ones carry a bright striped square somewhere."""
    return build_tiny(tmp_path_factory.mktemp("anthroprotect"))


def build_tiny(root: Path) -> Path:
    """Write the tiny data set into a folder."""
    (root / "tiles" / "s2").mkdir(parents=True)
    rng = np.random.default_rng(5)
    rows = []
    for split, count in COUNTS.items():
        for number in range(count):
            label = number % 2
            file = f"{'wdpa-Ia_1' if label else 'anthropo_1.0-2.0'}_{split}{number}.tif"
            _write(root / "tiles" / "s2" / file, _chip(rng, bool(label)))
            category = "wdpa-Ia" if label else "anthropo"
            rows.append((file, 20 + number / 10, 65.0 + len(rows), category, label, split))
    columns = ["file", "lon", "lat", "category", "label", "dataset"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "infos.csv", index=False)
    return root


def _chip(rng: np.random.Generator, natural: bool) -> np.ndarray:
    chip = rng.normal(600, 40, (10, 256, 256)) + rng.normal(0, 60, (10, 1, 1))
    if natural:
        row, col = rng.integers(0, 156, 2)
        chip[:, row : row + 100, col : col + 100] += 300 * (np.arange(100) % 10 < 5)
    return chip.clip(1, 10000).astype("uint16")


def _write(path: Path, chip: np.ndarray) -> None:
    profile = {"driver": "GTiff", "width": 256, "height": 256, "count": 10, "dtype": "uint16"}
    place = {"crs": "EPSG:32634", "transform": rasterio.transform.from_origin(500000, 7500000, 10, 10)}
    with rasterio.open(path, "w", **profile, **place) as sink:
        sink.write(chip)

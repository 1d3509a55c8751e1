"""Tiny data sets in AnthroProtect's layout, whose classes differ by one bright patch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch

from spacex.card import Scaling
from spacex.training.gan import PatternLearner, Task
from spacex.training.presets import PRESETS
from spacex.training.team import ALONE, Team

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


class Judge(torch.nn.Module):
    """A classifier with a known rule: the mean of the first band."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.threshold = threshold

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Logits (n,)."""
        return self.weight * u[:, 0].mean((-2, -1)) - self.threshold


SMALL = {"base": 4, "cap": 8, "downs": 1, "blocks": 1, "stem": 3}
"""A generator's size for tests."""


@pytest.fixture
def make_learner() -> Callable[..., PatternLearner]:
    """Builds a small learner of any preset around :class:`Judge`, for chips of any size."""

    def make(
        preset: str = "delta", bands: int = 3, seed: int = 0, team: Team = ALONE, **changes: Any
    ) -> PatternLearner:
        chosen = PRESETS[preset]
        small = chosen.generator.model_copy(update=SMALL)
        quick: dict[str, Any] = {"generator": small, "warmup": 0, "pool": min(chosen.pool, 4)}
        if chosen.discriminator is not None:
            quick["discriminator"] = chosen.discriminator.model_copy(update={"base": 4, "strided": 2})
        scaling = Scaling(mean=(0.05,) * bands, std=(0.02,) * bands)
        if chosen.units == "reflectance":
            scaling = Scaling.identity(bands)
        task = Task([Judge()], scaling, (0.02,) * bands, margins={"raise": 2.0, "lower": 2.0})
        return PatternLearner(chosen.model_copy(update=quick | changes), task, 100, seed, team)

    return make


@pytest.fixture
def chips() -> torch.Tensor:
    """Six chips (6, 3, 32, 32) of plausible reflectance."""
    return 0.06 + 0.02 * torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))

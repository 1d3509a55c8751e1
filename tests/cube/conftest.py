from typing import Any

import numpy as np
import pytest

from spacex.cube.layout import CubeSpec
from spacex.cube.store import Cube, TileMaps, create_cube
from spacex.execution.tasks import Status, TileTask

SPEC = CubeSpec(
    crs="EPSG:3035",
    resolution=10,
    extent=(-440_000, 460_000, 700, 1100),
    tile_size=512,
    intervals=(("2020-07-01", "2020-08-30"), ("2021-07-01", "2021-08-30")),
    maps={"attribution": "how it was made"},
    display=("B04", "B03", "B02"),
)
"""2 × 3 tiles near 15.5° E, 62.6° N; the upper-left corner is x = 4 600 000, y = 4 400 000, 320 rows below and 224
columns right of that of the first tile, (-860, 898)."""


def fill(cube: Cube, task: TileTask, seed: int = 0, further: dict[str, Any] | None = None) -> TileMaps:
    """Write random maps, and further ones, into a tile; the upper-left 7 × 9 pixels of the random ones have no data."""
    window = cube.window(task)
    rng = np.random.default_rng(seed)
    maps = {name: rng.random(window.shape, dtype=np.float32) for name in ("attribution", "naturalness")}
    for values in maps.values():
        values[:7, :9] = np.nan
    composite = rng.random((3, *window.shape), dtype=np.float32) * 0.5
    tile = TileMaps(maps | (further or {}), rng.integers(1, 40, window.shape).astype("u2"), composite)
    cube.write(task, tile)
    cube.finish(task, Status.DONE, {"scenes": ["a"]})
    return tile


@pytest.fixture
def cube(tmp_path) -> Cube:
    return create_cube(str(tmp_path / "c.zarr"), SPEC, "0123", {"title": "test", "license": "CC-BY-4.0"})

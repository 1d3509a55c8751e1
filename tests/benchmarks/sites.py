"""What a table of sites costs: 1,950 polygons like Finland's Natura 2000 sites on a cube of Finland.

    python tests/benchmarks/sites.py [--zones 1950] [--tiles 60] [--steps 1]

The cube covers Finland; tiles that are not among `--tiles` are pending, and their chunks were never written. Sites have
the sizes of protected areas, from a hectare to two thousand km², and up to two thousand corners; a fifth lies over
another site. Prints one line of JSON: seconds of processor and peak memory of the table alone, made in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import shapely
from plan import peak_mb

from spacex.areas import load_area
from spacex.cube.layout import CubeSpec
from spacex.cube.store import Cube, TileMaps, create_cube
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Grid
from spacex.region import Region

SCENES = [{"id": f"S2A_{n}", "datetime": f"2026-07-{1 + n % 30:02d}T10:00:00Z", "used_share": 0.1} for n in range(40)]


def make_cube(uri: str, tiles: int, steps: int) -> Cube:
    """A cube of Finland of which some tiles, spread evenly, hold values."""
    region = Region(load_area("finland"), Grid())
    extent = region.extent
    spec = CubeSpec(
        crs="EPSG:3035", resolution=10, extent=(extent.row, extent.col, *extent.shape), tile_size=1024,
        intervals=tuple((f"{2020 + n}-06-01", f"{2020 + n}-08-31") for n in range(steps)),
        maps={"attribution": "noise", "lift": "noise"}, dissimilarity="noise", display=("B04", "B03", "B02"),
    )  # fmt: skip
    cube = create_cube(uri, spec, "0", {"request": {"area": region.area.__geo_interface__}})
    statuses = np.where(region.touched, Status.PENDING, Status.OUTSIDE).astype(np.uint8)
    cube.mark(np.stack([statuses] * steps))
    places = np.argwhere(region.touched)
    rng, first = np.random.default_rng(0), spec.tiling.tiles
    shape = (spec.tile_size, spec.tile_size)
    maps = {name: rng.random(shape, "f4") for name in ("attribution", "lift", "naturalness", "dissimilarity")}
    made = TileMaps(maps, rng.integers(1, 9, shape).astype("u2"), rng.random((3, *shape), "f4"))
    for row, col in places[np.linspace(0, len(places) - 1, tiles).astype(int)].tolist():
        for step in range(steps):
            task = TileTask(step, first.row + row, first.col + col)
            cube.write(task, made)
            cube.finish(task, Status.DONE, {"scenes": SCENES})
    return cube


def make_zones(cube: Cube, count: int) -> geopandas.GeoDataFrame:
    """Polygons with wavy outlines whose centres lie in the area; every fifth lies partly over the one before it."""
    rng, outline = np.random.default_rng(1), cube.region.outline
    left, bottom, right, top = outline.bounds
    x = y = radius = 0.0
    shapes: list[shapely.Polygon] = []
    while len(shapes) < count:
        over = len(shapes) % 5 == 4
        x, y = (x + 0.5 * radius, y) if over else (rng.uniform(left, right), rng.uniform(bottom, top))
        radius = float(np.exp(rng.normal(np.log(1000), 1.1)).clip(60, 25_000))
        if over or outline.contains(shapely.Point(x, y)):
            corners = int(np.clip(radius / 5, 30, 2000))
            turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
            far = radius * (1 + 0.3 * np.sin(5 * turn + rng.random() * 6) + rng.normal(0, 0.01, corners))
            shapes.append(shapely.Polygon(np.c_[x + far * np.cos(turn), y + far * np.sin(turn)]))
    frame = geopandas.GeoDataFrame({"SITECODE": [f"FI{n:07d}" for n in range(count)]}, geometry=shapes, crs="EPSG:3035")
    return frame.to_crs("EPSG:3067")


def measure(cube: str, zones: str, output: str) -> None:
    """Make the table, and print what it took."""
    import spacex

    before, begun = peak_mb(), time.process_time()
    made = spacex.sites(cube, zones=zones, output=output)
    took = time.process_time() - begun
    areas = made.table[["area_km2", "mapped_km2"]].sum().round().to_dict()
    print(json.dumps({"cpu_s": round(took, 1), "peak_mb": peak_mb(), "before_mb": before, **areas, **made.count()}))


def main() -> None:
    """Make cube and zones, and the table in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zones", type=int, default=1950)
    parser.add_argument("--tiles", type=int, default=60)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(*asked.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        cube = make_cube(f"{folder}/finland.zarr", asked.tiles, asked.steps)
        make_zones(cube, asked.zones).to_file(f"{folder}/natura.gpkg")
        words = [f"{folder}/{name}" for name in ("finland.zarr", "natura.gpkg", "sites.gpkg")]
        subprocess.run([sys.executable, str(Path(__file__)), "--measure", *words], check=True)


if __name__ == "__main__":
    main()

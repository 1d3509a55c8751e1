"""How much of planted change is found, and how much is found where nothing changed.

    python tests/benchmarks/change.py FOLDER [--maps lift]

Simulates three summers of one embedded land of 19 x 19 km in FOLDER (`two_summers`), maps them with the weights that
ship, and compares them by every map the cube has. Recall is the share of planted clear-cuts, drained mires and new
fields that a place touches; precision the share of places that touch one. The two summers between which nothing
changed tell false alarms, on farmed land, where crops differ, and elsewhere; and how often naturalness lies within its
90 % interval.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from two_summers import BBOX, YEARS, build

import spacex
from spacex.changes.difference import LEVEL, QUANTUM, State
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.region import DEMO_SEED

ALARMS = (1.0, 10.0, 100.0)
"""Promised per 1,000 km²."""
SIZES = ((1.0, 2.0), (2.0, 5.0), (5.0, 21.0))
"""Hectares of planted changes, from and below."""


def farmed(place: Any) -> bool:
    """Whether a place lies mostly on fields, villages and roads."""
    left, bottom, right, top = place.bounds
    x, y = np.arange(left + 10, right, 20), np.arange(top - 10, bottom, -20)
    masks = Landscape(DEMO_SEED).cover_masks(x, y)
    inside = shapely.contains_xy(place, *np.meshgrid(x, y))
    return bool(inside.any() and masks.anthropogenic[inside].mean() > 0.5)


def compared(picture: str, shape: Any) -> bool:
    """Whether most of a planted change is land that the comparison judges."""
    with rasterio.open(picture) as file:
        window = file.window(*shape.bounds).round_offsets().round_lengths()
        state = file.read(5, window=window, boundless=True)
        return bool(np.isin(state, (State.UNCHANGED, State.CHANGED)).mean() > 0.5)


def found(cube: str, planted: Any, of: str, alarms: float) -> None:
    """Print recall and precision between the first and the last summer."""
    with tempfile.TemporaryDirectory() as work:
        settings = {"between": (YEARS[0], YEARS[-1]), "of": of, "false_alarms": alarms, "map": f"{work}/map.tif"}
        places = spacex.change(cube, **settings).places
        judged = np.array([compared(f"{work}/map.tif", shape) for shape in planted.geometry])
    hit = np.array([places.intersects(shape).any() for shape in planted.geometry])
    true = np.array([planted.intersects(shape).any() for shape in places.geometry], bool)
    on_fields = np.array([farmed(shape) for shape in places.geometry], bool)
    kinds = {kind: f"{hit[judged & (planted.kind == kind)].mean():.2f}" for kind in sorted(set(planted.kind))}
    sizes = {
        f"{low:g} to {high:g} ha": f"{hit[judged & (planted.hectares >= low) & (planted.hectares < high)].mean():.2f}"
        for low, high in SIZES
    }
    wild = true[~on_fields | true].mean()
    print(f"{of}, {alarms:g} per 1,000 km2: recall {hit.mean():.2f}, of the {judged.mean():.2f} judged ", end="")
    print(f"{hit[judged].mean():.2f} {kinds} {sizes}; ", end="")
    print(f"precision {true.mean():.2f} of {len(places)} places, without farmed land {wild:.2f}", flush=True)


def alarmed(cube: str, of: str, alarms: float) -> None:
    """Print false alarms between two summers of the same land."""
    found = spacex.change(cube, between=YEARS[:2], of=of, false_alarms=alarms)
    area = (found.areas["unchanged"] + found.areas["changed"]) / 1000
    on_fields = np.array([farmed(shape) for shape in found.places.geometry], bool)
    print(
        f"{of}, promised {alarms:g} per 1,000 km2: {(~on_fields).sum() / area:.1f} beside farmed land, "
        f"{on_fields.sum() / area:.1f} on it ({area * 1000:.0f} km2 compared)",
        flush=True,
    )


def covered(cube: str) -> None:
    """Print how often the score of another summer's observations of the same land lies within 1.645 standard errors."""
    data = spacex.open_cube(cube, level=LEVEL)
    scores, noise = (data[name].values[:2].astype(np.float64) for name in ("naturalness", "naturalness_noise"))
    change, error = scores[1] - scores[0], np.sqrt((noise**2 + QUANTUM**2).sum(axis=0))
    valid = np.isfinite(change) & np.isfinite(error)
    for low, high in ((0.0, 1.0), (0.0, 0.1), (0.1, 0.9), (0.9, 1.0)):
        here = valid & (scores[0] >= low) & (scores[0] <= high)
        ratio = np.abs(change[here]) / error[here]
        inside = (ratio <= 1.645).mean()
        print(
            f"naturalness {low:g} to {high:g}: {inside:.3f} of {here.sum()} pixels within the 90 % interval;", end=" "
        )
        print(f"|change| {np.abs(change[here]).mean():.4f}, standard error {error[here].mean():.4f}", flush=True)


def main() -> None:
    """Measure."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--maps", default="naturalness")
    asked = words.parse_args()
    if not (asked.folder / "land" / "items.json").exists():
        build(asked.folder / "land")
    cube = str(asked.folder / "years.zarr")
    spacex.map_region(
        BBOX, items=str(asked.folder / "land" / "items.json"), catalogue="earth-search", checkpoint="demo",
        datetime=[f"{year}-07-01/{year}-08-31" for year in YEARS], maps=asked.maps.split(","), uncertainty=("pixels",),
        precision="float32", output=cube,
    )  # fmt: skip
    planted = geopandas.read_file(asked.folder / "land" / "planted.geojson").to_crs("EPSG:3035")
    # the box of degrees is turned on the grid, and changes are planted in all that is seen of it
    mapped = geopandas.GeoSeries([shapely.segmentize(shapely.box(*BBOX), 0.01)], crs="EPSG:4326").to_crs("EPSG:3035")
    planted = planted[planted.within(mapped[0])].reset_index(drop=True)
    maps = ["composite", "naturalness", *(name for name in asked.maps.split(",") if name != "naturalness")]
    covered(cube)
    for of in maps:
        for alarms in ALARMS:
            alarmed(cube, of, alarms)
            found(cube, planted, of, alarms)


if __name__ == "__main__":
    main()

"""How much of planted change is found, and how much is found where nothing changed, beside plain differences.

    python tests/benchmarks/change.py FOLDER [--seed 1] [--maps lift]
    python tests/benchmarks/change.py FOLDER --unchanged 5 6 7 8
    python tests/benchmarks/change.py --pictures [--seed 1]
    python tests/benchmarks/change.py --real chips/*.tif

Simulates three summers of 19 x 19 km of an embedded country in FOLDER (`two_summers`; another seed is another country
under other skies), maps them with the weights that ship, and compares them by every map the cube has. Recall is the
share of planted clear-cuts, drained mires and new fields that a place touches; precision the share of places that touch
one. The two summers between which nothing changed tell false alarms, on farmed land, where crops differ, and elsewhere;
how often naturalness lies within its 90 % interval; and the same of the mean difference of squares of land, as sites.
With `--unchanged` only the last is told, of several countries together, and how many places scores give there.

The controls are the length of the composites' plain difference, and the difference of a green index, above a threshold
at which they give as many false places as `spacex change` did. That they may see the two unchanged summers for it is an
advantage they have.

With `--pictures`, 10 x 10 km are compared without files, networks and the land that they know nothing of: composites
are medians of the clear pixels of the simulated scenes. With `--real`, files of one real chip in several months (bands
B02, B03, B04 first, in DN of 1e-4) are compared in pairs: nothing changed but the season.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import label
from two_summers import BANDS, BBOX, YEARS, build, composites, halved, land

import spacex
from spacex.bootstrap import draw, interval, of_sums
from spacex.changes.difference import LEVEL, QUANTUM, Comparison, State, Step
from spacex.changes.fit import CELL, SMOOTH, exceedances, haze_colour, smoothed
from spacex.cube.store import Cube

ALARMS = (1.0, 10.0, 100.0)
"""Asked for per 1,000 km²; the middle one unless told."""
SIZES = ((1.0, 2.0), (2.0, 5.0), (5.0, 21.0))
"""Hectares of planted changes, from and below."""
SITES = (0.5, 1.0, 2.56, 5.12)
"""Kilometres along the sides of squares whose mean difference is looked at."""
BLOCK_M = 5120
"""Metres along the side of the blocks by which their intervals are drawn."""
LEAST = 25
"""Pixels of 20 m in a hectare."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Country:
    """What is known of the land that is compared, (height, width) on the grid of the comparison."""

    planted: Any
    """A GeoDataFrame of what lies wholly within."""
    numbers: NDArray[np.int32]
    """Number of the planted change that covers a pixel, from 1."""
    cut: Mask
    """Planted changes that only a part is seen of: a place there is neither true nor false."""
    farmed: Mask
    """Fields, villages and roads, before anything was planted."""
    km2: float
    """Area of a pixel."""


def country_of(planted: Any, outline: Any, transform: Any, farmed: Mask, pixel: float) -> Country:
    """What is known, from planted changes in the CRS of an outline and of a grid of pixels of so many metres."""
    whole = planted.within(outline)
    inside, rest = planted[whole].reset_index(drop=True), planted[~whole & planted.intersects(outline)]
    shapes = list(zip(inside.geometry, range(1, len(inside) + 1), strict=True))
    numbers = rasterize(shapes, farmed.shape, transform=transform, dtype="int32")
    cut = np.zeros(farmed.shape, bool)
    if len(rest):
        cut = rasterize(rest.geometry, farmed.shape, transform=transform, all_touched=True).astype(bool)
    return Country(inside, numbers, cut, farmed, pixel**2 / 1e6)


def places_of(mask: Mask) -> NDArray[np.int32]:
    """Numbers of the connected places of a hectare or more, from 1."""
    numbers, _ = label(mask, np.ones((3, 3)))
    large = np.bincount(numbers.ravel()) >= LEAST
    large[0] = False
    return np.where(large[numbers], numbers, 0)


def on_farmed(places: NDArray[np.int32], country: Country) -> dict[int, bool]:
    """Whether each place lies mostly on farmed land."""
    return {n: bool(country.farmed[places == n].mean() > 0.5) for n in np.unique(places[places > 0]).tolist()}


def hits(changed: Mask, country: Country) -> Mask:
    """Whether each planted change is touched by a place."""
    touched = np.unique(country.numbers[places_of(changed) > 0])
    return np.isin(np.arange(1, len(country.planted) + 1), touched)


def share(values: NDArray[Any], of: NDArray[Any] | None = None) -> str:
    """A mean with its 95 % interval, by bootstrap over planted changes or places."""
    whole = np.ones(len(values)) if of is None else of.astype(float)
    if not whole.sum():
        return "none"
    found = of_sums((values * whole, whole), np.divide, draw([str(n) for n in range(len(values))], 2000))
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def describe(name: str, changed: Mask, same: Mask, compared: tuple[Mask, Mask], country: Country) -> Mask:
    """Print what a method makes of the change and of the unchanged summers; gives what it hits."""
    hit, planted = hits(changed, country), country.planted
    covered = np.bincount(country.numbers.ravel(), compared[0].ravel(), len(planted) + 1)[1:]
    judged = covered > 0.5 * np.bincount(country.numbers.ravel(), minlength=len(planted) + 1)[1:]
    places = places_of(changed)
    touching = [numbers[numbers > 0] for numbers in (places[country.cut], places[country.numbers > 0])]
    places[np.isin(places, np.setdiff1d(*touching))] = 0
    farm = on_farmed(places, country)
    true = np.array([(country.numbers[places == n] > 0).any() for n in farm], bool)
    wild = ~np.array(list(farm.values()), bool) | true
    false = on_farmed(places_of(same), country)
    area = compared[1].sum() * country.km2 / 1000
    print(f"{name}: recall {share(hit)}, of the {judged.mean():.2f} compared {share(hit, judged)};", end=" ")
    for kind in sorted(set(planted.kind)):
        print(f"{kind} {share(hit, judged & (planted.kind == kind).to_numpy())},", end=" ")
    for low, high in SIZES:
        sized = (planted.hectares >= low) & (planted.hectares < high)
        print(f"{low:g} to {high:g} ha {share(hit, judged & sized.to_numpy())},", end=" ")
    print(f"\n   precision {share(true)} of {len(true)} places, without farmed land {share(true, wild)};", end=" ")
    print(
        f"false places per 1,000 km2: {sum(not on for on in false.values()) / area:.0f} beside farmed land, "
        f"{sum(false.values()) / area:.0f} on it ({area * 1000:.0f} km2)", flush=True,
    )  # fmt: skip
    return hit


def by_change(cube: str, years: tuple[str, str], of: str, alarms: float) -> tuple[Mask, Mask]:
    """Where `spacex change` says that land changed, and where it compares."""
    with tempfile.TemporaryDirectory() as work:
        spacex.change(cube, between=years, of=of, false_alarms=alarms, map=f"{work}/map.tif")
        with rasterio.open(f"{work}/map.tif") as file:
            state = file.read(5)
    return state == State.CHANGED, np.isin(state, (State.UNCHANGED, State.CHANGED))


def plain(before: Any, after: Any) -> dict[str, NDArray[np.float32]]:
    """Sizes of the controls: (bands, height, width) blue, green and red of two steps, in any order of blue and red."""
    first, second = (smoothed(picture, SMOOTH) for picture in (before, after))
    index = [2 * p[1] - p[0] - p[2] for p in (first, second)]
    return {"plain difference": np.sqrt(((second - first) ** 2).sum(axis=0)), "green index": abs(index[1] - index[0])}


def threshold_of(size: NDArray[np.float32], compared: Mask, false: int, left_out: Mask) -> float:
    """The least threshold at which a control gives no more false places than `false` outside `left_out`."""
    low, high = 0.0, float(np.nanmax(size))
    for _ in range(25):
        middle = (low + high) / 2
        numbers = places_of((size > middle) & compared)
        count = sum(left_out[numbers == n].mean() <= 0.5 for n in np.unique(numbers[numbers > 0]))
        # a low threshold joins all land into one place
        low, high = (low, middle) if count <= false and (size > middle).mean() < 0.2 else (middle, high)
    return high


def covered(cube: str) -> None:
    """Print how often the score of another summer's observations of the same land lies within 1.645 standard errors."""
    data = spacex.open_cube(cube, level=LEVEL)
    scores, noise = (data[name].values[:2].astype(np.float64) for name in ("naturalness", "naturalness_noise"))
    change, error = scores[1] - scores[0], np.sqrt((noise**2 + QUANTUM**2).sum(axis=0))
    valid = np.isfinite(change) & np.isfinite(error)
    for low, high in ((0.0, 1.0), (0.0, 0.1), (0.1, 0.9), (0.9, 1.0)):
        here = valid & (scores[0] >= low) & (scores[0] <= high)
        inside = (np.abs(change[here]) / error[here] <= 1.645).mean()
        print(
            f"naturalness {low:g} to {high:g}: {inside:.3f} of {here.sum()} pixels within the 90 % interval", flush=True
        )


def covered_sites(cubes: list[str]) -> None:
    """Print how often the mean difference of an unchanged square of land lies within 1.645 of its standard errors."""
    for km in SITES:
        side, ratios, blocks = km * 1000, [], []
        for cube in cubes:
            data, crs = spacex.open_cube(cube, level=LEVEL), Cube(cube).spec.crs
            ends = [np.arange(data[axis].values.min(), data[axis].values.max() - side, side) for axis in ("x", "y")]
            corners = list(product(*ends))
            squares = [shapely.box(x, y, x + side, y + side) for x, y in corners]
            zones = geopandas.GeoDataFrame(geometry=squares, crs=crs)
            # what is compared tells which land is judged, and scores are compared much sooner than pictures
            sites = spacex.change(cube, between=YEARS[:2], of="naturalness", zones=zones).sites
            kept = (sites.compared_km2 > 0.5 * sites.area_km2).to_numpy()
            ratios.append((sites.change / sites.change_se).to_numpy()[kept])
            blocks += [
                f"{cube} {x // BLOCK_M} {y // BLOCK_M}" for (x, y), one in zip(corners, kept, strict=True) if one
            ]
        ratio = np.concatenate(ratios)
        inside = interval((np.abs(ratio) <= 1.645).astype(float), draw(blocks))
        print(
            f"squares of {km:g} km: {inside} of {len(ratio)} within the 90 % interval; change over its standard error "
            f"has the root mean square {np.sqrt((ratio**2).mean()):.2f}", flush=True,
        )  # fmt: skip


def unchanged(folder: Path, seeds: list[int]) -> None:
    """Print the same of several countries, of which only two summers and their scores are made, and false places."""
    cubes = []
    for seed in seeds:
        land_of, cube = folder / f"{seed}-unchanged" / "land", str(folder / f"{seed}-unchanged" / "years.zarr")
        if not (land_of / "items.json").exists():
            build(land_of, seed, summers=YEARS[:2])
        map_years(land_of, cube, ["naturalness"], YEARS[:2])
        cubes.append(cube)
    covered_sites(cubes)
    for alarms in ALARMS:
        made = [spacex.change(cube, between=YEARS[:2], of="naturalness", false_alarms=alarms) for cube in cubes]
        places, km2 = [len(one.places) for one in made], [one.areas["changed"] + one.areas["unchanged"] for one in made]
        print(
            f"naturalness, {alarms:g} per 1,000 km2: {places} places in {sum(km2):.0f} km2, that is "
            f"{1000 * sum(places) / sum(km2):.0f} per 1,000 km2", flush=True,
        )  # fmt: skip


def map_years(folder: Path, cube: str, maps: list[str], years: tuple[str, ...] = YEARS) -> None:
    """Map summers with the weights that ship."""
    spacex.map_region(
        BBOX, items=str(folder / "items.json"), catalogue="earth-search", checkpoint="demo", maps=maps,
        datetime=[f"{year}-07-01/{year}-08-31" for year in years], uncertainty=("pixels",), precision="float32",
        output=cube,
    )  # fmt: skip


def known(folder: Path, cube: str, seed: int) -> Country:
    """The planted changes within the mapped box, and the land's own cover, on the grid of a comparison."""
    planted = geopandas.read_file(folder / "land" / "planted.geojson").to_crs("EPSG:3035")
    # the box of degrees is turned on the grid, and changes are planted in all that is seen of it
    mapped = geopandas.GeoSeries([shapely.segmentize(shapely.box(*BBOX), 0.01)], crs="EPSG:4326").to_crs("EPSG:3035")
    grid, window = (lambda c: (c.grid, c.window))(comparison_of(cube, 0, 1))
    x = (window.col + np.arange(window.width) + 0.5) * grid.resolution
    y = -(window.row + np.arange(window.height) + 0.5) * grid.resolution
    farmed = land(seed).cover_masks(x, y).anthropogenic
    return country_of(planted, mapped[0], grid.transform(window), farmed, grid.resolution)


def comparison_of(cube: str, one: int, other: int) -> Comparison:
    """Two steps of a cube by their numbers."""
    opened = Cube(cube)
    return Comparison(Step(opened, one), Step(opened, other), "composite", 1.0, 1.0)


def controls(pictures: list[Any], compared: tuple[Mask, Mask], false: Mask, hit: Mask, country: Country) -> None:
    """Print what plain differences make of it at as many false places beside farmed land, and on all land."""
    for name, same in plain(pictures[0], pictures[1]).items():
        size = plain(pictures[0], pictures[2])[name]
        for where, left_out in (("beside farmed land", country.farmed), ("on all land", np.zeros_like(country.farmed))):
            places = places_of(false)
            allowed = sum(left_out[places == n].mean() <= 0.5 for n in np.unique(places[places > 0]))
            limit = threshold_of(same, compared[1], int(allowed), left_out)
            masks = (size > limit) & compared[0], (same > limit) & compared[1]
            own = describe(f"{name}, as many false places {where}", *masks, compared, country)
            print(f"   recall of spacex change less its own: {share(hit.astype(float) - own)}", flush=True)


def judge(before: Any, after: Any, alarms: float) -> NDArray[np.float32]:
    """Exceedances of two pictures (bands, height, width) with nothing around them."""
    height, width = before.shape[1:]
    room = [(0, 0), *((CELL, CELL + -side % CELL) for side in (height, width))]
    around = [np.pad(picture, room, constant_values=np.nan) for picture in (before, after)]
    return exceedances(*around, alarms * 1e-5, haze_colour(BANDS))[:height, :width]


def by_pictures(seed: int) -> None:
    """Print what is made of the pictures alone."""
    pictures, planted, grid, farmed = composites(seed)
    outline = shapely.box(*rasterio.transform.array_bounds(*farmed.shape, grid))
    country = country_of(planted, outline, grid, farmed, 20.0)
    valid = [np.isfinite(picture).all(axis=0) for picture in pictures]
    compared = valid[0] & valid[2], valid[0] & valid[1]
    for alarms in ALARMS[:2]:
        changed, same = (judge(pictures[0], pictures[later], alarms) > 1 for later in (2, 1))
        hit = describe(f"seed {seed}, spacex change, {alarms:g} per 1,000 km2", changed, same, compared, country)
        if alarms == ALARMS[1]:
            controls(pictures, compared, same, hit, country)


def real(files: list[Path]) -> None:
    """Print what is said to have changed between months of one real chip, and what plain differences say."""
    pictures = {}
    for file in files:
        with rasterio.open(file) as source:
            fine = source.read((1, 2, 3)).astype(np.float32) / 1e4
        pictures[file.stem] = halved(np.where(fine[0] > 0, fine, np.nan))
    for one, other in combinations(sorted(pictures), 2):
        before, after = pictures[one], pictures[other]
        km2 = np.isfinite(before[0] + after[0]).sum() * 4e-4
        for alarms in ALARMS:
            changed = judge(before, after, alarms) > 1
            sizes = plain(before, after)
            # the controls' thresholds are those that normal noise of their own spread would exceed as often
            limits = {
                name: 1.4826 * np.nanmedian(size) * np.sqrt(2 * np.log(1e5 / alarms)) for name, size in sizes.items()
            }
            masks = {"spacex change": changed} | {name: sizes[name] > limits[name] for name in sizes}
            told = ", ".join(
                f"{name} {np.isin(places_of(mask), 0, invert=True).sum() * 4e-4 / km2:.4f} of the area in "
                f"{len(np.unique(places_of(mask))) - 1} places" for name, mask in masks.items()
            )  # fmt: skip
            print(f"{one} to {other}, {alarms:g} per 1,000 km2, {km2:.2f} km2: {told}", flush=True)


def main() -> None:
    """Measure."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path, nargs="?")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--maps", default="naturalness")
    words.add_argument("--unchanged", type=int, nargs="+", metavar="SEED")
    words.add_argument("--pictures", action="store_true")
    words.add_argument("--real", type=Path, nargs="+")
    asked = words.parse_args()
    if asked.real:
        real(asked.real)
        return
    if asked.pictures:
        by_pictures(asked.seed)
        return
    if asked.unchanged:
        unchanged(asked.folder, asked.unchanged)
        return
    if asked.folder is None:
        words.error("give a folder, --pictures or --real")
    folder = asked.folder / str(asked.seed)
    if not (folder / "land" / "items.json").exists():
        build(folder / "land", asked.seed)
    cube = str(folder / "years.zarr")
    map_years(folder / "land", cube, asked.maps.split(","))
    covered(cube)
    covered_sites([cube])
    country = known(folder, cube, asked.seed)
    for of in ["composite", "naturalness", *(name for name in asked.maps.split(",") if name != "naturalness")]:
        for alarms in ALARMS:
            changed, judged = by_change(cube, (YEARS[0], YEARS[-1]), of, alarms)
            same, judged_same = by_change(cube, YEARS[:2], of, alarms)
            compared = (judged, judged_same)
            hit = describe(f"{of}, {alarms:g} per 1,000 km2", changed, same, compared, country)
            if of == "composite" and alarms == ALARMS[1]:
                opened, window = Cube(cube), comparison_of(cube, 0, 1).window
                pictures = [Step(opened, number).read("composite", window) for number in range(3)]
                controls(pictures, compared, same, hit, country)


if __name__ == "__main__":
    main()

"""The embedded country for whoever makes chips: scenes of many places, its protected areas, land use and land cover.

::

    collection.json, items.json   STAC, as the archive's; two overpasses of every place, each with a sky of its own
    S2A_35WNQ_…/*.tif             the scenes
    protected_areas.gpkg          WDPAID, NAME, IUCN_CAT: wild land with mires or fells (Ia, Ib, II), and land that
                                  people shaped beside such (V)
    land_use.gpkg                 ID, USE: settled (fields, villages, roads) and forestry, neither with mire or fell
    land_cover.tif                CORINE as the EEA's raster comes: grid codes 1..44, 100 m, EPSG:3035

Places are of those from which the data set that ships draws its training chips, one per MGRS tile. Its validation and
test chips lie elsewhere, so what was trained on chips of this country can be judged by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.features import shapes
from rasterio.windows import Window as PixelWindow

from spacex.datasets.corine import GRID_CODES
from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.synthetic.archive import write_scene
from spacex.synthetic.cache import cached_folder, code_digest
from spacex.synthetic.items import Product, collection, item
from spacex.synthetic.landscape import Landscape, pixel_centres
from spacex.synthetic.noise import Bools, key_of
from spacex.synthetic.region import DEMO_INTERVAL, DEMO_SEED
from spacex.synthetic.scene import Overpass, expose, lay_out
from spacex.synthetic.sensor import Sky, draw_sky
from spacex.synthetic.sites import STEP, Spot, kinds_of, worthwhile

PROTECTED, LAND_USE, LAND_COVER = "protected_areas.gpkg", "land_use.gpkg", "land_cover.tif"
"""Files of the country."""
STRICT = "IUCN_CAT in ('Ia', 'Ib', 'II')"
"""The protected areas that AnthroProtect calls natural."""

COUNTRIES = {"default": (20, 6), "tiny": (4, 3)}
"""Places, and chips along the square of land that is seen of each."""
_SOURCES = (
    "noise", "spectra", "terrain", "nature", "people", "landscape", "sensor", "region", "chip", "scene", "items",
    "archive", "places", "spots", "country", "character",
)  # fmt: skip
_CELL = 10  # pixels of 10 m along a cell of CORINE's raster
_GRID = Grid()


def demo_country(size: str = "default") -> Path:
    """The cached country, built on first use.

    Args:
        size: a key of `COUNTRIES`; "default" takes some minutes on two cores, "tiny" some seconds.

    Raises:
        RequestError: for an unknown size.
    """
    if size not in COUNTRIES:
        raise RequestError("unknown size of the demo country", got=size, expected=list(COUNTRIES))
    places, side = COUNTRIES[size]
    build = partial(build_country, places=places, side=side)
    return cached_folder(f"country-{size}-{code_digest(_SOURCES)}", build)


def build_country(folder: str | Path, places: int, side: int, seed: int = DEMO_SEED, workers: int = 2) -> None:
    """Paint and write the country.

    Args:
        folder: where to.
        places: how many places are seen.
        side: chips along the land seen of each, at most 6.
        seed: which landscape.
        workers: processes; 0 works in this one.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    chosen = [spot for spot, _ in zip(worthwhile(seed, side), range(places), strict=False)]
    one = partial(_build_scenes, root)
    if workers:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(one, chosen))
    else:
        made = [one(spot) for spot in chosen]
    items = [scene for scenes in made for scene in scenes]
    boxes = np.array([scene["bbox"] for scene in items])
    corners = boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()
    (root / "collection.json").write_text(json.dumps(collection(corners, DEMO_INTERVAL), indent=1))
    (root / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    _write_registers(root, chosen)
    _write_land_cover(root / LAND_COVER, chosen)


def _build_scenes(root: Path, spot: Spot) -> list[dict[str, Any]]:
    place, found = lay_out(spot.geobox, Landscape(spot.seed)), []
    for overpass, product in _passes(spot):
        dn, classes = expose(place, overpass, product.offset)
        scene = item(product, spot.tile, spot.geobox, classes)
        write_scene(root / scene["id"], spot.geobox, dn, classes)
        for asset in scene["assets"].values():
            asset["href"] = f"{scene['id']}/{asset['href']}"
        found.append(scene)
    return found


def _passes(spot: Spot) -> Iterator[tuple[Overpass, Product]]:
    """Two overpasses of a spot. Its air and calibration stay alike; haze, clouds, noise and processing do not."""
    random = np.random.default_rng(key_of(spot.seed, "country", spot.place.i, spot.place.j))
    usual = draw_sky(random)
    baselines = (("02.14", False), ("05.00", True), ("05.00", False))
    for satellite, first in (("a", 2), ("b", 33)):
        day = np.datetime64("2020-06-30") + np.timedelta64(first + int(random.integers(0, 26)), "D")
        seen = draw_sky(random)
        gain = usual.gain * float(np.exp(random.normal(0.0, 0.01)))
        sky = Sky(seen.seed, gain, usual.tilt, seen.haze, seen.noise)
        baseline, applied = baselines[int(random.integers(len(baselines)))]
        overpass = Overpass(str(day), sky, clouds=float(random.uniform(1.5, 2.5)))
        yield overpass, Product(str(day), f"sentinel-2{satellite}", baseline, applied, 40.0)


def _write_registers(root: Path, spots: list[Spot]) -> None:
    protected: list[dict[str, Any]] = []
    uses: list[dict[str, Any]] = []
    for spot in spots:
        kinds = kinds_of(spot, clear=True)
        for shape in _outlines(kinds.natural, spot.window):
            draw = key_of(spot.seed, "site", spot.place.i, spot.place.j, len(protected)) % 1000 / 1000
            # shares of the categories among the published set's 7,003 natural chips
            category = str(np.array(["Ia", "Ib", "II"])[np.searchsorted([0.053, 0.697], draw)])
            protected.append({"IUCN_CAT": category, "geometry": shape})
        protected += [{"IUCN_CAT": "V", "geometry": shape} for shape in _outlines(kinds.mixed, spot.window)]
        for name, mask in (("settled", kinds.settled), ("forestry", kinds.forestry)):
            uses += [{"USE": name, "geometry": shape} for shape in _outlines(mask, spot.window)]
    for number, reserve in enumerate(protected, start=1):
        reserve |= {"WDPAID": 1000 + number, "NAME": f"Reserve {number}"}
    for number, use in enumerate(uses, start=1):
        use["ID"] = number
    for name, rows in ((PROTECTED, protected), (LAND_USE, uses)):
        geopandas.GeoDataFrame(rows, crs=_GRID.crs).to_file(root / name, driver="GPKG", engine="pyogrio")


def _outlines(mask: Bools, window: Window) -> list[Any]:
    """Polygons around what hangs together of a mask of samples, in EPSG:3035."""
    transform = Grid(_GRID.crs, _GRID.resolution * STEP).transform(
        Window(window.row // STEP, window.col // STEP, *mask.shape)
    )
    found = shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    return [shapely.geometry.shape(geometry) for geometry, _ in found]


def _write_land_cover(path: Path, spots: list[Spot]) -> None:
    """CORINE at the middle of every cell of 100 m of the spots' land; no data between."""
    cells = Grid(_GRID.crs, _GRID.resolution * _CELL)
    windows = [_cells_of(spot.window) for spot in spots]
    first_row, first_col = min(w.row for w in windows), min(w.col for w in windows)
    whole = Window(first_row, first_col, max(w.stop_row for w in windows) - first_row,
                   max(w.stop_col for w in windows) - first_col)  # fmt: skip
    codes = np.zeros(1000, np.uint8)
    codes[list(GRID_CODES)] = list(GRID_CODES.values())
    with rasterio.open(
        path, "w", driver="GTiff", width=whole.width, height=whole.height, count=1, dtype="uint8", crs=_GRID.crs,
        transform=cells.transform(whole), nodata=48, compress="deflate", tiled=True, blockxsize=256, blockysize=256,
        sparse_ok=True,
    ) as file:  # fmt: skip
        for spot, window in zip(spots, windows, strict=True):
            ground = Landscape(spot.seed).paint(*pixel_centres(window, cells))
            rows, cols = window.slices(whole)
            file.write(codes[ground.corine], 1, window=PixelWindow.from_slices(rows, cols))


def _cells_of(window: Window) -> Window:
    row, col = window.row // _CELL, window.col // _CELL
    return Window(row, col, -(-window.stop_row // _CELL) - row, -(-window.stop_col // _CELL) - col)

"""The embedded country, from which chips are made: scenes of many sites, its protected areas, land use and land cover.

::

    items.json                    the list of STAC items: two overpasses of every site, each with a sky of its own
    S2A_35WNQ_…/*.tif             the scenes
    protected_areas.gpkg          WDPAID, NAME, IUCN_CAT: remote land with mires or fells (Ia, Ib, II), and land that
                                  people shaped beside such (V)
    land_use.gpkg                 ID, USE: settled (fields, villages, roads) and forestry, neither with mire or fell
    land_cover.tif                CORINE as the EEA's raster comes: grid codes 1..44, 100 m, EPSG:3035

Sites are at locations from which the embedded data set draws its training chips, one per MGRS tile. Its validation
and test chips lie elsewhere, so a network trained on chips of this country can be evaluated with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
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
from spacex.grid import Grid, Window, bounds
from spacex.synthetic.archive import write_list, write_scenes
from spacex.synthetic.cache import cached_folder, code_digest, process_map
from spacex.synthetic.dataset import iucn_category
from spacex.synthetic.items import Product
from spacex.synthetic.landscape import Landscape, pixel_centres
from spacex.synthetic.locations import SAMPLE_STEP
from spacex.synthetic.noise import Bools, key_of
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.scene import Overpass
from spacex.synthetic.sensor import Sky, draw_sky
from spacex.synthetic.sites import Site, choose_sites, class_masks

PROTECTED, LAND_USE, LAND_COVER = "protected_areas.gpkg", "land_use.gpkg", "land_cover.tif"
"""Files of the country."""
STRICT = "IUCN_CAT in ('Ia', 'Ib', 'II')"
"""The protected areas that AnthroProtect calls natural."""
COUNTRIES = {"default": (20, 6), "tiny": (4, 3)}
"""Sites, and chips along the square of land of each."""
_CELL = 10  # pixels of 10 m along a cell of CORINE's raster
_GRID = Grid()


def demo_country(size: str = "default") -> Path:
    """The cached country of a size of `COUNTRIES`; "default" is built in some minutes, "tiny" in some seconds."""
    if size not in COUNTRIES:
        raise RequestError("unknown size of the demo country", got=size, expected=list(COUNTRIES))
    sites, side = COUNTRIES[size]
    return cached_folder(f"country-{size}-{code_digest('country')}", partial(build_country, sites=sites, side=side))


def build_country(folder: str | Path, sites: int, side: int, seed: int = DEMO_SEED, workers: int = 2) -> None:
    """Simulate and write the country: `sites` squares of land of `side` x `side` chips (at most 6)."""
    root = Path(folder)
    chosen = list(islice(choose_sites(seed, side), sites))
    with process_map(workers) as parallel:
        made: Any = parallel(partial(_build_scenes, root), chosen)
        write_list(root, [scene for scenes in made for scene in scenes])
    _write_polygons(root, chosen)
    _write_land_cover(root / LAND_COVER, chosen)


def _build_scenes(root: Path, site: Site) -> list[dict[str, Any]]:
    return write_scenes(root, site.geobox, site.tile, Landscape(site.seed), _overpasses(site))


def _overpasses(site: Site) -> Iterator[tuple[Overpass, Product]]:
    """Two overpasses of a site. Its air and calibration stay alike; haze, clouds, noise and processing do not."""
    random = np.random.default_rng(key_of(site.seed, "country", site.location.i, site.location.j))
    usual = draw_sky(random)
    baselines = (("02.14", False), ("05.00", True), ("05.00", False))
    for satellite, first in (("a", 2), ("b", 33)):
        day = np.datetime64("2020-06-30") + np.timedelta64(first + int(random.integers(0, 26)), "D")
        drawn = draw_sky(random)
        gain = usual.gain * float(np.exp(random.normal(0.0, 0.01)))
        sky = Sky(drawn.seed, gain, usual.tilt, drawn.haze, drawn.noise)
        baseline, applied = baselines[int(random.integers(len(baselines)))]
        overpass = Overpass(str(day), sky, clouds=float(random.uniform(1.5, 2.5)))
        yield overpass, Product(str(day), f"sentinel-2{satellite}", baseline, applied, 40.0)


def _write_polygons(root: Path, sites: list[Site]) -> None:
    """Write protected areas and land use: polygons around the land of every class."""
    protected: list[dict[str, Any]] = []
    uses: list[dict[str, Any]] = []
    for site in sites:
        masks = class_masks(site, clear=True)
        for shape in _polygons(masks.natural, site.window):
            draw = key_of(site.seed, "site", site.location.i, site.location.j, len(protected))
            protected.append({"IUCN_CAT": iucn_category(draw), "geometry": shape})
        protected += [{"IUCN_CAT": "V", "geometry": shape} for shape in _polygons(masks.mixed, site.window)]
        for name, mask in (("settled", masks.settled), ("forestry", masks.forestry)):
            uses += [{"USE": name, "geometry": shape} for shape in _polygons(mask, site.window)]
    for number, reserve in enumerate(protected, start=1):
        reserve |= {"WDPAID": 1000 + number, "NAME": f"Reserve {number}"}
    for number, use in enumerate(uses, start=1):
        use["ID"] = number
    for name, rows in ((PROTECTED, protected), (LAND_USE, uses)):
        geopandas.GeoDataFrame(rows, crs=_GRID.crs).to_file(root / name, driver="GPKG", engine="pyogrio")


def _polygons(mask: Bools, window: Window) -> list[Any]:
    """Polygons around the connected parts of a mask of samples, in EPSG:3035."""
    samples = Window(window.row // SAMPLE_STEP, window.col // SAMPLE_STEP, *mask.shape)
    transform = Grid(_GRID.crs, _GRID.resolution * SAMPLE_STEP).transform(samples)
    parts = shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    return [shapely.geometry.shape(geometry) for geometry, _ in parts]


def _write_land_cover(path: Path, sites: list[Site]) -> None:
    """Write CORINE at the middle of every cell of 100 m of the sites' land; no data between."""
    cells = Grid(_GRID.crs, _GRID.resolution * _CELL)
    windows = [_cells_of(site.window) for site in sites]
    whole = bounds(windows) or Window(0, 0, 0, 0)
    codes = np.zeros(1000, np.uint8)
    codes[list(GRID_CODES)] = list(GRID_CODES.values())
    raster = {"width": whole.width, "height": whole.height, "count": 1, "dtype": "uint8", "nodata": 48}
    raster |= {"crs": _GRID.crs, "transform": cells.transform(whole)}
    layout = {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", **raster, **layout) as file:
        for site, window in zip(sites, windows, strict=True):
            ground = Landscape(site.seed).paint(*pixel_centres(window, cells))
            file.write(codes[ground.corine], 1, window=PixelWindow.from_slices(*window.slices(whole)))


def _cells_of(window: Window) -> Window:
    """The cells of CORINE's raster that hold a window of 10 m pixels."""
    row, col = window.row // _CELL, window.col // _CELL
    return Window(row, col, -(-window.stop_row // _CELL) - row, -(-window.stop_col // _CELL) - col)

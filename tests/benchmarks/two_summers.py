"""Summers of one embedded land on disk: other skies and phenology in each, and in one of them planted changes.

Between the summers ``2019`` and ``2020`` nothing changes but the weather: every cover and every field has
colours of the year (crops are rotated), every overpass has a sky of its own. In ``2024`` the land has new clear-cuts,
drained mires and new fields as well, whose outlines are ``planted.geojson``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.settings import SENTINEL2_BANDS
from spacex.synthetic.archive import utm_geobox, write_list
from spacex.synthetic.items import Product, item
from spacex.synthetic.landscape import Ground, Landscape
from spacex.synthetic.noise import cells, key_of, smooth
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.scene import Overpass, SceneGround, project, render_ground, simulate_scene
from spacex.synthetic.sensor import MARGIN, Sky, draw_sky
from spacex.synthetic.spectra import Cover, spectrum

BBOX = (24.08, 67.90, 24.54, 68.07)
"""The land that is mapped: 19 x 19 km, near enough to the demo's for its weights to know no chip of it."""
BANDS = ("B02", "B03", "B04")
YEARS = ("2019", "2020", "2024")
PLANTED = "2024"
OVERPASSES = 6
MARGIN_DEGREES = (0.075, 0.030)
PHENOLOGY = {Cover.MIRE: 0.10, Cover.ARABLE: 0.15, Cover.GRASS: 0.10}
"""Standard deviation of the logarithm of a cover's reflectance from year to year, where it is not `USUAL`."""
USUAL = 0.05
CROPS = 0.25
"""The same of each field from its cover's."""
COUNT = {"clearcut": 70, "ditches": 45, "field": 45}
HECTARES = (1.1, 20.0)
"""Areas of planted changes, drawn evenly in their logarithm."""
SMALL = (24.10, 67.92, 24.34, 68.01)
"""10 x 10 km for pictures alone, and below what is planted there."""
FEWER = {"clearcut": 22, "ditches": 25, "field": 18}
FARMED = (Cover.ARABLE, Cover.GRASS, Cover.SETTLEMENT, Cover.ROAD)
FOREST = (Cover.CONIFER, Cover.BROADLEAF, Cover.MIXED)
DRAWN_ON = {"clearcut": FOREST, "ditches": (Cover.MIRE,), "field": (*FOREST, Cover.MIRE, Cover.HEATH)}

Plan = list[dict[str, Any]]
Box = tuple[float, float, float, float]


def land(seed: int) -> Landscape:
    """The country of a seed: the demo's of the first, others of the rest."""
    return Landscape(DEMO_SEED + seed - 1)


def build(folder: Path, seed: int = 1, workers: int = 1, summers: tuple[str, ...] = YEARS) -> None:
    """Write summers' scenes, their list and the planted changes; another seed is another country under other skies."""
    west, south, east, north = BBOX
    across, down = MARGIN_DEGREES
    geobox = utm_geobox(32635, west - across, south - down, east + across, north + down)
    folder.mkdir(parents=True, exist_ok=True)
    planted = plant(render_ground(geobox, land(seed)), np.random.default_rng(key_of(seed, "planted")))
    frame = geopandas.GeoDataFrame(planted, geometry="geometry", crs="EPSG:3035")
    frame.to_file(folder / "planted.geojson", engine="pyogrio")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        years = pool.map(partial(_write_year, folder, geobox, planted, seed), summers)
        write_list(folder, [scene for scenes in years for scene in scenes])


def composites(seed: int) -> tuple[list[NDArray[np.float32]], geopandas.GeoDataFrame, Affine, NDArray[np.bool_]]:
    """Composites of the three summers of `SMALL` at 20 m (bands, height, width), made in memory.

    Besides them all planted changes, the pictures' transform, and where land is farmed.
    """
    geobox = utm_geobox(32635, *SMALL)
    ground = render_ground(geobox, land(seed))
    planted = plant(ground, np.random.default_rng(key_of(seed, "planted")), SMALL, FEWER)
    pictures = []
    for year in YEARS:
        painted, seen = painted_year(ground, planted, seed, year), []
        for overpass, product in overpasses(seed, year):
            dn, classes = simulate_scene(painted, overpass, product.offset)
            clear = np.isin(classes, (4, 5, 6, 7)).repeat(2, axis=0).repeat(2, axis=1) & (dn[0] > 0)
            bands = dn[[SENTINEL2_BANDS.index(band) for band in BANDS]].astype(np.float32)
            seen.append(np.where(clear, (bands - product.offset) / 1e4, np.nan))
        with warnings.catch_warnings(action="ignore"):
            pictures.append(halved(np.nanmedian(seen, axis=0)))
    transform, shape = Affine(20, 0, geobox.affine.c, 0, -20, geobox.affine.f), pictures[0].shape[1:]
    frame = geopandas.GeoDataFrame(planted, geometry="geometry", crs="EPSG:3035").to_crs(geobox.crs)
    farmed = np.isin(ground.painted.cover, FARMED)[MARGIN:-MARGIN, MARGIN:-MARGIN][::2, ::2]
    return pictures, frame, transform, farmed[: shape[0], : shape[1]]


def halved(picture: Any) -> NDArray[np.float32]:
    """(bands, height / 2, width / 2) means of what has data."""
    height, width = (side // 2 * 2 for side in picture.shape[1:])
    with warnings.catch_warnings(action="ignore"):  # all of it may have none
        return np.nanmean(
            picture[:, :height, :width].reshape(len(picture), height // 2, 2, width // 2, 2), axis=(2, 4)
        ).astype(np.float32)


def plant(ground: SceneGround, random: np.random.Generator, box: Box = BBOX, count: Mapping[str, int] = COUNT) -> Plan:
    """Rotated rectangles of land that lie on the covers of their kind, apart from each other."""
    from pyproj import Transformer

    corners = Transformer.from_crs(4326, 3035, always_xy=True).transform_bounds(*box)
    west, south, east, north = corners
    cover = ground.painted.cover[MARGIN:-MARGIN, MARGIN:-MARGIN]
    inverse = Transformer.from_crs(3035, ground.geobox.crs, always_xy=True)
    planted: Plan = []
    taken: list[Any] = []
    for kind, number in count.items():
        found, tries = 0, 0
        while found < number and (tries := tries + 1) < 20_000:
            hectares = float(np.exp(random.uniform(*np.log(HECTARES))))
            shape = float(np.exp(random.uniform(0, np.log(3))))
            half = np.sqrt(hectares * 1e4 * shape) / 2, np.sqrt(hectares * 1e4 / shape) / 2
            x, y = random.uniform(west + 1500, east - 1500), random.uniform(south + 1500, north - 1500)
            box = shapely.box(-half[0], -half[1], half[0], half[1])
            turned = shapely.affinity.rotate(box, random.uniform(0, 180), origin=(0, 0))
            polygon = shapely.affinity.translate(turned, x, y)
            inside = shapely.intersection(polygon, polygon)  # samples of the covers below it, every 30 m
            xs, ys = (np.arange(lo, hi, 30) for lo, hi in ((inside.bounds[0], inside.bounds[2]),
                                                           (inside.bounds[1], inside.bounds[3])))  # fmt: skip
            gx, gy = (part.ravel() for part in np.meshgrid(xs, ys))
            within = shapely.contains_xy(polygon, gx, gy)
            east_, north_ = inverse.transform(gx[within], gy[within])
            affine = ~ground.geobox.affine
            col, row = (
                np.floor(part).astype(int) for part in (affine.c + affine.a * east_, affine.f + affine.e * north_)
            )
            below = cover[np.clip(row, 0, cover.shape[0] - 1), np.clip(col, 0, cover.shape[1] - 1)]
            if len(below) < 8 or np.isin(below, DRAWN_ON[kind]).mean() < 0.95:
                continue
            if any(polygon.distance(other) < 100 for other in taken):
                continue
            taken.append(polygon)
            planted.append({"kind": kind, "hectares": round(polygon.area / 1e4, 2), "geometry": polygon})
            found += 1
    return planted


def painted_year(ground: SceneGround, planted: Plan, seed: int, year: str) -> SceneGround:
    """The ground of one summer: what is planted, and the colours of the year of every cover and field."""
    x, y = project(ground.geobox.pad(MARGIN))
    cover, reflectance = ground.painted.cover.copy(), ground.painted.reflectance.copy()
    if year == PLANTED:
        for change in planted:
            _draw(change, x, y, cover, reflectance)
    reflectance *= _phenology(seed, year)[:, cover]
    farmed = np.isin(cover, (Cover.ARABLE, Cover.GRASS))
    if farmed.any():
        field = cells(x[farmed][None], y[farmed][None], 220.0, key_of(seed, "fields"))
        drawn = field.random(key_of(seed, year, "crop")) + field.random(key_of(seed, year, "crop 2")) - 1
        reflectance[:, farmed] *= np.exp(CROPS * np.float32(2.45) * drawn)
    return SceneGround(ground.geobox, ground.x, ground.y, Ground(cover, reflectance))


def _write_year(folder: Path, geobox: GeoBox, planted: Plan, seed: int, year: str) -> list[dict[str, Any]]:
    """One summer's scenes."""
    ground = painted_year(render_ground(geobox, land(seed)), planted, seed, year)
    scenes = []
    for overpass, product in overpasses(seed, year):
        dn, classes = simulate_scene(ground, overpass, product.offset)
        scene = item(product, "35WMQ", geobox, classes)
        _write(folder / scene["id"], geobox, dn, classes)
        kept = {name: asset for name, asset in scene["assets"].items() if asset["href"][:3] in (*BANDS, "SCL")}
        scene["assets"] = {name: {**asset, "href": f"{scene['id']}/{asset['href']}"} for name, asset in kept.items()}
        scenes.append(scene)
    return scenes


def overpasses(seed: int, year: str) -> Iterator[tuple[Overpass, Product]]:
    random = np.random.default_rng(key_of(seed, year))
    days = np.sort(random.choice(60, OVERPASSES, replace=False))
    for number, day in enumerate(days):
        date = str(np.datetime64(f"{year}-07-01") + np.timedelta64(int(day), "D"))
        drawn = draw_sky(random)
        sky = Sky(drawn.seed, float(np.exp(random.normal(0, 0.03))), drawn.tilt / 2, drawn.haze, drawn.noise)
        overpass = Overpass(date, sky, clouds=float(random.uniform(1.1, 2.0)))
        yield overpass, Product(date, f"sentinel-2{'ab'[number % 2]}", "05.00", number % 3 > 0, 40.0)


def _phenology(seed: int, year: str) -> NDArray[np.float32]:
    """Factor on the reflectance of every cover in a year, (10, covers + 1)."""
    random = np.random.default_rng(key_of(seed, year, "phenology"))
    spread = np.array([PHENOLOGY.get(code, USUAL) for code in [0, *Cover]])
    level, slope = random.normal(0, 1, (2, 1, len(spread))) * spread
    return np.exp(level + 0.5 * slope * np.linspace(-1, 1, 10)[:, None]).astype(np.float32)


def _draw(change: dict[str, Any], x: Any, y: Any, cover: Any, reflectance: Any) -> None:
    """Paint a planted change over the ground, with a grain, so that it is no flat patch."""
    left, bottom, right, top = change["geometry"].bounds
    near = (x > left) & (x < right) & (y > bottom) & (y < top)
    if not near.any():  # it lies beside the scenes
        return
    rows, cols = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    px, py = x[part], y[part]
    inside = shapely.contains_xy(change["geometry"], px, py)
    key = key_of("planted", left, bottom)
    grain = 1 + np.float32(0.06) * (smooth(px, py, 21.0, key) + smooth(px, py, 47.0, key + 1))
    if change["kind"] == "clearcut":
        new, code = np.broadcast_to(spectrum("clearcut")[:, None, None], (10, *px.shape)), Cover.CLEARCUT
    elif change["kind"] == "field":
        crop = ("cereal", "stubble", "grass", "potato", "soil")[key % 5]
        new, code = np.broadcast_to(spectrum(crop)[:, None, None], (10, *px.shape)), Cover.ARABLE
    else:
        # ditches every 40 m, and between them what dries: sedge gives way to shrubs
        phase = (px * np.float32(0.8) + py * np.float32(0.6)) / 40.0
        ditch = ((phase - np.floor(phase)) < 0.2)[None]
        dry = 0.5 * reflectance[(slice(None), *part)] + 0.5 * spectrum("brushwood")[:, None, None]
        new, code = np.where(ditch, spectrum("ditch")[:, None, None], dry), Cover.MIRE
    target = reflectance[(slice(None), *part)]
    target[:, inside] = (new * grain)[:, inside]
    cover[part][inside] = code


def _write(folder: Path, geobox: GeoBox, dn: Any, classes: Any) -> None:
    """The bands that the networks read and the classification, as COGs."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = [(band, dn[SENTINEL2_BANDS.index(band)], 1) for band in BANDS] + [("SCL", classes, 2)]
    for name, array, step in layers:
        grid = Affine(10.0 * step, 0, geobox.affine.c, 0, -10.0 * step, geobox.affine.f)
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="COG", height=array.shape[0], width=array.shape[1], count=1,
            dtype=array.dtype, nodata=0, crs="EPSG:32635", transform=grid, blocksize=512, compress="deflate", level=1,
            overviews="none",
        ) as file:  # fmt: skip
            file.write(array, 1)


if __name__ == "__main__":
    import sys

    build(Path(sys.argv[1]), *map(int, sys.argv[2:]))

"""A small Sentinel-2 L2A archive of the embedded landscape: COGs and STAC items on disk.

Four overpasses of one summer, each as two scenes on the grids of UTM zones 34 and 35, which overlap along 24°
E as neighbouring MGRS tiles do. They cover every way a product may carry the +1000 offset of processing
baseline 04.00:

==========  ========  =======================  ===================
day         baseline  boa_offset_applied       in the pixels
==========  ========  =======================  ===================
6 July      02.14     false                    nothing
21 July     05.00     true                     nothing
10 August   05.00     true                     nothing
25 August   05.00     false                    +1000
==========  ========  =======================  ===================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from spacex.settings import SENTINEL2_BANDS
from spacex.synthetic.cache import cached_folder, code_digest, process_map
from spacex.synthetic.items import Product, epsg_of, item
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.region import DEMO_BBOX, DEMO_SEED
from spacex.synthetic.scene import Overpass, render_ground, simulate_scene
from spacex.synthetic.sensor import COARSE, Sky

UTM_ZONES = ((32634, "34WFA", None, 24.09), (32635, "35WLR", 23.91, None))
"""EPSG code, MGRS tile, and the western and eastern limit in degrees where it is not the region's."""
MARGIN_DEGREES = (0.075, 0.030)
"""Degrees of longitude and latitude beyond `DEMO_BBOX`: about 3.2 km, more than a chip."""
# sun elevations were computed for 68° N at local noon
OVERPASSES: tuple[tuple[Overpass, Product], ...] = (
    (
        Overpass("2020-07-06", Sky(706, 1.01, 0.01, 0.03, 0.0013), 1.15, snow=True),
        Product("2020-07-06", "sentinel-2a", "02.14", applied=False, sun_elevation=43.9),
    ),
    (
        Overpass("2020-07-21", Sky(721, 0.99, -0.01, 0.0, 0.0015), 1.45),
        Product("2020-07-21", "sentinel-2b", "05.00", applied=True, sun_elevation=41.8),
    ),
    (
        Overpass("2020-08-10", Sky(810, 1.02, 0.02, 0.10, 0.0014), 1.60, edge=4_901_500.0),
        Product("2020-08-10", "sentinel-2b", "05.00", applied=True, sun_elevation=37.0),
    ),
    (
        Overpass("2020-08-25", Sky(825, 0.98, 0.00, 0.0, 0.0018), 1.25),
        Product("2020-08-25", "sentinel-2a", "05.00", applied=False, sun_elevation=32.1),
    ),
)
"""How each overpass sees the ground, and how its scenes are published."""


def demo_archive() -> Path:
    """The cached archive of `DEMO_BBOX`, built on first use (some 30 s on two cores)."""
    return cached_folder(f"archive-{code_digest('archive')}", build_archive)


def build_archive(
    folder: str | Path, bbox: Sequence[float] = DEMO_BBOX, seed: int = DEMO_SEED, workers: int = 2
) -> list[dict[str, Any]]:
    """Simulate and write the archive: the list ``items.json`` and a folder of COGs per scene.

    Args:
        folder: links in the items are relative to it.
        bbox: west, south, east, north in degrees; must straddle 24° E.
        seed: which landscape.
        workers: processes; 0 works in this one.
    """
    root = Path(folder)
    with process_map(min(workers, len(UTM_ZONES))) as parallel:
        zones: Any = parallel(partial(_build_zone, root, tuple(bbox), seed), range(len(UTM_ZONES)))
        items = [scene for scenes in zones for scene in scenes]
    write_list(root, items)
    return items


def _build_zone(root: Path, bbox: tuple[float, ...], seed: int, zone: int) -> list[dict[str, Any]]:
    epsg, tile, west, east = UTM_ZONES[zone]
    x_margin, y_margin = MARGIN_DEGREES
    west, east = west or bbox[0] - x_margin, east or bbox[2] + x_margin
    geobox = utm_geobox(epsg, west, bbox[1] - y_margin, east, bbox[3] + y_margin)
    return write_scenes(root, geobox, tile, Landscape(seed), OVERPASSES)


def utm_geobox(epsg: int, west: float, south: float, east: float, north: float) -> GeoBox:
    """A UTM zone's 10 m grid over a box in degrees, on whole multiples of 60 m like Sentinel-2 tiles."""
    edges = Transformer.from_crs("EPSG:4326", epsg, always_xy=True).transform_bounds(west, south, east, north)
    left, bottom = (int(edge // 60) * 60 for edge in edges[:2])
    right, top = (-int(-edge // 60) * 60 for edge in edges[2:])
    return GeoBox.from_bbox((left, bottom, right, top), epsg, resolution=10)


def write_scenes(
    root: Path, geobox: GeoBox, tile: str, landscape: Landscape, overpasses: Iterable[tuple[Overpass, Product]]
) -> list[dict[str, Any]]:
    """Simulate every overpass over a grid, write its scene into a folder of `root`, and return the STAC items."""
    ground, items = render_ground(geobox, landscape), []
    for overpass, product in overpasses:
        dn, classes = simulate_scene(ground, overpass, product.offset)
        scene = item(product, tile, geobox, classes)
        write_scene(root / scene["id"], geobox, dn, classes)
        for asset in scene["assets"].values():
            asset["href"] = f"{scene['id']}/{asset['href']}"
        items.append(scene)
    return items


def write_list(root: Path, items: list[dict[str, Any]]) -> None:
    """Write the list of all scenes, ``items.json``."""
    (root / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))


def write_scene(folder: Path, geobox: GeoBox, dn: NDArray[np.uint16], classes: NDArray[np.uint8]) -> None:
    """Write a scene's bands and classification, from `spacex.synthetic.scene.simulate_scene`, as COGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, band in enumerate(SENTINEL2_BANDS):
        step = 2 if number in COARSE else 1
        _write_cog(folder / f"{band}.tif", dn[number, ::step, ::step], geobox, step)
    _write_cog(folder / "SCL.tif", classes, geobox, 2)


def _write_cog(path: Path, array: NDArray[Any], geobox: GeoBox, step: int) -> None:
    height, width = array.shape
    affine = geobox.affine
    transform = Affine(10.0 * step, 0.0, affine.c, 0.0, -10.0 * step, affine.f)
    raster = {"height": height, "width": width, "count": 1, "dtype": array.dtype, "nodata": 0}
    raster |= {"crs": f"EPSG:{epsg_of(geobox)}", "transform": transform}
    layout = {"blocksize": 512, "compress": "deflate", "level": 4, "predictor": "yes", "overviews": "none"}
    with rasterio.open(path, "w", driver="COG", **raster, **layout) as file:
        file.write(array, 1)

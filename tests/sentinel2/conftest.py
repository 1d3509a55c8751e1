"""Tiny Sentinel-2 products on disk, of any catalogue's style, in any UTM zone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

from spacex.grid import Grid, Window
from spacex.sentinel2 import CatalogueProfile, Scene, get_catalogue, offset_of, scene_of

BANDS = ("B02", "B04")


@dataclass
class Product:
    """What was written: the scene, and its arrays as the oracle reads them back."""

    scene: Scene
    epsg: int
    left: float
    top: float
    dn: dict[str, np.ndarray]
    scl: np.ndarray
    paths: dict[str, Path] = field(default_factory=dict)


@pytest.fixture
def catalogue() -> CatalogueProfile:
    """Earth Search's style at an address nobody calls."""
    return get_catalogue("earth-search", items="/no/list.json")


@pytest.fixture
def geobox() -> GeoBox:
    """64 x 72 pixels of the global grid at 24° E, 68° N, where UTM zones 34 and 35 meet."""
    return Grid().geobox(corner(64, 72))


def corner(height: int, width: int) -> Window:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(24.0, 68.0)
    return Window(-round(y / 10), round(x / 10), height, width)


@pytest.fixture
def written_item(write_product: Callable[..., Product]) -> Callable[..., dict[str, Any]]:
    """Like `write_product`, for its item with links as a server of this machine may give them."""

    def write(name: str, **options: Any) -> dict[str, Any]:
        item = write_product(name, **options).scene.item
        for key, asset in item["assets"].items():
            asset["href"] = f"http://127.0.0.1/{name}/{key}.tif"
        return item

    return write


@pytest.fixture
def write_product(tmp_path: Path, geobox: GeoBox) -> Callable[..., Product]:
    """Writes a product that covers the grid (or a part of it) and returns it; see `_write`."""

    def write(name: str, epsg: int = 32634, **options: Any) -> Product:
        return _write(tmp_path / name, geobox, name, epsg, **options)

    return write


def _write(
    folder: Path,
    geobox: GeoBox,
    name: str,
    epsg: int,
    *,
    day: str = "2020-07-03T10:00:00Z",
    seed: int = 0,
    scl: Any = None,
    dn: Any = None,
    bands: tuple[str, ...] = BANDS,
    shift: tuple[int, int] = (0, 0),
    properties: dict[str, Any] | None = None,
    assets: dict[str, Any] | None = None,
    catalogue: str = "earth-search",
) -> Product:
    """`scl(shape, rng)` and `dn(shape, rng)` make the arrays; `shift` moves the raster by (east, south) pixels."""
    style, rng = get_catalogue(catalogue, items="/no/list.json"), np.random.default_rng(seed)
    left, top, height, width = _cover(geobox, epsg)
    left, top = left + 10 * shift[0], top - 10 * shift[1]
    folder.mkdir()
    make_scl = scl or (lambda shape, r: r.choice([4, 5, 6, 8, 9, 3], size=shape).astype("u1"))
    make_dn = dn or (lambda shape, r: r.integers(1, 4000, size=shape).astype("u2"))
    classes = make_scl((height // 2, width // 2), rng)
    numbers = {band: make_dn((height, width), rng) for band in bands}
    paths = {style.scl: folder / "scl.tif"} | {style.assets[b]: folder / f"{b}.tif" for b in bands}
    described = {}
    for key, array in [(style.scl, classes), *((style.assets[b], numbers[b]) for b in bands)]:
        size = 10 * height / array.shape[0]
        _tif(paths[key], array, epsg, left, top, size)
        described[key] = {"href": str(paths[key]), "proj:shape": list(array.shape),
                          "proj:transform": [size, 0, left, 0, -size, top], **(assets or {})}  # fmt: skip
    to_degrees = Transformer.from_crs(epsg, "EPSG:4326", always_xy=True).transform
    ground = box(left, top - 10 * height, left + 10 * width, top)
    footprint = shapely.transform(ground, to_degrees, interleaved=False)
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": style.collection,
        "geometry": mapping(footprint), "bbox": footprint.bounds, "links": [], "assets": described,
        "properties": {"datetime": day, "platform": "sentinel-2b", "proj:epsg": epsg, "eo:cloud_cover": 10.0,
                       "grid:code": f"MGRS-{epsg % 100}WED", "s2:processing_baseline": "05.00",
                       "view:sun_elevation": 40.0, "earthsearch:boa_offset_applied": True,
                       **(properties or {})},
    }  # fmt: skip
    keys = list(style.assets.values())
    scene = scene_of(item, offset_of(item, style.rule, keys), [*keys, style.scl])
    return Product(scene, epsg, left, top, numbers, classes, paths)


def _cover(geobox: GeoBox, epsg: int) -> tuple[float, float, int, int]:
    """Left, top, rows and columns (even) of 10 m UTM pixels, on 20 m, that hold the grid with room to spare."""
    area = geobox.extent.to_crs(f"EPSG:{epsg}").boundingbox
    left, top = area.left // 20 * 20 - 100, area.top // 20 * 20 + 100
    return left, top, int((top - area.bottom) // 20) * 2 + 10, int((area.right - left) // 20) * 2 + 10


def _tif(path: Path, array: np.ndarray, epsg: int, left: float, top: float, size: float) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[0], width=array.shape[1], count=1, dtype=array.dtype,
        crs=f"EPSG:{epsg}", transform=from_origin(left, top, size, size), nodata=0, tiled=True, blockxsize=64,
        blockysize=64, compress="deflate",
    ) as target:  # fmt: skip
        target.write(array, 1)

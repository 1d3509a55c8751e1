"""Small Sentinel-2 archives that four catalogues describe: one of the embedded country, and where it is the real one.

Both are laid out alike. ``pixels/`` has four bands and the scene classification of three days: without the offset
(`boa`), with it (`raw`), with it as JPEG 2000 (`jp2`), and half of one day on the grid of the neighbouring UTM zone.
``catalogues/NAME/`` has a collection and its items, with ``{base}`` for wherever the folder is served. Clear pixels of
a place have the same value on all days; a block of 40 x 40 pixels is never clear, every other pixel on some day.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject
from shapely.geometry import Polygon, box
from stand_in_items import SERVICES, Product, item_of, with_files

from spacex.sentinel2 import CATALOGUES
from spacex.settings import SENTINEL2_BANDS
from spacex.synthetic.landscape import Landscape
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.scene import Overpass, render_ground, simulate_scene
from spacex.synthetic.sensor import Sky

DAYS = ("2020-07-03", "2020-07-13", "2020-07-23")
JULY = "2020-07-01/2020-07-31"
BANDS = ("B02", "B03", "B04", "B08")
CLEAR = (2, 4, 5, 6, 7)

GRID = GeoBox.from_bbox((627_000, 7_538_160, 629_560, 7_540_720), "EPSG:32634", resolution=10)
NEIGHBOUR = GeoBox.from_bbox((374_200, 7_537_400, 377_400, 7_540_800), "EPSG:32635", resolution=10)
COVERS = (18.0, 27.0, 1.0)
"""Clouds of each day in percent, as of the whole product that this would be a part of."""
NEVER_CLEAR = (9, slice(54, 74), slice(54, 74))
UNCLEAR = (
    [NEVER_CLEAR, (9, slice(10, 30), slice(20, 44)), (3, slice(16, 36), slice(48, 60))],
    [NEVER_CLEAR, (8, slice(80, 110), slice(0, 128)), (3, slice(110, 118), slice(0, 128))],
    [NEVER_CLEAR, (0, slice(0, 128), slice(0, 8))],
)
"""Of each day: classes, rows and columns at 20 m that are not clear."""


@dataclass(frozen=True)
class SceneArchive:
    """An archive on disk, and what plain rasterio reads of it."""

    folder: Path
    name: str

    def collection(self, catalogue: str) -> dict[str, Any]:
        text = (self.folder / "catalogues" / catalogue / "collection.json").read_text()
        return dict(json.loads(text))

    def items(self, catalogue: str, base: str) -> list[dict[str, Any]]:
        """A catalogue's items, with links that begin with `base`."""
        text = (self.folder / "catalogues" / catalogue / "items.json").read_text()
        return list(json.loads(text.replace("{base}", base))["features"])

    @cached_property
    def grid(self) -> GeoBox:
        """The 10 m grid of the scenes, but for that of the neighbouring zone."""
        with rasterio.open(self.folder / "pixels" / "boa" / DAYS[0] / "B04.tif") as source:
            return GeoBox(source.shape, source.transform, source.crs)

    @cached_property
    def tile(self) -> str:
        """MGRS tile of these scenes."""
        return str(self.items("planetary-computer", "")[0]["properties"]["s2:mgrs_tile"])

    @property
    def area(self) -> Polygon:
        """All of it, in degrees."""
        return box(*self.grid.extent.to_crs("EPSG:4326").boundingbox)

    @property
    def middle(self) -> tuple[str, ...]:
        """West, south, east, north of some 3 km around its middle, as a command line takes them."""
        x, y = self.area.centroid.coords[0]
        return tuple(f"{at:.5f}" for at in (x - 0.022, y - 0.014, x + 0.022, y + 0.014))

    def dn(self, day: str, band: str) -> NDArray[np.uint16]:
        """Numbers of a day without the offset, at 10 m."""
        with rasterio.open(self.folder / "pixels" / "boa" / day / f"{band}.tif") as source:
            return np.asarray(source.read(1))

    def classes(self, day: str) -> NDArray[np.uint8]:
        """Scene classes of a day, at 10 m."""
        with rasterio.open(self.folder / "pixels" / "boa" / day / "SCL.tif") as source:
            return np.asarray(source.read(1)).repeat(2, 0).repeat(2, 1)

    def clear(self, day: str) -> NDArray[np.bool_]:
        """Pixels of a day that may be used, at 10 m."""
        return np.isin(self.classes(day), CLEAR)


@pytest.fixture(scope="session")
def stand_in_archive(tmp_path_factory: pytest.TempPathFactory) -> SceneArchive:
    """The archive of the embedded country."""
    return make_archive(tmp_path_factory.mktemp("stand-in"))


@pytest.fixture(scope="session", params=["stand_in", pytest.param("real", marks=pytest.mark.real)])
def scene_archive(request: pytest.FixtureRequest, real_data: Callable[[str], Path]) -> SceneArchive:
    """Each archive in turn."""
    if request.param == "real":
        return SceneArchive(real_data("archive"), "real")
    return request.getfixturevalue("stand_in_archive")


def make_archive(folder: Path) -> SceneArchive:
    """Write the archive of the embedded country; half a second."""
    ground = render_ground(GRID, Landscape(DEMO_SEED))
    dn, scl = simulate_scene(ground, Overpass(DAYS[0], Sky(1), clouds=9.0), 0)
    dn = dn[[SENTINEL2_BANDS.index(band) for band in BANDS]]
    for day, parts in zip(DAYS, UNCLEAR, strict=True):
        numbers, classes = dn.copy(), scl.copy()
        for kind, rows, cols in parts:
            classes[rows, cols] = kind
        at_10_m = classes.repeat(2, 0).repeat(2, 1)
        numbers[:, np.isin(at_10_m, (8, 9))] = 7000
        numbers[:, at_10_m == 3] //= 2
        numbers[:, at_10_m == 0] = 0
        raw = np.where(numbers > 0, numbers + np.uint16(1000), np.uint16(0))
        for style, stored, driver in (("boa", numbers, "COG"), ("raw", raw, "COG"), ("jp2", raw, "JP2OpenJPEG")):
            write_files(folder / "pixels" / style / day, GRID, stored, classes, driver)
        if day == DAYS[1]:
            numbers[:, :, :128], classes[:, :64] = 0, 0
            write_files(folder / "pixels" / "neighbour" / day, NEIGHBOUR, *(_warped(a) for a in (numbers, classes)))
    for name in SERVICES:
        _write_catalogue(folder, name)
    return SceneArchive(folder, "stand_in")


def write_files(
    folder: Path, grid: GeoBox, numbers: NDArray[np.uint16], classes: NDArray[np.uint8], driver: str = "COG"
) -> None:
    """One file a band and one of the classes, which have 20 m pixels."""
    folder.mkdir(parents=True)
    cog = {"compress": "deflate", "blocksize": 256, "nodata": 0}
    coding = cog if driver == "COG" else {"quality": "100", "reversible": "yes"}
    coarse = grid.zoom_out(2)
    for name, array, place in [*zip(BANDS, numbers, [grid] * 4, strict=True), ("SCL", classes, coarse)]:
        profile = {"count": 1, "dtype": array.dtype, "crs": str(grid.crs), "transform": place.affine, **coding}
        file = folder / f"{name}.{'tif' if driver == 'COG' else 'jp2'}"
        height, width = array.shape
        with rasterio.open(file, "w", driver=driver, height=height, width=width, **profile) as target:
            target.write(array, 1)


def _warped(array: NDArray[Any]) -> NDArray[Any]:
    """Bands (at 10 m) or classes (at 20 m) on the neighbouring zone's grid, each the nearest of ours."""
    step = GRID.width // array.shape[-1]
    source, target = (grid.zoom_out(step) if step > 1 else grid for grid in (GRID, NEIGHBOUR))
    out = np.zeros((*array.shape[:-2], *target.shape), array.dtype)
    places = {"src_transform": source.affine, "dst_transform": target.affine}
    reproject(
        array, out, **places, src_crs=str(GRID.crs), dst_crs=str(NEIGHBOUR.crs), resampling=Resampling.nearest,
        src_nodata=0, dst_nodata=0,
    )  # fmt: skip
    return out


def _write_catalogue(folder: Path, name: str) -> None:
    items = []
    for day, cover in zip(DAYS, COVERS, strict=True):
        # Planetary Computer has not processed all of its archive anew
        old = name == "planetary-computer" and day == DAYS[1]
        product = Product(GRID, sensed=f"{day.replace('-', '')}T100031", baseline="02.14" if old else "05.00",
                          cloud_cover=cover)  # fmt: skip
        style = "boa" if old else {"earth-search": "boa", "cdse": "jp2"}.get(name, "raw")
        items.append(_item(name, product, f"{style}/{day}"))
        if name == "earth-search" and day == DAYS[1]:
            beside = Product(NEIGHBOUR, tile="35WLR", sensed=product.sensed, cloud_cover=cover)
            items.append(_item(name, beside, f"neighbour/{day}"))
    here = folder / "catalogues" / name
    here.mkdir(parents=True)
    (here / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2015-06-27T00:00:00Z", None]]}}
    collection = {"type": "Collection", "id": items[0]["collection"], "stac_version": "1.0.0", "license": "other",
                  "description": "The embedded country.", "links": [], "extent": extent}  # fmt: skip
    (here / "collection.json").write_text(json.dumps(collection))


def _item(name: str, product: Product, path: str) -> dict[str, Any]:
    profile = CATALOGUES[name]
    keys = {band: profile.assets[band] for band in BANDS} | {"SCL": profile.scl}
    kind = "jp2" if path.startswith("jp2") else "tif"
    links = {key: f"{{base}}/pixels/{path}/{band}.{kind}" for band, key in keys.items()}
    return with_files(item_of(name, product), links)


def load_archive_server() -> Any:
    """The module of the web server that serves an archive; it lies with the tests of Ray, which run it on its own."""
    if "archive_server" not in sys.modules:
        path = Path(__file__).parent / "ray" / "archive_server.py"
        spec = importlib.util.spec_from_file_location("archive_server", path)
        sys.modules["archive_server"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["archive_server"])
    return sys.modules["archive_server"]

"""A small real archive on disk: COG-like files in two UTM zones at 24° E, clouds, gaps, and their scenes."""

import json

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from spacex.execution.local import run_local
from spacex.mapping.plan import make_plan
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.run import execute
from spacex.sentinel2.catalogue_profiles import get_catalogue
from spacex.sentinel2.reflectance import offset_of
from spacex.sentinel2.scenes import scene_of

BANDS = {"B02": "blue", "B03": "green", "B04": "red"}
DAYS = "2020-07-01/2020-08-30"
WEST, SOUTH, EAST, NORTH = 23.93, 67.95, 24.07, 68.00


def _field(x, y, seed):
    """A smooth, band-less pattern of EPSG:3035 metres, so that both zones see the same ground."""
    rng = np.random.default_rng(seed)
    value = np.zeros_like(x)
    for _ in range(12):
        angle, wave, phase = rng.uniform(0, 2 * np.pi), rng.uniform(60, 900), rng.uniform(0, 6)
        value += np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / wave + phase)
    return value / 12


def write_scene(folder, name, epsg, *, day, cloud_seed=None, offset=0, cover=10.0):
    """Write one scene as uint16 GeoTIFFs and give its Earth Search like STAC item."""
    to_utm = Transformer.from_crs(4326, epsg, always_xy=True)
    lons, lats = np.meshgrid([WEST - 0.12, EAST + 0.12], [SOUTH - 0.05, NORTH + 0.05])
    xs, ys = to_utm.transform(lons.ravel(), lats.ravel())
    left, top = np.floor(min(xs) / 20) * 20, np.ceil(max(ys) / 20) * 20
    width, height = 2 * int((max(xs) - left) // 20), 2 * int((top - min(ys)) // 20)
    transform = from_origin(left, top, 10, 10)
    x, y = np.meshgrid(left + 5 + 10 * np.arange(width), top - 5 - 10 * np.arange(height))
    gx, gy = Transformer.from_crs(epsg, 3035, always_xy=True).transform(x, y)
    assets = {}
    profile = {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "count": 1,
    }

    def write(key, data, nodata, scale=1):
        path = folder / f"{name}_{key}.tif"
        grid = transform * transform.scale(scale)
        meta = {"crs": epsg, "transform": grid, "height": data.shape[0], "width": data.shape[1]}
        with rasterio.open(path, "w", **profile, **meta, dtype=data.dtype, nodata=nodata) as file:
            file.write(data, 1)
        assets[key] = {
            "href": str(path),
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "proj:shape": list(data.shape),
            "proj:transform": list(grid)[:6],
            "raster:bands": [{"nodata": nodata, "data_type": data.dtype.name, "scale": 0.0001, "offset": -0.1}],
        }

    for index, key in enumerate(BANDS.values()):
        ground = 0.08 + 0.05 * _field(gx, gy, index)
        write(key, (np.clip(ground * 10_000, 1, None) + offset).astype("uint16"), 0)
    scl = np.full((height // 2, width // 2), 4, np.uint8)
    if cloud_seed is not None:
        scl[_field(gx, gy, cloud_seed)[::2, ::2] > 0.25] = 9
    write("scl", scl, 0, scale=2)
    ring = [
        [WEST - 0.12, SOUTH - 0.05],
        [EAST + 0.12, SOUTH - 0.05],
        [EAST + 0.12, NORTH + 0.05],
        [WEST - 0.12, NORTH + 0.05],
    ]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "bbox": [WEST - 0.12, SOUTH - 0.05, EAST + 0.12, NORTH + 0.05],
        "properties": {
            "datetime": f"2020-07-{day:02d}T10:00:00Z",
            "platform": "sentinel-2a",
            "eo:cloud_cover": cover,
            "view:sun_elevation": 41.0,
            "proj:epsg": epsg,
            "proj:code": f"EPSG:{epsg}",
            "grid:code": f"MGRS-{34 if epsg == 32634 else 35}WED",
            "s2:processing_baseline": "05.00" if offset else "02.14",
            "earthsearch:boa_offset_applied": not offset,
        },
        "links": [],
        "assets": assets,
    }


@pytest.fixture(scope="session")
def archive_items(tmp_path_factory):
    """STAC items of four scenes: two zones, three days, clouds, and one with the offset still in its pixels."""
    folder = tmp_path_factory.mktemp("archive")
    return [
        write_scene(folder, "a34", 32634, day=3, cloud_seed=50),
        write_scene(folder, "a35", 32635, day=3, cloud_seed=50),
        write_scene(folder, "b34", 32634, day=9, cloud_seed=51),
        write_scene(folder, "c35", 32635, day=17, cloud_seed=52, offset=1000),
    ]


def list_items(items, folder):
    """Write items as a list for `--items`; gives the file's name."""
    file = folder / "items.json"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(file)


@pytest.fixture(scope="session")
def archive_list(archive_items, tmp_path_factory):
    """The file that lists the small archive's items."""
    return list_items(archive_items, tmp_path_factory.mktemp("list"))


@pytest.fixture(scope="session")
def archive_scenes(archive_items):
    """The items as scenes of the demo catalogue."""
    catalogue = get_catalogue("demo", items="/no/list.json")
    keys = [*BANDS.values(), "scl"]
    return [scene_of(item, offset_of(item, catalogue.rule, BANDS.values()), keys) for item in archive_items]


@pytest.fixture(scope="session")
def map_offline(archive_scenes, tiny_checkpoint):
    """Runs a request on the small archive without asking a STAC server; gives the outcome."""

    def run(request, output, runner=run_local, scenes=None, checkpoint=tiny_checkpoint, **worker):
        steps = [scenes or archive_scenes] * len(request.intervals)
        plan = make_plan(request, str(output), checkpoint, scenes=steps)
        return execute(plan, runner, **{"threads": 1, **worker})

    return run


@pytest.fixture(scope="session")
def make_request(tiny_checkpoint):
    """Builds a request on the small archive; keywords override."""

    def make(box=(WEST, SOUTH, EAST, NORTH), **values):
        west, south, east, north = box
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        stride = values.pop("stride", None)
        maps = values.pop("maps", ("attribution", "lift"))
        settings = {
            "area": {"type": "Polygon", "coordinates": [ring]},
            "intervals": (("2020-07-01", "2020-08-30"),),
            "catalogue": "demo",
            "items": "/no/list.json",
            "tile_size": 512,
            "chips": chip_settings(tiny_checkpoint.card, maps, stride),
            "path_steps": 2,
        }
        return MapRequest(**{**settings, **values})

    return make

"""How long reading and compositing takes, against `odc.stac.load` with dask and its median on the same archive.

Run: ``python tests/benchmarks/composite.py`` (``--help`` for the options). Prints seconds of both, best of
several runs taken in turn, and their ratio; below 1 SpacEX is the faster one. Both read the same scenes of the
embedded archive (of the real archive in ``../shared/data`` with ``--real``) onto the same grid, mask by the same
SCL classes, and take a median per pixel, with as many threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import odc.stac
import pystac
from odc.geo.geobox import GeoBox
from pyproj import Transformer

sys.path.insert(0, str(Path(__file__).parents[1]))

import real_files
from scene_archives import SceneArchive

from spacex.grid import Grid, Window
from spacex.sentinel2 import (
    CatalogueProfile,
    CompositeSettings,
    Scene,
    get_catalogue,
    offset_of,
    read_composite,
    scene_of,
    touching,
)


def embedded() -> tuple[CatalogueProfile, list[dict[str, Any]], tuple[float, float]]:
    """Style, items and middle (longitude, latitude) of the archive that ships with SpacEX."""
    from spacex.synthetic.archive import demo_archive
    from spacex.synthetic.region import DEMO_BBOX

    folder = demo_archive()
    items = json.loads((folder / "items.json").read_text())
    items = items["features"] if isinstance(items, dict) else items
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = str(folder / asset["href"])
    west, south, east, north = DEMO_BBOX
    return get_catalogue("demo", items="/no/list.json"), items, ((west + east) / 2, (south + north) / 2)


def real() -> tuple[CatalogueProfile, list[dict[str, Any]], tuple[float, float]]:
    """The same for the real archive beside the checkout, in Earth Search's style."""
    archive = SceneArchive(real_files.FOLDER / "archive", "real")
    items = archive.items("earth-search", str(archive.folder))
    return get_catalogue("earth-search", items="/no/list.json"), items, (5.263, 51.26)


def ours(
    scenes: list[Scene], geobox: GeoBox, bands: list[str], catalogue: CatalogueProfile, threads: int
) -> np.ndarray:
    """The composite as SpacEX makes it."""
    return read_composite(scenes, geobox, bands, catalogue, threads=threads).reflectance


def theirs(
    items: list[pystac.Item],
    scenes: list[Scene],
    geobox: GeoBox,
    bands: list[str],
    catalogue: CatalogueProfile,
    threads: int,
) -> np.ndarray:
    """The usual way: lazy load by solar day, mask, harmonise, median, compute."""
    keys, settings = catalogue.keys(bands), CompositeSettings()
    dn, scl = {"data_type": "uint16", "nodata": 0}, {"data_type": "uint8", "nodata": 0}
    cube = odc.stac.load(
        items, bands=[*keys, catalogue.scl], geobox=geobox, chunks={"x": 512, "y": 512}, groupby="solar_day",
        stac_cfg={catalogue.collection: {"assets": {"*": dn, catalogue.scl: scl}}},
    )  # fmt: skip
    clear = cube[catalogue.scl].isin(settings.clear_classes)
    # odc-stac merges the scenes of a day, so a day has one offset
    offsets = {scene.datetime[:10]: scene.offset.dn for scene in scenes}
    days = [offsets[str(moment)[:10]] for moment in cube.time.values]
    added = cube.time.copy(data=np.array(days, "int32")).drop_vars("time")
    planes = []
    for key in keys:
        valid = clear & (cube[key] > 0)
        dn = (cube[key].astype("int32") + added).clip(1, 65534)
        planes.append(dn.where(valid).astype("float32").median("time", skipna=True) / np.float32(10000))
    with dask.config.set(scheduler="threads", num_workers=threads):
        return np.stack([plane.data for plane in dask.compute(*planes)])


def main() -> None:
    """Times both and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="the real archive instead of the embedded one")
    parser.add_argument("--size", type=int, default=1472, help="pixels of the square (a tile and its halo)")
    parser.add_argument("--bands", default="B02,B03,B04", help="bands to read")
    parser.add_argument("--threads", type=int, default=2, help="threads of either side")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, in turn; the best counts")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    catalogue, raw, (lon, lat) = real() if chosen.real else embedded()
    bands, half = chosen.bands.split(","), chosen.size // 2
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(lon, lat)
    geobox = Grid().geobox(Window(round(-y / 10) - half, round(x / 10) - half, chosen.size, chosen.size))
    keys = list(catalogue.assets.values())
    scenes = [scene_of(item, offset_of(item, catalogue.rule, keys), [*keys, catalogue.scl]) for item in raw]
    scenes = touching(scenes, geobox)
    items = [pystac.Item.from_dict(scene.item) for scene in scenes]
    seconds: dict[str, list[float]] = {"spacex": [], "odc-stac + dask": []}
    for _ in range(chosen.repeat):
        start = time.perf_counter()
        mine = ours(scenes, geobox, bands, catalogue, chosen.threads)
        middle = time.perf_counter()
        other = theirs(items, scenes, geobox, bands, catalogue, chosen.threads)
        seconds["spacex"].append(middle - start)
        seconds["odc-stac + dask"].append(time.perf_counter() - middle)
    report(seconds, mine, other, len(scenes))


def report(seconds: dict[str, list[float]], mine: np.ndarray, other: np.ndarray, scenes: int) -> None:
    """Prints seconds, their ratio, and how far the two composites agree."""
    print(f"{scenes} scenes, {mine.shape[0]} bands, {mine.shape[1]} x {mine.shape[2]} pixels")
    for name, runs in seconds.items():
        print(f"{name:16s} {min(runs):6.2f} s (of {', '.join(f'{run:.2f}' for run in runs)})")
    ratio = min(seconds["spacex"]) / min(seconds["odc-stac + dask"])
    both = np.isfinite(mine) & np.isfinite(other)
    print(f"ratio {ratio:.2f} (spacex / odc-stac; not slower means at most 1)")
    print(f"equal in {np.mean(np.isclose(mine[both], other[both], atol=1e-6)):.2%} of {both.mean():.1%} valid pixels "
          "(odc-stac's warp picks another neighbour now and then, and merges scenes before it masks)")  # fmt: skip


if __name__ == "__main__":
    main()

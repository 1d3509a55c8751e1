"""The README's map of a real place: the Belgian Kempen in July 2020, with the weights of real land.

    python tests/benchmarks/real_picture.py --archive ../shared/data/archive --output runs/kempen

The archive holds real pixels of one day under three dates, with a made scene classification that overlooks the day's
real clouds. Here they are classified as clouds (SCL 9) and their shadows as shadows (SCL 3) before anything is mapped:
bright in B02 over more than any roof; dark in B08 where the clouds' outlines fall if moved by one offset, the one that
covers most dark pixels. Land that is cloudy on every date has no data.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

import spacex

BOX = (5.224, 51.213, 5.302, 51.307)
CLOUD, VEIL, DARK = 0.09, 0.075, 0.18
"""Reflectance of B02 that is reached everywhere in a square of 9 x 9 pixels within a cloud, and in the rest of it; and
of B08 below which a square of 7 x 7 may lie in its shadow."""
ROOFS = ((630, 785, 180, 345), (465, 545, 395, 450))
"""Rows and columns, from and to, of an industrial estate and a sand pit that are as bright: marked by eye."""
GROWN = 6
"""Pixels by which clouds and shadows are grown."""


def read(path: Path) -> NDArray[np.float32]:
    """Reflectance of a band of this archive, (rows, columns)."""
    with rasterio.open(path) as source:
        return np.asarray(source.read(1), dtype=np.float32) / np.float32(10000)


def clear_bands(dates: list[Path]) -> dict[str, NDArray[np.float32]]:
    """B02 and B08 without what was made: of each pixel the value of a date whose own SCL calls it clear."""
    bands: dict[str, NDArray[np.float32]] = {}
    for date in dates:
        with rasterio.open(date / "SCL.tif") as source:
            clear = np.isin(source.read(1), (4, 5, 6, 7)).repeat(2, axis=0).repeat(2, axis=1)  # pixels of 20 m
        for name in ("B02", "B08"):
            values = read(date / f"{name}.tif")
            bands[name] = np.where(clear, values, bands.get(name, values))
    return bands


def clouds_and_shadows(blue: NDArray[np.float32], infrared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """SCL classes 9 (cloud), 3 (shadow) and 0 (neither), (rows, columns)."""
    core = ndimage.minimum_filter(blue, 9) > CLOUD
    for top, bottom, left, right in ROOFS:
        core[top:bottom, left:right] = False
    cloud = ndimage.binary_propagation(core, mask=ndimage.uniform_filter(blue, 5) > VEIL)
    dark = (ndimage.uniform_filter(infrared, 7) < DARK) & ~cloud
    offsets = [(row, col) for row in range(-200, 1, 10) for col in range(-200, 201, 10) if abs(row) + abs(col) > 60]
    shares = [(dark & ndimage.shift(cloud, offset, order=0)).sum() for offset in offsets]
    shadow = dark & ndimage.shift(cloud, offsets[int(np.argmax(shares))], order=0)
    grown = [ndimage.binary_dilation(mask, iterations=GROWN) for mask in (cloud, shadow)]
    return np.select(grown, [np.uint8(9), np.uint8(3)], np.uint8(0))


def masked_items(archive: Path, folder: Path) -> Path:
    """A file of the archive's items whose SCL marks the real clouds; pixels stay where they are."""
    items = json.loads((archive / "catalogues/earth-search/items.json").read_text())
    listed = items["features"] if isinstance(items, dict) else items
    listed = [item for item in listed if item["properties"]["proj:epsg"] == 32631]
    folders = sorted((archive / "pixels/boa").iterdir())
    bands = clear_bands(folders)
    real = clouds_and_shadows(bands["B02"], bands["B08"])[::2, ::2]
    for item in listed:
        for asset in item["assets"].values():
            asset["href"] = asset["href"].replace("{base}", str(archive))
        scl = Path(item["assets"]["scl"]["href"])
        with rasterio.open(scl) as source:
            classes, profile = source.read(1), source.profile
        target = folder / f"{item['id']}-scl.tif"
        with rasterio.open(target, "w", **profile) as sink:
            sink.write(np.where(real > 0, real, classes), 1)
        item["assets"]["scl"]["href"] = str(target)
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": listed}))
    return path


def main() -> None:
    """Mask, map, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--checkpoint", default="europe")
    parser.add_argument("--stride", type=int, default=32)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    items = masked_items(asked.archive.resolve(), asked.output.resolve())
    cube = asked.output / "kempen.zarr"
    outcome = spacex.map_region(
        items=str(items), bbox=BOX, datetime="2020-07", checkpoint=asked.checkpoint, stride=asked.stride,
        resampling="bilinear", output=str(cube), max_cloud_cover=100,
        quicklook=str(asked.output / "kempen.png"),
    )  # fmt: skip
    print(f"{outcome.cube.uri}: {outcome.chips} chips, {outcome.seconds:.0f} s; complete: {outcome.complete}")


if __name__ == "__main__":
    main()

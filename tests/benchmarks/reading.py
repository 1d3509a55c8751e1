"""What reading costs: with networks that cost nothing, in blocks and bytes, and in error.

    python tests/benchmarks/reading.py free       # km2/s per core of read + composite + blend + write; and before
    python tests/benchmarks/reading.py blocks     # blocks decoded, and bytes served, per block needed
    python tests/benchmarks/reading.py enough     # error of the composite against the cloud-free truth, by `enough`
    python tests/benchmarks/reading.py plan       # bytes a plan expects, against bytes fetched

"Before" is the commit of `before.py`, measured in turn with this one, each in a process of its own. Cores are counted
by the processor's time, so that a busy machine does not matter much; ratios are what to believe.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve()


def free(tile_size: int, enough: int | None) -> dict:
    """Map the embedded region with networks that cost next to nothing; km2, processor seconds, seconds by stage."""
    from shapely.geometry import box, mapping

    from spacex.checkpoint import load_checkpoint
    from spacex.cube.store import create_cube
    from spacex.execution.tasks import Status
    from spacex.mapping.pipeline import Pipeline
    from spacex.mapping.plan import make_plan

    try:
        sys.path.append(str(Path(__file__).parents[1]))
        from fakes import FakeNetworks

        networks, maps = FakeNetworks(), ("attribution", "lift")
    except ImportError:  # before
        from spacex.mapping.rehearsal import fake_network as networks

        maps = ("attribution", "path_attribution")

    from spacex.mapping.request import MapRequest, chip_settings
    from spacex.mapping.worker import SceneSource
    from spacex.synthetic.archive import demo_archive
    from spacex.synthetic.region import DEMO_BBOX, DEMO_INTERVAL

    checkpoint = load_checkpoint()
    card = checkpoint.card
    composite = {} if enough is None else {"composite": {"enough": enough}}
    with tempfile.TemporaryDirectory() as folder:
        request = MapRequest(
            area=mapping(box(*DEMO_BBOX)), intervals=(tuple(DEMO_INTERVAL.split("/")),), catalogue="demo",
            items=str(demo_archive() / "items.json"),
            tile_size=tile_size, chips=chip_settings(card, maps), **composite,
        )  # fmt: skip
        plan = make_plan(request, f"{folder}/map.zarr", checkpoint)
        cube = create_cube(
            f"{folder}/map.zarr", request.spec(card), "0" * 16, {"request": request.model_dump(mode="json")}
        )
        source = SceneSource(request, card.bands, plan.scenes)
        pipeline = Pipeline(source.read, networks, cube, request.chips, readers=1)
        begun, clock = time.process_time(), time.perf_counter()
        for task in plan.todo:
            pipeline.add(task)
        reports = []
        while len(pipeline):
            reports += pipeline.advance()
        used, took = time.process_time() - begun, time.perf_counter() - clock
    assert all(report.status is Status.DONE for report in reports), [report.reason for report in reports]
    area = request.region.outline.area / 1e6
    names = ("reading", "computing", "writing")
    stages = {name: sum(report.seconds.get(name, 0.0) for report in reports) for name in names}
    return {"km2": area, "cpu_s": used, "clock_s": took, "tiles": len(reports), "stages": stages}


def compare_free(tile_size: int, enough: int, repeat: int) -> None:
    """Prints km2/s per core of both sides."""
    from before import earlier, run_in

    rates: dict[str, list[float]] = {"before": [], "now": []}
    with earlier() as root:
        for _ in range(repeat):
            for name, place, k in (("before", root, "none"), ("now", HERE.parents[2], enough)):
                stats = json.loads(run_in(place, HERE, "one-free", "--tile-size", tile_size, "--enough", k))
                rates[name].append(stats["km2"] / stats["cpu_s"])
                print(f"{name:7s} {stats['km2'] / stats['cpu_s']:6.1f} km2/s per core; {stats}", flush=True)
    best = {name: max(values) for name, values in rates.items()}
    print(f"best of {repeat}: {best['now']:.1f} against {best['before']:.1f} km2/s per core, "
          f"{best['now'] / best['before']:.1f} times as many (aimed at: 40)")  # fmt: skip


class Counted:
    """A file server with ranges that counts the bytes of its answers."""

    def __init__(self, root: Path) -> None:
        self.sent, lock = 0, threading.Lock()
        counted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = root / self.path.lstrip("/")
                first, last = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")
                size = path.stat().st_size
                stop = min(int(last or size - 1) + 1, size)
                with path.open("rb") as file:
                    file.seek(int(first))
                    data = file.read(stop - int(first)) if self.command == "GET" else b""
                self.send_response(206 if "Range" in self.headers else 200)
                self.send_header("Accept-Ranges", "bytes")
                if "Range" in self.headers:
                    self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{size}")
                self.send_header("Content-Length", str(stop - int(first)))
                self.end_headers()
                with lock:
                    counted.sent += len(data)
                with contextlib.suppress(OSError):  # GDAL hangs up on what it does not need
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def blocks(tiles: int, scenes: int, side: int = 10_980) -> None:
    """Reads tiles x tiles tiles of 1,024 pixels in their order; prints blocks decoded and bytes sent per need.

    The place is Joensuu, where the cube's grid is turned by 15 degrees against UTM. All files of a kind hold the same
    pixels under different links. With fewer scenes than the eight a summer's pixel takes, the memory for blocks is
    made smaller in proportion, since it is shared by the scenes.
    """
    import numpy as np
    import rasterio
    from pyproj import Transformer
    from rasterio.transform import from_origin

    from spacex.execution.tasks import TileTask
    from spacex.execution.tile_order import tile_order
    from spacex.grid import Grid, Window
    from spacex.mapping.tile import ChipSettings
    from spacex.sentinel2 import CompositeSettings, get_catalogue, offset_of, scene_of
    from spacex.sentinel2.block_reader import CACHE_BYTES, BlockReader
    from spacex.sentinel2.composite import Composer
    from spacex.sentinel2.composite_cache import CompositeCache

    x, y = Transformer.from_crs(4326, 3035, always_xy=True).transform(29.8, 62.6)
    east, north = Transformer.from_crs(4326, 32635, always_xy=True).transform(29.8, 62.6)
    left, top = (round((v + s * side * 5) / 20) * 20 for v, s in ((east, -1), (north, 1)))
    rng = np.random.default_rng(0)
    dn = np.tile(rng.integers(200, 1200, (1024, 1024)).astype("u2"), (11, 11))[:side, :side]
    scl = np.tile(rng.choice([4, 5], (1024, 1024)).astype("u1"), (6, 6))[: side // 2, : side // 2]
    read: list[tuple] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = Counted(root)
        for name, array, size in (("band", dn, 10), ("scl", scl, 20)):
            profile = {"height": array.shape[0], "width": array.shape[1], "count": 1, "dtype": array.dtype, "nodata": 0}
            with rasterio.open(
                root / f"{name}.tif", "w", driver="GTiff", tiled=True, blockxsize=1024, blockysize=1024, crs=32635,
                compress="deflate", zlevel=1, transform=from_origin(left, top, size, size), **profile,
            ) as file:  # fmt: skip
                file.write(array, 1)
        catalogue, items = get_catalogue("earth-search", url=server.url), []
        ring = [[28, 61.9], [31.6, 61.9], [31.6, 63.3], [28, 63.3], [28, 61.9]]
        for number in range(scenes):
            assets = {}
            for key in ("blue", "green", "red", "scl"):
                (root / f"{number}-{key}.tif").hardlink_to(root / ("scl.tif" if key == "scl" else "band.tif"))
                assets[key] = {"href": f"{server.url}/{number}-{key}.tif"}
            properties = {
                "datetime": f"2020-07-{number + 1:02d}T10:00:00Z", "platform": "sentinel-2a", "eo:cloud_cover": 1.0,
                "earthsearch:boa_offset_applied": True, "grid:code": "MGRS-35VPL",
            }  # fmt: skip
            items.append({"id": f"S{number}", "geometry": {"type": "Polygon", "coordinates": [ring]}, "assets": assets,
                          "properties": properties})  # fmt: skip
        stats = [scene_of(i, offset_of(i, catalogue.rule, ["red"]), list(i["assets"])) for i in items]
        files = BlockReader(CACHE_BYTES * min(scenes, 8) // 8)
        composer = Composer(("B02", "B03", "B04"), catalogue, CompositeSettings(), files)
        made = CompositeCache([stats], Grid(), composer)
        get = files._blocks.get

        def watched(keys, reader):
            def noted(missing):
                read.extend(missing)
                return reader(missing)

            return get(keys, noted)

        files._blocks.get = watched
        corner = Window(-round(y / 10) - 512 * tiles, round(x / 10) - 512 * tiles, 1024 * tiles, 1024 * tiles)
        chips = ChipSettings(maps=("attribution", "lift"), stride=192, window=384, margin=40)
        clock = time.process_time()
        for task in tile_order(TileTask(0, r, c) for r in range(tiles) for c in range(tiles)):
            core = Window(corner.row + 1024 * task.row, corner.col + 1024 * task.col, 1024, 1024)
            made.read(chips.padded(core))
        clock = time.process_time() - clock
        sizes = {}
        for name in ("band", "scl"):
            with rasterio.open(root / f"{name}.tif") as file:
                sizes[name] = int(file.get_tag_item("BLOCK_SIZE_1_1", "TIFF", bidx=1))
        needed = set(read)
        least = sum(sizes["scl" if "scl" in key[0] else "band"] for key in needed)
    print(f"{tiles} x {tiles} tiles, {scenes} scenes: {len(read)} blocks decoded, {len(needed)} needed, "
          f"ratio {len(read) / len(needed):.2f}; {server.sent / 1e6:.0f} MB sent, {least / 1e6:.0f} MB needed, "
          f"ratio {server.sent / least:.2f}; {clock:.0f} s of processor")  # fmt: skip


def enough(passes: int, side: int) -> None:
    """Paints a summer over a piece of the embedded world, and prints the composite's error by `enough`."""
    import numpy as np
    from odc.geo.geobox import GeoBox

    from spacex.sentinel2 import CompositeSettings, get_catalogue, offset_of, read_composite, scene_of
    from spacex.settings import SENTINEL2_BANDS
    from spacex.synthetic.archive import utm_geobox, write_scene
    from spacex.synthetic.items import Product, item
    from spacex.synthetic.landscape import Landscape
    from spacex.synthetic.region import DEMO_SEED
    from spacex.synthetic.scene import Overpass, render_ground, simulate_scene
    from spacex.synthetic.sensor import Sky, observe

    whole = utm_geobox(32634, 23.80, 67.90, 23.80 + side * 10 / 42_000, 67.90 + side * 10 / 111_000)
    geobox = GeoBox((side, side), whole.affine, whole.crs)
    ground, rng, bands = render_ground(geobox, Landscape(DEMO_SEED)), np.random.default_rng(1), ("B02", "B03", "B04")
    truth = observe(ground.painted.reflectance, np.zeros(geobox.shape, "f4"), Sky(0, noise=0.0))
    truth = truth[[SENTINEL2_BANDS.index(band) for band in bands]]
    catalogue, scenes = get_catalogue("demo", items="/no/list.json"), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(passes):
            haze = float(rng.uniform(0, 0.1)) if rng.random() < 0.5 else 0.0
            sky = Sky(900 + number, 1 + float(rng.normal(0, 0.015)), float(rng.normal(0, 0.012)), haze, 0.0015)
            overpass = Overpass(f"2020-{6 + number // 28:02d}-{1 + number % 28:02d}", sky, float(rng.uniform(0.3, 2.0)))
            dn, classes = simulate_scene(ground, overpass, 0)
            product = Product(overpass.date, "sentinel-2a", "05.00", True, 42.0)
            described = item(product, "34WFA", geobox, classes)
            write_scene(Path(folder) / described["id"], geobox, dn, classes)
            for asset in described["assets"].values():
                asset["href"] = f"{folder}/{described['id']}/{asset['href']}"
            keys = list(catalogue.assets.values())
            scenes.append(scene_of(described, offset_of(described, catalogue.rule, keys), [*keys, catalogue.scl]))
        scenes = [scene for scene in scenes if scene.cloud_cover <= 60]
        print(f"{len(scenes)} of {passes} overpasses with at most 60 % cloud: "
              f"{sorted(round(s.cloud_cover) for s in scenes)}")  # fmt: skip
        stats = {}
        for k in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16):
            made = read_composite(scenes, geobox, bands, catalogue, CompositeSettings(enough=k))
            error = np.abs(made.reflectance - truth)
            seen = np.isfinite(error).all(axis=0)
            stats[k] = float(error[:, seen].mean()), float(np.sqrt((error[:, seen] ** 2).mean()))
            used = sum(use.used for use in made.usages) / seen.size
            supplying = sum(use.used > 0 for use in made.usages)
            print(f"enough {k:2d}: mean error {stats[k][0]:.5f} ({stats[k][0] / stats[0][0]:.3f} of all), root mean "
                  f"square {stats[k][1]:.5f} ({stats[k][1] / stats[0][1]:.3f}); {used:.2f} observations of {supplying} "
                  "scenes", flush=True)  # fmt: skip


def expected(k: int) -> None:
    """Prints the bytes a plan of the embedded region expects and the bytes of the blocks really fetched for it."""
    import rasterio
    from shapely.geometry import box, mapping

    from spacex.checkpoint import load_checkpoint
    from spacex.mapping.plan import make_plan
    from spacex.mapping.request import MapRequest, chip_settings
    from spacex.mapping.worker import SceneSource
    from spacex.sentinel2.assets import READ_STATS
    from spacex.synthetic.archive import demo_archive
    from spacex.synthetic.region import DEMO_BBOX, DEMO_INTERVAL

    checkpoint = load_checkpoint()
    card = checkpoint.card
    request = MapRequest(
        area=mapping(box(*DEMO_BBOX)), intervals=(tuple(DEMO_INTERVAL.split("/")),), catalogue="demo",
        items=str(demo_archive() / "items.json"),
        chips=chip_settings(card, ("attribution",)), composite={"enough": k},
    )  # fmt: skip
    plan = make_plan(request, "nowhere.zarr", checkpoint)
    source = SceneSource(request, card.bands, plan.scenes)
    said, before = plan.bytes_to_read, READ_STATS.fetched
    reads = sum(sum(use["used_share"] > 0 for use in source.read(task).scenes) for task in plan.todo)
    really = READ_STATS.fetched - before
    folder, sizes, pixels = demo_archive(), 0, 0
    for name in ("B02", "B03", "B04"):
        for file in folder.glob(f"*/{name}.tif"):
            with rasterio.open(file) as source:
                sizes, pixels = sizes + file.stat().st_size, pixels + source.width * source.height
    own = plan.work.pixels_read * len(card.bands) * sizes / pixels
    print(f"enough {k}: expected {said / 1e6:.1f} MB, fetched {really / 1e6:.1f} MB, ratio {said / really:.2f}, "
          f"at this archive's own {sizes / pixels:.2f} bytes per pixel {own / really:.2f}; "
          f"scene reads {plan.work.scene_reads:.1f} and {reads}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["free", "blocks", "enough", "plan", "one-free"])
    parser.add_argument("--tile-size", type=int, default=1024)
    parser.add_argument("--enough", default="8")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=8, help="of blocks: tiles a side")
    parser.add_argument("--scenes", type=int, default=8, help="of blocks: scenes of every place")
    parser.add_argument("--passes", type=int, default=24, help="of enough: overpasses of the summer")
    parser.add_argument("--side", type=int, default=600, help="of enough: pixels a side")
    asked = parser.parse_args()
    if asked.what == "one-free":
        print(json.dumps(free(asked.tile_size, None if asked.enough == "none" else int(asked.enough))))
    elif asked.what == "free":
        compare_free(asked.tile_size, int(asked.enough), asked.repeat)
    elif asked.what == "blocks":
        blocks(asked.tiles, asked.scenes)
    elif asked.what == "enough":
        enough(asked.passes, asked.side)
    else:
        for k in (1, 2, 3, 0):
            expected(k)


if __name__ == "__main__":
    main()

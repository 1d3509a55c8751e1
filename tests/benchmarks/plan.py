"""What planning all of Fennoscandia costs: time and memory of the driver, against an API with 15,000 items.

    python tests/benchmarks/plan.py [--items 15000] [--area fennoscandia]

The API is `tests/ray/archive_server.py` in a process of its own, so that its memory does not count. Items are made
up, of the size and shape of Earth Search's. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from shapely.geometry import box, mapping

HERE = Path(__file__).parent
DAYS = 92
BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22", "scl")


def peak_mb() -> int:
    """Peak resident memory of this program; `ru_maxrss` would count what the parent had before the exec."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def make_items(count: int) -> list[dict]:
    """Items of 110 km tiles on a lattice over 4–32° E, 54–72° N, spread over the days of a summer."""
    places = [(lon, lat) for lat in range(54, 72) for lon in range(4, 32, 2)]
    return [make_item(number, *places[number % len(places)]) for number in range(count)]


def make_item(number: int, lon: int, lat: int) -> dict:
    """One item, a little larger than its place on the lattice, so that neighbours overlap."""
    day, zone = number % DAYS, int((lon + 180) // 6) + 1
    name = f"S2A_{zone}V{chr(65 + lat % 20)}{chr(65 + lon % 20)}_2026{6 + day // 31:02d}{1 + day % 30:02d}_{number}_L2A"
    footprint = box(lon - 0.2, lat - 0.05, lon + 2.2, lat + 1.05)
    asset = {
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "title": "a band",
        "eo:bands": [{"name": "red", "common_name": "red", "center_wavelength": 0.665, "full_width_half_max": 0.038}],
        "gsd": 10,
        "proj:shape": [10980, 10980],
        "proj:transform": [10, 0, 399960, 0, -10, 7600020],
        "raster:bands": [{"nodata": 0, "data_type": "uint16", "bits_per_sample": 15, "scale": 0.0001, "offset": 0}],
        "file:checksum": "1220" + "ab" * 32,
        "roles": ["data", "reflectance"],
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "datetime": f"2026-{6 + day // 31:02d}-{1 + day % 30:02d}T10:{number % 60:02d}:{number // 60 % 60:02d}Z",
            "platform": "sentinel-2a",
            "eo:cloud_cover": number % 60,
            "view:sun_elevation": 41.0,
            "proj:epsg": 32600 + zone,
            "grid:code": f"MGRS-{zone}V{chr(65 + lat % 20)}{chr(65 + lon % 20)}".replace("I", "J").replace("O", "P"),
            "s2:processing_baseline": "05.11",
            "earthsearch:boa_offset_applied": True,
            "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_S202606{1 + day % 30:02d}T{number:06d}_N05.11",
        },
        "links": [{"rel": "self", "href": f"https://example.org/{name}"}] * 4,
        "assets": {band: {**asset, "href": f"https://example.org/{name}/{band}.tif"} for band in BANDS},
    }


def serve(count: int, pipe) -> None:
    spec = importlib.util.spec_from_file_location("archive_server", HERE.parent / "ray" / "archive_server.py")
    server = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    with server.serve(server.Archive(items=make_items(count))) as archive:
        pipe.send(archive.url)
        pipe.recv()


def plan(url: str, area: str, folder: str) -> dict:
    """Plan the area with the job's own code; gives what it came to and what it cost."""
    begun, cpu = time.perf_counter(), time.process_time()
    from spacex.areas import load_area
    from spacex.checkpoint import load_checkpoint
    from spacex.mapping.plan import make_plan
    from spacex.mapping.request import MapRequest
    from spacex.mapping.tile import ChipSettings

    loaded = time.perf_counter()
    request = MapRequest(
        area=mapping(load_area(area)),
        intervals=(("2026-06-01", "2026-08-31"),),
        catalogue="earth-search",
        stac_url=url,
        chips=ChipSettings(maps=("attribution", "lift"), stride=192, window=384, margin=40),
    )
    made = make_plan(request, f"{folder}/cube.zarr", load_checkpoint())
    searched = time.perf_counter()
    described = made.describe()
    return {
        "imports_s": round(loaded - begun, 1),
        "search_s": round(searched - loaded, 1),
        "work_s": round(time.perf_counter() - searched, 1),
        "total_s": round(time.perf_counter() - begun, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "driver_mb": peak_mb(),
        "scenes": sum(described["scenes"]),
        "tiles": described["tiles"]["new"],
        "chips": described["chips"],
        "plan": described,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=15_000)
    parser.add_argument("--area", default="fennoscandia")
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(asked.items, theirs), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(plan(ours.recv(), asked.area, folder)))
    ours.send("stop")
    server.join()


if __name__ == "__main__":
    main()

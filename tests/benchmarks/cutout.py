"""Bytes of a cutout of some 10 x 10 km and one summer, against the bytes that the map's plan expects to read.

    python tests/benchmarks/cutout.py [--real]

Of the embedded landscape, or with --real of the archive beside the checkout, which is smaller and served over HTTP.
Prints both numbers and their ratio.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from spacex.api.declaration import complete
from spacex.api.listing import list_scenes
from spacex.api.map_settings import ListSettings
from spacex.api.scenes import chosen_intervals, map_area

HERE = Path(__file__).parent
EMBEDDED = {"catalogue": "demo", "bbox": (23.98, 67.93, 24.21, 68.02)}
REAL = {"catalogue": "earth-search", "bbox": (5.2245, 51.2132, 5.3023, 51.3066), "datetime": "2020-07"}


def load(name: str, path: Path) -> Any:
    """A module of the tests."""
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def measure(**settings: Any) -> None:
    """Cut out an area into a temporary folder and print what it took."""
    asked = complete(ListSettings, settings)
    with tempfile.TemporaryDirectory() as folder:
        listed = list_scenes(asked, map_area(asked, asked["bbox"]), chosen_intervals(asked, asked["datetime"]))
        cutout = listed.cut(f"{folder}/cut")
        expected, stored = listed.plan.bytes_to_read, cutout.stored
        kept = sum(path.is_dir() for path in cutout.folder.iterdir())
    ratio = f"{stored / expected:.2f} of {expected:,} bytes expected"
    print(f"{len(listed.scenes)} scenes, {kept} kept; {stored:,} bytes stored, {ratio}")


def main() -> None:
    """Measure the archive that was asked for."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--real", action="store_true")
    if not words.parse_args().real:
        measure(**EMBEDDED)
        return
    sys.path.insert(0, str(HERE.parent))
    import real_files

    server, folder = load("archive_server", HERE.parent / "ray" / "archive_server.py"), real_files.FOLDER / "archive"
    with server.serve(server.Archive(folder)) as archive:
        text = (folder / "catalogues" / "earth-search" / "items.json").read_text()
        archive.items[:] = server.json.loads(text.replace("{base}", f"{archive.url}/files"))["features"]
        measure(stac_url=archive.url, **REAL)


if __name__ == "__main__":
    main()

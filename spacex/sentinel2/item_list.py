"""Lists of STAC items in a file, instead of a search: an ItemCollection in JSON, or GeoParquet as stac-geoparquet's.

A list says which scenes a map is made of, whatever the catalogue holds years later, and needs no catalogue to be
reached. Links in it that are relative start at the file, so that a folder of scenes can be moved. Its items are
validated like those of a catalogue (`spacex.sentinel2.items`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import rustac
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.errors import CatalogueError
from spacex.storage import SHA256, absolute_uri, local_path, multihash, write_bytes

CATALOGUE = "spacex:catalogue"
"""Property of an item that names the catalogue whose items are like it, so that nobody has to remember."""
CHECKSUM = "file:checksum"
"""Field of STAC's file extension: a multihash."""
PARQUET = (".parquet", ".geoparquet")
"""Endings of lists in GeoParquet; others are written as JSON."""


def read_items(uri: str) -> list[Any]:
    """The items of a list on any store fsspec knows, not validated, with links that no longer depend on its place.

    Raises:
        CatalogueError: if it cannot be read, is no list of items, or is empty.
    """
    uri = absolute_uri(uri)
    try:
        with fsspec.open(uri, "rb") as file:
            content = file.read()
        if content[:4] == b"PAR1":
            # takes a moment to import, which other lists need not wait for
            import pyarrow.parquet

            document = rustac.from_arrow(pyarrow.parquet.read_table(io.BytesIO(content)))
        else:
            document = json.loads(content)
    except Exception as error:  # every store and both formats have their own errors
        raise CatalogueError(
            f"the list of items {uri} cannot be read", got=f"{type(error).__name__}: {error}"
        ) from error
    items = document.get("features") if isinstance(document, dict) else None
    if not isinstance(items, list) or not items:
        kind = document.get("type") if isinstance(document, dict) else type(document).__name__
        raise CatalogueError(
            f"{uri} is no list of items",
            got="an empty one" if items == [] else kind,
            expected="STAC items as a FeatureCollection in JSON, or as GeoParquet",
            do="`spacex scenes` writes one.",
        )
    return [_resolved(item, uri.rpartition("/")[0]) for item in items]


def catalogue_of(uri: str) -> str | None:
    """The catalogue that a list written by `write_items` names; None for lists of others."""
    first = read_items(uri)[0]
    name = first.get("properties", {}).get(CATALOGUE) if isinstance(first, dict) else None
    return name if isinstance(name, str) else None


def write_items(uri: str, items: Iterable[Mapping[str, Any]], catalogue: str) -> None:
    """Write a list in one step: GeoParquet if its name says so, else JSON.

    Links to files below the list's own folder are written relative to it, so that the folder can be moved.

    Args:
        uri: of the file, on any store fsspec knows.
        items: STAC items.
        catalogue: name of the profile that fits the items.
    """
    folder = f"{absolute_uri(uri).rpartition('/')[0]}/"
    named = [
        {
            **item,
            "properties": {**item["properties"], CATALOGUE: catalogue},
            "assets": {k: {**a, "href": a["href"].removeprefix(folder)} for k, a in item["assets"].items()},
        }
        for item in items
    ]
    if uri.lower().endswith(PARQUET):
        with TemporaryDirectory() as folder:
            rustac.write_sync(f"{folder}/items.parquet", {"type": "FeatureCollection", "features": named})
            write_bytes(uri, Path(folder, "items.parquet").read_bytes())
    else:
        write_bytes(uri, json.dumps({"type": "FeatureCollection", "features": named}, indent=1).encode())


def chosen(items: Iterable[Any], area: BaseGeometry, interval: str) -> list[Any]:
    """The items that touch an area (EPSG:4326) in a STAC interval, and all that are too broken to tell."""
    first, _, last = interval.partition("/")
    return [item for item in items if _touches(item, area) and _within(item, first, last or first)]


def other_files(items: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    """The files on this machine that are not what they were when they were listed, or gone; reads a GB a second."""
    for asset in (asset for item in items for asset in item["assets"].values()):
        file, stated = local_path(asset["href"]), str(asset.get(CHECKSUM)).lower()
        if file is not None and stated.startswith(SHA256) and multihash(file) != stated:
            yield file


def check_files(items: Iterable[Mapping[str, Any]], title: str) -> None:
    """Refuse items if a file on this machine is not what the list of that title says: a CatalogueError names it."""
    if file := next(other_files(items), None):
        raise CatalogueError(f"{file} is not the file that {title} lists", do="Make both again.")


def _touches(item: Any, area: BaseGeometry) -> bool:
    try:
        return bool(shape(item["geometry"]).intersects(area))
    except Exception:  # shapely fails in as many ways as there are wrong geometries; validation will name it
        return True


def _within(item: Any, first: str, last: str) -> bool:
    try:
        sensed = str(item["properties"]["datetime"])
        datetime.fromisoformat(sensed)
    except (KeyError, TypeError, ValueError):
        return True
    # a bound of fewer digits, a day or a month, includes all of it; ".." is open
    return (first == ".." or sensed[: len(first)] >= first) and (last == ".." or sensed[: len(last)] <= last)


def _resolved(item: Any, folder: str) -> Any:
    """The item with its relative links joined to the list's folder; what is no item stays as it is."""
    if not isinstance(item, dict) or not isinstance(item.get("assets"), dict):
        return item
    assets = {}
    for key, asset in item["assets"].items():
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and ":" not in href.partition("/")[0] and not href.startswith(("/", "<")):
            asset = {**asset, "href": f"{folder}/{href.removeprefix('./')}"}
        if asset is not None:  # a table has a cell for each asset that any of its items has
            assets[key] = asset
    return {**item, "assets": assets}

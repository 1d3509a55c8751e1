"""Describe a cube as a STAC item (one time step) or a STAC collection (several).

The item is ``lapland.stac.json`` beside ``lapland.zarr``. A collection has that name too, and one item per step in
``lapland.stac/``; all of them refer to the same store. Links are relative, so cube and description can be moved
together. STAC 1.1 with the extensions datacube, projection, processing, render and zarr; the media type is that of
the Zarr best practices (version 3, with overviews).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import pystac
from pyproj import CRS
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.render import RenderExtension
from shapely.geometry import mapping, shape

from spacex.attribution.names import GENERATED, HIGH, LOW
from spacex.cube import layout
from spacex.cube.store import Cube
from spacex.cube.summary import meaning_lines
from spacex.sentinel2.catalogue_profiles import get_catalogue
from spacex.sentinel2.scene_list import scenes_by_interval
from spacex.sentinel2.scenes import Scene
from spacex.settings import fingerprint
from spacex.storage import run_folder, write_text

EXTENSIONS = [
    DatacubeExtension.get_schema_uri(),
    RenderExtension.get_schema_uri(),
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/zarr/v1.1.0/schema.json",
]
"""Besides projection, which pystac adds itself."""
MEDIA_TYPE = "application/vnd.zarr; version=3; profile=multiscales"
FOOTPRINT = 0.001
"""Tolerance in degrees when the area's outline is simplified: a country's has 60,000 corners."""


def describe_cube(cube: Cube | str, picture: str | None = None) -> str:
    """Write a cube's STAC item (one time step) or collection (several) beside it.

    Args:
        cube: the cube, or its URI, local or remote.
        picture: URI of the quicklook, if one was drawn; it becomes the thumbnail.

    Returns:
        URI of the item or collection.

    Raises:
        CubeError: if there is no cube.

    >>> import spacex
    >>> spacex.describe_cube("lapland.zarr")
    'lapland.stac.json'
    """
    opened = Cube(cube) if isinstance(cube, str) else cube
    base = opened.uri.rstrip("/").removesuffix(".zarr") + ".stac"
    target = f"{base}.json"
    if len(opened.spec.intervals) == 1:
        _write(_item(opened, 0, ""), opened, target, picture)
        return target
    collection = _collection(opened)
    for step, (first, _) in enumerate(opened.spec.intervals):
        item, file = _item(opened, step, f"-{first}"), f"{base}/{first}.json"
        item.collection_id = collection.id
        for rel in ("collection", "parent", "root"):
            item.add_link(pystac.Link(rel, _relative(target, file), pystac.MediaType.JSON))
        _write(item, opened, file, None)
        collection.add_link(pystac.Link("item", _relative(file, target), pystac.MediaType.GEOJSON, first))
    # the collection last: it never links to an item that is not there yet
    _write(collection, opened, target, picture)
    return target


def _identifier(cube: Cube) -> str:
    """An id from the fingerprint (how pixels were made) and the request (which pixels)."""
    return f"spacex-{cube.fingerprint}-{fingerprint(cube.attributes['request'])[:8]}"


def _item(cube: Cube, step: int, suffix: str) -> pystac.Item:
    area = shape(cube.attributes["request"]["area"])
    first, last = _period(cube, step)
    item = pystac.Item(
        id=f"{_identifier(cube)}{suffix}",
        geometry=mapping(area.simplify(FOOTPRINT)),
        bbox=list(area.bounds),
        datetime=None,
        start_datetime=pystac.utils.str_to_datetime(first),
        end_datetime=pystac.utils.str_to_datetime(last),
        properties={
            "title": cube.attributes["title"],
            "description": _description(cube),
            "license": cube.attributes.get("license", "other"),
            "gsd": cube.spec.resolution,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "processing:level": "L4",
            **_processing(cube),
            **_datacube(cube, [step]),
        },
        stac_extensions=[*EXTENSIONS],
    )
    box = cube.grid.geobox(cube.extent)
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    authority = CRS(cube.spec.crs).to_authority()
    projection.apply(
        code=":".join(authority) if authority else None,
        wkt2=None if authority else CRS(cube.spec.crs).to_wkt("WKT2_2019"),
        shape=list(box.shape),
        transform=list(box.affine)[:6],
        bbox=list(box.boundingbox),
    )
    item.add_links(list(_sources(cube, step)))
    return item


def _collection(cube: Cube) -> pystac.Collection:
    area = shape(cube.attributes["request"]["area"])
    period = [pystac.utils.str_to_datetime(moment) for moment in _union(cube, range(len(cube.spec.intervals)))]
    return pystac.Collection(
        id=_identifier(cube),
        title=cube.attributes["title"],
        description=f"{len(cube.spec.intervals)} time steps. {_description(cube)}",
        license=cube.attributes.get("license", "other"),
        extent=pystac.Extent(pystac.SpatialExtent([list(area.bounds)]), pystac.TemporalExtent([period])),
        providers=[pystac.Provider("SpacEX", roles=[pystac.ProviderRole.PROCESSOR], extra_fields=_processing(cube))],
        stac_extensions=[*EXTENSIONS],
        extra_fields=_datacube(cube, range(len(cube.spec.intervals))),
    )


def _write(owner: pystac.Item | pystac.Collection, cube: Cube, file: str, picture: str | None) -> None:
    """Write an item or a collection, with the store and the quicklook as assets; links are relative to the file."""
    store = pystac.Asset(
        _relative(cube.uri, file),
        title="The cube: one Zarr group per level, 0 is full resolution",
        media_type=MEDIA_TYPE,
        roles=["data"],
        extra_fields={"zarr:node_type": "group", "zarr:zarr_format": 3, "zarr:consolidated": True},
    )
    owner.add_asset("cube", store)
    owner.add_link(pystac.Link("store", _relative(cube.uri, file), MEDIA_TYPE))
    if picture is not None:
        href = _relative(picture, file)
        owner.add_asset("thumbnail", pystac.Asset(href, "Quicklook", media_type="image/png", roles=["thumbnail"]))
    write_text(file, json.dumps(owner.to_dict(include_self_link=False, transform_hrefs=False), indent=1))


def _sources(cube: Cube, step: int) -> Iterator[pystac.Link]:
    """A `derived_from` link per scene of a time step; none if the run's scene list was deleted."""
    uri = f"{run_folder(cube.uri)}/scenes.gz"
    for scene in scenes_by_interval(uri, cube.spec.intervals)[step] or ():
        yield pystac.Link("derived_from", _scene_url(cube, scene), pystac.MediaType.GEOJSON, scene.id)


def _scene_url(cube: Cube, scene: Scene) -> str:
    request = cube.attributes["request"]
    if request["catalogue"] == "demo" and request["stac_url"] is None:
        return f"urn:spacex:demo:{scene.id}"  # it has no address
    catalogue = get_catalogue(request["catalogue"], request["stac_url"], request["collection"])
    return f"{catalogue.url.rstrip('/')}/collections/{catalogue.collection}/items/{scene.id}"


def _processing(cube: Cube) -> dict[str, Any]:
    checkpoint, version = cube.attributes["checkpoint"], cube.attributes["spacex_code"].partition("+")[0]
    data = checkpoint["data"].get("name", "unknown data")
    preset = f", preset {checkpoint['preset']}" if checkpoint.get("preset") else ""
    lineage = f"{cube.attributes['source']}; median of clear observations; networks trained on {data}{preset}"
    return {"processing:software": {"SpacEX": version}, "processing:lineage": lineage}


def _description(cube: Cube) -> str:
    """What the cube is made of, what its scores mean and how well its classifier does, as Markdown."""
    return f"{cube.attributes['title']}. {cube.attributes['source']}.\n\n" + "\n\n".join(meaning_lines(cube))


def _datacube(cube: Cube, steps: Sequence[int]) -> dict[str, Any]:
    """The fields of the datacube and render extensions."""
    variables = [v for v in layout.variables(cube.spec) if v.name != "composite"]
    description = {v.name: v.attributes.get("comment", v.attributes["long_name"]) for v in variables}
    dimensions = {v.name: ["time", *v.band_dimension, "y", "x"] for v in variables}
    bands = {name: {"type": "bands", "values": list(v.bands)} for v in variables for name in v.band_dimension}
    return {
        "cube:dimensions": {**_dimensions(cube, steps), **bands},
        "cube:variables": {
            name: {"type": "data", "dimensions": dimensions[name], "description": text}
            for name, text in description.items()
        },
        "renders": _renders(cube),
    }


def _dimensions(cube: Cube, steps: Sequence[int]) -> dict[str, Any]:
    box, resolution = cube.grid.geobox(cube.extent).boundingbox, cube.spec.resolution
    epsg = CRS(cube.spec.crs).to_epsg()
    reference = epsg if epsg is not None else CRS(cube.spec.crs).to_json_dict()
    space = {"type": "spatial", "step": resolution, "unit": "m", "reference_system": reference}
    values = [_period(cube, step)[0] for step in steps]
    return {
        "time": {"type": "temporal", "extent": _union(cube, steps), "values": values},
        "y": {**space, "axis": "y", "extent": [box.bottom, box.top]},
        "x": {**space, "axis": "x", "extent": [box.left, box.right]},
    }


def _renders(cube: Cube) -> dict[str, Any]:
    colours = {name: {"colormap_name": "inferno"} for name in cube.spec.maps if name not in GENERATED}
    fixed: dict[str, Any] = {
        "naturalness": {"colormap_name": "cividis", "rescale": [[0.0, 1.0]]},
        "dissimilarity": {"colormap_name": "viridis", "rescale": [[0.0, 2.0]]},
    }
    colours |= {name: fixed[name] for name in cube.spec.scores}
    colours |= {name: fixed["naturalness"] for name in (LOW, HIGH) if name in cube.spec.maps}
    return {name: {"assets": ["cube"], "title": name.replace("_", " "), **how} for name, how in colours.items()}


def _period(cube: Cube, step: int) -> tuple[str, str]:
    """First and last second of a time step."""
    first, last = cube.spec.intervals[step]
    return f"{np.datetime64(first)}T00:00:00Z", f"{np.datetime64(last)}T23:59:59Z"


def _union(cube: Cube, steps: Sequence[int]) -> list[str]:
    """First second of the earliest and last second of the latest of these time steps, in whatever order they are."""
    firsts, lasts = zip(*(_period(cube, step) for step in steps), strict=True)
    return [min(firsts), max(lasts)]


def _relative(target: str, file: str) -> str:
    """A link from `file` to `target`: relative in the same file system, else the target's URI."""
    (fs, path), (target_fs, target_path) = fsspec.core.url_to_fs(file), fsspec.core.url_to_fs(target)
    if type(fs) is not type(target_fs):
        return target
    link = posixpath.relpath(target_path, posixpath.dirname(path))
    return link if link.startswith(".") else f"./{link}"

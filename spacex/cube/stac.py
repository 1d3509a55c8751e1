"""What a cube says of itself to a catalogue: a STAC item beside it, or a collection for a time series.

A cube of one time step becomes an item, ``lapland.stac.json`` beside ``lapland.zarr``. A cube of several becomes a
collection under that name, with one item per step in ``lapland.stac/``; all of them point at the same store. Links
are relative, so cube and description move together. STAC 1.1 with the extensions datacube, projection, processing,
render and zarr; the media type is that of the Zarr best practices (version 3, with overviews).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pystac
from pyproj import CRS
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.render import RenderExtension
from shapely.geometry import mapping, shape

from spacex.cube.store import Cube
from spacex.sentinel2.catalogue_profiles import get_catalogue
from spacex.sentinel2.scene_list import load_scenes
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
"""Degrees by which the footprint may miss the area asked for: a country's outline has 60,000 corners."""


def describe_cube(cube: Cube | str, picture: str | None = None) -> str:
    """Write a cube's STAC item (one time step) or collection (several) beside it.

    Args:
        cube: the cube, or its URI, local or remote.
        picture: the quicklook, if one was drawn: becomes the thumbnail.

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
    steps = range(len(opened.spec.intervals))
    if len(steps) == 1:
        item = _item(opened, 0, "")
        _add_assets(item, opened, target, picture)
        write_text(target, _text(item.to_dict(include_self_link=False, transform_hrefs=False)))
        return target
    collection = _collection(opened)
    _add_assets(collection, opened, target, picture)
    for step in steps:
        first = opened.spec.intervals[step][0]
        item, file = _item(opened, step, f"-{first}"), f"{base}/{first}.json"
        _add_assets(item, opened, file, None)
        item.collection_id = collection.id
        up = _relative(target, file)
        for rel in ("collection", "parent", "root"):
            item.add_link(pystac.Link(rel, up, pystac.MediaType.JSON))
        write_text(file, _text(item.to_dict(include_self_link=False, transform_hrefs=False)))
        collection.add_link(pystac.Link("item", _relative(file, target), pystac.MediaType.GEOJSON, first))
    write_text(target, _text(collection.to_dict(include_self_link=False, transform_hrefs=False)))
    return target


def _name(cube: Cube) -> str:
    """The fingerprint says how pixels were made, the request which ones."""
    return f"spacex-{cube.fingerprint}-{fingerprint(cube.attributes['request'])[:8]}"


def _item(cube: Cube, step: int, suffix: str) -> pystac.Item:
    area = shape(cube.attributes["request"]["area"])
    first, last = _moments(cube, step)
    item = pystac.Item(
        id=f"{_name(cube)}{suffix}",
        geometry=mapping(area.simplify(FOOTPRINT)),
        bbox=list(area.bounds),
        datetime=None,
        start_datetime=pystac.utils.str_to_datetime(first),
        end_datetime=pystac.utils.str_to_datetime(last),
        properties={
            "title": cube.attributes["title"],
            "license": _licence(cube),
            "gsd": cube.spec.resolution,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "processing:level": "L4",
            **_processing(cube),
            "cube:dimensions": _dimensions(cube, [step]),
            "cube:variables": _variables(cube),
            "renders": _renders(cube),
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
    for link in _sources(cube, step):
        item.add_link(link)
    return item


def _collection(cube: Cube) -> pystac.Collection:
    area = shape(cube.attributes["request"]["area"])
    first, last = _moments(cube, 0)[0], _moments(cube, -1)[1]
    period = [pystac.utils.str_to_datetime(first), pystac.utils.str_to_datetime(last)]
    return pystac.Collection(
        id=_name(cube),
        title=cube.attributes["title"],
        description=f"{cube.attributes['title']}, {len(cube.spec.intervals)} time steps. {cube.attributes['source']}.",
        license=_licence(cube),
        extent=pystac.Extent(pystac.SpatialExtent([list(area.bounds)]), pystac.TemporalExtent([period])),
        providers=[
            pystac.Provider("SpacEX", roles=[pystac.ProviderRole.PROCESSOR], extra_fields=_processing(cube)),
        ],
        stac_extensions=[*EXTENSIONS],
        extra_fields={
            "cube:dimensions": _dimensions(cube, range(len(cube.spec.intervals))),
            "cube:variables": _variables(cube),
            "renders": _renders(cube),
        },
    )


def _add_assets(owner: pystac.Item | pystac.Collection, cube: Cube, file: str, picture: str | None) -> None:
    """The store, and the quicklook if there is one, by links relative to the file that describes them."""
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


def _sources(cube: Cube, step: int) -> Iterator[pystac.Link]:
    """A `derived_from` link per scene of a time step; none where the run's papers are gone."""
    list_of_scenes = f"{run_folder(cube.uri)}/scenes.gz"
    fs, path = fsspec.core.url_to_fs(list_of_scenes)
    if not fs.exists(path):
        return
    for scene in load_scenes(list_of_scenes)[step]:
        yield pystac.Link("derived_from", _address(cube, scene), pystac.MediaType.GEOJSON, scene.id)


def _address(cube: Cube, scene: Scene) -> str:
    request = cube.attributes["request"]
    if request["catalogue"] == "demo":
        return f"urn:spacex:demo:{scene.id}"  # served on another port every time
    catalogue = get_catalogue(request["catalogue"], request["stac_url"], request["collection"])
    return f"{catalogue.url.rstrip('/')}/collections/{catalogue.collection}/items/{scene.id}"


def _processing(cube: Cube) -> dict[str, Any]:
    checkpoint, version = cube.attributes["checkpoint"], cube.attributes["spacex_code"].partition("+")[0]
    data = checkpoint["data"].get("name", "unknown data")
    preset = f", preset {checkpoint['preset']}" if checkpoint.get("preset") else ""
    lineage = f"{cube.attributes['source']}; median of clear observations; networks trained on {data}{preset}"
    return {"processing:software": {"SpacEX": version}, "processing:lineage": lineage}


def _dimensions(cube: Cube, steps: Any) -> dict[str, Any]:
    box, resolution = cube.grid.geobox(cube.extent).boundingbox, cube.spec.resolution
    epsg = CRS(cube.spec.crs).to_epsg()
    reference = epsg if epsg is not None else CRS(cube.spec.crs).to_json_dict()
    space = {"type": "spatial", "step": resolution, "unit": "m", "reference_system": reference}
    moments = [_moments(cube, step) for step in steps]
    extent = [moments[0][0], moments[-1][1]]
    return {
        "time": {"type": "temporal", "extent": extent, "values": [first for first, _ in moments]},
        "y": {**space, "axis": "y", "extent": [box.bottom, box.top]},
        "x": {**space, "axis": "x", "extent": [box.left, box.right]},
    }


def _variables(cube: Cube) -> dict[str, Any]:
    made = {
        **cube.spec.maps,
        "naturalness": "the classifier's score of the chips around a pixel, blended; 1 = natural",
        "observations": "clear observations behind the composite",
    }
    if cube.spec.dissimilarity:
        made["dissimilarity"] = cube.spec.dissimilarity
    plain = {"type": "data", "dimensions": ["time", "y", "x"]}
    return {name: {**plain, "description": text} for name, text in made.items()}


def _renders(cube: Cube) -> dict[str, Any]:
    one: dict[str, Any] = {"assets": ["cube"], "colormap_name": "inferno"}
    maps = {name: {**one, "title": name.replace("_", " ")} for name in cube.spec.maps}
    score = {**one, "title": "naturalness", "colormap_name": "cividis", "rescale": [[0.0, 1.0]]}
    unlike = {**one, "title": "dissimilarity", "colormap_name": "viridis", "rescale": [[0.0, 2.0]]}
    return {**maps, "naturalness": score, **({"dissimilarity": unlike} if cube.spec.dissimilarity else {})}


def _moments(cube: Cube, step: int) -> tuple[str, str]:
    """First and last second of a time step."""
    first, last = cube.spec.intervals[step]
    return f"{np.datetime64(first)}T00:00:00Z", f"{np.datetime64(last)}T23:59:59Z"


def _licence(cube: Cube) -> str:
    return str(cube.attributes.get("license", "other"))


def _relative(target: str, file: str) -> str:
    """The way from one file to another in the same store; to another store, the target as it is."""
    (here, there), (store, other) = zip(*(fsspec.core.url_to_fs(uri)[::-1] for uri in (file, target)), strict=True)
    if type(store) is not type(other):
        return target
    relative = posixpath.relpath(there, posixpath.dirname(here))
    return relative if relative.startswith(".") else f"./{relative}"


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1)

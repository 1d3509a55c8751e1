"""The scenes of a run, kept in its folder, so that a resumed run composites the very same ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence

import fsspec

from spacex.errors import RequestError
from spacex.sentinel2.scenes import Scene
from spacex.storage import write_bytes

Scenes = Sequence[Sequence[Scene]]
"""The scenes of every time step."""


def save_scenes(uri: str, scenes: Scenes, left_out: Mapping[str, str] | None = None) -> None:
    """Write a scene list: compressed lines of JSON, first the number of time steps, then [step, scene] of each.

    The first line also has the ids of the catalogue's items that were left out, with reasons.
    """
    lines = [json.dumps([step, scene.to_json()]) for step, of_step in enumerate(scenes) for scene in of_step]
    text = "\n".join([json.dumps({"steps": len(scenes), "left_out": dict(left_out or {})}), *lines])
    write_bytes(uri, gzip.compress(text.encode(), mtime=0))


def load_scenes(uri: str) -> list[list[Scene]]:
    """Read what `save_scenes` wrote."""
    with fsspec.open(uri, "rb") as file:
        head, *lines = gzip.decompress(file.read()).decode().splitlines()
    scenes: list[list[Scene]] = [[] for _ in range(json.loads(head)["steps"])]
    for line in lines:
        step, record = json.loads(line)
        scenes[step].append(Scene.from_json(record))
    return scenes


def load_left_out(uri: str) -> dict[str, str]:
    """Ids of the items that were left out of a scene list, with reasons; empty if there is no list."""
    fs, path = fsspec.core.url_to_fs(uri)
    if not fs.exists(path):
        return {}
    with fsspec.open(uri, "rb") as file, gzip.open(file) as lines:
        return dict(json.loads(lines.readline()).get("left_out", {}))


def known_scenes(uri: str) -> Scenes | None:
    """The scene list of an earlier run; None if there is none.

    Raises:
        RequestError: if it is damaged.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        return load_scenes(uri) if fs.exists(path) else None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RequestError(
            f"the scene list of an earlier run is damaged: {uri}",
            got=f"{type(error).__name__}: {error}",
            do="Remove it; the catalogue will be asked again.",
        ) from error

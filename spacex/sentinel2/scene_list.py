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
Intervals = Sequence[tuple[str, str]]
"""First and last day of every time step."""


def save_scenes(uri: str, scenes: Scenes, intervals: Intervals = (), left_out: Mapping[str, str] | None = None) -> None:
    """Write a scene list: compressed lines of JSON, first the time steps, then [step, scene] of each.

    Args:
        uri: of the file.
        scenes: of every time step.
        intervals: first and last day of every time step, where there may be several.
        left_out: ids of the catalogue's items that were left out, with reasons; they are in the first line.
    """
    lines = [json.dumps([step, scene.to_json()]) for step, of_step in enumerate(scenes) for scene in of_step]
    head = {"steps": len(scenes), "intervals": intervals, "left_out": dict(left_out or {})}
    text = "\n".join([json.dumps(head), *lines])
    write_bytes(uri, gzip.compress(text.encode(), mtime=0))


def load_scenes(uri: str) -> list[list[Scene]]:
    """Read what `save_scenes` wrote."""
    return _read(uri)[0]


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
    known = _known(uri)
    return None if known is None else known[0]


def scenes_by_interval(uri: str, intervals: Intervals) -> list[list[Scene] | None]:
    """The scenes of an earlier run for each of these time steps; None for steps that its list does not have.

    The list may have other steps than the cube: a run that was killed while it extended the cube had written it first.

    Raises:
        RequestError: if the list is damaged.
    """
    known = _known(uri)
    if known is None:
        return [None for _ in intervals]
    scenes, steps = known
    # a list without intervals is of a version that only ever added steps at the end
    by_days = dict(zip(steps or intervals, scenes, strict=False))
    return [by_days.get(days) for days in intervals]


def _known(uri: str) -> tuple[list[list[Scene]], Intervals] | None:
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        return _read(uri) if fs.exists(path) else None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RequestError(
            f"the scene list of an earlier run is damaged: {uri}",
            got=f"{type(error).__name__}: {error}",
            do="Remove it; the catalogue will be asked again.",
        ) from error


def _read(uri: str) -> tuple[list[list[Scene]], Intervals]:
    with fsspec.open(uri, "rb") as file:
        head, *lines = gzip.decompress(file.read()).decode().splitlines()
    about = json.loads(head)
    scenes: list[list[Scene]] = [[] for _ in range(about["steps"])]
    for line in lines:
        step, record = json.loads(line)
        scenes[step].append(Scene.from_json(record))
    return scenes, [(first, last) for first, last in about.get("intervals", ())]

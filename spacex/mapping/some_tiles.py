"""Maps a few tiles of a request into a temporary cube, in this process: to measure the pace, or to compare."""

from __future__ import annotations

from collections.abc import Iterable

from spacex.checkpoint import Checkpoint
from spacex.cube.store import Cube, create_cube
from spacex.execution.tasks import TileReport, TileTask
from spacex.mapping.request import MapRequest
from spacex.mapping.worker import Job
from spacex.sentinel2.scene_list import Scenes, save_scenes


def map_tiles(
    request: MapRequest,
    checkpoint: Checkpoint,
    scenes: Scenes,
    tasks: Iterable[TileTask],
    folder: str,
    threads: int | None = None,
) -> tuple[Cube, list[TileReport]]:
    """Map some tiles into a new cube in a folder; gives the cube and the tiles' reports.

    Args:
        request: of the whole map; a tile's pixels do not depend on the tiles that are mapped beside it.
        checkpoint: the networks.
        scenes: of every time step.
        tasks: the tiles.
        folder: empty; the caller removes it.
        threads: CPU threads of the networks.
    """
    output, scene_list = f"{folder}/cube.zarr", f"{folder}/scenes.gz"
    save_scenes(scene_list, scenes, request.intervals)
    about = {"request": request.model_dump(mode="json")}
    cube = create_cube(output, request.spec(checkpoint.card), "temporary", about)
    networks = {"checkpoint": checkpoint.uri, "trust": checkpoint.trust, "threads": threads}
    pipeline = Job(request=request, output=output, scenes=scene_list, **networks).open()
    for task in tasks:
        pipeline.add(task)
    reports: list[TileReport] = []
    while len(pipeline):
        reports += pipeline.advance(timeout=1.0)
    pipeline.close()
    return cube, reports

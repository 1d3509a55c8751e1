"""Lists of scenes from Python: `scenes` searches them, writes their list, and cuts out what an area needs of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from shapely.geometry.base import BaseGeometry

from spacex.api.declaration import complete, documented, pick
from spacex.api.map_settings import SCORE, ListSettings, PlanSettings
from spacex.api.mapping import plan_map
from spacex.api.scenes import Intervals, chosen_intervals, map_area
from spacex.checkpoint import Checkpoint, read_card
from spacex.errors import RequestError
from spacex.mapping.plan import Plan
from spacex.sentinel2.cutout import Cutout
from spacex.sentinel2.item_list import write_items
from spacex.sentinel2.read_estimate import bytes_to_fetch
from spacex.sentinel2.scenes import Scene
from spacex.storage import absolute_uri

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


@dataclass(frozen=True)
class ListedScenes:
    """The scenes that a map of an area would be made of. Nothing is written before `write` and `cut`."""

    plan: Plan
    """The map's plan: scenes, and what is expected to be read of them."""

    @property
    def scenes(self) -> list[Scene]:
        """The scenes of all time steps, each once, in the order of their days."""
        scenes = {scene.id: scene for step in self.plan.scenes for scene in step}
        return sorted(scenes.values(), key=lambda scene: (scene.datetime, scene.tile))

    def rows(self) -> list[dict[str, Any]]:
        """A row per scene: id, datetime, tile, orbit, cloud_cover (percent), offset (DN), bytes a map would read."""
        work, request, bands = self.plan.work, self.plan.request, len(self.plan.checkpoint.card.bands)
        return [
            {
                "id": scene.id,
                "datetime": scene.datetime,
                "tile": scene.tile,
                "orbit": _orbit(scene),
                "cloud_cover": scene.cloud_cover,
                "offset": scene.offset.dn,
                "bytes": bytes_to_fetch(work.by_scene[scene.id], bands, request.resolution)
                if scene.id in work.by_scene
                else 0,
            }
            for scene in self.scenes
        ]

    def write(self, file: str) -> None:
        """Write the list, as GeoParquet if the file's name ends in .parquet, else as JSON."""
        write_items(file, [scene.item for scene in self.scenes], self.plan.request.catalogue)

    def cut(self, folder: str, report: Callable[[str], None] = lambda line: None) -> Cutout:
        """Store in a folder what a map of the area reads of the scenes, and go on where an earlier call stopped.

        Args:
            folder: on a disk.
            report: told in a line how far it is.

        Returns:
            The cutout; it is complete if `failed` is empty.

        Raises:
            RequestError: if the folder holds something else, or another cutout.
        """
        request, region = self.plan.request, self.plan.request.region
        where = Path(absolute_uri(folder)), region.grid, request.padded_window
        cutout = Cutout(*where, self.plan.checkpoint.card.bands, request.profile, request.composite)
        cutout.write(self.plan.scenes, report)
        return cutout


@documented(ListSettings)
def scenes(bbox: Sequence[float] | None = None, /, **settings: Unpack[ListSettings]) -> GeoDataFrame:
    """Search the scenes that a map would be made of; write their list, or cut out what the map needs of them.

    Args:
        {settings}

    Returns:
        A table with a row per scene, with its footprint (EPSG:4326) and the bytes a map is expected to read of it.

    Raises:
        RequestError: if the request cannot be carried out, or a file of a scene cannot be read; a cutout goes on from
            there when it is asked for again.

    >>> import spacex
    >>> spacex.scenes(catalogue="demo", output="scenes.json").tile.unique().tolist()
    ['34WFA', '35WLR']
    """
    import geopandas
    from shapely.geometry import shape

    asked = complete(ListSettings, settings, bbox=bbox)
    listed = list_scenes(asked, map_area(asked, asked["bbox"]), chosen_intervals(asked, asked["datetime"]))
    if asked["output"] is not None:
        listed.write(asked["output"])
    if asked["cutout"] is not None and (failed := listed.cut(asked["cutout"]).failed):
        name, reason = next(iter(failed.items()))
        raise RequestError(f"{len(failed)} scenes could not be cut", got=f"{name}: {reason}")
    footprints = [shape(scene.item["geometry"]) for scene in listed.scenes]
    return geopandas.GeoDataFrame(listed.rows(), geometry=footprints, crs=4326)


def list_scenes(asked: ListSettings, area: BaseGeometry, intervals: Intervals) -> ListedScenes:
    """The scenes of a map of an area, in EPSG:4326, by settings that are complete."""
    checkpoint = asked["checkpoint"]
    card = checkpoint.card if isinstance(checkpoint, Checkpoint) else read_card(checkpoint) if checkpoint else None
    # without generators there is the score alone
    maps = None if card is None or card.kind == "patterns" else SCORE
    # the map itself is only planned; no cube of that name is there
    with tempfile.TemporaryDirectory() as folder:
        more = {"output": f"{folder}/none.zarr", "maps": maps}
        settings = complete(PlanSettings, {**pick(asked, PlanSettings.__annotations__), **more})
        return ListedScenes(plan_map(settings, area, intervals).plan)


def _orbit(scene: Scene) -> int | None:
    """The relative orbit, as the item states it or from the product's name."""
    properties = scene.item["properties"]
    if (stated := properties.get("sat:relative_orbit")) is not None:
        return int(stated)
    names = (properties.get("s2:product_uri"), properties.get("sentinel:product_id"), scene.id)
    return next((int(match[1]) for name in names if (match := re.search(r"_R(\d{3})_", str(name)))), None)

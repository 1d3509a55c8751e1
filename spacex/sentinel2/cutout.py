"""Stores the part of some scenes that an area needs as Cloud-Optimised GeoTIFFs with a list of their items.

A cutout serves work without a network. Of each scene it has the rectangle around the pixels that take an observation
from it, the stored numbers as they are; scenes that give none are not stored. The composites of the area, made with the
same settings, therefore equal those from the whole scenes to the bit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, floor
from pathlib import Path
from typing import Any

import fsspec
import rasterio
import shapely
from rasterio.windows import Window as RioWindow
from rasterio.windows import from_bounds
from shapely.geometry import mapping, shape

from spacex.errors import CatalogueError, RequestError, TileError
from spacex.grid import Grid, Window, bounds
from spacex.sentinel2.assets import open_asset
from spacex.sentinel2.block_reader import BlockReader, Header
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.composite import Composer
from spacex.sentinel2.composite_cache import BLOCK_SIZE, MAX_WINDOW_BLOCKS
from spacex.sentinel2.item_list import CHECKSUM, other_files, read_items, write_items
from spacex.sentinel2.pixel_grid import transformer
from spacex.sentinel2.resampling import needed_window
from spacex.sentinel2.scene_request import CompositeSettings
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, by_cloud_cover, touching
from spacex.storage import atomic_path, multihash, write_text

ITEMS = "items.json"
"""The list, in the cutout's folder; written last, so that a folder without it is not complete."""
CLASSIFIED = ".classified"
"""Folder of the whole area's classifications, until it is known what is needed of each scene."""
REQUEST = "cutout.json"
"""What the folder was begun for."""
FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
"""Media type of the files."""
THREADS = 8
"""Files fetched at the same time."""

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in the CRS of a scene's files."""


@dataclass(frozen=True)
class Cutout:
    """Which scenes to cut, and where they go."""

    folder: Path
    grid: Grid
    """The pixels of the composites."""
    window: Window
    """Those that must be complete."""
    bands: tuple[str, ...]
    catalogue: CatalogueProfile
    """Where the scenes are now."""
    settings: CompositeSettings
    failed: dict[str, str] = field(default_factory=dict)
    """Scenes of which a file could not be read, with reasons; `write` fills it."""

    @property
    def stored(self) -> int:
        """Bytes of all files that are stored."""
        return sum(file.stat().st_size for file in self.folder.glob("*/*.tif"))

    def write(self, steps: Sequence[Iterable[Scene]], report: Callable[[str], None] = lambda line: None) -> None:
        """Fetch what is not in the folder yet. The list is written if nothing failed.

        Args:
            steps: the scenes of every time step.
            report: told in a line how far it is.

        Raises:
            RequestError: if the folder holds another cutout.
        """
        if self._claim():
            return
        parts: dict[str, list[Window]] = {}
        for step in steps:
            classified = self._each(self._classify, self._of_area(step), report)
            for name, window in self._kept(classified).items():
                parts.setdefault(name, []).append(window)
        windows = {name: bounds(of_steps) or self.window for name, of_steps in parts.items()}
        whole = {scene.id: scene for step in steps for scene in step if scene.id in windows}
        cut = [scene.item for scene in self._each(partial(self._cut, windows), whole.values(), report)]
        if not self.failed:
            write_items(str(self.folder / ITEMS), cut, self.catalogue.name)
            shutil.rmtree(self.folder / CLASSIFIED)

    def _claim(self) -> bool:
        """Say what the folder is for, or check that it is for the same; True if it is complete."""
        about = describe(self.grid, self.window, self.bands, self.settings) | {"catalogue": self.catalogue.name}
        file = self.folder / REQUEST
        if file.exists():
            if read_request(str(file)) != about:
                do = "Choose another folder, or repeat the command that began it."
                raise RequestError(f"{self.folder} holds a cutout of another area or for other settings", do=do)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise RequestError(f"{self.folder} holds something else", do="Choose a folder that is empty or new.")
        write_text(file, json.dumps(about, indent=1))
        try:
            items = read_items(str(self.folder / ITEMS))
            complete = all(Path(asset["href"]).exists() for item in items for asset in item["assets"].values())
            others = list(other_files(items))
        except (CatalogueError, KeyError, TypeError, AttributeError):
            return False  # the list is not there yet, or was damaged
        for file in others:
            if file.is_relative_to(self.folder):  # also through a link, which is removed
                file.unlink(missing_ok=True)  # so that it is cut again
        return complete and not others

    def _of_area(self, scenes: Iterable[Scene]) -> list[Scene]:
        chosen = touching(scenes, self.grid.geobox(self.window))
        return [scene for scene in chosen if not self.settings.exclusion_reason(scene)]

    def _kept(self, scenes: list[Scene]) -> dict[str, Window]:
        """The scenes, with local classifications, that composites are made of, and the part that is needed of each."""
        listed = self.catalogue.model_copy(update={"url": str(self.folder / ITEMS), "listed": True})
        composer, side = Composer(self.bands, listed, self.settings, BlockReader()), BLOCK_SIZE * MAX_WINDOW_BLOCKS
        used: dict[str, list[Window]] = {}
        for row in range(self.window.row, self.window.stop_row, side):
            for col in range(self.window.col, self.window.stop_col, side):
                part = Window(row, col, side, side).intersect(self.window)
                geobox = self.grid.geobox(part)
                for name, window in composer.usage(touching(scenes, geobox), geobox).items():
                    place = Window(part.row + window.row, part.col + window.col, *window.shape)
                    used.setdefault(name, []).extend([] if window.empty else [place])
        kept: dict[str, Window] = {}
        overpasses: set[str] = set()
        # Within an overpass, a scene's clouds keep later ones from giving the pixel. So a scene is needed whole where
        # a later one of its overpass is, and only where it gives observations if it is the last.
        for scene in reversed(by_cloud_cover(scenes)):
            part_used = bounds(used.get(scene.id, []))
            if scene.overpass in overpasses and scene.id in used:
                kept[scene.id] = self.window
            elif part_used is not None:
                kept[scene.id] = part_used
                overpasses.add(scene.overpass)
        return kept

    def _each(
        self, work: Callable[[Scene], Scene | None], scenes: Iterable[Scene], report: Callable[[str], None]
    ) -> list[Scene]:
        """What some work makes of scenes, several at the same time; nothing of those that fail."""

        def attempt(scene: Scene) -> Scene | None:
            try:
                return work(scene)
            except TileError as error:
                self.failed[scene.id] = str(error)
                return None

        scenes, done = list(scenes), list[Scene]()
        with ThreadPoolExecutor(THREADS) as pool:
            for number, scene in enumerate(pool.map(attempt, scenes), start=1):
                done += [] if scene is None else [scene]
                report(f"{number} of {len(scenes)} {'classifications' if work == self._classify else 'scenes'}")
        return done

    def _classify(self, scene: Scene) -> Scene | None:
        """The scene with its classification of the area in the folder; None if it lies beside the area."""
        file = self.folder / CLASSIFIED / f"{scene.id}.tif"
        if not file.exists():
            with open_asset(scene, self.catalogue.scl, self.catalogue) as source:
                header = Header.of(source)
                window = self._source_window(self.window, header)
                if window.empty:
                    return None
                _write_cut(source, window.slices(header.extent), file)
        return replace(scene, item=_with_files(scene, {self.catalogue.scl: file}))

    def _cut(self, windows: Mapping[str, Window], scene: Scene) -> Scene | None:
        """The scene with its part of the classification and of the bands in the folder."""
        folder, scl = self.folder / scene.id, self.catalogue.scl
        if not (folder / f"{scl}.tif").exists():
            with rasterio.open(self.folder / CLASSIFIED / f"{scene.id}.tif") as source:
                header = Header.of(source)
                _write_cut(
                    source, self._source_window(windows[scene.id], header).slices(header.extent), folder / f"{scl}.tif"
                )
        for key in self.catalogue.keys(self.bands):
            if not (folder / f"{key}.tif").exists():
                with rasterio.open(folder / f"{scl}.tif") as cut, open_asset(scene, key, self.catalogue) as source:
                    _write_cut(source, _rows_and_columns(source, cut.bounds), folder / f"{key}.tif")
        keys = [*self.catalogue.keys(self.bands), scl]
        return replace(scene, item=_with_files(scene, {key: folder / f"{key}.tif" for key in keys}))

    def _source_window(self, window: Window, header: Header) -> Window:
        """The pixels of a classification that a window of the grid needs: for the cloud buffer, and one around them."""
        margin = 1 + self.settings.cloud_buffer  # one is enough for the bands' bilinear resampling
        return needed_window(self.grid.geobox(window), header.grid, margin).intersect(header.extent)


def describe(grid: Grid, window: Window, bands: Sequence[str], settings: CompositeSettings) -> dict[str, Any]:
    """What the pixels of composites depend on besides their scenes, as JSON."""
    return {
        "crs": grid.crs, "resolution": grid.resolution, "window": [window.row, window.col, *window.shape],
        "bands": list(bands), "composite": settings.model_dump(mode="json"),
    }  # fmt: skip


def read_request(uri: str) -> dict[str, Any] | None:
    """What a cutout was made for, as `describe` has it; None if there is no such file or it is damaged."""
    try:
        with fsspec.open(uri, "rt") as file:
            request = json.load(file)
        return request if {"crs", "resolution", "window", "bands", "composite"} <= request.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _rows_and_columns(source: Any, bounds: Bounds) -> tuple[slice, slice]:
    """The pixels of an open file that touch a rectangle."""
    exact = from_bounds(*bounds, transform=source.transform).toranges()
    rows, columns = (
        slice(max(0, floor(first + 1e-6)), min(size, ceil(last - 1e-6)))
        for (first, last), size in zip(exact, source.shape, strict=True)
    )
    return rows, columns


def _write_cut(source: Any, part: tuple[slice, slice], file: Path) -> None:
    """Write a part of an open file as a COG, in one step."""
    window = RioWindow.from_slices(*part)
    values = source.read(1, window=window)
    raster = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype, "nodata": 0}
    raster |= {"crs": source.crs, "transform": source.window_transform(window)}
    layout = {"blocksize": 512, "compress": "deflate", "level": 6, "predictor": "yes", "overviews": "none"}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as made, rasterio.open(made, "w", driver="COG", **raster, **layout) as target:
        target.write(values, 1)


def _with_files(scene: Scene, files: Mapping[str, Path]) -> dict[str, Any]:
    """A scene's item with other files, which may be parts of the scene's, and the footprint of that part."""
    assets: dict[str, Any] = {}
    for key, file in files.items():
        with rasterio.open(file) as cut:
            edges, crs = tuple(cut.bounds), cut.crs.to_string()
            described: dict[str, Any] = {"href": str(file), "type": COG_TYPE, CHECKSUM: multihash(file)}
            described |= {"proj:code": crs, "proj:shape": list(cut.shape), "proj:transform": list(cut.transform)[:6]}
            assets[key] = {**scene.item["assets"][key], **described}
    # grown by more than the slack by which scenes are selected: within the part the same ones are
    edge = shapely.segmentize(shapely.box(*edges).buffer(1.5 * FOOTPRINT_SLACK, join_style="mitre"), 2000.0)
    around = shapely.transform(edge, transformer(crs, "EPSG:4326").transform, interleaved=False)
    part = shapely.make_valid(shape(scene.item["geometry"])).intersection(around)
    areal = not part.is_empty and part.geom_type in ("Polygon", "MultiPolygon")
    place = {"geometry": mapping(part), "bbox": list(part.bounds)} if areal else {}
    extensions = sorted({*scene.item.get("stac_extensions", ()), FILE_EXTENSION})
    return {**scene.item, "stac_extensions": extensions, "assets": assets, **place}

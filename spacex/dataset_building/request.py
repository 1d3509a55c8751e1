"""What was asked for: the statements of what is what, how places are drawn, and which scenes are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from spacex.datasets.corine import CODES
from spacex.errors import DataError, RequestError
from spacex.grid import CHIP
from spacex.metres import check_crs
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_request import SceneRequest
from spacex.settings import SENTINEL2_BANDS, Settings, fingerprint

CODE = ("chipset", "datasets", "rasters.py", "vectors.py")
"""Sources that, with those of mapping's pixels, decide which chips a set holds."""

HUMAN = ("1", "2")
"""CORINE classes that are anthropogenic unless told otherwise: artificial surfaces and agricultural areas."""

SHARE = 0.9
"""Of a chip that must lie in its class: what is drawn near an edge would show mostly what lies beyond it."""

COUNT = 24_000
"""Chips: AnthroProtect has 23,919. Smaller regions end earlier, when no further place keeps the distance."""

LIMIT = 100
"""Chips per polygon. AnthroProtect has no limit, and its largest site, Ib 654, holds 322 of its 7,003 natural chips, as
many as the 84 smallest of its 181 sites; with this limit it would have kept 5,895."""


class LabelSource(Settings):
    """A file of polygons that states one class."""

    file: str
    """Path of the vector file."""
    where: str | None = None
    """Which of its features, as an SQL expression; None: all."""
    digest: str
    """Of the file's content."""

    @classmethod
    def of(cls, file: str, where: str | None = None) -> LabelSource:
        """The statement of a file as it is now."""
        path = Path(file).resolve()
        return cls(file=str(path), where=where, digest=digest_of(path))


class LandCover(Settings):
    """A CORINE raster."""

    file: str
    """Path of the GeoTIFF, for workers too."""
    human: tuple[str, ...] = ()
    """CORINE classes, or the beginnings of their codes, that state the anthropogenic class; () for none."""
    digest: str
    """Of the file's content."""

    @field_validator("human")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for start in value:
            if not codes_of((start,)):
                raise ValueError(f"beginnings of CORINE codes 111..523, e.g. 1, 24 or 312, not {start!r}")
        return value

    @classmethod
    def of(cls, file: str, human: tuple[str, ...] = ()) -> LandCover:
        """The raster as it is now."""
        path = Path(file).resolve()
        return cls(file=str(path), human=human, digest=digest_of(path))


class DrawSettings(Settings):
    """How places are drawn."""

    share: float = Field(SHARE, gt=0, le=1)
    """Share of a chip that must lie in its class."""
    distance: float = Field(2560.0, ge=0, le=1e6)
    """Metres between the middles of two chips at least. A chip's side, as between AnthroProtect's neighbours (2.55 km);
    chips never overlap, whatever this is."""
    count: int = Field(COUNT, ge=2)
    """Chips at most, half of each class."""
    limit_per_polygon: int = Field(LIMIT, ge=1)
    """Chips of one polygon at most; where land cover states the class, of a square of 20 km."""
    seed: int = Field(0, ge=0)
    """Names every random draw."""


class DatasetRequest(SceneRequest):
    """Everything that decides a set of chips. Stored beside it; its fingerprint guards resuming."""

    interval: tuple[str, str]
    """First and last day, ISO 8601."""
    area: dict[str, Any] | None = None
    """GeoJSON polygon in EPSG:4326 in which chips must lie; None: wherever the statements reach."""
    natural: LabelSource
    anthropogenic: LabelSource | None = None
    land_cover: LandCover | None = None
    bands: tuple[str, ...] = SENTINEL2_BANDS
    """Bands that are read; the others of a chip's ten are no data."""
    draw: DrawSettings = DrawSettings()
    min_valid: float = Field(0.9, gt=0, le=1)
    """Share of a chip that must have data, or it is left out: training feeds gaps as 0."""

    @field_validator("bands")
    @classmethod
    def _in_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(band not in SENTINEL2_BANDS for band in value):
            raise ValueError(f"some of {', '.join(SENTINEL2_BANDS)}")
        return tuple(band for band in SENTINEL2_BANDS if band in value)

    @field_validator("crs")
    @classmethod
    def _metres(cls, value: str) -> str:
        check_crs(value)
        return value

    @property
    def human(self) -> tuple[str, ...]:
        """CORINE classes that state the anthropogenic class."""
        return self.land_cover.human if self.land_cover else ()

    @property
    def side(self) -> float:
        """Metres along a chip."""
        return CHIP * self.resolution

    def fingerprint(self) -> str:
        """Names request, files by their content, and code; where files lie does not matter."""
        plain = self.model_dump(mode="json", exclude=self.volatile_fields)
        for name in ("natural", "anthropogenic", "land_cover"):
            if plain[name]:
                plain[name].pop("file")
        return fingerprint(plain, code_digest(*CODE))

    def check(self) -> None:
        """Refuse a request that states only one class.

        Raises:
            RequestError: if nothing states the anthropogenic class.
        """
        if self.anthropogenic is None and not self.human:
            raise RequestError("nothing states what is anthropogenic", do="Give --anthropogenic or --land-cover.")


def codes_of(beginnings: tuple[str, ...]) -> list[int]:
    """CORINE codes that begin with any of some digits; `1` is all artificial surfaces."""
    return [code for code in CODES if str(code).startswith(tuple(filter(None, beginnings)))]


def digest_of(file: Path) -> str:
    """Sixteen hexadecimal digits of a file's content; of a Shapefile's shapes, attributes and CRS.

    Raises:
        DataError: if it cannot be read.
    """
    parts = [file.with_suffix(end) for end in (".dbf", ".prj")] if file.suffix.lower() == ".shp" else []
    found = hashlib.sha256()
    try:
        for part in (file, *(part for part in parts if part.exists())):
            with part.open("rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise DataError(f"{file} cannot be read", got=error.strerror) from error
    return found.hexdigest()[:16]

"""The settings of a set of chips: where labels come from, how chips are sampled, and which scenes are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator

from spacex.datasets.corine import CODES
from spacex.errors import DataError, RequestError
from spacex.grid import CHIP, check_crs
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_request import SceneRequest
from spacex.settings import SENTINEL2_BANDS, Settings, fingerprint

CODE = ("dataset_building", "datasets", "rasters.py", "vectors.py")
"""Sources that, with those of a map's pixels, decide which chips a set holds."""

ANTHROPOGENIC_CLASSES = ("1", "2")
"""CORINE classes that are anthropogenic by default: artificial surfaces and agricultural areas."""

SHARE = 0.9
"""Share of a chip that must lie in its class: a chip near an edge would show mostly what lies beyond it."""

COUNT = 24_000
"""Chips: AnthroProtect has 23,919. A smaller region gives fewer, when no further chip keeps the distance."""

LIMIT = 100
"""Chips per polygon. AnthroProtect has no limit, and its largest site, Ib 654, holds 322 of its 7,003 natural chips, as
many as the 84 smallest of its 181 sites; with this limit it would have kept 5,895."""


class SourceFile(Settings):
    """A file, identified by its content."""

    file: str
    """Its path, for workers too."""
    digest: str
    """Of its content."""

    @classmethod
    def from_file(cls, file: str, **fields: Any) -> Self:
        """The file with its present content, and further fields."""
        path = Path(file).resolve()
        return cls(file=str(path), digest=digest_of(path), **fields)


class LabelSource(SourceFile):
    """A file of polygons that labels one class."""

    where: str | None = None
    """Which of its features, as an SQL expression; None: all."""


class LandCover(SourceFile):
    """A CORINE raster (GeoTIFF)."""

    anthropogenic: tuple[str, ...] = ()
    """Anthropogenic CORINE classes, as codes or their first digits; () if the raster labels no class."""

    @field_validator("anthropogenic")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in value:
            if not codes_of((prefix,)):
                raise ValueError(f"beginnings of CORINE codes 111..523, e.g. 1, 24 or 312, not {prefix!r}")
        return value


class SamplingSettings(Settings):
    """How chips are sampled."""

    share: float = Field(SHARE, gt=0, le=1)
    """Share of a chip that must lie in its class."""
    distance: float = Field(2560.0, ge=0, le=1e6)
    """Least distance between the middles of two chips in metres. A chip's side, as between AnthroProtect's neighbours
    (2.55 km); chips never overlap, whatever this is."""
    count: int = Field(COUNT, ge=2)
    """Chips at most, half of each class."""
    limit_per_polygon: int = Field(LIMIT, ge=1)
    """Chips of one polygon at most; where land cover labels the class, of a square of 20 km."""
    seed: int = Field(0, ge=0)
    """Of every random draw."""


class DatasetRequest(SceneRequest):
    """Everything that decides a set of chips. Stored beside it; its fingerprint guards resuming."""

    interval: tuple[str, str]
    """First and last day, ISO 8601."""
    area: dict[str, Any] | None = None
    """GeoJSON polygon in EPSG:4326 in which chips must lie; None: wherever there are labels."""
    natural: tuple[LabelSource, ...]
    anthropogenic: tuple[LabelSource, ...] = ()
    land_cover: LandCover | None = None
    bands: tuple[str, ...] = SENTINEL2_BANDS
    """Bands that are read; the others of a chip's ten are no data."""
    sampling: SamplingSettings = SamplingSettings()
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
    def side(self) -> float:
        """Metres along a chip."""
        return CHIP * self.resolution

    def fingerprint(self) -> str:
        """Identifies request, files by their content, and code; paths of files do not count."""
        plain = self.model_dump(mode="json", exclude={"items"})
        for source in (*plain["natural"], *plain["anthropogenic"], *filter(None, [plain["land_cover"]])):
            source.pop("file")
        return fingerprint(plain, code_digest(*CODE))

    def check(self) -> None:
        """Refuse a request that labels only one class."""
        if not self.anthropogenic and not (self.land_cover and self.land_cover.anthropogenic):
            raise RequestError("nothing says what is anthropogenic", do="Give --anthropogenic or --land-cover.")


def codes_of(prefixes: tuple[str, ...]) -> list[int]:
    """CORINE codes that begin with any of some digits; `1` is all artificial surfaces."""
    return [code for code in CODES if str(code).startswith(tuple(filter(None, prefixes)))]


def digest_of(file: Path) -> str:
    """Sixteen hexadecimal digits of a file's content; of a Shapefile's shapes, attributes and CRS."""
    parts = [file.with_suffix(end) for end in (".dbf", ".prj")] if file.suffix.lower() == ".shp" else []
    digest = hashlib.sha256()
    try:
        for part in (file, *(part for part in parts if part.exists())):
            with part.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise DataError(f"{file} cannot be read", got=error.strerror) from error
    return digest.hexdigest()[:16]

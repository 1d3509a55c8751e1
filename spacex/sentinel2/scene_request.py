"""Which scenes are read, and how: the settings that maps and chip sets have in common."""

from __future__ import annotations

from pydantic import Field

from spacex.sentinel2.observation import CompositeSettings
from spacex.settings import Settings


class SceneRequest(Settings):
    """Which scenes, and what is read of them: what maps and sets of chips have in common."""

    catalogue: str = "earth-search"
    """Name of the catalogue's style."""
    stac_url: str | None = None
    """Another endpoint of the same style."""
    collection: str | None = None
    """Another collection of the same style."""
    crs: str = "EPSG:3035"
    resolution: float = 10.0
    """Metres per pixel."""
    max_cloud_cover: float = Field(60.0, ge=0, le=100)
    """Percent of a scene that may be cloudy; clouds in the rest are masked pixel by pixel."""
    composite: CompositeSettings = CompositeSettings()
    """Masking, merging and resampling."""

    @property
    def elsewhere(self) -> set[str]:
        """Fields that are other every time and decide nothing: the embedded catalogue is served on another port."""
        return {"stac_url"} if self.catalogue == "demo" else set()

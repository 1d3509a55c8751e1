"""The request of a map: the settings that decide every pixel of a cube, and their fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field, field_validator
from shapely.geometry import shape

from spacex.attribution.names import HIGH, LOW, NOISE, PATH_STEPS, PICTURES, SPREAD, Precision
from spacex.checkpoint import Checkpoint
from spacex.cube.layout import CHUNK, CubeSpec
from spacex.errors import RequestError
from spacex.grid import Grid, Window, window_where
from spacex.mapping.chips import check_stride
from spacex.mapping.tile import ChipSettings
from spacex.model_card import Card
from spacex.models.generator import window_halo
from spacex.pixel_code import code_digest
from spacex.region import Region
from spacex.sentinel2.cutout import REQUEST, describe, read_request
from spacex.sentinel2.scene_request import SceneRequest
from spacex.settings import RGB, fingerprint

WINDOW = 384
"""Side of the generators' windows, a multiple of the default strides (128 and 192). With a margin of 40 the generators
compute 1.46 times the window's pixels (512: 1.34, 256: 1.72); larger windows reach further out of a small region."""
HOW_MADE = {
    "attribution": "mean over bands of |x+ - x-|, the maximised minus the minimised picture, as reflectance "
    "(Emam, Stomberg & Roscher 2024, II-C)",
    "lift": "mean over bands of |DeepLIFT (rescale rule)| of the classifier's logit from x- to x, logits per pixel "
    "(Shrikumar et al. 2017)",
    "path_attribution": "mean over bands of |integrated gradients| of the classifier's logit along the straight "
    "path from x- to x, {steps} Gauss-Legendre points, logits per pixel",
    "x_plus": "the maximised picture: the smallest change found that makes the classifier take a chip for natural, or "
    "leaves it so; values outside 0.0001 to 6.5535 are clipped",
    "x_minus": "the minimised picture: the smallest change found that makes the classifier take a chip for "
    "anthropogenic, or leaves it so; values outside 0.0001 to 6.5535 are clipped",
    "raised": "the classifier's score of x+ of the chips around a pixel, blended",
    "lowered": "the classifier's score of x- of the chips around a pixel, blended",
}
"""How each attribution map is made."""
EVENED = "; blended chips are divided by the classifier's blended mean sensitivity by place in a chip"
"""What the maps that follow the classifier say too, where its sensitivity is known."""
HOW_UNLIKE = (
    "how unlike the classifier's training chips the chips around a pixel are, blended; above 1 outside the area of "
    "applicability. Dissimilarity index of Meyer & Pebesma 2021 on mean and standard deviation of the channels of the "
    "classifier's encoder ({0.chips} training chips, threshold from spatial folds {0.threshold}), or on mean, "
    "standard deviation and its logarithm of the bands where the checkpoint knows those and that is larger, divided by "
    "the threshold"
)


HOW_NOISY = (
    "standard error of naturalness that the noise of the scenes leaves, from the scores of two halves of every pixel's "
    "observations, pooled over the chips around it; what all scenes of a time step share is not in it"
)
HOW_SPREAD = (
    "standard deviation of the scores of {} classifiers of one training that differ in their seed, blended; the score "
    "is that of the first"
)
HOW_BOUND = (
    "{} end of an interval: nine times out of ten a map of the same ground from other observations of the same days by "
    "another classifier of the same training is to lie within"
)


class MapRequest(SceneRequest):
    """Everything that decides a cube's pixels. Stored in the cube; a run resumes only its own fingerprint."""

    area: dict[str, Any]
    """GeoJSON polygon or multipolygon in EPSG:4326."""
    intervals: tuple[tuple[str, str], ...] = Field(min_length=1)
    """First and last day of each time step, ISO 8601."""
    tile_size: int = 1024
    """Side of a tile in pixels, a multiple of 512."""
    chips: ChipSettings
    """How tiles are cut into chips and blended."""
    path_steps: int = Field(PATH_STEPS, ge=1)
    """Points on the path of the path attribution."""
    precision: Precision = "float32"
    """Of the networks' inner layers; part of the fingerprint."""

    @field_validator("tile_size")
    @classmethod
    def _whole_chunks(cls, value: int) -> int:
        if value < CHUNK or value % CHUNK:
            raise ValueError(f"a multiple of the chunk, {CHUNK} pixels")
        return value

    @cached_property
    def region(self) -> Region:
        """The area on the global grid."""
        return Region(shape(self.area), Grid(self.crs, self.resolution), self.tile_size)

    def composites(self, bands: Sequence[str]) -> dict[str, Any]:
        """What the composites are that the map is made of, as `spacex.sentinel2.cutout.describe` has it."""
        return describe(self.region.grid, self.padded_window, bands, self.composite)

    @property
    def padded_window(self) -> Window:
        """The pixels of the area and all around it that its maps depend on."""
        return self.chips.padded(self.region.grid.window(*self.region.outline.bounds))

    def fingerprint(self, checkpoint: Checkpoint) -> str:
        """Digest of settings, checkpoint and code, but not of area and time steps.

        A pixel has the same value in all cubes with the same fingerprint.
        """
        apart = {"area", "intervals", "items"}
        return fingerprint(self.model_dump(mode="json", exclude=apart), checkpoint.digest, code_digest())

    def spec(self, card: Card) -> CubeSpec:
        """The cube this request makes."""
        extent, how = self.region.extent, dict(HOW_MADE)
        if card.evened:
            how |= {name: how[name] + EVENED for name in ("lift", "path_attribution")}
        sure = {NOISE: HOW_NOISY, LOW: HOW_BOUND.format("lower"), HIGH: HOW_BOUND.format("upper")}
        sure[SPREAD] = HOW_SPREAD.format(card.members.count if card.members else 1)
        maps = {name: how[name].format(steps=self.path_steps) for name in self.chips.maps}
        return CubeSpec(
            crs=self.crs,
            resolution=self.resolution,
            extent=(extent.row, extent.col, extent.height, extent.width),
            tile_size=self.tile_size,
            intervals=self.intervals,
            dissimilarity=HOW_UNLIKE.format(card.applicability) if self.chips.dissimilar else "",
            maps=maps | {name: sure[name] for name in self.chips.sure},
            display=display_bands(card.bands),
            bands=card.bands if {*PICTURES} & {*self.chips.maps} else (),
        )


def chip_settings(card: Card, maps: tuple[str, ...], stride: int | None = None, **others: Any) -> ChipSettings:
    """The chip settings of a checkpoint; chip size and, unless given, stride are the card's.

    Raises:
        RequestError: if a map is unknown or the stride leaves gaps.
    """
    if unknown := [name for name in maps if name not in HOW_MADE]:
        raise RequestError("unknown map", got=", ".join(unknown), expected=", ".join(HOW_MADE))
    generator = card.generator
    # without normalisation the receptive field is limited: the generator can run on windows with a margin of that size
    if generator is not None and generator.norm == "none":
        window = {"window": WINDOW, "margin": window_halo(generator, card.frame)}
    else:
        window = {"frame": card.frame}
    dissimilar = card.applicability is not None
    lattice = {"chip_size": card.chip_size, "stride": stride or card.stride}
    settings = ChipSettings(maps=maps, dissimilar=dissimilar, **lattice, **window, **others)
    check_stride(settings.stride, settings.frame, card.chip_size)
    return settings


def display_bands(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Red, green and blue where the checkpoint has them, else its first band."""
    return tuple(band for band in RGB if band in bands) or bands[:1]


def area_window(region: Region, window: Window) -> Window:
    """The bounding window of the pixels of a tile that lie inside the area; empty if none does."""
    part = window_where(region.inside(window))
    return Window(window.row + part.row, window.col + part.col, *part.shape)


def other_settings(items: str, wanted: Mapping[str, Any]) -> str:
    """A sentence if a list of items is a cutout's that was made for composites of other settings; else empty.

    Args:
        items: URI of the list.
        wanted: the composites now, as `describe` has them; their window and bands may be part of the cutout's.
    """
    made_for = read_request(f"{items.rpartition('/')[0]}/{REQUEST}")
    if made_for is None or not isinstance(made_for["composite"], dict):
        return ""  # a list of other making, or one that is not there: reading it says so
    pairs = [(name, made_for[name], wanted[name]) for name in ("crs", "resolution")]
    pairs += [(name, made_for["composite"].get(name), value) for name, value in wanted["composite"].items()]
    changed = [f"{name} {before}, now {value}" for name, before, value in pairs if before != value]
    if lacking := [band for band in wanted["bands"] if band not in made_for["bands"]]:
        changed.append(f"{','.join(made_for['bands'])}, now also {','.join(lacking)}")
    stored, window = Window(*made_for["window"]), Window(*wanted["window"])
    if made_for["crs"] == wanted["crs"] and stored.intersect(window) != window:
        changed.append("an area that does not hold this one")
    doubt = f"doubtful: the cutout {items} may lack observations that these settings use; it was made for "
    return doubt + "; ".join(changed) if changed else ""

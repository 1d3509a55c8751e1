"""A tile: its input, the settings that cut it into chips, the networks' interface, and blending into maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.attributor import ChipMaps, GeneratorOutput
from spacex.attribution.names import HIGH, LOCAL, LOW, LOWERED, NOISE, PICTURES, RAISED, SPREAD
from spacex.cube.store import TileMaps
from spacex.grid import CHIP, Window, bounds, chip_windows
from spacex.mapping.bounds import bounds_map
from spacex.mapping.chips import Blend, mosaic
from spacex.mapping.halves import logit_noise, noise_map, pair_stride, reach
from spacex.models.members import SpreadFit
from spacex.region import Region
from spacex.settings import Settings

Array = NDArray[np.float32]


class ChipSettings(Settings):
    """How tiles are cut into chips and windows, and blended again.

    The classifier runs on chips. A generator without normalisation has a limited receptive field, so it runs on
    larger windows, side by side on the global grid; other generators run on chips too.
    """

    maps: tuple[str, ...]
    """Names of the attribution maps to compute; the score is always computed."""
    dissimilar: bool = False
    """Whether to compute the dissimilarity between a chip and the training chips too."""
    chip_size: int = CHIP
    """Side of a chip in pixels, the checkpoint's."""
    stride: int
    """Pixels between chips on the global lattice."""
    frame: int = 0
    """Border of a chip in pixels that has no weight in the plain attribution, where generators run on chips."""
    window: int = 0
    """Side in pixels of the generators' windows; 0: they run on chips."""
    margin: int = 0
    """Halo in pixels around each window, for the generators' receptive field; cut off from their output."""
    min_valid: float = 0.5
    """Share of a chip that must have data; with less, the map would explain the fill values."""
    uncertainty: tuple[str, ...] = ()
    """What the uncertainty of the score is known from: ``pixels``, the two halves of every pixel's observations;
    ``classifiers``, those of the checkpoint."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the values that the networks give per chip."""
        always = ("naturalness", "dissimilarity") if self.dissimilar else ("naturalness",)
        generated = tuple(name for name in self.maps if name in (RAISED, LOWERED))
        return always + generated + ((SPREAD,) if self.members else ())

    @property
    def needs(self) -> tuple[bool, bool]:
        """Whether the classifier needs x− for a map, and whether it needs x+."""
        return any(name not in (*LOCAL, RAISED) for name in self.maps), RAISED in self.maps

    @property
    def halves(self) -> bool:
        """Whether chips are scored from halves of their pixels' observations too, for a map of the noise."""
        return "pixels" in self.uncertainty

    @property
    def members(self) -> bool:
        """Whether all classifiers of the checkpoint score the chips."""
        return "classifiers" in self.uncertainty

    @property
    def sure(self) -> tuple[str, ...]:
        """Names of the maps that say how sure the score is."""
        names = (NOISE,) * self.halves + (SPREAD,) * self.members
        return names + ((LOW, HIGH) if self.halves and self.members else ())

    @property
    def pair_stride(self) -> int:
        """Pixels between the chips whose halves are scored."""
        return pair_stride(self.stride, self.chip_size)

    def chips(self, pixels: Window) -> list[Window]:
        """The chips of the global lattice that touch `pixels`."""
        return chip_windows(pixels, self.stride, self.chip_size)

    def windows(self, pixels: Window) -> list[Window]:
        """The generators' windows that cover `pixels`, on the global lattice, without their margins."""
        return chip_windows(pixels, self.window, self.window) if self.window and self.maps else []

    def pairs(self, pixels: Window) -> list[Window]:
        """The chips whose halves tell the noise of `pixels`, where it is asked for."""
        around = pixels.pad(reach(self.chip_size))
        return chip_windows(around, self.pair_stride, self.chip_size) if self.halves else []

    def padded(self, window: Window) -> Window:
        """The pixels to read for a tile: every chip that touches it, and the generators' windows under these chips."""
        chips = bounds(self.chips(window))
        if chips is None:
            return window
        windows, pairs = bounds(self.windows(chips)), bounds(self.pairs(window))
        read = [chips if windows is None else windows.pad(self.margin), *([] if pairs is None else [pairs])]
        return bounds(read) or window


@dataclass(frozen=True)
class TileInput:
    """The composite of a tile and its halo."""

    window: Window
    """The part of the tile that lies in the area; the rest of it is never read."""
    padded_window: Window
    """The window with its halo: the pixels of the arrays."""
    reflectance: Array
    """(bands, height, width) float32 in the checkpoint's band order, NaN = no data."""
    observations: NDArray[np.uint16]
    """(height, width) uint16, clear observations behind each pixel."""
    scenes: list[dict[str, Any]] = field(default_factory=list)
    """Provenance of every scene considered."""
    fetched: int = 0
    """Bytes fetched from scenes for it, compressed."""
    halves: Array | None = None
    """(2, bands, height, width) composites of two halves of each pixel's observations, if the settings ask for them."""


class Networks(Protocol):
    """The networks of a worker: an `Attributor` on a GPU, a `ReplicaPool` of them on a CPU.

    Each method returns a function that waits for the result, so that a GPU can work ahead.
    """

    whole_batches: bool
    """Whether a smaller last batch must be padded: the GPU's kernels, and so the bits, depend on the batch size."""

    def generate(self, x: Array) -> Callable[[], GeneratorOutput]:
        """Run the generators on windows: (n, bands, height, width) float32 reflectance."""

    def classify(
        self, x: Array, delta_minus: Array | None = None, delta_plus: Array | None = None
    ) -> Callable[[], ChipMaps]:
        """Compute maps and scores of chips from x, x− − x and x+ − x: (n, bands, side, side) float32."""

    def rescore(self, x: Array) -> Callable[[], ChipMaps]:
        """Compute the scores alone of chips by the first classifier: (n, bands, side, side) float32 reflectance."""

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """Compute all maps and scores of chips: (n, bands, side, side) float32 reflectance."""


@dataclass(frozen=True)
class ChipResult:
    """The maps and scores of one chip."""

    maps: dict[str, Array]
    """(chip size, chip size) float32 by name; x+ and x− (bands, chip size, chip size)."""
    scores: dict[str, float]
    """By name, those of `ChipSettings.scores`."""
    members: tuple[float, ...] = ()
    """The scores of all classifiers of the checkpoint, if asked for; that of `scores` is the first."""


def blend_tile(
    read: TileInput,
    window: Window,
    region: Region,
    results: Mapping[Window, ChipResult],
    generated: Mapping[Window, GeneratorOutput],
    settings: ChipSettings,
    display: list[int],
    field: NDArray[np.float64] | None = None,
    gaps: Mapping[Window, float] | None = None,
    spread: SpreadFit | None = None,
) -> TileMaps:
    """Blend the chips of a tile into its maps, and mask pixels without data or outside the area.

    Args:
        read: the tile's input.
        window: the whole tile.
        region: has the area.
        results: maps and scores by chip.
        generated: the generators' output by window.
        settings: how the tile was cut.
        display: positions, in the reflectance's bands, of the composite's.
        field: the classifier's sensitivity by place in a chip, which its explanations are divided by; None if unknown.
        gaps: between the answers to the halves of every chip within reach, in logits; None where none were scored.
        spread: of the checkpoint's classifiers, for the interval; None where it is not asked for.

    Returns:
        The maps of the whole tile; NaN, or 0 observations, outside `read.window`.
    """
    inner = read.window.slices(read.padded_window)
    inside = region.inside(read.window)
    reflectance = read.reflectance[(slice(None), *inner)]
    valid = np.isfinite(reflectance).all(axis=0) & inside
    # Local maps are taken from windows side by side, or blended from chips without their frame. All other values depend
    # on the whole chip and are blended over the full overlap.
    bands = {name: len(reflectance) for name in PICTURES}
    local = [name for name in settings.maps if name in LOCAL]
    rest = [name for name in settings.maps if name not in (*local, *settings.scores)]
    size = settings.chip_size
    blends = {name: Blend(read.window, 0, size) for name in settings.scores}
    blends |= {name: Blend(read.window, 0, size, field=field) for name in rest}
    if not settings.window:
        blends |= {name: Blend(read.window, settings.frame, size, bands.get(name)) for name in local}
    # in lattice order: sums in another order may differ in their last bits
    for chip in sorted(results):
        for name, values in results[chip].maps.items():
            blends[name].add(chip, values)
        for name, score in results[chip].scores.items():
            blends[name].add(chip, score)
    maps = {name: blend.mean() for name, blend in blends.items()}
    for name in local if settings.window else ():
        parts = {place: output.maps[name] for place, output in generated.items()}
        # windows reach beyond the chips with enough data; a pixel has either all maps or none
        whole = mosaic(read.window, parts, bands.get(name), fill=np.nan)
        maps[name] = np.where(np.isfinite(maps["naturalness"]), whole, np.nan)
    maps = {name: np.where(valid, values, np.nan) for name, values in maps.items()}
    if gaps is not None:
        scores = {chip: results[chip].scores["naturalness"] for chip in sorted(results)}
        noise = logit_noise(read.window, gaps, size)
        twice = valid & (read.observations[inner] > 1) & np.isfinite(maps["naturalness"])
        maps[NOISE] = np.where(twice, noise_map(read.window, noise, scores, size), np.nan)
        if spread is not None:
            members = {chip: result.members for chip, result in results.items()}
            ends = bounds_map(read.window, noise, members, size, spread)
            maps |= {name: np.where(twice, end, np.nan) for name, end in zip((LOW, HIGH), ends, strict=True)}
    return TileMaps(
        {name: _pad(window, read.window, values, np.nan) for name, values in maps.items()},
        _pad(window, read.window, np.where(inside, read.observations[inner], 0).astype(np.uint16), 0),
        _pad(window, read.window, np.where(inside, reflectance[display], np.nan), np.nan),
    )


def _pad(window: Window, part: Window, values: NDArray[Any], fill: float) -> NDArray[Any]:
    """Pad the values of `part` with `fill` to the larger `window`."""
    # a tile is written as whole chunks, also where the area covers only a part of it
    whole = np.full((*values.shape[:-2], *window.shape), fill, values.dtype)
    if not part.empty:
        whole[(..., *part.slices(window))] = values
    return whole

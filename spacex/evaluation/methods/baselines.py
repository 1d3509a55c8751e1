"""The methods patterns are compared with, behind one Protocol: a batch of chips in, one map per chip out.

:class:`ChipBatch` is the batch, with everything several methods need (scores, x+, x−, integrated gradients)
computed once and its cost charged to every method that uses it. This module holds the Protocol, the maps made
from x+ and x−, and the trivial maps that no classifier has seen; the others are in `captum_methods`, `rise`
and `asos`, and `methods` lists them all.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.attribution.attributor import difference, integrated_gradients
from spacex.attribution.lift import Lift
from spacex.attribution.names import PATH_STEPS
from spacex.errors import CheckpointError
from spacex.models.applicability import feature_extractor
from spacex.models.classes import native_network, unwrap
from spacex.models.classifier import Classifier

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint

VISIBLE = ("B02", "B03", "B04")


class ChipBatch:
    """A batch of chips under one checkpoint.

    Args:
        checkpoint: classifier, scaling and, for the maps of patterns, both generators.
        x: reflectance ``(n, bands, h, w)`` float32 in the card's band order, without NaN.
        names: one per chip; they seed what is random, so a chip's map does not depend on its batch.
        steps: points on the path from x− to x.
    """

    def __init__(self, checkpoint: Checkpoint, x: Tensor, names: Sequence[str], steps: int = PATH_STEPS) -> None:
        self.checkpoint, self.x, self.names, self.steps = checkpoint, x, tuple(names), steps
        self.borrowed = 0.0
        """Seconds of shared work the running method did not have to do again; the runner sets it to 0."""
        self._made: dict[str, tuple[Tensor, float]] = {}

    def once(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, computed on the first call; later calls add its cost to `borrowed`."""
        if key in self._made:
            value, cost = self._made[key]
            self.borrowed += cost
            return value
        start, borrowed = time.perf_counter(), self.borrowed
        value = make()
        self._made[key] = value, time.perf_counter() - start + self.borrowed - borrowed
        return value

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of x."""
        return self.checkpoint.card.bands

    @property
    def network(self) -> Classifier:
        """The classifier, where a method needs its layers and not only its logits."""
        own = native_network(self.checkpoint.classifier)
        if own is None:
            got = type(unwrap(self.checkpoint.classifier)).__name__
            raise CheckpointError("this method needs ASOS's layers", got=got)
        return own

    @cached_property
    def u(self) -> Tensor:
        """The chips in the networks' units, like x."""
        u: Tensor = self.checkpoint.card.scaling.standardise(self.x)
        return u

    @cached_property
    def black(self) -> Tensor:
        """Zero reflectance in the networks' units: the usual baseline of the gradient methods."""
        black: Tensor = self.checkpoint.card.scaling.standardise(torch.zeros_like(self.x))
        return black

    @cached_property
    def logit(self) -> Tensor:
        """The classifier's logits, ``(n,)``."""
        with torch.no_grad():
            return self.checkpoint.classifier(self.u).float()  # type: ignore[no-any-return]

    @cached_property
    def dissimilarity(self) -> Tensor | None:
        """How unlike the training chips each is, ``(n,)``, 1 = the threshold; None if the checkpoint does not know."""
        if self.checkpoint.applicability is None:
            return None
        return self.checkpoint.applicability.dissimilarity(feature_extractor(self.checkpoint.classifier)(self.u))

    @property
    def u_plus(self) -> Tensor:
        """The maximised chips in the networks' units."""
        return self.once("u+", lambda: self._generate("maximiser"))

    @property
    def u_minus(self) -> Tensor:
        """The minimised chips in the networks' units."""
        return self.once("u-", lambda: self._generate("minimiser"))

    @property
    def x_plus(self) -> Tensor:
        """The maximised chips as reflectance."""
        return self.once("x+", lambda: self.checkpoint.card.scaling.restore(self.u_plus))

    @property
    def x_minus(self) -> Tensor:
        """The minimised chips as reflectance."""
        return self.once("x-", lambda: self.checkpoint.card.scaling.restore(self.u_minus))

    @property
    def path(self) -> Tensor:
        """Signed integrated gradients of the logit from x− to x, per band, like x."""
        return self.once(
            "path",
            lambda: integrated_gradients(self.checkpoint.classifier, self.u, self.u_minus, self.steps).detach(),
        )

    @property
    def lift(self) -> Tensor:
        """Signed DeepLIFT of the logit from x− to x, per band, like x."""

        def make() -> Tensor:
            return Lift(self.checkpoint.classifier, self.u[:1])(self.u, self.u_minus)[0]

        return self.once("lift", make)

    def _generate(self, which: str) -> Tensor:
        generator = getattr(self.checkpoint, which)
        if generator is None:
            raise CheckpointError(
                f"checkpoint {self.checkpoint.uri} has no {which}",
                got=f"kind {self.checkpoint.card.kind!r}",
                expected="kind 'patterns'",
                do="Train the generators with jobs/train_gan.py, or name only methods that need none.",
            )
        with torch.no_grad():
            return generator(self.u).float()  # type: ignore[no-any-return]


class Method(Protocol):
    """Draws where it sees naturalness."""

    @property
    def name(self) -> str:
        """Short name: the first column of the table."""

    @property
    def family(self) -> str:
        """What kind of method it is, e.g. `ours`, `paper's rival`, `gradient`, `trivial`."""

    def __call__(self, chips: ChipBatch) -> Tensor:
        """Maps ``(n, h, w)`` float32, not negative, larger where the method sees more."""


@dataclass(frozen=True)
class Named:
    """A function with a name: the one implementation of `Method` that most methods need."""

    name: str
    family: str
    draw: Callable[[ChipBatch], Tensor]
    about: str
    """One sentence for the report."""

    def __call__(self, chips: ChipBatch) -> Tensor:
        """See :class:`Method`."""
        return self.draw(chips).float()


def magnitude(signed: Tensor) -> Tensor:
    """Mean over bands of |a|: ``(n, b, h, w)`` to ``(n, h, w)``. Evidence for either class counts."""
    return signed.abs().mean(dim=1)


def supporting(signed: Tensor) -> Tensor:
    """Positive part of the mean over bands, ``(n, h, w)``: evidence for naturalness only."""
    return signed.mean(dim=1).clamp(min=0)


def brightness(chips: ChipBatch) -> Tensor:
    """Mean reflectance over the visible bands, or over all bands if none is visible."""
    chosen = [i for i, band in enumerate(chips.bands) if band in VISIBLE] or list(range(len(chips.bands)))
    return chips.x[:, chosen].mean(dim=1)


def sobel(chips: ChipBatch) -> Tensor:
    """Size of the Sobel gradient of the brightness: an edge detector, which saliency is easily taken for."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    kernels = torch.stack([kernel, kernel.T])[:, None].to(chips.x)
    gradient = F.conv2d(F.pad(brightness(chips)[:, None], (1, 1, 1, 1), mode="replicate"), kernels)
    return gradient.square().sum(dim=1).sqrt()


def normalised_difference(chips: ChipBatch, first: str, second: str) -> Tensor:
    """(first − second) / (first + second) moved to 0..1; NDVI is B08, B04 and NDWI is B03, B08."""
    a, b = (chips.x[:, chips.bands.index(band)] for band in (first, second))
    return ((a - b) / (a + b).clamp(min=1e-6)).clamp(-1, 1) / 2 + 0.5


def distance_to_mean(chips: ChipBatch) -> Tensor:
    """Mean over bands of |x − chip mean|: what is unusual in the chip."""
    return (chips.x - chips.x.mean(dim=(2, 3), keepdim=True)).abs().mean(dim=1)


def smooth_noise(chips: ChipBatch, cells: int = 16) -> Tensor:
    """Random values on a coarse grid, enlarged smoothly: what a blob-like map scores by chance."""
    draws = [torch.rand(cells, cells, generator=_seeded(name)) for name in chips.names]
    grid = torch.stack(draws)[:, None].to(chips.x)
    return F.interpolate(grid, chips.x.shape[-2:], mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def _seeded(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def product(name: str, first: Method, second: Method) -> Named:
    """The pixel-wise product of two maps, each divided by its chip's maximum.

    Always read it beside the product of brightness with the same partner: any sharp picture gains from a
    partner that says roughly where to look.
    """

    def draw(chips: ChipBatch) -> Tensor:
        return _unit(_map_once(chips, first)) * _unit(_map_once(chips, second))

    return Named(name, "product", draw, f"{first.name} times {second.name}, pixel by pixel.")


def _map_once(chips: ChipBatch, method: Method) -> Tensor:
    return chips.once(f"map {method.name}", lambda: method(chips))


def _unit(maps: Tensor) -> Tensor:
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def trivial(bands: Sequence[str]) -> list[Named]:
    """The maps no classifier has seen; indices only where their bands exist."""
    out = [
        Named("brightness", "trivial", brightness, "Mean visible reflectance."),
        Named("darkness", "trivial", lambda chips: 1.0 - brightness(chips), "One minus brightness."),
        Named("sobel", "trivial", sobel, "Sobel gradient of the brightness."),
        Named("distance", "trivial", distance_to_mean, "Distance to the chip's mean colour."),
        Named("noise", "trivial", smooth_noise, "Smooth random blobs, seeded by the chip's name."),
        Named("chance", "trivial", lambda chips: torch.ones_like(chips.x[:, 0]), "The same value everywhere."),
    ]
    for name, first, second in (("ndvi", "B08", "B04"), ("ndwi", "B03", "B08")):
        if first in bands and second in bands:
            out.append(_index(name, first, second, 1.0))
            out.append(_index(f"minus-{name}", first, second, -1.0))
    return out


def _index(name: str, first: str, second: str, sign: float) -> Named:
    def draw(chips: ChipBatch) -> Tensor:
        index = normalised_difference(chips, first, second)
        return index if sign > 0 else 1.0 - index

    return Named(name, "trivial", draw, f"({first} − {second}) / ({first} + {second}), sign {sign:+.0f}.")


def ours() -> list[Named]:
    """The maps made from the maximised and the minimised picture."""
    return [
        Named("lift", "ours", lambda c: magnitude(c.lift), "|DeepLIFT| of the logit from x− to x."),
        Named("lift+", "ours", lambda c: supporting(c.lift), "The same, evidence for naturalness only."),
        Named("path", "ours", lambda c: magnitude(c.path), "|Integrated gradients| of the logit from x− to x."),
        Named("path+", "ours", lambda c: supporting(c.path), "The same, evidence for naturalness only."),
        Named("attribution", "ours", lambda c: difference(c.x_plus, c.x_minus), "The paper's map |x+ − x−|."),
        Named(
            "attribution+",
            "ours",
            lambda c: supporting(c.x_plus - c.x_minus),
            "Where x+ is brighter than x−, mean over bands.",
        ),
        Named("raised", "ours", lambda c: difference(c.x_plus, c.x), "|x+ − x|: what the maximiser adds."),
        Named("lowered", "ours", lambda c: difference(c.x, c.x_minus), "|x − x−|: what the minimiser removes."),
    ]

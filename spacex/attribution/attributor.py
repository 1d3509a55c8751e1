"""Attribution from the maximised and the minimised picture: the maps and the score of a chip.

All maps are taken in the classifier's own units and given back in plain ones:

* ``attribution``: mean over bands of |x+ − x−| as surface reflectance (Emam, Stomberg & Roscher 2024, II-C).
* ``lift``: mean over bands of |DeepLIFT from x− to x| of the classifier's logit, in logits per pixel
  (`spacex.attribution.lift`).
* ``path_attribution``: the same by integrated gradients along the straight line from x− to x (Sundararajan et al.
  2017): dearer and a little less sharp, but it asks nothing of a classifier except gradients.

The logit, not the sigmoid, is explained: a saturated score has no gradient left.

The work is cut in two, because generators without normalisation look no further than their context while classifiers
see whole chips: `Attributor.generate` runs the generators on windows of any size, `Attributor.classify` the classifier
on chips. Both return a function that waits for the result, so that a GPU can start the next batch meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spacex.attribution.device_transfer import DeviceTransfer
from spacex.attribution.inference import prepare_classifier, prepare_generator
from spacex.attribution.lift import Lift
from spacex.attribution.names import DEFAULT_MAPS, MAP_NAMES, PATH_STEPS, Precision
from spacex.errors import CheckpointError, RequestError
from spacex.models.applicability import FeatureStatistics
from spacex.models.generator import context, window_halo

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ChipMaps:
    """What is known about a batch of chips, on the CPU."""

    maps: Mapping[str, Array]
    """By name, those asked for: (n, height, width) float32; reflectance or logits per pixel."""
    score: Array
    """(n,) float32 in [0, 1]: the classifier's naturalness of each whole chip."""
    dissimilarity: Array | None = None
    """(n,) float32: how unlike the training chips each is, 1 = the threshold (`spacex.models.applicability`); None if
    the checkpoint does not know."""


@dataclass(frozen=True)
class GeneratorOutput:
    """What the generators do to a batch of windows, on the CPU."""

    attribution: Array | None
    """(n, height, width) float32, reflectance; None if it was not asked for."""
    delta_minus: Array | None
    """(n, bands, height, width) float32, x− − x in the networks' units; None if no map needs it."""


def difference(x_plus: Tensor, x_minus: Tensor) -> Tensor:
    """Mean over bands of |x+ − x−| (paper, section II-C).

    Args:
        x_plus: maximised chips, (n, bands, height, width) float32 reflectance.
        x_minus: minimised chips, same shape.

    Returns:
        (n, height, width) float32 reflectance.
    """
    return (x_plus.float() - x_minus.float()).abs().mean(dim=1)


def integrated_gradients(classifier: nn.Module, x: Tensor, baseline: Tensor, steps: int = PATH_STEPS) -> Tensor:
    """Signed integrated gradients of the logit from `baseline` to `x`, by Gauss-Legendre quadrature.

    Args:
        classifier: gives one logit per chip.
        x: chips in the classifier's units, (n, bands, height, width) float32.
        baseline: start of the path, same shape.
        steps: points on the path, each one forward and one backward pass.

    Returns:
        (n, bands, height, width) float32; summed per chip it is about logit(x) − logit(baseline)
        (completeness).
    """
    way = x - baseline
    total = torch.zeros_like(x)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        point = (baseline + way * ((float(node) + 1) / 2)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(classifier(point).sum(), point)
        total += gradient * (float(weight) / 2)
    return way * total


class Attributor:
    """A checkpoint ready to attribute: both generators and the classifier.

    Args:
        checkpoint: a checkpoint with generators (kind ``patterns``).
        maps: which of `MAP_NAMES` to compute, or none; the score always comes along.
        steps: points on the path of the path attribution.
        device: where the networks run.
        precision: of the networks' inner layers; `spacex.attribution.inference.choose_precision` chooses one.

    Raises:
        CheckpointError: if the checkpoint has no generators.
        RequestError: if a map is unknown, or the classifier has no rescale rule and `lift` is asked for.
    """

    whole_batches = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        maps: Sequence[str] = DEFAULT_MAPS,
        steps: int = PATH_STEPS,
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
    ) -> None:
        if unknown := sorted(set(maps) - set(MAP_NAMES)):
            raise RequestError("unknown map", got=unknown, expected=f"some of {', '.join(MAP_NAMES)}")
        if checkpoint.maximiser is None or checkpoint.minimiser is None:
            raise CheckpointError(
                f"checkpoint {checkpoint.uri} has no generators",
                got=f"kind {checkpoint.card.kind!r}",
                expected="kind 'patterns'",
                do="Train them with jobs/train_gan.py.",
            )
        self.maps, self.steps, self.device = tuple(maps), steps, torch.device(device)
        self._checkpoint, self._precision, self._transfer = checkpoint, precision, DeviceTransfer(self.device)
        self.scaling = checkpoint.card.scaling
        self.classifier = prepare_classifier(checkpoint.classifier, precision, self.device)
        self._lift = Lift(self.classifier, self._any_chip()) if "lift" in self.maps else None
        self._known = None if checkpoint.applicability is None else checkpoint.applicability.to(self.device)
        judge = self.classifier if self._lift is None else self._lift.network
        self._watch = None if self._known is None else FeatureStatistics(judge)

    @property
    def needs_delta_minus(self) -> bool:
        """Whether a map follows the classifier's logit down to x−."""
        return bool({"lift", "path_attribution"} & set(self.maps))

    def __call__(self, x: Array) -> ChipMaps:
        """Attribute a batch of chips by themselves, edges as the generators were trained to draw them.

        Args:
            x: (n, bands, 256, 256) float32 reflectance in the card's band order, without NaN.
        """
        return self.attribute(x)()

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """The same, not waiting: the call that is returned waits for the result and gives it."""
        u = self._standardised(x)
        with torch.no_grad(), _repeatable():
            plain, delta_minus = self._changes(u, self._narrow) if self.maps else (None, None)
            plainly = {} if plain is None else {"attribution": plain}
            return self._judged(u, delta_minus, plainly)

    def generate(self, x: Array) -> Callable[[], GeneratorOutput]:
        """Run the generators on windows, the outermost pixels of which nobody will look at.

        Args:
            x: (n, bands, height, width) float32 reflectance without NaN, sides multiples of the generators'
                alignment (`spacex.models.generator.alignment`).

        Returns:
            Waits for the result and gives it.
        """
        u = self._standardised(x)
        with torch.no_grad(), _repeatable():
            plain, delta_minus = self._changes(u, self._wide)
        found = {"attribution": plain, "delta_minus": delta_minus}
        fetched = self._transfer.to_host({name: value for name, value in found.items() if value is not None})
        return lambda: GeneratorOutput(**{**dict.fromkeys(found), **fetched()})

    def classify(self, x: Array, delta_minus: Array | None) -> Callable[[], ChipMaps]:
        """Run the classifier on chips.

        Args:
            x: (n, bands, 256, 256) float32 reflectance without NaN.
            delta_minus: x− − x in the networks' units, same shape, cut from what `generate` gives; None if not needed.

        Returns:
            Waits for the result and gives it, without the plain attribution.
        """
        u = self._standardised(x)
        with torch.no_grad(), _repeatable():
            return self._judged(u, None if delta_minus is None else self._sent(delta_minus), {})

    def _judged(self, u: Tensor, delta_minus: Tensor | None, maps: dict[str, Tensor]) -> Callable[[], ChipMaps]:
        logit = None
        if self._lift is not None and delta_minus is not None:
            signed, _, logit = self._lift(u, u + delta_minus, self._watch)
            maps["lift"] = signed.abs().mean(dim=1)
        if "path_attribution" in self.maps and delta_minus is not None:
            signed = integrated_gradients(self.classifier, u, u + delta_minus, self.steps)
            maps["path_attribution"] = signed.abs().mean(dim=1)
        if logit is None:
            with self._watch or nullcontext():
                logit = self.classifier(u).float()
        found = {**maps, "score": torch.sigmoid(logit)}
        if self._known is not None and self._watch is not None:
            found["dissimilarity"] = self._known.dissimilarity(self._watch.pop())
        fetched = self._transfer.to_host(found)

        def wait() -> ChipMaps:
            given = dict(fetched())
            return ChipMaps(score=given.pop("score"), dissimilarity=given.pop("dissimilarity", None), maps=given)

        return wait

    def _changes(self, u: Tensor, generators: tuple[Any, Any]) -> tuple[Tensor | None, Tensor | None]:
        """|x+ − x−| as reflectance, and x− − x in the networks' units.

        Taken from the changes, not from the pictures: a change is small beside the picture it would be added to.
        """
        maximiser, minimiser = generators
        down = minimiser.delta(u)
        plain = None
        if "attribution" in self.maps:
            plain = difference(self.scaling.restore_change(maximiser.delta(u)), self.scaling.restore_change(down))
        return plain, down if self.needs_delta_minus else None

    @cached_property
    def _wide(self) -> tuple[nn.Module, nn.Module]:
        settings = self._checkpoint.card.generator
        assert settings is not None
        return self._generators(edges_matter=context(settings) > window_halo(settings, self._checkpoint.card.frame))

    @cached_property
    def _narrow(self) -> tuple[nn.Module, nn.Module]:
        return self._generators(edges_matter=True)

    def _generators(self, *, edges_matter: bool) -> tuple[nn.Module, nn.Module]:
        first, second = (
            prepare_generator(network, self._precision, self.device, edges_matter=edges_matter)
            for network in (self._checkpoint.maximiser, self._checkpoint.minimiser)
            if network is not None
        )
        return first, second

    def _standardised(self, x: Array) -> Tensor:
        return self.scaling.standardise(self._sent(x))

    def _sent(self, values: Array) -> Tensor:
        return self._transfer.to_device(values).contiguous(memory_format=torch.channels_last)

    def _any_chip(self) -> Tensor:
        card = self._checkpoint.card
        chip = torch.randn(
            1, len(card.bands), card.chip_size, card.chip_size, generator=torch.Generator().manual_seed(0)
        )
        return chip.to(self.device).contiguous(memory_format=torch.channels_last)


def _repeatable() -> torch.backends.cudnn.ContextProp:  # type: ignore[name-defined]
    """On CUDA: no TensorFloat-32 where float32 is meant, and the same kernel for the same shape every time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)

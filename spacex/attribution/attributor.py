"""Attribution of chips: compares the maximised with the minimised picture, and explains the classifier's change.

All maps are computed in standardised units and returned in reflectance or logits:

* ``attribution``: mean over bands of |x+ − x−| as surface reflectance (Emam, Stomberg & Roscher 2024, II-C).
* ``lift``: mean over bands of |DeepLIFT from x− to x| of the classifier's logit, in logits per pixel
  (`spacex.attribution.lift`).
* ``path_attribution``: the same by integrated gradients along the straight line from x− to x (Sundararajan et al.
  2017). It costs more and is slightly less sharp, but needs nothing of a classifier except gradients.
* ``x_plus``, ``x_minus``: the generated chips themselves, in all bands; ``raised``, ``lowered``: their scores.

The logit is explained, not the sigmoid: a saturated score has no gradient left.

The work is cut in two, because generators without normalisation see no more than their context, and classifiers whole
chips: `Attributor.generate` runs on windows of any size, `Attributor.classify` on chips. Both return a function that
waits for the result, so that a GPU can start the next batch meanwhile. The single steps (`delta_plus`, `delta_minus`,
`lift`, `path`, `score`) are methods too, which `spacex.evaluation` calls: its tables come from the code that maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spacex.attribution.device_transfer import DeviceTransfer
from spacex.attribution.gradients import integrated_gradients
from spacex.attribution.inference import check_generators, prepare_classifier, prepare_generator
from spacex.attribution.lift import Lift
from spacex.attribution.names import DEFAULT_MAPS, GENERATED, MAP_NAMES, PATH_STEPS, PICTURES, Precision
from spacex.errors import RequestError
from spacex.models.applicability import FeatureStatistics
from spacex.models.generator import context, window_halo

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ChipMaps:
    """Maps and score of a batch of chips, on the CPU."""

    maps: Mapping[str, Array]
    """By name, those asked for: (n, height, width) float32, reflectance or logits per pixel; x+ and x−
    (n, bands, height, width)."""
    score: Array
    """(n,) float32 in [0, 1]: the classifier's naturalness of each whole chip."""
    dissimilarity: Array | None = None
    """(n,) float32: how unlike the training chips each is, 1 = the threshold (`spacex.models.applicability`); None if
    the checkpoint does not know."""
    generated_scores: Mapping[str, Array] = field(default_factory=dict)
    """(n,) float32, if asked for: `raised`, `lowered`, the scores of x+ and x−; `member2`, …, further classifiers'."""


@dataclass(frozen=True)
class GeneratorOutput:
    """What the generators change in a batch of windows, on the CPU."""

    maps: Mapping[str, Array]
    """By name, those asked for that need no classifier (`spacex.attribution.names.LOCAL`), as in `ChipMaps`."""
    delta_minus: Array | None = None
    """(n, bands, height, width) float32, x− − x in standardised units; None if no map needs it."""
    delta_plus: Array | None = None
    """The same of x+."""


class Classification(NamedTuple):
    """The classifier's answer for a batch of chips, on its device."""

    logit: Tensor
    """(n,) float32."""
    dissimilarity: Tensor | None
    """As in `ChipMaps`, (n,) float32."""


def difference(x_plus: Tensor, x_minus: Tensor) -> Tensor:
    """Mean over bands of |x+ − x−| (paper, section II-C): reflectance (n, bands, h, w) to (n, h, w) float32."""
    return (x_plus.float() - x_minus.float()).abs().mean(dim=1)


@contextmanager
def _inference() -> Iterator[None]:
    """No gradients; on CUDA no TensorFloat-32 where float32 is meant, and one kernel for one shape every time."""
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), cudnn:
        yield


class Attributor:
    """A checkpoint prepared for attribution: both generators and the classifier.

    Args:
        checkpoint: with generators (kind ``patterns``) if any map is asked for.
        maps: which of `MAP_NAMES` and `GENERATED` to compute, or none; the score is always computed.
        steps: points on the path of the path attribution.
        device: where the networks run.
        precision: of the networks' inner layers; `spacex.attribution.inference.choose_precision` chooses one.
        members: whether chips are scored by the checkpoint's further classifiers too.

    Raises:
        CheckpointError: if maps need generators and the checkpoint has none.
        RequestError: if a map is unknown, or `lift` is asked for and cannot follow the classifier.
    """

    whole_batches = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        maps: Sequence[str] = DEFAULT_MAPS,
        steps: int = PATH_STEPS,
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
        members: bool = False,
    ) -> None:
        if unknown := sorted(set(maps) - {*MAP_NAMES, *GENERATED}):
            raise RequestError("unknown map", got=unknown, expected=f"some of {', '.join(MAP_NAMES + GENERATED)}")
        if maps:
            check_generators(checkpoint)
        self.checkpoint, self.maps, self.steps, self.device = checkpoint, tuple(maps), steps, torch.device(device)
        self.scaling = checkpoint.card.scaling
        self.precision, self._transfer = precision, DeviceTransfer(self.device)
        self.classifier = prepare_classifier(checkpoint.classifier, precision, self.device)
        further = {f"member{n}": one for n, one in enumerate(checkpoint.further if members else (), start=2)}
        self._further = {name: prepare_classifier(one, precision, self.device) for name, one in further.items()}
        shape = 1, len(checkpoint.card.bands), checkpoint.card.chip_size, checkpoint.card.chip_size
        any_chip = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        chip = any_chip.contiguous(memory_format=torch.channels_last)
        self._lift = Lift(self.classifier, chip) if "lift" in self.maps else None
        known = checkpoint.applicability
        self._applicability = None if known is None else known.to(self.device)
        self._statistics = None if known is None else FeatureStatistics(self.classifier)

    def __call__(self, x: Array) -> ChipMaps:
        """Attribute a batch of chips by themselves, edges as the generators were trained to draw them.

        The chips are (n, bands, side, side) float32 reflectance in the card's band order, without NaN.
        """
        return self.attribute(x)()

    @_inference()
    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """As a call, but without waiting: the function that is returned waits for the result."""
        u = self.standardise(x)
        maps, delta_minus, delta_plus = self._redraw(u, self._chip_generators) if self.maps else ({}, None, None)
        return self._classify(u, delta_minus, delta_plus, maps)

    @_inference()
    def generate(self, x: Array) -> Callable[[], GeneratorOutput]:
        """Run the generators on windows whose outermost pixels will be cut off, and return what waits for the result.

        Args:
            x: (n, bands, height, width) float32 reflectance without NaN, sides multiples of the generators'
                alignment (`spacex.models.generator.alignment`).
        """
        maps, delta_minus, delta_plus = self._redraw(self.standardise(x), self._window_generators)
        arrays = self._transfer.to_host({**maps, "delta_minus": delta_minus, "delta_plus": delta_plus})

        def wait() -> GeneratorOutput:
            by_name = arrays()
            return GeneratorOutput(
                {name: by_name[name] for name in maps}, by_name["delta_minus"], by_name["delta_plus"]
            )

        return wait

    @_inference()
    def classify(
        self, x: Array, delta_minus: Array | None = None, delta_plus: Array | None = None
    ) -> Callable[[], ChipMaps]:
        """Run the classifier on chips, and return what waits for its maps and scores, without those of `generate`.

        Args:
            x: (n, bands, side, side) float32 reflectance without NaN.
            delta_minus: x− − x in standardised units, same shape, cut from what `generate` returned; None if no map
                needs it.
            delta_plus: the same of x+.
        """
        minus, plus = (None if delta is None else self._to_device(delta) for delta in (delta_minus, delta_plus))
        return self._classify(self.standardise(x), minus, plus, {})

    @_inference()
    def rescore(self, x: Array) -> Callable[[], ChipMaps]:
        """The first classifier's scores alone, of chips as for `classify`; returns what waits for them."""
        arrays = self._transfer.to_host({"score": torch.sigmoid(self.classifier(self.standardise(x)).float())})
        return lambda: ChipMaps({}, arrays()["score"])

    def standardise(self, x: Array) -> Tensor:
        """Chips (n, bands, height, width) float32 reflectance in standardised units, on the networks' device."""
        return self.scaling.standardise(self._to_device(x))

    @_inference()
    def delta_plus(self, u: Tensor) -> Tensor:
        """x+ − x of whole chips `u`; like `u`, in standardised units."""
        return torch.as_tensor(self._chip_generators[0].delta(u))

    @_inference()
    def delta_minus(self, u: Tensor) -> Tensor:
        """x− − x of whole chips `u`; like `u`, in standardised units."""
        return torch.as_tensor(self._chip_generators[1].delta(u))

    def attribution(self, delta_plus: Tensor, delta_minus: Tensor) -> Tensor:
        """|x+ − x−| as reflectance, (n, height, width).

        Taken from the changes, not from the pictures: a change is small beside the picture it would be added to.
        """
        return difference(self.scaling.restore_change(delta_plus), self.scaling.restore_change(delta_minus))

    @_inference()
    def lift(self, u: Tensor, delta_minus: Tensor) -> tuple[Tensor, Tensor, Classification]:
        """Signed DeepLIFT of the logit from x− to x, (n, bands, h, w); logit(x−), (n,); and the answer for x."""
        assert self._lift is not None, "lift is not one of the maps"
        signed, change, logit = self._lift(u, u + delta_minus, self._statistics)
        return signed, logit - change, self._with_dissimilarity(logit)

    @_inference()
    def path(self, u: Tensor, delta_minus: Tensor) -> Tensor:
        """Signed integrated gradients of the logit from x− to x, (n, bands, h, w)."""
        return integrated_gradients(self.classifier, u, u + delta_minus, self.steps)

    @_inference()
    def score(self, u: Tensor) -> Classification:
        """The classifier's answer for chips in standardised units, without maps."""
        with self._statistics or nullcontext():
            logit = self.classifier(u).float()
        return self._with_dissimilarity(logit)

    def _with_dissimilarity(self, logit: Tensor) -> Classification:
        if self._applicability is None or self._statistics is None:
            return Classification(logit, None)
        return Classification(logit, self._applicability.dissimilarity(self._statistics.pop()))

    def _classify(
        self, u: Tensor, delta_minus: Tensor | None, delta_plus: Tensor | None, maps: dict[str, Tensor]
    ) -> Callable[[], ChipMaps]:
        answer = None
        if "lift" in self.maps and delta_minus is not None:
            signed, _, answer = self.lift(u, delta_minus)
            maps["lift"] = signed.abs().mean(dim=1)
        if "path_attribution" in self.maps and delta_minus is not None:
            maps["path_attribution"] = self.path(u, delta_minus).abs().mean(dim=1)
        logit, dissimilarity = answer or self.score(u)  # lift has classified the chips already
        deltas = (("raised", delta_plus), ("lowered", delta_minus))
        changed = {name: u + delta for name, delta in deltas if name in self.maps and delta is not None}
        scores = {name: torch.sigmoid(self.classifier(chip).float()) for name, chip in changed.items()}
        scores |= {name: torch.sigmoid(network(u).float()) for name, network in self._further.items()}
        arrays = self._transfer.to_host({**maps, **scores, "score": torch.sigmoid(logit), "unlike": dissimilarity})

        def wait() -> ChipMaps:
            by_name = arrays()
            maps_made, scores_made = ({name: by_name[name] for name in names} for names in (maps, scores))
            return ChipMaps(maps_made, by_name["score"], by_name["unlike"], scores_made)

        return wait

    def _redraw(self, u: Tensor, generators: list[Any]) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """The maps that need no classifier, and x− − x and x+ − x in standardised units where a further map needs them.

        A generator that no map needs does not run.
        """
        wanted, (maximiser, minimiser) = set(self.maps), generators
        minus = plus = None
        if wanted - {"x_plus", "raised"}:
            minus = minimiser.delta(u)
        if wanted & {"attribution", "x_plus", "raised"}:
            plus = maximiser.delta(u)
        maps = {}
        if "attribution" in wanted and plus is not None and minus is not None:
            maps["attribution"] = self.attribution(plus, minus)
        for name, delta in zip(PICTURES, (plus, minus), strict=True):
            if name in wanted and delta is not None:
                maps[name] = self.scaling.restore(u + delta)
        explained = wanted & {"lift", "path_attribution", "lowered"}
        return maps, minus if explained else None, plus if "raised" in wanted else None

    @cached_property
    def _window_generators(self) -> list[Any]:
        settings = self.checkpoint.card.generator
        assert settings is not None
        return self._generators(edges_matter=context(settings) > window_halo(settings, self.checkpoint.card.frame))

    @cached_property
    def _chip_generators(self) -> list[Any]:
        return self._generators(edges_matter=True)

    def _generators(self, *, edges_matter: bool) -> list[nn.Module]:
        networks = check_generators(self.checkpoint)
        return [prepare_generator(one, self.precision, self.device, edges_matter=edges_matter) for one in networks]

    def _to_device(self, values: Array) -> Tensor:
        return self._transfer.to_device(values).contiguous(memory_format=torch.channels_last)

"""A batch of chips under one checkpoint, and the attribution methods that draw a map of every chip in it.

`ChipBatch` computes what several methods need (scores, x+, x−, lift, path) once, with the networks of the mapping
(`spacex.attribution.attributor`), and charges its cost to every method that uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacex.attribution.attributor import Attributor, Classification
from spacex.attribution.lift import try_lift
from spacex.attribution.names import MAP_NAMES, MapName
from spacex.errors import CheckpointError
from spacex.models.classes import native_network, unwrap
from spacex.models.classifier import Classifier

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint


def has_lift(checkpoint: Checkpoint) -> bool:
    """Whether `lift` can follow a checkpoint's classifier."""
    return try_lift(checkpoint.classifier, len(checkpoint.card.bands), checkpoint.card.chip_size) is not None


def supported_maps(checkpoint: Checkpoint) -> tuple[MapName, ...]:
    """The maps that a checkpoint can draw: none without generators, no `lift` where it cannot follow."""
    if checkpoint.maximiser is None or checkpoint.minimiser is None:
        return ()
    return MAP_NAMES if has_lift(checkpoint) else tuple(name for name in MAP_NAMES if name != "lift")


class ChipBatch:
    """A batch of chips under one checkpoint; everything is computed when it is first asked for, and only once.

    Args:
        attributor: the networks. Where `lift` is one of its maps, the pass that computes it also classifies the chips.
        x: reflectance ``(n, bands, h, w)`` float32 in the card's band order, without NaN.
        names: one per chip; they seed what is random, so a chip's map does not depend on its batch.
    """

    def __init__(self, attributor: Attributor, x: Tensor, names: Sequence[str]) -> None:
        self.attributor, self.checkpoint, self.x, self.names = attributor, attributor.checkpoint, x, tuple(names)
        self.shared_seconds = 0.0
        """Seconds of shared work the running method did not have to repeat; the runner sets it to 0."""
        self._memo: dict[str, tuple[Tensor, float]] = {}

    @classmethod
    def of(cls, checkpoint: Checkpoint, x: Tensor, names: Sequence[str], **options: Any) -> ChipBatch:
        """A batch with networks of its own, `Attributor(**options)`, for every map that the checkpoint supports."""
        return cls(Attributor(checkpoint, supported_maps(checkpoint), **options), x, names)

    def pick(self, keep: NDArray[np.bool_]) -> ChipBatch:
        """The chips at which `keep (n,)` is True, with everything already computed for them."""
        index = torch.from_numpy(np.flatnonzero(keep))
        picked = ChipBatch(self.attributor, self.x[index], [self.names[i] for i in index.tolist()])
        picked._memo = {key: (value[index], seconds) for key, (value, seconds) in self._memo.items()}
        return picked

    def memoise(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The result of `compute`, called only the first time; later calls add its cost to `shared_seconds`."""
        if key in self._memo:
            value, cost = self._memo[key]
            self.shared_seconds += cost
            return value
        start, before = time.perf_counter(), self.shared_seconds
        value = compute()
        # what `compute` took from the memo itself belongs to its cost
        self._memo[key] = value, time.perf_counter() - start + self.shared_seconds - before
        return value

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of x."""
        return self.checkpoint.card.bands

    @property
    def network(self) -> Classifier:
        """The trained classifier, where a method needs its layers and not only its logits."""
        own = native_network(self.checkpoint.classifier)
        if own is None:
            got = type(unwrap(self.checkpoint.classifier)).__name__
            raise CheckpointError("this method needs ASOS's layers", got=got)
        return own

    @cached_property
    def u(self) -> Tensor:
        """The chips in standardised units, like x."""
        return self.attributor.standardise(self.x.numpy())

    @cached_property
    def black(self) -> Tensor:
        """Zero reflectance in standardised units: the usual baseline of the gradient methods."""
        return self.attributor.standardise(np.zeros_like(self.x.numpy()))

    @property
    def logit(self) -> Tensor:
        """The classifier's logits, ``(n,)``."""
        return self._classified("logit")

    @property
    def score(self) -> Tensor:
        """The classifier's scores, ``(n,)`` in 0..1."""
        return torch.sigmoid(self.logit)

    @property
    def dissimilarity(self) -> Tensor | None:
        """How unlike the training chips each is, ``(n,)``, 1 = the threshold; None if the checkpoint does not know."""
        return None if self.checkpoint.applicability is None else self._classified("dissimilarity")

    @property
    def delta_plus(self) -> Tensor:
        """x+ − x in standardised units, like x."""
        return self.memoise("delta+", lambda: self.attributor.delta_plus(self.u))

    @property
    def delta_minus(self) -> Tensor:
        """x− − x in standardised units, like x."""
        return self.memoise("delta-", lambda: self.attributor.delta_minus(self.u))

    @property
    def u_plus(self) -> Tensor:
        """The maximised chips in standardised units."""
        return self.u + self.delta_plus

    @property
    def u_minus(self) -> Tensor:
        """The minimised chips in standardised units."""
        return self.u + self.delta_minus

    @property
    def x_plus(self) -> Tensor:
        """The maximised chips as reflectance."""
        return self.x + self.attributor.scaling.restore_change(self.delta_plus)

    @property
    def x_minus(self) -> Tensor:
        """The minimised chips as reflectance."""
        return self.x + self.attributor.scaling.restore_change(self.delta_minus)

    @property
    def logit_plus(self) -> Tensor:
        """The classifier's logits of the maximised chips, ``(n,)``."""
        return self.memoise("logit+", lambda: self.attributor.score(self.u_plus).logit)

    @property
    def logit_minus(self) -> Tensor:
        """The classifier's logits of the minimised chips, ``(n,)``."""
        # lift passes x− through the classifier anyway
        if "logit-" not in self._memo and "lift" in self.attributor.maps:
            _ = self.lift
        return self.memoise("logit-", lambda: self.attributor.score(self.u_minus).logit)

    @property
    def attribution(self) -> Tensor:
        """The paper's map |x+ − x−| as reflectance, ``(n, h, w)``."""
        return self.attributor.attribution(self.delta_plus, self.delta_minus)

    @property
    def lift(self) -> Tensor:
        """Signed DeepLIFT of the logit from x− to x, per band, like x."""

        def compute() -> Tensor:
            signed, logit_minus, classification = self.attributor.lift(self.u, self.delta_minus)
            self._memo["logit-"] = logit_minus, 0.0
            self._remember(classification)
            return signed

        return self.memoise("lift", compute)

    @property
    def path(self) -> Tensor:
        """Signed integrated gradients of the logit from x− to x, per band, like x."""
        return self.memoise("path", lambda: self.attributor.path(self.u, self.delta_minus))

    def _classified(self, key: str) -> Tensor:
        if key not in self._memo:
            if "lift" in self.attributor.maps:  # its second forward pass is the classification
                _ = self.lift
            else:
                self._remember(self.attributor.score(self.u))
        return self._memo[key][0]

    def _remember(self, classification: Classification) -> None:
        for key, value in classification._asdict().items():
            if value is not None:
                self._memo[key] = value, 0.0


@dataclass(frozen=True)
class Method:
    """A named function that draws, for a batch of chips, where it sees naturalness."""

    name: str
    """The first column of the table."""
    family: str
    """What kind of method it is, e.g. `ours`, `paper's rival`, `gradient`, `trivial`."""
    draw: Callable[[ChipBatch], Tensor]
    """Maps ``(n, h, w)``, not negative, larger where the method sees more."""
    about: str
    """One sentence for the report."""
    maps: tuple[MapName, ...] = ()
    """Maps of the checkpoint that it is made from."""

    def __call__(self, chips: ChipBatch) -> Tensor:
        """The maps as float32."""
        return self.draw(chips).float()

    def timed(self, chips: ChipBatch) -> tuple[Tensor, float]:
        """The maps, and the seconds they would have taken alone."""
        chips.shared_seconds = 0.0
        start = time.perf_counter()
        maps = self(chips)
        return maps, time.perf_counter() - start + chips.shared_seconds


def magnitude(signed: Tensor) -> Tensor:
    """Mean over bands of |a|: ``(n, b, h, w)`` to ``(n, h, w)``. Evidence for either class counts."""
    return signed.abs().mean(dim=1)


def supporting(signed: Tensor) -> Tensor:
    """Positive part of the mean over bands, ``(n, h, w)``: evidence for naturalness only."""
    return signed.mean(dim=1).clamp(min=0)

"""Attribution from the maximised and the minimised picture: the two maps and the score of a chip.

Both maps are taken in the classifier's own units and given back in plain ones:

* ``attribution``: mean over bands of |x+ − x−| as surface reflectance (Emam, Stomberg & Roscher 2024, II-C).
* ``path_attribution``: mean over bands of |integrated gradients| of the classifier's logit along the
  straight line from x− to x (Sundararajan et al. 2017 with the minimised picture as the baseline), in
  logits per pixel. The logit, not the sigmoid, is integrated: a saturated score has no gradient left.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from spacex.errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint

MapName = Literal["attribution", "path_attribution"]
MAP_NAMES: tuple[MapName, ...] = get_args(MapName)
PATH_STEPS = 8
"""Points on the path; eight localised as well as more did in the trial."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ChipMaps:
    """What is known about a batch of chips, on the CPU."""

    attribution: Array | None
    """(n, height, width) float32, reflectance; None if it was not asked for."""
    path_attribution: Array | None
    """(n, height, width) float32, logits per pixel; None if it was not asked for."""
    score: Array
    """(n,) float32 in [0, 1]: the classifier's naturalness of each whole chip."""


def difference(x_plus: torch.Tensor, x_minus: torch.Tensor) -> torch.Tensor:
    """Mean over bands of |x+ − x−| (paper, section II-C).

    Args:
        x_plus: maximised chips, (n, bands, height, width) float32 reflectance.
        x_minus: minimised chips, same shape.

    Returns:
        (n, height, width) float32 reflectance.
    """
    return (x_plus.float() - x_minus.float()).abs().mean(dim=1)


def integrated_gradients(
    classifier: torch.nn.Module, x: torch.Tensor, baseline: torch.Tensor, steps: int = PATH_STEPS
) -> torch.Tensor:
    """Signed integrated gradients of the logit from `baseline` to `x`, by the midpoint rule.

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
    for step in range(steps):
        point = (baseline + way * ((step + 0.5) / steps)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(classifier(point).sum(), point)
        total += gradient
    return way * total / steps


class Patterns:
    """A checkpoint ready to attribute chips: both generators and the classifier in one batched call.

    Args:
        checkpoint: a checkpoint with generators (kind ``patterns``).
        maps: which of `MAP_NAMES` to compute; the score always comes along.
        steps: points on the path of the path attribution.
        device: where the networks run.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        maps: Sequence[MapName] = MAP_NAMES,
        steps: int = PATH_STEPS,
        device: str | torch.device = "cpu",
    ) -> None:
        unknown = sorted(set(maps) - set(MAP_NAMES))
        if unknown or not maps:
            raise RequestError(
                "unknown map", got=unknown or "none", expected=f"some of {', '.join(MAP_NAMES)}"
            )
        if checkpoint.maximiser is None or checkpoint.minimiser is None:
            raise CheckpointError(
                f"checkpoint {checkpoint.uri} has no generators",
                got=f"kind {checkpoint.card.kind!r}",
                expected="kind 'patterns'",
                do="Train them with jobs/train_gan.py.",
            )
        self.maps, self.steps, self.device = tuple(maps), steps, torch.device(device)
        self.scaling = checkpoint.card.scaling
        self.classifier = self._placed(checkpoint.classifier)
        self.maximiser = self._placed(checkpoint.maximiser)
        self.minimiser = self._placed(checkpoint.minimiser)

    def _placed(self, network: torch.nn.Module) -> torch.nn.Module:
        # a copy: the checkpoint's own networks stay where and as they are
        placed: torch.nn.Module = copy.deepcopy(network).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def __call__(self, x: Array) -> ChipMaps:
        """Attribute a batch of chips.

        Args:
            x: (n, bands, 256, 256) float32 reflectance in the card's band order, without NaN.
        """
        u = self.scaling.standardise(torch.from_numpy(x).to(self.device))
        u = u.contiguous(memory_format=torch.channels_last)
        plain = path = None
        with torch.no_grad():
            u_minus = self.minimiser(u)
            if "attribution" in self.maps:
                plain = _numpy(
                    difference(self.scaling.restore(self.maximiser(u)), self.scaling.restore(u_minus))
                )
            if "path_attribution" in self.maps:
                path = _numpy(integrated_gradients(self.classifier, u, u_minus, self.steps).abs().mean(dim=1))
            score = _numpy(torch.sigmoid(self.classifier(u).float()))
        return ChipMaps(plain, path, score)


def _numpy(values: torch.Tensor) -> Array:
    result: Array = values.detach().cpu().contiguous().numpy()
    return result

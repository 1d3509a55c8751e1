"""DeepLIFT from the minimised picture, for any torch network, in two forward passes and one backward pass.

The rescale rule (Shrikumar, Greenside & Kundaje, "Learning important features through propagating activation
differences", ICML 2017, section 3.5.1) replaces a non-linearity's slope by the slope of its chord between baseline and
input, (f(x) − f(x−)) / (x − x−). Here every operation of a network has such a rule, products, normalisations, softmax
and maxima too, so that the backward pass carries the whole change of the logit from x− to x back to the pixels:
`README.md` derives them. Integrating gradients along the way costs several times as much and is complete only nearly.
Captum's implementation knows element-wise non-linearities and max pooling that are modules of their own; it is the
oracle of the tests on ReLU networks.

What cannot be seen is caught: on one chip, at loading, the attribution's sum and the logit are compared with the change
of the logit that the network itself gives. The name: DeepLIFT from black is one of the paper's rivals and keeps its
name in the tables; `lift` is from x−.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import Tensor, nn

from spacex.attribution.lift_mode import DifferenceMode
from spacex.errors import RequestError
from spacex.model_card import LiftRecord

TOLERANCE = 1e-4
"""By how much the attribution's sum may miss the change of the logit, as a share of that change, in float32."""
TOLERANCE_BFLOAT16 = 1e-2
"""The same with bfloat16 weights."""
ROUNDING, ROUNDING_BFLOAT16 = 0.01, 0.1
"""Share of the tolerance that is allowed of the sum of absolute values, where the change itself is next to nothing:
closed rules miss 1e-7 of that sum in float32, and with bfloat16 weights 1.5e-4."""
LOGIT_ROUNDING = 4
"""Units in the last place of the larger logit that the sum may always miss: the logits themselves are no better."""


class Lift:
    """Attribution of one classifier in eval mode whose weights have no gradients, (n, bands, h, w) to logits (n,).

    Args:
        classifier: it runs as it is, and may have hooks.
        chip: any one, (1, bands, h, w) in standardised units, to compare sum and change on.

    Raises:
        RequestError: naming the operations that cannot be carried, unless the sum of the attribution is the change of
            the logit to `TOLERANCE`.
    """

    def __init__(self, classifier: nn.Module, chip: Tensor) -> None:
        self.network = classifier
        self.record = self._check(chip)
        """What was compared, for the card."""

    def __call__(
        self, u: Tensor, baseline: Tensor, statistics: AbstractContextManager[object] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attribute the change of the logit from `baseline` to `u`, both (n, bands, h, w) in standardised units.

        `statistics` is entered while the network processes the chips themselves.

        Returns:
            (n, bands, h, w) float32, signed, in logits per pixel; summed per chip it is logit(u) - logit(baseline)
            (completeness). That change, (n,). And logit(u), (n,).
        """
        return self._propagate(DifferenceMode(), u, baseline, statistics)

    def _propagate(
        self, mode: DifferenceMode, u: Tensor, baseline: Tensor, statistics: AbstractContextManager[object] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            with mode:  # copies, which the network may write over
                before = self.network(baseline.detach().clone()).float()
            point = u.detach().requires_grad_()
            with statistics or nullcontext(), mode.replay():
                logit = self.network(point.clone()).float()
            (slope,) = torch.autograd.grad(logit.sum(), point)
        logit = logit.detach()
        return (u - baseline) * slope.float(), logit - before, logit

    def _check(self, chip: Tensor) -> LiftRecord:
        baseline = -2 * chip.flip(-1)  # far away, so that whatever bends on the way must show
        mode = DifferenceMode()
        with torch.no_grad():
            plain = [self.network(x.clone()).float() for x in (chip, baseline)]
        try:
            signed, _, logit = self._propagate(mode, chip, baseline, None)
        except Exception as error:  # whatever a network does that cannot be done twice, or not while it is watched
            raise _refusal([*sorted(mode.cut), f"{type(error).__name__}: {error}"]) from error
        change, total = float(plain[0] - plain[1]), float(signed.abs().sum())
        miss = max(abs(float(signed.sum()) - change), abs(float(logit - plain[0])))
        rounded = any(weight.dtype == torch.bfloat16 for weight in self.network.parameters())
        tolerance, share = (TOLERANCE_BFLOAT16, ROUNDING_BFLOAT16) if rounded else (TOLERANCE, ROUNDING)
        rounding = LOGIT_ROUNDING * torch.finfo(torch.float32).eps * max(abs(float(logits)) for logits in plain)
        if not miss <= max(tolerance * max(abs(change), share * total), rounding):
            unknown = sorted(mode.cut | mode.quadrature) or ["compiled code, or an autograd function of its own"]
            raise _refusal([*unknown, f"the sum misses {miss / max(abs(change), 1e-30):.1%} of the logit's change"])
        return LiftRecord(
            miss=float(f"{miss / max(abs(change), 1e-30):.1e}"), quadrature=tuple(sorted(mode.quadrature))
        )


def check_lift(classifier: nn.Module, bands: int, side: int) -> LiftRecord:
    """Check that `Lift` can follow a classifier in eval mode, for chips of some bands and a side in pixels.

    Raises:
        RequestError: as `Lift`.
    """
    chip = torch.randn(1, bands, side, side, generator=torch.Generator().manual_seed(0))
    device = next((weight.device for weight in classifier.parameters()), chip.device)
    return Lift(classifier, chip.to(device)).record


def try_lift(classifier: nn.Module, bands: int, side: int) -> LiftRecord | None:
    """As `check_lift`, but None where `Lift` cannot follow the classifier."""
    with suppress(RequestError):
        return check_lift(classifier, bands, side)
    return None


def _refusal(got: list[str]) -> RequestError:
    return RequestError(
        "the map `lift` cannot follow this classifier",
        got=", ".join(got),
        expected="operations whose differences can be carried back: no sorting, rounding, or choice by comparison",
        do="Ask for --maps attribution,path_attribution.",
    )

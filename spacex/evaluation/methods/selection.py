"""The full list of methods for one checkpoint, and how to pick some of them by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spacex.errors import RequestError
from spacex.evaluation.methods import asos, rise
from spacex.evaluation.methods.captum import Effort, captum_methods, grad_cam_methods
from spacex.evaluation.methods.chip_batch import ChipBatch, Method
from spacex.evaluation.methods.counterfactual import control_methods, counterfactual_methods
from spacex.evaluation.methods.trivial import product_methods, trivial_methods
from spacex.models.classes import native_network

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint


def all_methods(
    checkpoint: Checkpoint,
    effort: Effort | None = None,
    space: asos.ActivationSpace | None = None,
    controls: Mapping[str, Checkpoint] | None = None,
) -> list[Method]:
    """Every method this checkpoint and its bands allow, ours first; without generators only the rivals.

    Args:
        checkpoint: what is evaluated.
        effort: how much the slow methods may do.
        space: measured by :func:`spacex.evaluation.methods.asos.fit`; without it ASOS is left out.
        controls: generators that should find nothing, by name, e.g. trained with λ_AM = 0.
    """
    effort = effort or Effort()
    listed = counterfactual_methods(checkpoint) + captum_methods(effort) + grad_cam_methods(checkpoint.classifier)
    listed.append(_rise(effort))
    if space is not None and native_network(checkpoint.classifier) is not None:
        listed += _asos(space)
    listed += trivial_methods(checkpoint.card.bands)
    listed += product_methods(listed)
    for name, control in (controls or {}).items():
        listed += control_methods(name, control)
    return listed


def choose(listed: Sequence[Method], names: Iterable[str]) -> list[Method]:
    """The named methods in the list's own order.

    Raises:
        RequestError: if a name is unknown.
    """
    wanted, known = set(names), [method.name for method in listed]
    if unknown := wanted - set(known):
        raise RequestError("unknown method", got=", ".join(sorted(unknown)), expected=", ".join(known))
    return [method for method in listed if method.name in wanted]


def _rise(effort: Effort) -> Method:
    masks = cache(lambda size: rise.masks(effort.rise_masks, effort.rise_cells, size))

    def draw(chips: ChipBatch) -> Tensor:
        classifier, visible = chips.checkpoint.classifier, masks(chips.u.shape[-1]).to(chips.u)
        return rise.rise(lambda u: torch.sigmoid(classifier(u)), chips.u, visible, batch=effort.batch)

    return Method("rise", "perturbation", draw, f"RISE with {effort.rise_masks} masks.")


def _asos(space: asos.ActivationSpace) -> list[Method]:
    def signed(chips: ChipBatch) -> Tensor:
        with torch.no_grad():
            return space.maps(chips.network.activation_map(chips.u))

    positive = "ASOS, evidence for naturalness only."
    return [
        Method("asos", "activation", lambda c: signed(c).abs(), "ASOS, absolute sensitivity."),
        Method("asos+", "activation", lambda c: signed(c).clamp(min=0), positive),
    ]

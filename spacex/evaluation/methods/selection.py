"""The full list of methods for one checkpoint, and how to pick some of them by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spacex.attribution.attributor import difference
from spacex.attribution.lift import check_lift
from spacex.errors import RequestError
from spacex.evaluation.methods import asos, rise
from spacex.evaluation.methods.baselines import ChipBatch, Method, Named, magnitude, ours, product, trivial
from spacex.evaluation.methods.captum import Effort, captum_methods, foreign_cams, grad_cams
from spacex.models.classes import native_network

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint


def all_methods(
    checkpoint: Checkpoint,
    effort: Effort | None = None,
    space: asos.Space | None = None,
    controls: dict[str, Checkpoint] | None = None,
) -> list[Method]:
    """Every method this checkpoint and its bands allow, ours first.

    Args:
        checkpoint: what is evaluated; without generators only the rivals are listed.
        effort: how much the slow methods may do.
        space: activation space measured by :func:`spacex.evaluation.methods.asos.fit`; without it ASOS is left out.
        controls: generators that must *not* find anything, by name, e.g. trained with λ_AM = 0.
    """
    effort = effort or Effort()
    generators = checkpoint.maximiser is not None and checkpoint.minimiser is not None
    listed: list[Method] = [*(ours() if generators else []), *captum_methods(effort)]
    if not has_lift(checkpoint):
        listed = [method for method in listed if not method.name.startswith("lift")]
    own = native_network(checkpoint.classifier) is not None
    features = getattr(checkpoint.classifier, "features", ())
    listed += grad_cams() if own else foreign_cams(features) if features else []
    listed.append(_rise(effort))
    if space is not None and own:
        listed += _asos(space)
    listed += trivial(checkpoint.card.bands)
    listed += _products(listed)
    for name, control in (controls or {}).items():
        listed += _control(name, control)
    return listed


def has_lift(checkpoint: Checkpoint) -> bool:
    """Whether DeepLIFT's rescale rule reaches through a checkpoint's classifier."""
    try:
        check_lift(checkpoint.classifier, len(checkpoint.card.bands), checkpoint.card.chip_size)
    except RequestError:
        return False
    return True


def choose(listed: Sequence[Method], names: Iterable[str]) -> list[Method]:
    """The named methods in the list's own order.

    Raises:
        RequestError: if a name is unknown.
    """
    wanted = list(names)
    known = {method.name for method in listed}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise RequestError("unknown method", got=", ".join(unknown), expected=", ".join(m.name for m in listed))
    return [method for method in listed if method.name in wanted]


def _products(listed: Sequence[Method]) -> list[Named]:
    by_name = {method.name: method for method in listed}
    partner = by_name.get("gradcam-first")
    if partner is None:
        return []
    sharp = [by_name[name] for name in ("lift", "path", "attribution", "brightness", "sobel") if name in by_name]
    return [product(f"{method.name} x gradcam-first", method, partner) for method in sharp]


def _rise(effort: Effort) -> Named:
    masks = lru_cache(maxsize=1)(lambda size: rise.masks(effort.rise_masks, effort.rise_cells, size))

    def draw(chips: ChipBatch) -> Tensor:
        classifier = chips.checkpoint.classifier
        seen = masks(chips.u.shape[-1]).to(chips.u)
        return rise.rise(lambda u: torch.sigmoid(classifier(u)), chips.u, seen, batch=effort.batch)

    return Named("rise", "perturbation", draw, f"RISE with {effort.rise_masks} masks.")


def _asos(space: asos.Space) -> list[Named]:
    def signed(chips: ChipBatch) -> Tensor:
        with torch.no_grad():
            return space.maps(chips.network.activation_map(chips.u))

    return [
        Named("asos", "activation", lambda c: signed(c).abs(), "ASOS, absolute sensitivity."),
        Named("asos+", "activation", lambda c: signed(c).clamp(min=0), "ASOS, evidence for naturalness only."),
    ]


@dataclass
class _Twin:
    """Another checkpoint on the same chips, so that both its maps share one pass."""

    checkpoint: Checkpoint

    def chips(self, chips: ChipBatch) -> ChipBatch:
        return ChipBatch(self.checkpoint, chips.x, chips.names, chips.steps)


def _control(name: str, control: Checkpoint) -> list[Named]:
    twin = _Twin(control)

    def plain(chips: ChipBatch) -> Tensor:
        other = twin.chips(chips)
        return difference(other.x_plus, other.x_minus)

    return [
        Named(f"{name} attribution", "control", plain, f"|x+ − x−| of the control checkpoint “{name}”."),
        Named(
            f"{name} lift",
            "control",
            lambda c: magnitude(twin.chips(c).lift),
            f"DeepLIFT from x− of the control checkpoint “{name}”.",
        ),
    ]

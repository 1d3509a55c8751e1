"""The maps made from the maximised and the minimised picture: of the checkpoint, and of control checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor

from spacex.attribution.attributor import Attributor, difference
from spacex.attribution.names import MapName
from spacex.evaluation.methods.chip_batch import ChipBatch, Method, magnitude, supported_maps, supporting

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint


def counterfactual_methods(checkpoint: Checkpoint) -> list[Method]:
    """The maps that the checkpoint supports, and variants of them."""
    positive = "The same, evidence for naturalness only."
    rows: list[tuple[str, MapName, Callable[[ChipBatch], Tensor], str]] = [
        ("lift", "lift", lambda c: magnitude(c.lift), "|DeepLIFT| of the logit from x− to x."),
        ("lift+", "lift", lambda c: supporting(c.lift), positive),
        ("path", "path_attribution", lambda c: magnitude(c.path), "|Integrated gradients| of the logit from x− to x."),
        ("path+", "path_attribution", lambda c: supporting(c.path), positive),
        ("attribution", "attribution", lambda c: c.attribution, "The paper's map |x+ − x−|."),
        (
            "attribution+",
            "attribution",
            lambda c: supporting(c.x_plus - c.x_minus),
            "Where x+ is brighter than x−, mean over bands.",
        ),
        ("raised", "attribution", lambda c: difference(c.x_plus, c.x), "|x+ − x|: what the maximiser adds."),
        ("lowered", "attribution", lambda c: difference(c.x, c.x_minus), "|x − x−|: what the minimiser removes."),
    ]
    supported = supported_maps(checkpoint)
    return [
        Method(name, "ours", draw, about, (made_from,))
        for name, made_from, draw, about in rows
        if made_from in supported
    ]


def control_methods(name: str, control: Checkpoint) -> list[Method]:
    """Attribution and lift of a checkpoint that should find nothing, e.g. trained with λ_AM = 0."""

    @cache
    def attributor() -> Attributor:
        return Attributor(control, ("attribution", "lift"))

    def batch(chips: ChipBatch) -> ChipBatch:
        return ChipBatch(attributor(), chips.x, chips.names)

    def lift(chips: ChipBatch) -> Tensor:
        return magnitude(batch(chips).lift)

    what = f"of the control checkpoint “{name}”."
    return [
        Method(f"{name} attribution", "control", lambda c: batch(c).attribution, f"|x+ − x−| {what}"),
        Method(f"{name} lift", "control", lift, f"DeepLIFT from x− {what}"),
    ]

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
    supported = supported_maps(checkpoint)
    listed: list[Method] = []

    def add(name: str, made_from: MapName, about: str, draw: Callable[[ChipBatch], Tensor]) -> None:
        if made_from in supported:
            listed.append(Method(name, "ours", draw, about, (made_from,)))

    positive = "The same, evidence for naturalness only."
    add("lift", "lift", "|DeepLIFT| of the logit from x− to x.", lambda c: magnitude(c.lift))
    add("lift+", "lift", positive, lambda c: supporting(c.lift))
    add("path", "path_attribution", "|Integrated gradients| of the logit from x− to x.", lambda c: magnitude(c.path))
    add("path+", "path_attribution", positive, lambda c: supporting(c.path))
    add("attribution", "attribution", "The paper's map |x+ − x−|.", lambda c: c.attribution)
    about = "Where x+ is brighter than x−, mean over bands."
    add("attribution+", "attribution", about, lambda c: supporting(c.x_plus - c.x_minus))
    add("raised", "attribution", "|x+ − x|: what the maximiser adds.", lambda c: difference(c.x_plus, c.x))
    add("lowered", "attribution", "|x − x−|: what the minimiser removes.", lambda c: difference(c.x, c.x_minus))
    return listed


def control_methods(name: str, control: Checkpoint) -> list[Method]:
    """Attribution and lift of a checkpoint that should find nothing, e.g. trained with λ_AM = 0."""
    attributor = cache(lambda: Attributor(control, ("attribution", "lift")))

    def batch(chips: ChipBatch) -> ChipBatch:
        return ChipBatch(attributor(), chips.x, chips.names)

    what = f"of the control checkpoint “{name}”."
    return [
        Method(f"{name} attribution", "control", lambda c: batch(c).attribution, f"|x+ − x−| {what}"),
        Method(f"{name} lift", "control", lambda c: magnitude(batch(c).lift), f"DeepLIFT from x− {what}"),
    ]

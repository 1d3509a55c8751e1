"""DeepLIFT, Integrated Gradients, Occlusion and Grad-CAM, all computed by Captum.

They explain the logit of the trained classifier: the sigmoid of a sure classifier has no gradient left. Baselines:
*black* is zero reflectance, *mean* the training data's mean colour (zero in standardised units). From x− as the
baseline (after GANMEX, Shih et al., ICML 2021) DeepLIFT is our own map, `spacex.attribution.lift`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from captum.attr import DeepLift, IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.errors import RequestError
from spacex.evaluation.methods.chip_batch import ChipBatch, Method, magnitude, supporting
from spacex.models.classes import native_network
from spacex.models.features import feature_modules
from spacex.settings import Settings


class Effort(Settings):
    """How much work the slow methods may do per chip."""

    gradient_steps: int = 32
    """Points on the path of Integrated Gradients (the path from x− has its own, 4)."""
    window: int = 16
    """Side in pixels of the square that Occlusion hides."""
    stride: int = 8
    """Pixels between two positions of that square."""
    rise_masks: int = 500
    """Random masks of RISE."""
    rise_cells: int = 8
    """Cells per side of a RISE mask."""
    batch: int = 16
    """Perturbed chips in one forward pass."""
    asos_edge: float = 0.2
    """Edge of ASOS's cubes in the space of activation maps, which spans -1..1."""


QUICK = Effort(gradient_steps=16, window=32, stride=16, rise_masks=100)
"""About a tenth of the time, for a first look."""


def deep_lift(chips: ChipBatch, baseline: Tensor) -> Tensor:
    """DeepLIFT (rescale rule) against `baseline`, signed, ``(n, bands, h, w)``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*hooks.*")
        try:
            explained: Tensor = DeepLift(chips.checkpoint.classifier).attribute(_input(chips), baselines=baseline)
        except (AssertionError, AttributeError, RuntimeError) as error:  # a layer used twice, or one it cannot hook
            do = "Leave deeplift out of --methods."
            raise RequestError("DeepLIFT cannot follow this classifier", got=error, do=do) from error
    return explained.detach()


def integrated(chips: ChipBatch, baseline: Tensor, effort: Effort) -> Tensor:
    """Integrated Gradients from `baseline` (Gauss-Legendre), signed, ``(n, bands, h, w)``."""
    explained: Tensor = IntegratedGradients(chips.checkpoint.classifier).attribute(
        _input(chips), baselines=baseline, n_steps=effort.gradient_steps, internal_batch_size=effort.batch
    )
    return explained.detach().float()


def occlusion(chips: ChipBatch, effort: Effort) -> Tensor:
    """Fall of the logit when a black square hides a place, averaged over squares; ``(n, bands, h, w)``."""
    at_once = max(1, effort.batch // len(chips.x))
    with torch.no_grad():
        explained: Tensor = Occlusion(chips.checkpoint.classifier).attribute(
            chips.u,
            sliding_window_shapes=(chips.u.shape[1], effort.window, effort.window),
            strides=(chips.u.shape[1], effort.stride, effort.stride),
            baselines=chips.black,
            perturbations_per_eval=at_once,
        )
    return explained.float()


def grad_cam(chips: ChipBatch, layer: nn.Module) -> Tensor:
    """Grad-CAM at `layer`, positive part, enlarged bilinearly to the chip, ``(n, h, w)``."""
    explained: Tensor = LayerGradCam(chips.checkpoint.classifier, layer).attribute(
        _input(chips), relu_attributions=True
    )
    return F.interpolate(explained.detach(), chips.x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def gradient(chips: ChipBatch) -> Tensor:
    """Gradient of the logit, signed, ``(n, bands, h, w)``."""
    point = _input(chips)
    (explained,) = torch.autograd.grad(chips.checkpoint.classifier(point).sum(), point)
    return explained


def _input(chips: ChipBatch) -> Tensor:
    return chips.u.detach().clone().requires_grad_()


def grad_cam_methods(classifier: nn.Module) -> list[Method]:
    """Grad-CAM at layers of our own network, or at the features of another one, as far as they are known."""

    def method(name: str, where: str, layer: Callable[[ChipBatch], nn.Module]) -> Method:
        family = "paper's rival" if name == "last" else "activation"
        return Method(f"gradcam-{name}", family, lambda c: grad_cam(c, layer(c)), f"Grad-CAM on {where}.")

    def feature(chips: ChipBatch, name: str) -> nn.Module:
        return feature_modules(chips.checkpoint.classifier, [name])[0]

    if native_network(classifier) is not None:
        last = "the head's last convolution, as in the paper"
        return [
            method("last", last, lambda c: c.network.head_convolutions[-1]),
            method("first", "the head's first convolution", lambda c: c.network.head_convolutions[0]),
            method("maps", "the classifier's own activation maps", lambda c: c.network.unet),
        ]
    if not (features := getattr(classifier, "features", ())):
        return []
    return [
        method("last", f"the network's “{features[-1]}”", lambda c: feature(c, features[-1])),
        method("first", f"the network's “{features[0]}”", lambda c: feature(c, features[0])),
    ]


def captum_methods(effort: Effort) -> list[Method]:
    """The methods that need no particular layer; DeepLIFT from x− is not here, but ours: `lift`."""

    def mean(chips: ChipBatch) -> Tensor:
        return torch.zeros_like(chips.u)

    kind = "Integrated Gradients from"
    return [
        *_signed("deeplift", "paper's rival", "DeepLIFT from black", lambda c: deep_lift(c, c.black)),
        *_signed("deeplift-mean", "gradient", "DeepLIFT from the mean colour", lambda c: deep_lift(c, mean(c))),
        *_signed("integrated", "gradient", f"{kind} black", lambda c: integrated(c, c.black, effort)),
        *_signed("integrated-mean", "gradient", f"{kind} the mean colour", lambda c: integrated(c, mean(c), effort)),
        Method("gradient", "gradient", lambda c: magnitude(gradient(c)), "|Gradient| of the logit."),
        *_signed("occlusion", "paper's rival", "Occlusion (OSM)", lambda c: occlusion(c, effort)),
    ]


def _signed(name: str, family: str, about: str, explain: Callable[[ChipBatch], Tensor]) -> list[Method]:
    def shared(chips: ChipBatch) -> Tensor:
        return chips.memoise(f"signed {name}", lambda: explain(chips))

    return [
        Method(name, family, lambda c: magnitude(shared(c)), f"{about}, absolute."),
        Method(f"{name}+", family, lambda c: supporting(shared(c)), f"{about}, evidence for naturalness only."),
    ]

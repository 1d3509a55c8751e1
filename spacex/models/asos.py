"""The published ASOS classifiers as networks of this package.

Channels, maps, widths and dropout are inferred from the names and shapes of the weights, and what does not fit is
refused with the shapes it has. The inner names of their U-Net are unknown, so its layers are matched in their order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from spacex.errors import CheckpointError
from spacex.models.classifier import Classifier, ClassifierSettings

Pool = Literal["average", "max"]
Convolution = tuple[Tensor, Tensor | None]
"""Weight and bias."""

_DECODERS: tuple[tuple[Literal[0, 1, 3], int], ...] = ((0, 1), (1, 2), (3, 2))
"""Side of the convolution after upsampling (0: none), and convolutions per level on the way up."""

_HEADS = {(0, 3, 6, 10, 13): "with dropout", (0, 2, 4, 7, 9): "without dropout"}
"""Numbers of the head's layers in the newer and in the older version."""


def convert(state: dict[str, Tensor], pool: Pool = "max") -> Classifier:
    """A classifier in eval mode with these weights, named `unet.*` and `classifier.*` as ASOS names them.

    How the U-Net halves the image, shapes do not tell; the textbook takes the maximum.

    Raises:
        CheckpointError: if names or shapes are not those of ASOS.
    """
    unet, rest = ({n: v for n, v in state.items() if n.startswith("unet.") is inside} for inside in (True, False))
    if not unet or not all(name.startswith("classifier.") for name in rest):
        got = [name for name in rest if not name.startswith("classifier.")][:5] or "no unet"
        raise CheckpointError("this is no ASOS classifier", got=got, expected="unet.*, classifier.*")
    head = _head_weights(rest)
    convolutions, norms = _unet_weights(unet)
    model = Classifier(_infer_settings(convolutions, len(norms), maps=head[0].shape[1], pool=pool))
    _load_head(model.head, head)
    _load_unet(model.unet, convolutions, norms)
    return model.eval().requires_grad_(False)


def _head_weights(state: dict[str, Tensor]) -> list[Tensor]:
    """Weight and bias of the head's five layers in order: [w, b, w, b, ...], one output."""
    layers = sorted({int(name.split(".")[1]) for name in state if name.split(".")[1].isdigit()})
    if tuple(layers) not in _HEADS:
        expected = " or ".join(f"{list(numbers)} ({kind})" for numbers, kind in _HEADS.items())
        raise CheckpointError("the head is not that of ASOS", got=f"layers {layers}", expected=expected)
    names = [f"classifier.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    if absent := [name for name in names if name not in state]:
        raise CheckpointError("the head is not that of ASOS", got=f"no {', '.join(absent)}")
    values = [state[name] for name in names]
    if values[-2].shape[0] == 2:  # softmax over two classes is the sigmoid of their difference
        values[-2:] = [value[1:] - value[:1] for value in values[-2:]]
    return values


def _unet_weights(state: dict[str, Tensor]) -> tuple[list[Convolution], list[dict[str, Tensor]]]:
    """The U-Net's convolutions and batch norms in order."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        module, kind = name.rsplit(".", 1)
        modules.setdefault(module, {})[kind] = value
    convolutions: list[Convolution] = []
    norms: list[dict[str, Tensor]] = []
    for module, values in modules.items():
        if "running_mean" in values and convolutions:
            # our convolutions have no bias before a batch norm: it moves into the norm's mean
            weight, bias = convolutions[-1]
            convolutions[-1] = (weight, None)
            norms.append(values if bias is None else values | {"running_mean": values["running_mean"] - bias})
        elif "weight" in values and values["weight"].ndim == 4:
            convolutions.append((values["weight"], values.get("bias")))
        else:
            got = ", ".join(f"{module}.{kind} of shape {tuple(v.shape)}" for kind, v in values.items())
            raise CheckpointError("the U-Net has an unknown layer", got=got, expected="convolutions, batch norms")
    return convolutions, norms


def _infer_settings(convolutions: list[Convolution], norms: int, maps: int, pool: Pool) -> ClassifierSettings:
    """The settings whose U-Net has exactly these shapes in this order."""
    shapes = [tuple(weight.shape) for weight, _ in convolutions]
    outs = [shape[0] for shape in shapes]
    for kernel, per_level in _DECODERS:
        # all but the first and the last convolution are one per level down and `per_level` per level up
        levels = (len(shapes) - 2) // (1 + per_level)
        if levels < 1:
            continue
        widths, returns = tuple(outs[: levels + 1]), tuple(outs[levels + per_level : -1 : per_level])
        fixed = {"bands": shapes[0][1], "maps": maps, "base": outs[0], "levels": min(levels, 6)}
        settings = ClassifierSettings(**fixed, pool=pool, up_kernel=kernel, widths=widths, returns=returns)
        if len(widths) == len(returns) + 1 and _shapes(settings) == (shapes, norms):
            doubled = tuple(settings.base * 2**level for level in range(settings.levels + 1))
            # widths that follow from the base are not spelled out
            regular = (widths, returns) == (doubled, doubled[-2::-1])
            return settings.model_copy(update={"widths": None, "returns": None}) if regular else settings
    raise CheckpointError(
        "the U-Net is not one this package can build",
        got=f"convolutions {shapes}, {norms} batch norms",
        expected="one convolution with batch norm per level, down and up, and one of 1 x 1 at the end",
    )


def _shapes(settings: ClassifierSettings) -> tuple[list[tuple[int, ...]], int]:
    """Shapes of the convolutions and number of batch norms of a U-Net, without allocating it."""
    with FakeTensorMode():
        modules = list(Classifier(settings).unet.modules())
    convolutions = [tuple(layer.weight.shape) for layer in modules if isinstance(layer, nn.Conv2d)]
    return convolutions, sum(isinstance(layer, nn.BatchNorm2d) for layer in modules)


def _load_head(head: nn.Sequential, values: list[Tensor]) -> None:
    layers = [layer for layer in head if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, weight, bias in zip(layers, values[::2], values[1::2], strict=True):
        if layer.weight.shape != weight.shape:
            got, expected = tuple(weight.shape), f"{tuple(layer.weight.shape)} (chips of 256 pixels)"
            raise CheckpointError("a layer of the head has another shape", got=got, expected=expected)
        layer.load_state_dict({"weight": weight, "bias": bias})


def _load_unet(unet: nn.Module, convolutions: list[Convolution], norms: list[dict[str, Tensor]]) -> None:
    layers = [layer for layer in unet.modules() if isinstance(layer, nn.Conv2d)]
    for layer, (weight, bias) in zip(layers, convolutions, strict=True):
        empty = {} if layer.bias is None else {"bias": torch.zeros_like(layer.bias)}
        layer.load_state_dict({"weight": weight} | empty | ({} if bias is None else {"bias": bias}))
    own_norms = [layer for layer in unet.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm, values in zip(own_norms, norms, strict=True):
        norm.load_state_dict({"num_batches_tracked": torch.tensor(0)} | values)

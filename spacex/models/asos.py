"""The authors' classifiers (ASOS) by their names and shapes, as networks of this package.

Nothing is taken for granted: channels, maps, widths and dropout are inferred from shapes, and what does not
fit is refused with the shapes it has. Their U-Net's inner names are unknown, so its layers are matched in
their order.
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

_WAYS_UP: tuple[tuple[Literal[0, 1, 3], int], ...] = ((0, 1), (1, 2), (3, 2))
"""Side of the convolution after upsampling (0: none), and convolutions per level on the way up."""

_HEADS = {(0, 3, 6, 10, 13): "with dropout", (0, 2, 4, 7, 9): "without dropout"}
"""Places of the head's layers in the newer and in the older version."""


def convert(state: dict[str, Tensor], pool: Pool = "max") -> Classifier:
    """A classifier with these weights, in eval mode.

    Args:
        state: weights named `unet.*` and `classifier.*`, as ASOS names them.
        pool: how the U-Net halves the picture; shapes do not tell. The textbook takes the maximum.

    Raises:
        CheckpointError: if names or shapes are not those of ASOS.
    """
    strange = [name for name in state if not name.startswith(("unet.", "classifier."))]
    if strange or not any(name.startswith("unet.") for name in state):
        raise CheckpointError(
            "this is no ASOS classifier", got=strange[:5] or "no unet", expected="unet.*, classifier.*"
        )
    head = _head({name: value for name, value in state.items() if name.startswith("classifier.")})
    convolutions, norms = _layers({name: value for name, value in state.items() if name.startswith("unet.")})
    settings = _settings(convolutions, len(norms), maps=head[0].shape[1], pool=pool)
    model = Classifier(settings)
    _fill_head(model.head, head)
    _fill_unet(model.unet, convolutions, norms)
    return model.eval().requires_grad_(False)


def _head(state: dict[str, Tensor]) -> list[Tensor]:
    """Weight and bias of the head's five layers in order: [w, b, w, b, ...], one output."""
    layers = sorted({int(name.split(".")[1]) for name in state if name.split(".")[1].isdigit()})
    if tuple(layers) not in _HEADS:
        expected = " or ".join(f"{list(places)} ({kind})" for places, kind in _HEADS.items())
        raise CheckpointError("the head is not that of ASOS", got=f"layers {layers}", expected=expected)
    names = [f"classifier.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    if absent := [name for name in names if name not in state]:
        raise CheckpointError("the head is not that of ASOS", got=f"no {', '.join(absent)}")
    values = [state[name] for name in names]
    if values[-2].shape[0] == 2:  # softmax over two classes is the sigmoid of their difference
        values[-2:] = [value[1:] - value[:1] for value in values[-2:]]
    return values


def _layers(state: dict[str, Tensor]) -> tuple[list[Convolution], list[dict[str, Tensor]]]:
    """The U-Net's convolutions and batch norms in order; a bias before a batch norm moves into its mean."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        place, kind = name.rsplit(".", 1)
        modules.setdefault(place, {})[kind] = value
    convolutions: list[Convolution] = []
    norms: list[dict[str, Tensor]] = []
    for place, values in modules.items():
        if "running_mean" in values and convolutions:
            norms.append(_without_bias(values, convolutions))
        elif "weight" in values and values["weight"].ndim == 4:
            convolutions.append((values["weight"], values.get("bias")))
        else:
            got = ", ".join(f"{place}.{kind} of shape {tuple(v.shape)}" for kind, v in values.items())
            raise CheckpointError("the U-Net has an unknown layer", got=got, expected="convolutions, batch norms")
    return convolutions, norms


def _without_bias(norm: dict[str, Tensor], convolutions: list[Convolution]) -> dict[str, Tensor]:
    weight, bias = convolutions[-1]
    if bias is None:
        return norm
    convolutions[-1] = (weight, None)
    return norm | {"running_mean": norm["running_mean"] - bias}


def _settings(convolutions: list[Convolution], norms: int, maps: int, pool: Pool) -> ClassifierSettings:
    """The settings whose U-Net has exactly these shapes in this order."""
    shapes = [tuple(weight.shape) for weight, _ in convolutions]
    for kernel, per_level in _WAYS_UP:
        levels = (len(shapes) - 2) // (1 + per_level)
        if levels < 1:
            continue
        outs = [shape[0] for shape in shapes]
        settings = ClassifierSettings(
            bands=shapes[0][1],
            maps=maps,
            base=outs[0],
            levels=max(1, min(levels, 6)),
            pool=pool,
            up_kernel=kernel,
            widths=tuple(outs[: levels + 1]),
            returns=tuple(outs[levels + per_level : -1 : per_level]),
        )
        if _shapes(settings) == (shapes, norms):
            return _plain(settings)
    raise CheckpointError(
        "the U-Net is not one this package can build",
        got=f"convolutions {shapes}, {norms} batch norms",
        expected="one convolution with batch norm per level, down and up, and one of 1 x 1 at the end",
    )


def _shapes(settings: ClassifierSettings) -> tuple[list[tuple[int, ...]], int] | None:
    widths, returns = settings.widths or (), settings.returns or ()
    if len(widths) != len(returns) + 1:
        return None
    with FakeTensorMode():
        modules = list(Classifier(settings).unet.modules())
    convolutions = [tuple(layer.weight.shape) for layer in modules if isinstance(layer, nn.Conv2d)]
    return convolutions, sum(isinstance(layer, nn.BatchNorm2d) for layer in modules)


def _plain(settings: ClassifierSettings) -> ClassifierSettings:
    """The same settings without spelling out widths that follow from the base."""
    doubled = tuple(settings.base * 2**level for level in range(settings.levels + 1))
    if (settings.widths, settings.returns) != (doubled, doubled[-2::-1]):
        return settings
    return settings.model_copy(update={"widths": None, "returns": None})


def _fill_head(head: nn.Sequential, values: list[Tensor]) -> None:
    own = [layer for layer in head if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, weight, bias in zip(own, values[::2], values[1::2], strict=True):
        if layer.weight.shape != weight.shape:
            got, expected = tuple(weight.shape), f"{tuple(layer.weight.shape)} (chips of 256 pixels)"
            raise CheckpointError("a layer of the head has another shape", got=got, expected=expected)
        layer.load_state_dict({"weight": weight, "bias": bias})


def _fill_unet(unet: nn.Module, convolutions: list[Convolution], norms: list[dict[str, Tensor]]) -> None:
    own = [layer for layer in unet.modules() if isinstance(layer, nn.Conv2d)]
    for layer, (weight, bias) in zip(own, convolutions, strict=True):
        empty = {} if layer.bias is None else {"bias": torch.zeros_like(layer.bias)}
        layer.load_state_dict({"weight": weight} | empty | ({} if bias is None else {"bias": bias}))
    own_norms = [layer for layer in unet.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm, values in zip(own_norms, norms, strict=True):
        norm.load_state_dict({"num_batches_tracked": torch.tensor(0)} | values)

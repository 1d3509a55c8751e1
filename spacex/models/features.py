"""The feature maps of a classifier that serve to compare chips (applicability) and to draw Grad-CAM.

Of this package's U-Net those are its encoder's levels. Of a third-party network they are modules named in the card, or,
where none are named, its stages: the outermost modules whose output is still an image (n, channels, h, w).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spacex.errors import CheckpointError
from spacex.models.classes import BinaryView, native_network, unwrap

MAX_STAGES = 8
"""Stages that are taken without being named; more say little more."""


def feature_modules(network: nn.Module, names: Sequence[str] | None = None) -> list[nn.Module]:
    """Modules whose outputs (n, channels, h, w) describe a chip, in the order data flows through them.

    For this package's classifier they are the encoders of its U-Net, whatever the names. Those of a third-party network
    are named as in `named_modules` (the card's `features`), or were chosen at loading (`BinaryView.features`).

    Raises:
        CheckpointError: if a named module is not there, or none is named and the network has no stages.
    """
    native = native_network(network)
    if native is not None:
        return list(native.unet.encoders)
    names = tuple(names or (network.features if isinstance(network, BinaryView) else ()))
    modules = dict(unwrap(network).named_modules())
    _check_names(names, modules)
    if not names:
        raise CheckpointError("the network has no feature maps", do="Name some of its modules in the card.")
    return [modules[name] for name in names]


def find_features(network: nn.Module, chip: Tensor, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Check named features on one chip (1, bands, h, w), or choose a network's stages.

    The network is unwrapped and in eval mode. None are returned if none are named and no module gives an image.

    Raises:
        CheckpointError: naming the feature that is not there, gives no image, or runs more than once.
    """
    modules = dict(network.named_modules())
    _check_names(names, modules)
    with _output_shapes(modules) as shapes, torch.no_grad():
        network(chip)
    images = {name for name, of_calls in shapes.items() if _is_image(of_calls, chip)}
    if wrong := [name for name in names if name not in images]:
        got = f"shapes {shapes[wrong[0]]}" if shapes[wrong[0]] else "a module that never runs"
        expected = "one output (n, channels, h, w) per chip, as high for its width as the chip"
        raise CheckpointError(f"the feature {wrong[0]} of the card does not fit", got=got, expected=expected)
    return tuple(names) or _stages(network, images)


def _check_names(names: Sequence[str], modules: dict[str, nn.Module]) -> None:
    if missing := [name for name in names if not name or name not in modules]:
        outermost = [known for known in modules if known and "." not in known]
        expected = f"modules of the network, such as {', '.join(outermost[:12])}"
        raise CheckpointError("the card names a feature that its network lacks", got=missing[0], expected=expected)


def _is_image(shapes: list[tuple[int, ...]], chip: Tensor) -> bool:
    """Whether a module gave one picture (n, channels, h, w), not one with its channels last, as a Swin does."""
    if len(shapes) != 1 or len(shapes[0]) != 4 or min(shapes[0][2:]) < 2:
        return False
    (height, width), (chip_height, chip_width) = shapes[0][2:], chip.shape[2:]
    # padding may round a side up
    return abs(height * chip_width - width * chip_height) <= max(chip_height, chip_width)


def _stages(network: nn.Module, images: set[str]) -> tuple[str, ...]:
    """The trainable modules at the first depth where several of them give images, else at the deepest one.

    Batch norms and activations are no stages of their own: the convolution before them, or the block around, is.
    """
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    trainable = {
        name: module
        for name, module in network.named_modules()
        if name in images and any(isinstance(inner, layers) for inner in module.modules())
    }
    best: list[str] = []
    for depth in range(max((name.count(".") for name in trainable), default=-1) + 1):
        names = [name for name in trainable if name.count(".") == depth]
        if len(names) > 1:
            stages = [inner for name in names for inner in _unroll(name, trainable)]
            # evenly spaced, the first and the last among them
            count = min(len(stages), MAX_STAGES)
            return tuple(stages[round(i * (len(stages) - 1) / (count - 1))] for i in range(count))
        best = names or best
    return tuple(best)


def _unroll(name: str, trainable: dict[str, nn.Module]) -> list[str]:
    """The stages inside a stage that is nothing but a sequence of several of them (`blocks` of a MobileNet)."""
    inner = [f"{name}.{child}" for child, _ in trainable[name].named_children()]
    blocks = [one for one in inner if one in trainable and list(trainable[one].children())]
    return blocks if isinstance(trainable[name], nn.Sequential) and len(blocks) > 1 else [name]


@contextmanager
def _output_shapes(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[tuple[int, ...]]]]:
    """Shapes of every module's outputs while the block runs, by name; () for what is no tensor."""
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}

    def record(name: str, out: object) -> None:
        shapes[name].append(tuple(out.shape) if isinstance(out, Tensor) else ())

    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: record(name, out))  # type: ignore[misc]
        for name, module in modules.items()
        if name
    ]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()

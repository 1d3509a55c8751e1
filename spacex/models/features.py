"""The inner pictures of a classifier that serve to compare chips (applicability) and to draw Grad-CAM.

Of our own U-Net those are its encoder's levels. Of a network that is not ours they are modules named in the card, or,
where none are named, its stages: the outermost modules whose output is still a picture (n, channels, h, w).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spacex.errors import CheckpointError
from spacex.models.classes import BinaryView, native_network, unwrap

MOST = 8
"""Stages that are taken without being named; more say little more."""


def feature_modules(network: nn.Module, names: Sequence[str] | None = None) -> list[nn.Module]:
    """Modules whose outputs (n, channels, h, w) describe a chip, in the order data flows through them.

    Args:
        network: a checkpoint's classifier, or the bare network.
        names: modules of a network that is not ours, as `named_modules` calls them (the card's `features`); None or
            none for those found when the checkpoint was loaded (`BinaryView.features`).

    Returns:
        For our own classifier the encoders of its U-Net, whatever the names.

    Raises:
        CheckpointError: if a named module is not there, or none is named and none was found.
    """
    own = native_network(network)
    if own is not None:
        return list(own.unet.encoders)
    wanted = tuple(names or (network.features if isinstance(network, BinaryView) else ()))
    modules = dict(unwrap(network).named_modules())
    if missing := [name for name in wanted if not name or name not in modules]:
        raise _missing(missing[0], modules)
    if not wanted:
        raise CheckpointError("the network has no inner pictures", do="Name some of its modules in the card.")
    return [modules[name] for name in wanted]


def find_features(network: nn.Module, chip: Tensor, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Check named features on one chip, or find a network's stages.

    Args:
        network: bare, in eval mode.
        chip: (1, bands, h, w) on the network's device.
        names: those to check; none to find them.

    Returns:
        The names; none if nothing is named and the network's inside holds no pictures.

    Raises:
        CheckpointError: naming the feature that is not there, gives no picture, or runs more than once.
    """
    modules = dict(network.named_modules())
    if missing := [name for name in names if not name or name not in modules]:
        raise _missing(missing[0], modules)
    with _watched(modules) as shapes, torch.no_grad():
        network(chip)
    if wrong := [name for name in names if not _pictures(shapes[name])]:
        got = f"shapes {shapes[wrong[0]]}" if shapes[wrong[0]] else "a module that never runs"
        expected = "one output (n, channels, h, w) per chip"
        raise CheckpointError(f"the feature {wrong[0]} of the card does not fit", got=got, expected=expected)
    return tuple(names) or _stages(network, {name for name, found in shapes.items() if _pictures(found)})


def _missing(name: str, modules: dict[str, nn.Module]) -> CheckpointError:
    first = [known for known in modules if known and "." not in known]
    expected = f"modules of the network, such as {', '.join(first[:12])}"
    return CheckpointError("the card names a feature that its network lacks", got=name, expected=expected)


def _pictures(shapes: list[tuple[int, ...]]) -> bool:
    return len(shapes) == 1 and len(shapes[0]) == 4 and min(shapes[0][2:]) > 1


def _stages(network: nn.Module, pictures: set[str]) -> tuple[str, ...]:
    """The learning modules at the first depth where several of them give pictures, else at the deepest one.

    Batch norms and activations are no stages of their own: the convolution before them, or the block around, is.
    """
    best: list[str] = []
    learning = {name: layer for name, layer in network.named_modules() if name in pictures and _learns(layer)}
    for depth in range(max((name.count(".") for name in learning), default=-1) + 1):
        found = [name for name in learning if name.count(".") == depth]
        if len(found) > 1:
            found = [inner for name in found for inner in _unrolled(name, learning)]
            count = min(len(found), MOST)
            return tuple(found[round(i * (len(found) - 1) / (count - 1))] for i in range(count))
        best = found or best
    return tuple(best)


def _unrolled(name: str, learning: dict[str, nn.Module]) -> list[str]:
    """The stages inside a stage that is nothing but a sequence of several of them (`blocks` of a MobileNet)."""
    inner = [f"{name}.{child}" for child, _ in learning[name].named_children()]
    blocks = [one for one in inner if one in learning and list(learning[one].children())]
    return blocks if isinstance(learning[name], nn.Sequential) and len(blocks) > 1 else [name]


def _learns(layer: nn.Module) -> bool:
    return any(isinstance(inner, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) for inner in layer.modules())


@contextmanager
def _watched(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[tuple[int, ...]]]]:
    """Shapes of every module's outputs while the block runs, by name; () for what is no tensor."""
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}

    def watch(name: str, out: object) -> None:
        shapes[name].append(tuple(out.shape) if isinstance(out, Tensor) else ())

    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: watch(name, out))  # type: ignore[misc]
        for name, module in modules.items()
        if name
    ]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()

"""Where a classifier is looked into: the layers whose channels say what kind of land a chip shows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from spacex.errors import CheckpointError
from spacex.models.classifier import Classifier


def feature_modules(network: nn.Module, names: Sequence[str] | None = None) -> list[nn.Module]:
    """The layers of a classifier whose channels' statistics describe a chip.

    Args:
        network: the classifier.
        names: of modules of it; None for those of our own U-Net, its encoder's levels.

    Raises:
        CheckpointError: if there is no such module.
    """
    if names is None and isinstance(network, Classifier):
        return list(network.unet.encoders)
    known = dict(network.named_modules())
    if missing := [name for name in names or () if name not in known]:
        raise CheckpointError(
            "the classifier has no such layer", got=", ".join(missing), expected="names of its modules"
        )
    return [known[name] for name in names or ()]

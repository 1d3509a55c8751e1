"""The naturalness classifier: a U-Net that computes three activation maps, and a small head that scores them.

This is the network of AnthroProtect's authors (ASOS: Stomberg et al., "Recognizing protected and anthropogenic patterns
in landscapes using interpretable machine learning and satellite imagery", Frontiers in Artificial Intelligence 6,
2023). The head only sees the maps, so what the maps do not show cannot matter. Any `torch.nn.Module` that turns
(n, bands, side, side) into n logits may take its place.

Every non-linearity is a module of its own and not in place: DeepLIFT and Grad-CAM hook modules, and a module used
twice would mix up two layers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spacex.grid import CHIP
from spacex.settings import Settings


class ClassifierSettings(Settings):
    """Shape of a :class:`Classifier`; the defaults are the authors' sizes: 4.1 million parameters."""

    bands: int = Field(default=3, ge=1)
    """Bands of a chip."""
    maps: int = Field(default=3, ge=1)
    """Activation maps between U-Net and head."""
    base: int = Field(default=32, ge=1)
    """Channels of the U-Net's first level; each level down has twice as many."""
    levels: int = Field(default=4, ge=1, le=6)
    """How often the U-Net halves the image."""
    pool: Literal["average", "max"] = "average"
    """How it halves. The textbook U-Net takes the maximum."""
    up_kernel: Literal[0, 1, 3] = 0
    """Side of a convolution that changes the channels after upsampling; 0: none. For imported weights."""
    widths: tuple[int, ...] | None = None
    """Channels of each level going down, where not base * 2**level. For imported weights."""
    returns: tuple[int, ...] | None = None
    """Channels of each level coming up again, where not those going down. For imported weights."""
    chip_size: int = Field(default=CHIP, ge=64)
    """Side of a chip in pixels; the head's first linear layer depends on it."""
    occlusion: float = Field(default=0.2, ge=0, lt=1)
    """Share of map pixels set to 0 in every second training chip."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout after each of the head's hidden layers; 0 leaves the layers out."""
    outputs: int = Field(default=1, ge=1, exclude_if=lambda outputs: outputs == 1)
    """Logits per chip: 1 for two classes, else one per class. Omitted from a card when 1, so that older cards keep
    their digest."""

    def unused(self) -> dict[str, str]:
        """As `Settings.unused`."""
        of_chips = dict.fromkeys(("bands", "chip_size", "outputs"), "no value: they are the chips'")
        return of_chips | ({} if self.widths is None else {"base": "widths = null"})


class Classifier(nn.Module):
    """Chips to logits: U-Net with a tanh at its end, random occlusion in training, convolutional head.

    `unet` turns (n, bands, h, w) into (n, maps, h, w) in -1..1; `head` turns that into one logit, or one per class.
    """

    def __init__(self, settings: ClassifierSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or ClassifierSettings()
        self.unet = UNet(self.settings)
        self.occlude = RandomPixelOcclusion(self.settings.occlusion)
        self.head = _head(self.settings)

    def forward(self, u: Tensor) -> Tensor:
        """Logits (n,) of standardised chips (n, bands, chip_size, chip_size); sigmoid gives the score.

        With several outputs (n, outputs): `spacex.models.classes.BinaryView` makes one logit of them.
        """
        logits: Tensor = self.head(self.occlude(self.unet(u))).squeeze(1)
        return logits

    def activation_map(self, u: Tensor) -> Tensor:
        """The maps that the head scores: (n, maps, h, w) in -1..1, never occluded."""
        maps: Tensor = self.unet(u)
        return maps

    @property
    def head_convolutions(self) -> list[nn.Conv2d]:
        """The head's convolutions from the first (84 x 84) to the last (8 x 8), for Grad-CAM."""
        return [layer for layer in self.head if isinstance(layer, nn.Conv2d)]


class RandomPixelOcclusion(nn.Module):
    """Sets pixels of the activation map to 0, in training only, in every second chip on average.

    A pixel of such a chip is occluded in all maps at once, with probability `share`. The authors toss one coin per
    batch; one per chip has the same mean, less noise, and no branch.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, maps, h, w), some pixels 0."""
        if not self.training or self.share == 0:
            return maps
        shape = (maps.shape[0], 1, *maps.shape[2:])
        chosen = torch.rand(maps.shape[0], 1, 1, 1, device=maps.device) < 0.5
        hidden = (torch.rand(shape, device=maps.device) < self.share) & chosen
        return maps.masked_fill(hidden, 0.0)


class UNet(nn.Module):
    """One convolution per level, batch norm, bilinear upsampling, tanh at the end.

    The modules are registered in the order data flows through them; the importer relies on it.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        super().__init__()
        widths = settings.widths or tuple(settings.base * 2**level for level in range(settings.levels + 1))
        returns = settings.returns or widths[-2::-1]
        ends = (settings.bands, *widths)
        self.encoders = nn.ModuleList(_block(a, b) for a, b in pairwise(ends))
        self.decoders = nn.ModuleList(
            Up(deep, fine, out, settings.up_kernel)
            for deep, fine, out in zip((widths[-1], *returns[:-1]), widths[-2::-1], returns, strict=True)
        )
        self.last = nn.Conv2d(returns[-1], settings.maps, 1)
        self.activation = nn.Tanh()
        self.pool = nn.MaxPool2d(2) if settings.pool == "max" else nn.AvgPool2d(2)

    def forward(self, u: Tensor) -> Tensor:
        """Chips (n, bands, h, w), h and w multiples of 2**levels, to maps (n, maps, h, w) in -1..1.

        The levels may have bfloat16 weights; the maps are made in the precision of the last convolution's.
        """
        levels = [self.encoders[0](u.to(next(self.encoders.parameters()).dtype))]
        for encode in self.encoders[1:]:
            levels.append(encode(self.pool(levels[-1])))
        deep = levels.pop()
        for decode in self.decoders:
            deep = decode(deep, levels.pop())
        maps: Tensor = self.activation(self.last(deep.to(self.last.weight.dtype)))
        return maps


class Up(nn.Module):
    """Doubles the image, concatenates the encoder's of that size, and convolves."""

    def __init__(self, deep: int, fine: int, out: int, kernel: int) -> None:
        super().__init__()
        self.fine = fine
        """Channels of the encoder's image."""
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.reduce = nn.Conv2d(deep, fine, kernel, padding=kernel // 2) if kernel else nn.Identity()
        self.convolve = _block((fine if kernel else deep) + fine, out)

    def forward(self, deep: Tensor, fine: Tensor) -> Tensor:
        """The image of the level below and the encoder's of this one, to (n, out, h, w)."""
        joined: Tensor = self.convolve(torch.cat([fine, self.reduce(self.upsample(deep))], dim=1))
        return joined


def _block(bands: int, channels: int) -> nn.Sequential:
    # no bias: batch norm would subtract it again
    return nn.Sequential(nn.Conv2d(bands, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


def _head(settings: ClassifierSettings) -> nn.Sequential:
    """Three 5 x 5 convolutions of stride 3 without padding (256 -> 84 -> 27 -> 8), two linear layers."""
    widths = [settings.maps * factor for factor in (1, 2, 4, 8)]
    side = settings.chip_size
    dropout = [nn.Dropout(settings.dropout)] if settings.dropout else []
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 5, stride=3), nn.ReLU(), *dropout]
        side = (side - 5) // 3 + 1
    layers += [nn.Flatten(), nn.Linear(widths[-1] * side * side, 128), nn.ReLU(), *dropout]
    head = nn.Sequential(*layers, nn.Linear(128, settings.outputs))
    # He's initialisation (He et al. 2015): with PyTorch's own the head's few ReLUs die in every other run
    for layer in head:
        # on the meta device, drawing numbers would load PyTorch's compiler: two seconds
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return head

"""The discriminator (PatchGAN): a logit for each patch of a chip, whether it looks real.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017): 4 x 4 convolutions, three of
stride 2 and two of stride 1, see 70 x 70 pixels each. No batch norm anywhere: its statistics would mix chips, and
differ between one process and several.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from spacex.settings import Settings


class DiscriminatorSettings(Settings):
    """Shape of a :class:`Discriminator`; the defaults are PatchGAN 70 (2.76 million parameters)."""

    bands: int = Field(default=3, ge=1)
    """Bands of a chip."""
    base: int = Field(default=64, ge=1)
    """Channels of the first convolution; each further one has twice as many, eight times at most."""
    strided: int = Field(default=3, ge=1, le=5)
    """Convolutions of stride 2: 3 sees 70 pixels, 2 sees 34, 1 sees 16."""
    norm: Literal["none", "instance"] = "none"
    """Normalisation after the inner convolutions (PatchGAN as published: instance)."""
    spectral: bool = False
    """Spectral norm on every convolution, for stability (Miyato et al. 2018)."""

    def unused(self) -> dict[str, str]:
        """As `Settings.unused`."""
        return {"bands": "no value: they are the classifier's"}


class Discriminator(nn.Module):
    """Chips (n, bands, h, w) to logits per patch, (n, 1, 30, 30) for 256-pixel chips: real above 0."""

    def __init__(self, settings: DiscriminatorSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DiscriminatorSettings()
        widths = [settings.base * min(2**step, 8) for step in range(settings.strided + 1)]
        layers: list[nn.Module] = [_convolution(settings.bands, widths[0], 2, settings), nn.LeakyReLU(0.2)]
        for step, (a, b) in enumerate(pairwise(widths), start=1):
            layers.append(_convolution(a, b, 2 if step < settings.strided else 1, settings))
            layers += [nn.InstanceNorm2d(b), nn.LeakyReLU(0.2)] if settings.norm == "instance" else [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, _convolution(widths[-1], 1, 1, settings))

    def forward(self, u: Tensor) -> Tensor:
        """Logits (n, 1, rows, columns), one per overlapping patch."""
        logits: Tensor = self.layers(u)
        return logits


def _convolution(a: int, b: int, stride: int, settings: DiscriminatorSettings) -> nn.Module:
    layer = nn.Conv2d(a, b, 4, stride=stride, padding=1)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return spectral_norm(layer) if settings.spectral else layer

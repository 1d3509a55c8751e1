"""Stands for a package that is not ours, installed beside it: networks as other people write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Stages(nn.Module):
    """Two stages and a linear layer, ReLUs in place; every layer has a rescale rule."""

    def __init__(self, bands: int = 3, classes: int = 1, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(bands, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.middle = nn.Sequential(_convolution(width, 2 * width), nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.middle(self.stem(x))).flatten(1))


class Hidden(Stages):
    """The same with a ReLU, and a sum, that no module shows."""

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.stem(x) - 0.5)
        return self.last(self.pool(self.middle(inner + inner)).flatten(1))


class Gated(Stages):
    """The same with channels that weigh each other (squeeze and excitation): a product, which has no rescale rule."""

    def forward(self, x: Tensor) -> Tensor:
        inner = self.stem(x)
        return self.last(self.pool(self.middle(inner * inner.mean((2, 3), keepdim=True))).flatten(1))


class Blobs(nn.Module):
    """Brightness above a level, smoothed, in one band: nothing to learn but where the level lies."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.tanh(x.mean(1) - self.level) * 4).mean((1, 2))


def build(**settings: Any) -> nn.Module:
    """A function that builds one, as timm's `create_model` does."""
    return Stages(**settings)


def measured(width: float = 4.0) -> nn.Module:
    """A network that needs a number while it is built, which none has on the meta device."""
    return Stages(width=int(torch.tensor(width).item()))


def no_network() -> int:
    """What it says."""
    return 3


def _convolution(bands: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(bands, width, 3, stride=4, padding=1, bias=False)

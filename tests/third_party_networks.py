"""Stands for a package that is not ours, installed beside it: networks as other people write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Stages(nn.Module):
    """Two stages and a linear layer, ReLUs in place."""

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
    """The same with channels that weigh each other (squeeze and excitation): a product."""

    def forward(self, x: Tensor) -> Tensor:
        inner = self.stem(x)
        return self.last(self.pool(self.middle(inner * inner.mean((2, 3), keepdim=True))).flatten(1))


class Thresholded(Stages):
    """The same with a choice by comparison, whose jumps no difference passes."""

    def forward(self, x: Tensor) -> Tensor:
        inner = self.stem(x)
        return self.last(self.pool(self.middle(inner * (inner > 0.5))).flatten(1))


class Residual(nn.Module):
    """A residual network with a max pool, every ReLU in place and used twice."""

    def __init__(self, bands: int = 3, classes: int = 1, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(bands, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width))
        self.pool, self.relu = nn.MaxPool2d(3, 2, 1), nn.ReLU(inplace=True)
        self.first, self.second = (_block(width) for _ in range(2))
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.pool(self.relu(self.stem(x)))
        for block in (self.first, self.second):
            inner = block(out)
            inner += out
            out = self.relu(inner)
        return self.last(out.mean((2, 3)))


class SqueezeExcite(nn.Module):
    """An inverted residual block with depth-wise convolution, hard swish and channels that gate each other."""

    def __init__(self, bands: int = 3, classes: int = 1, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(bands, width, 3, 4, 1), nn.BatchNorm2d(width), nn.Hardswish(inplace=True))
        self.expand = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width), nn.Hardswish())
        self.depth = nn.Conv2d(2 * width, 2 * width, 5, padding=2, groups=2 * width)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, 4, 1), nn.ReLU(inplace=True))
        self.excite = nn.Sequential(nn.Conv2d(4, 2 * width, 1), nn.Hardsigmoid(inplace=True))
        self.project = nn.Conv2d(2 * width, width, 1)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.stem(x)
        inner = F.hardswish(self.depth(self.expand(out)))
        out = out + self.project(inner * self.excite(self.squeeze(inner)))
        return self.last(F.adaptive_avg_pool2d(out, 1).flatten(1))


class Transformer(nn.Module):
    """A small vision transformer: patches, a class token, attention and GELU, layer norms before both."""

    def __init__(self, bands: int = 3, classes: int = 1, width: int = 16, patch: int = 16, side: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(bands, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, 4, 32, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1) + self.position
        return self.last(self.norm(self.encoder(tokens))[:, 0])


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


def _block(width: int) -> nn.Sequential:
    layers = [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


def _convolution(bands: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(bands, width, 3, stride=4, padding=1, bias=False)

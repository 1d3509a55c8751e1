"""The generator: a network that changes a chip so that the classifier's score rises or falls.

The shape is the paper's Figure 2: a wide convolution, `downs` times pooling and convolution, `blocks` residual blocks
at the coarsest level, `downs` times upsampling and convolution, a wide convolution. The maximiser and the minimiser are
two of these. Two forms:

- `direct` (the paper): the network gives the whole image, (tanh + 1) / 2, so it must first learn to copy.
- `delta` (default): u' = u + s * tanh(h(u) / s). Its last convolution starts at zero, so a fresh one changes nothing.

Without normalisation (`norm="none"`) a pixel's result depends on no more than :func:`context` pixels around it, so
overlapping chips agree once that frame is cut; with instance norm it depends on the whole chip, and no overlap makes
chips agree.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spacex.settings import Settings

MAX_HALO = 64
"""Largest context in pixels that is worth computing around every window."""


class GeneratorSettings(Settings):
    """Shape of a :class:`Generator`.

    The defaults are Figure 2's three levels and twelve blocks with at most 256 channels (the figure gives no widths):
    16.1 million parameters, 30.8 billion multiplications per chip of three bands. The authors' repository instead has
    `downs=2, blocks=9, pool="stride"`.
    """

    bands: int = Field(default=3, ge=1)
    """Bands of a chip."""
    form: Literal["delta", "direct"] = "delta"
    """What is generated: a bounded change, or the whole image in 0..1."""
    norm: Literal["none", "instance"] = "none"
    """Normalisation after every inner convolution."""
    base: int = Field(default=64, ge=1)
    """Channels of the first convolution; each level down has twice as many."""
    cap: int = Field(default=256, ge=1)
    """Most channels of any level."""
    downs: int = Field(default=3, ge=0, le=5)
    """How often the image is halved."""
    blocks: int = Field(default=12, ge=0)
    """Residual blocks at the coarsest level."""
    stem: Literal[3, 5, 7] = 7
    """Side of the first and of the last convolution."""
    pool: Literal["average", "stride"] = "average"
    """How the image is halved: by averaging before the convolution (no aliasing), or by its stride."""
    limit: float = Field(default=3.0, gt=0)
    """Largest change s of the delta form, in standardised units."""
    mean: tuple[float, ...] = Field(default=(), exclude_if=lambda values: not values)
    """Mean of each band, where the generator standardises its input itself, since its classifier sees reflectance.
    Omitted from the JSON when empty, so that older cards stay equal."""
    std: tuple[float, ...] = Field(default=(), exclude_if=lambda values: not values)
    """Standard deviation of each band, likewise; the change is multiplied by it."""
    threshold: float = Field(default=0.0, ge=0, exclude_if=lambda level: level == 0)
    """Of the delta form: pixels that would change by no more, root mean square over the bands in standardised units,
    stay as they are, and the others change by so much less (a soft threshold). A new generator changes nothing, so it
    would never learn with one. Omitted from the JSON when 0, so that older cards stay equal."""

    @property
    def slope(self) -> float:
        """Negative slope of the activations: leaky in the delta form."""
        return 0.2 if self.form == "delta" else 0.0

    def unused(self) -> dict[str, str]:
        """As `Settings.unused`."""
        delta = {} if self.form == "delta" else dict.fromkeys(("limit", "threshold"), "form = delta")
        halved = {} if self.downs else dict.fromkeys(("cap", "pool"), "downs above 0")
        return dict.fromkeys(("bands", "mean", "std"), "no value: they are the classifier's") | delta | halved


class Generator(nn.Module):
    """Standardised chips (n, bands, h, w) to changed chips of the same shape; h and w multiples of 2**downs.

    The body may run in bfloat16 (autocast, or `generator.body.to(torch.bfloat16)`). The last convolution, the
    tanh and the skip are float32 in any case: attribution is a difference of near-equal images.
    """

    def __init__(self, settings: GeneratorSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or GeneratorSettings()
        self.body = _body(self.settings)
        stem = self.settings.stem
        self.last = nn.Conv2d(self.settings.base, self.settings.bands, stem, padding=stem // 2, padding_mode="reflect")
        self._initialise()

    def forward(self, u: Tensor) -> Tensor:
        """The changed chips, float32, in the units of `u` (`direct`: 0..1, so give it reflectance)."""
        out = self._output(u)
        return out if self.settings.form == "direct" else u.float() + out

    def delta(self, u: Tensor) -> Tensor:
        """The change alone, u' - u, float32: in the delta form without the rounding of the sum."""
        out = self._output(u)
        return out - u.float() if self.settings.form == "direct" else out

    def _output(self, u: Tensor) -> Tensor:
        """The image of the direct form, or the bounded change of the delta form."""
        settings = self.settings
        if settings.std:
            mean, std = (per_band(values, torch.float32, u.device) for values in (settings.mean, settings.std))
            u = (u.float() - mean) / std
        inner = self.body(u.to(next(self.body.parameters()).dtype))
        with torch.autocast(u.device.type, enabled=False):
            h: Tensor = self.last(inner.float())
        if settings.form == "direct":
            return (torch.tanh(h) + 1) / 2
        change = settings.limit * torch.tanh(h / settings.limit)
        if level := settings.threshold:
            # clamped before the root, whose slope at 0 is infinite
            change = change * (1 - level / change.square().mean(1, keepdim=True).clamp_min(level**2).sqrt())
        return change * std if settings.std else change

    def _initialise(self) -> None:
        # on the meta device, drawing numbers would load PyTorch's compiler: two seconds
        convolutions = [part for part in self.modules() if isinstance(part, nn.Conv2d) and not part.weight.is_meta]
        for layer in convolutions:
            if self.settings.norm == "instance":
                nn.init.normal_(layer.weight, 0.0, 0.02)  # CycleGAN's; any gain would be divided out
            else:
                nn.init.kaiming_normal_(layer.weight, a=self.settings.slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.settings.form == "delta":
            # zero residual branches and a zero last convolution: the fresh network is exactly the identity
            for block in self.body:
                if isinstance(block, Residual) and self.settings.norm == "none":
                    nn.init.zeros_(block.second.weight)
            nn.init.zeros_(self.last.weight)


class Residual(nn.Module):
    """x + second(activation(first(x))), with the settings' normalisation after each convolution."""

    def __init__(self, channels: int, settings: GeneratorSettings) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 3, settings)
        self.first_norm = _norm(channels, settings)
        self.activation = _activation(settings)
        self.second = _convolution(channels, channels, 3, settings)
        self.second_norm = _norm(channels, settings)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, channels, h, w), same shape."""
        inner = self.activation(self.first_norm(self.first(x)))
        out: Tensor = x + self.second_norm(self.second(inner))
        return out


@lru_cache(maxsize=64)
def per_band(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """One value for each band as (1, bands, 1, 1)."""
    # cached on its device: sending it with every batch would make the CPU wait for the GPU
    return torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)


def _body(settings: GeneratorSettings) -> nn.Sequential:
    cap = max(settings.cap, settings.base)
    widths = [min(settings.base * 2**level, cap) for level in range(settings.downs + 1)]
    layers = _layer(settings.bands, settings.base, settings.stem, settings)
    for wide, deep in pairwise(widths):
        strided = settings.pool == "stride"
        layers += [] if strided else [nn.AvgPool2d(2)]
        layers += _layer(wide, deep, 3, settings, stride=2 if strided else 1)
    layers += [Residual(widths[-1], settings) for _ in range(settings.blocks)]
    for deep, wide in zip(widths[:0:-1], widths[-2::-1], strict=True):
        # nearest neighbour, then convolution: transposed convolutions leave a chequerboard (distill.pub 2016)
        layers += [nn.Upsample(scale_factor=2, mode="nearest"), *_layer(deep, wide, 3, settings)]
    return nn.Sequential(*layers)


def _layer(channels: int, out: int, kernel: int, settings: GeneratorSettings, stride: int = 1) -> list[nn.Module]:
    norm = [] if settings.norm == "none" else [_norm(out, settings)]
    return [_convolution(channels, out, kernel, settings, stride), *norm, _activation(settings)]


def _convolution(channels: int, out: int, kernel: int, settings: GeneratorSettings, stride: int = 1) -> nn.Conv2d:
    bias = settings.norm == "none"  # instance norm subtracts any bias again
    return nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, padding_mode="reflect", bias=bias)


def _norm(channels: int, settings: GeneratorSettings) -> nn.Module:
    return nn.Identity() if settings.norm == "none" else nn.InstanceNorm2d(channels)


def _activation(settings: GeneratorSettings) -> nn.Module:
    return nn.LeakyReLU(settings.slope) if settings.form == "delta" else nn.ReLU()


def context(settings: GeneratorSettings) -> int:
    """How far a pixel's result can reach, in pixels, for a generator without normalisation.

    Cut this many pixels from the edges of two overlapping chips whose corners lie a multiple of :func:`alignment`
    apart, and they agree exactly. Few weights reach that far, so a smaller frame is often enough; how small must be
    measured on the trained network.
    """
    edge, reach = settings.stem // 2, 0
    # pixels differ in how they lie in the coarse levels' pixels, so the widest of all positions counts
    for pixel in range(alignment(settings)):
        # from the output backwards: the interval of inputs that this pixel sees
        low, high = pixel - edge, pixel + edge
        for _ in range(settings.downs):  # upsampling, then 3 x 3
            low, high = (low - 1) // 2, (high + 1) // 2
        low, high = low - 2 * settings.blocks, high + 2 * settings.blocks
        for _ in range(settings.downs):
            averaged = settings.pool == "average"
            low, high = (2 * (low - 1), 2 * (high + 1) + 1) if averaged else (2 * low - 1, 2 * high + 1)
        reach = max(reach, pixel - (low - edge), high + edge - pixel)
    return reach


def alignment(settings: GeneratorSettings) -> int:
    """Chips shifted against each other by a multiple of this many pixels are treated alike: 2**downs."""
    return 1 << settings.downs


def window_halo(settings: GeneratorSettings, frame: int) -> int:
    """Pixels around a window that are generated and thrown away, so that neighbouring windows agree.

    Up to `MAX_HALO` that is the whole context, and they agree exactly; wider contexts are mostly empty, and the frame
    measured on the trained networks (the card's `frame`) has to do, but no less than that of chips of 256 pixels. For
    generators without normalisation.
    """
    step, reach = alignment(settings), context(settings)
    return -(-(reach if reach <= MAX_HALO else max(frame, MAX_HALO // 2)) // step) * step

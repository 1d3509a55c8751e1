"""A small residual classifier for chips of any size (after He et al., "Deep Residual Learning", CVPR 2016).

Where our U-Net with its head is built for one chip size, this network averages what it sees over the chip. Every layer
has a rescale rule: non-linearities are modules, each used once and not in place, and pictures are halved by strided
convolutions and averages, never by maxima. A card names it like a third party's network; it needs no trust:

    spacex train-classifier --data demo --output runs/residual --network spacex.models.residual:ResidualNetwork
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

MAX_BLOCKS = 64
"""Cards are untrusted input: a card must not make us build networks without end."""


class ResidualNetwork(nn.Module):
    """Chips (n, bands, h, w) of any size to logits (n, outputs).

    Args:
        bands: of the chips.
        widths: channels of the stem, which keeps the chip's size, and of each stage, which halves it.
        depth: blocks per stage.
        outputs: logits per chip: 1 for two classes, else one per class.
    """

    def __init__(
        self, bands: int = 3, widths: Sequence[int] = (32, 64, 128, 192), depth: int = 1, outputs: int = 1
    ) -> None:
        super().__init__()
        if not 1 <= (len(widths) - 1) * depth <= MAX_BLOCKS:
            raise ValueError(f"{len(widths)} widths and {depth} blocks per stage are not 1 to {MAX_BLOCKS} blocks")
        self.stem = nn.Sequential(_convolution(bands, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU())
        stages = pairwise(widths)
        ends = [pair for a, b in stages for pair in ((a, b), *[(b, b)] * (depth - 1))]
        self.blocks = nn.Sequential(*(Block(a, b, halve=i % depth == 0) for i, (a, b) in enumerate(ends)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(widths[-1], outputs)

    def forward(self, u: Tensor) -> Tensor:
        """Logits (n, outputs) of standardised chips.

        Stem and blocks may have bfloat16 weights; pooling and logits have the precision of the last layer.
        """
        maps = self.blocks(self.stem(u.to(next(self.stem.parameters()).dtype)))
        logits: Tensor = self.last(self.pool(maps.to(self.last.weight.dtype)).flatten(1))
        return logits


class Block(nn.Module):
    """Two convolutions beside a skip connection; a block that halves the picture does so in both."""

    def __init__(self, channels: int, out: int, *, halve: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels, out, 2 if halve else 1), nn.BatchNorm2d(out), nn.ReLU(),
            _convolution(out, out), nn.BatchNorm2d(out),
        )  # fmt: skip
        # ceil_mode: of an odd side both branches keep (side + 1) / 2
        halved = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(channels, out, 1))
        self.skip = halved if halve else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, out, h, w), or half of h and w rounded up."""
        out: Tensor = self.activation(self.residual(x) + self.skip(x))
        return out


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    # no bias: batch norm would subtract it again
    return nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)

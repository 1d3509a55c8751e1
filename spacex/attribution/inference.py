"""Networks made ready for attribution: the same functions as trained, in the fewest and cheapest operations.

A copy of each network gets its batch norm folded into the convolutions before it, loses the gradients of its
weights, lies in memory channels last and, where the processor multiplies it natively, has bfloat16 weights. In float32
two pictures are convolved where they lie rather than joined first (a tenth of lift). A picture is doubled after its
convolution rather than before (a fifth of a generator). What ends in a difference stays float32 (design rule 10): the
generators' last convolution and skip, the classifier's activation maps and head, every quotient of the rescale rule.

No `torch.compile`: on two AVX2 cores it took 31 and 41 s to compile a generator and the classifier of the weights
that ship, and the generator was then slower (182 against 146 ms for 512 x 512 pixels); elsewhere it won 10-15 %
forward and lost half forward and backward (`tests/benchmarks/arithmetic.py compile` measures it anew).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spacex.attribution.lift import put_doublings
from spacex.attribution.names import PRECISIONS, Precision
from spacex.errors import RequestError
from spacex.models.classes import native_network
from spacex.models.classifier import Up
from spacex.models.generator import Generator


def choose_precision(wanted: str, device: str | torch.device = "cpu") -> Precision:
    """What `wanted` means on a device: `auto` is bfloat16 where its multiplications are native, else float32.

    Args:
        wanted: one of `PRECISIONS`.
        device: where the networks will run. A cluster's workers should be of one kind: the driver decides for all.

    Raises:
        RequestError: if there is no such precision.
    """
    if wanted not in PRECISIONS:
        raise RequestError("--precision", got=wanted, expected=", ".join(PRECISIONS))
    native = wanted == "auto" and native_bfloat16(torch.device(device))
    return "bfloat16" if native or wanted == "bfloat16" else "float32"


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself; elsewhere it is emulated, slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare_classifier(classifier: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """A copy of a classifier in eval mode whose weights have no gradients, for inference and to train against.

    Only our own is folded and knows where bfloat16 must end. Others stay as they are: what order their layers run in,
    and what their features mean, is not ours to know.
    """
    ready = copy.deepcopy(classifier).eval()
    if (own := native_network(ready)) is not None:
        _fold(own)
        if precision == "bfloat16":
            own.unet.encoders.to(torch.bfloat16)
            own.unet.decoders.to(torch.bfloat16)
        else:  # the two halves of a sum would be rounded one by one
            own.unet.decoders = nn.ModuleList(_Apart(up) for up in own.unet.decoders if isinstance(up, Up))
    put_doublings(ready)
    return _placed(ready, device)


def prepare_generator(
    generator: nn.Module, precision: Precision, device: torch.device, *, edges_matter: bool = True
) -> nn.Module:
    """A copy of a generator for inference.

    Args:
        generator: as trained.
        precision: of its body.
        device: where it goes.
        edges_matter: False if nobody looks at pixels that see the picture's edge. Padding with zeros is then
            as good as mirroring, which copies the whole picture before every convolution: a third faster.
    """
    ready = copy.deepcopy(generator).eval()
    if not edges_matter:
        for layer in ready.modules():
            if isinstance(layer, nn.Conv2d):
                layer.padding_mode = "zeros"
        if isinstance(ready, Generator) and ready.settings.norm == "none":
            ready.body = nn.Sequential(*_doubled_late(list(ready.body)))
    if precision == "bfloat16" and isinstance(ready, Generator):
        ready.body.to(torch.bfloat16)
    return _placed(ready, device)


class _Apart(nn.Module):
    """An `Up` of the U-Net that convolves both pictures by themselves and adds: joining them copies both."""

    def __init__(self, up: Up) -> None:
        super().__init__()
        self.upsample, self.reduce = up.upsample, up.reduce
        joined, self.rest = up.convolve[0], up.convolve[1:]
        assert isinstance(joined, nn.Conv2d)
        self.fine, self.deep = copy.deepcopy(joined), copy.deepcopy(joined)
        self.fine.weight = nn.Parameter(joined.weight.detach()[:, : up.fine].clone())
        self.deep.weight = nn.Parameter(joined.weight.detach()[:, up.fine :].clone())
        self.deep.bias = None

    def forward(self, deep: Tensor, fine: Tensor) -> Tensor:
        """As `Up`."""
        both: Tensor = self.rest(self.fine(fine) + self.deep(self.reduce(self.upsample(deep))))
        return both


class _Doubled(nn.Module):
    """Doubling by nearest neighbour, then a 3 x 3 convolution with zeros around: the same, mostly at the coarse size.

    An output pixel in an even row sees one fine row above and two of its own coarse row, one in an odd row the other
    way round; columns likewise. So four convolutions of 2 x 2 coarse pixels, one for each parity, make all of them.

    Args:
        convolution: 3 x 3, stride 1, with a bias.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        parities = [_pairs(rows, 3) for rows in _pairs(convolution.weight.detach(), 2)]
        kernels = [kernel for pair in parities for kernel in pair]
        self.channels = convolution.out_channels
        self.convolution = nn.Conv2d(convolution.in_channels, 4 * self.channels, 2, padding=1)
        self.convolution.weight = nn.Parameter(torch.cat(kernels))
        assert convolution.bias is not None
        self.convolution.bias = nn.Parameter(convolution.bias.detach().repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, out, 2 h, 2 w)."""
        n, _, height, width = x.shape
        made = self.convolution(x)
        shape = (n, self.channels, 2 * height, 2 * width)
        out = torch.empty(shape, dtype=made.dtype, device=made.device, memory_format=torch.channels_last)
        for number, part in enumerate(torch.split(made, self.channels, dim=1)):
            row, col = divmod(number, 2)
            out[:, :, row::2, col::2] = part[:, :, row : row + height, col : col + width]
        return out


def _pairs(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Three taps along a dimension as two coarse ones: for even outputs and for odd ones."""
    before, here, after = torch.split(weight, 1, dim)
    return torch.cat([before, here + after], dim), torch.cat([before + here, after], dim)


def _doubled_late(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """The layers of a generator's body, each upsampling and its convolution as one."""
    doubling = False
    for layer in layers:
        if doubling and isinstance(layer, nn.Conv2d):
            yield _Doubled(layer)
        elif not isinstance(layer, nn.Upsample):
            yield layer
        doubling = isinstance(layer, nn.Upsample)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    placed: nn.Module = network.requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _fold(network: nn.Module) -> None:
    """Every batch norm that follows a convolution in a `Sequential` becomes part of its weights."""
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for (name, layer), (after, norm) in pairwise(list(block.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, name, fuse_conv_bn_eval(layer, norm))
                setattr(block, after, nn.Identity())

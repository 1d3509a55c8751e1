"""Prepares networks for inference: the same functions as trained, in fewer and cheaper operations.

A copy of each network gets its batch norm folded into the convolutions before it, loses the gradients of its weights,
is stored channels last and, where the processor multiplies it natively, has bfloat16 weights. Skip connections: instead
of concatenating, both inputs are convolved separately and added (float32 only; lift 10 % faster). Nearest-neighbour
upsampling followed by a 3 x 3 convolution is fused into four 2 x 2 convolutions at low resolution (generator 20 %
faster). What ends in a difference stays float32: the generators' last convolution and skip, the classifier's activation
maps and head, every quotient of the rescale rule.

No `torch.compile`: on two AVX2 cores it took 31 and 41 s to compile a generator and the classifier of the weights
that ship, and the generator was then slower (182 against 146 ms for 512 x 512 pixels); elsewhere it won 10-15 %
forward and lost half forward and backward (`tests/benchmarks/arithmetic.py compile` measures it anew).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spacex.attribution.names import PRECISIONS, Precision
from spacex.errors import CheckpointError, RequestError
from spacex.models.classes import native_network, unwrap
from spacex.models.classifier import Up
from spacex.models.generator import Generator

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint
from spacex.models.residual import ResidualNetwork


def numerics(device: str) -> dict[str, str]:
    """What decides the last bits of a map besides code and precision: library, processor's instructions, device."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability(), "device": name}


def choose_precision(wanted: str, device: str | torch.device = "cpu") -> Precision:
    """Resolve one of `PRECISIONS` for a device: `auto` is bfloat16 where it multiplies that natively, else float32.

    To be called on a machine like those that will compute. It decides once for a cube, which keeps its precision.

    Raises:
        RequestError: if there is no such precision.
    """
    if wanted not in PRECISIONS:
        raise RequestError("--precision", got=wanted, expected=", ".join(PRECISIONS))
    native = wanted == "auto" and native_bfloat16(torch.device(device))
    return "bfloat16" if native or wanted == "bfloat16" else "float32"


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 natively; elsewhere it is emulated and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def check_generators(checkpoint: Checkpoint) -> tuple[nn.Module, nn.Module]:
    """Maximiser and minimiser of a checkpoint.

    Raises:
        CheckpointError: if it lacks one of them.
    """
    if checkpoint.minimiser is None or checkpoint.maximiser is None:
        what = f"checkpoint {checkpoint.uri} has no {'minimiser' if checkpoint.minimiser is None else 'maximiser'}"
        do = "Train the generators with jobs/train_gan.py, or ask for what needs none (--maps naturalness)."
        raise CheckpointError(what, got=f"kind {checkpoint.card.kind!r}", expected="kind 'patterns'", do=do)
    return checkpoint.maximiser, checkpoint.minimiser


def prepare_classifier(classifier: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """A copy of a classifier in eval mode whose weights have no gradients, for inference and to train against.

    Only our own classifiers are folded and partly converted to bfloat16. Others stay as they are: in which order their
    layers run, and which of them must stay float32, is unknown.
    """
    network = copy.deepcopy(classifier).eval()
    if isinstance(residual := unwrap(network), ResidualNetwork):
        _fold_batch_norm(residual)
        if precision == "bfloat16":
            residual.stem.to(torch.bfloat16)
            residual.blocks.to(torch.bfloat16)
    if (own := native_network(network)) is not None:
        _fold_batch_norm(own)
        if precision == "bfloat16":
            own.unet.encoders.to(torch.bfloat16)
            own.unet.decoders.to(torch.bfloat16)
        else:  # in bfloat16 each of the two summands would be rounded
            own.unet.decoders = nn.ModuleList(SplitConcatConv(up) for up in own.unet.decoders if isinstance(up, Up))
    _replace_bilinear_upsampling(network)
    return _freeze(network, device)


def prepare_generator(
    generator: nn.Module, precision: Precision, device: torch.device, *, edges_matter: bool = True
) -> nn.Module:
    """A copy of a generator for inference, its body in some precision.

    Where the pixels that depend on the picture's edge are cut off, the edges do not matter. Padding with zeros is then
    as good as mirroring, which copies the whole picture before every convolution: a third faster.
    """
    network = copy.deepcopy(generator).eval()
    if not edges_matter:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.padding_mode = "zeros"
        if isinstance(network, Generator) and network.settings.norm == "none":
            network.body = nn.Sequential(*fuse_upsample_conv(list(network.body)))
    if precision == "bfloat16" and isinstance(network, Generator):
        network.body.to(torch.bfloat16)
    return _freeze(network, device)


class SplitConcatConv(nn.Module):
    """An `Up` of the U-Net that convolves its two inputs separately and adds: concatenating would copy both."""

    def __init__(self, up: Up) -> None:
        super().__init__()
        self.upsample, self.reduce = up.upsample, up.reduce
        joined, self.rest = up.convolve[0], up.convolve[1:]
        assert isinstance(joined, nn.Conv2d)
        # a convolution of concatenated channels is the sum of two convolutions; the bias is added once
        self.fine, self.deep = copy.deepcopy(joined), copy.deepcopy(joined)
        self.fine.weight = nn.Parameter(joined.weight.detach()[:, : up.fine].clone())
        self.deep.weight = nn.Parameter(joined.weight.detach()[:, up.fine :].clone())
        self.deep.bias = None

    def forward(self, deep: Tensor, fine: Tensor) -> Tensor:
        """As `Up`."""
        out: Tensor = self.rest(self.fine(fine) + self.deep(self.reduce(self.upsample(deep))))
        return out


class UpsampleConv(nn.Module):
    """Upsampling by two (nearest neighbour) and a zero-padded 3 x 3 convolution, fused into 2 x 2 convolutions.

    An output pixel in an even row sees one fine row of the coarse row above and two of its own; one in an odd row sees
    two of its own and one of the row below; columns likewise. So four convolutions of 2 x 2 coarse pixels, one for each
    parity of row and column, give all output pixels.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        # in the order even row and column, even row and odd column, odd row and even column, odd row and column
        parities = [_coarse_taps(rows, 3) for rows in _coarse_taps(convolution.weight.detach(), 2)]
        kernels = [kernel for pair in parities for kernel in pair]
        self.channels = convolution.out_channels
        self.convolution = nn.Conv2d(convolution.in_channels, 4 * self.channels, 2, padding=1)
        self.convolution.weight = nn.Parameter(torch.cat(kernels))
        assert convolution.bias is not None
        self.convolution.bias = nn.Parameter(convolution.bias.detach().repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, out, 2 h, 2 w)."""
        n, _, height, width = x.shape
        coarse = self.convolution(x)
        shape = (n, self.channels, 2 * height, 2 * width)
        out = torch.empty(shape, dtype=coarse.dtype, device=coarse.device, memory_format=torch.channels_last)
        # each parity fills every second row and column; with a padding of 1 its first pixel lies at its parity
        for number, part in enumerate(torch.split(coarse, self.channels, dim=1)):
            row, col = divmod(number, 2)
            out[:, :, row::2, col::2] = part[:, :, row : row + height, col : col + width]
        return out


def _coarse_taps(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Three taps along a dimension as two at low resolution: for even outputs and for odd ones."""
    before, here, after = torch.split(weight, 1, dim)
    return torch.cat([before, here + after], dim), torch.cat([before + here, after], dim)


def fuse_upsample_conv(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """The layers of a generator's body, each upsampling fused with the convolution that follows it."""
    upsampled = False
    for layer in layers:
        if upsampled and isinstance(layer, nn.Conv2d):
            yield UpsampleConv(layer)
        elif not isinstance(layer, nn.Upsample):
            yield layer
        upsampled = isinstance(layer, nn.Upsample)


class BilinearUpsample2x(nn.Module):
    """Bilinear upsampling by two with a cheap backward pass: PyTorch's took 18 of the 129 ms of a chip's lift."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels, 2 h, 2 w), as `nn.Upsample` does it."""
        upsampled: Tensor = _BilinearUpsample2xFunction.apply(x)  # type: ignore[no-untyped-call]
        return upsampled


class _BilinearUpsample2xFunction(torch.autograd.Function):
    """Interpolation forward; backward its adjoint, a convolution of every channel by itself with stride 2.

    Pixel i of the small picture gives 1/4, 3/4, 3/4, 1/4 to pixels 2 i - 1 to 2 i + 2 of the large one, in either
    direction, and at the edges what would fall outside to the outermost pixel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (gradient,) = outer
        channels = gradient.shape[1]
        # 1/4, 3/4, 3/4, 1/4, computed on the device: copying four numbers to a GPU would wait for all its queued work
        weights = 1 - (torch.arange(4, dtype=gradient.dtype, device=gradient.device) - 1.5).abs() / 2
        kernel = (weights[:, None] * weights).expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(gradient, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=channels)


def _replace_bilinear_upsampling(network: nn.Module) -> None:
    """Give every bilinear upsampling by two in a network the cheap backward pass."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            bilinear = isinstance(layer, nn.Upsample) and layer.mode == "bilinear"
            if bilinear and layer.scale_factor == 2 and not layer.align_corners:
                setattr(parent, name, BilinearUpsample2x())


def _freeze(network: nn.Module, device: torch.device) -> nn.Module:
    frozen: nn.Module = network.requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return frozen


def _fold_batch_norm(network: nn.Module) -> None:
    """Make every batch norm that follows a convolution in a `Sequential` part of the convolution's weights."""
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for (name, layer), (after, norm) in pairwise(list(block.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, name, fuse_conv_bn_eval(layer, norm))
                setattr(block, after, nn.Identity())

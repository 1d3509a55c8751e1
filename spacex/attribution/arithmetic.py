"""Networks made ready for attribution: the same functions as trained, in the fewest and cheapest operations.

A copy of each network gets its batch norm folded into the convolutions before it, loses the gradients of its
weights, lies in memory channels last and, where the processor multiplies it natively, has bfloat16 weights. What
ends in a difference stays float32 (design rule 10): the generators' last convolution and skip, the classifier's
activation maps and head, every quotient of the rescale rule.

No `torch.compile`: on two AVX2 cores it took 31 and 41 s to compile a generator and the classifier of the weights
that ship, and the generator was then slower (182 against 146 ms for 512 x 512 pixels); elsewhere it won 10-15 %
forward and lost half forward and backward (`tests/benchmarks/arithmetic.py compile` measures it anew).
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spacex.attribution.names import PRECISIONS, Precision
from spacex.errors import RequestError
from spacex.models.classes import own_network
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


def ready_classifier(classifier: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """A copy of a classifier in eval mode for inference.

    Only our own is folded and knows where bfloat16 must end. Others stay as they are: what order their layers run in,
    and what their features mean, is not ours to know.
    """
    ready = copy.deepcopy(classifier).eval()
    if (own := own_network(ready)) is not None:
        _fold(own)
        if precision == "bfloat16":
            own.unet.encoders.to(torch.bfloat16)
            own.unet.decoders.to(torch.bfloat16)
    return _placed(ready, device)


def ready_generator(
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
    if precision == "bfloat16" and isinstance(ready, Generator):
        ready.body.to(torch.bfloat16)
    if not edges_matter:
        for layer in ready.modules():
            if isinstance(layer, nn.Conv2d):
                layer.padding_mode = "zeros"
    return _placed(ready, device)


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

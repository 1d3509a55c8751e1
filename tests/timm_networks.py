"""Networks of timm beside a build of torch that its torchvision does not fit: its operators are declared, never run."""

from __future__ import annotations

import re
import sys

import torch
from torch import nn

_NAMES = """
    resnet18 resnext50_32x4d densenet121 inception_v3 regnety_002 mobilenetv3_small_050 ghostnet_100 nfnet_l0
    eca_resnet33ts convnext_atto convnextv2_atto edgenext_xx_small mobilevit_xxs vit_tiny_patch16_224
    deit_tiny_distilled_patch16_224 vit_small_patch16_dinov3 swin_tiny_patch4_window7_224 maxvit_pico_rw_256
    coat_lite_tiny poolformer_s12 tiny_vit_5m_224 levit_128s xcit_nano_12_p16_224 repvit_m0_9 fastvit_t8
    efficientformerv2_s0 hrnet_w18_small eva02_tiny_patch14_224 crossvit_tiny_240"""
NETWORKS = tuple(_NAMES.split())
"""One of every family that people train, small."""

_declared: list[torch.library.Library] = []


def import_timm() -> None:
    """Import timm.

    Raises:
        ImportError: if it, or what it needs, is not there.
    """
    while True:
        try:
            import timm  # noqa: F401

            return
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise ImportError(str(error)) from error
            for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
                del sys.modules[name]
            _declared[:] = _declared or [torch.library.Library("torchvision", "FRAGMENT")]
            _declared[0].define(f"{missing[1]}(Tensor a) -> Tensor")


def build(name: str) -> tuple[nn.Module, int]:
    """A network of one logit in eval mode with random weights and honest statistics, and the side of its chips."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=1).requires_grad_(False)
    side = network.default_cfg["input_size"][-1]
    side = side if side <= 256 else 224
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
            layer.train()
    network(torch.randn(4, 3, side, side) + torch.randn(4, 3, 1, 1))
    return network.eval(), side

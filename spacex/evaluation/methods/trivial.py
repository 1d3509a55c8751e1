"""Maps that use no classifier, and products of two maps: what any attribution has to beat."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.evaluation.methods.chip_batch import ChipBatch, Method

VISIBLE = ("B02", "B03", "B04")


def brightness(chips: ChipBatch) -> Tensor:
    """Mean reflectance over the visible bands, or over all bands if none is visible."""
    chosen = [i for i, band in enumerate(chips.bands) if band in VISIBLE] or list(range(len(chips.bands)))
    return chips.x[:, chosen].mean(dim=1)


def sobel(chips: ChipBatch) -> Tensor:
    """Size of the Sobel gradient of the brightness: an edge detector, which saliency is easily taken for."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    kernels = torch.stack([kernel, kernel.T])[:, None].to(chips.x)
    gradient = F.conv2d(F.pad(brightness(chips)[:, None], (1, 1, 1, 1), mode="replicate"), kernels)
    return gradient.square().sum(dim=1).sqrt()


def normalised_difference(chips: ChipBatch, first: str, second: str) -> Tensor:
    """(first − second) / (first + second) moved to 0..1; NDVI is B08, B04 and NDWI is B03, B08."""
    a, b = (chips.x[:, chips.bands.index(band)] for band in (first, second))
    return ((a - b) / (a + b).clamp(min=1e-6)).clamp(-1, 1) / 2 + 0.5


def distance_to_mean(chips: ChipBatch) -> Tensor:
    """Mean over bands of |x − chip mean|: what is unusual in the chip."""
    return (chips.x - chips.x.mean(dim=(2, 3), keepdim=True)).abs().mean(dim=1)


def smooth_noise(chips: ChipBatch, cells: int = 16) -> Tensor:
    """Random values on a coarse grid, enlarged smoothly: what a blob-like map scores by chance."""
    seeds = [torch.Generator().manual_seed(zlib.crc32(name.encode())) for name in chips.names]
    grid = torch.stack([torch.rand(cells, cells, generator=seed) for seed in seeds])[:, None].to(chips.x)
    return F.interpolate(grid, chips.x.shape[-2:], mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def trivial_methods(bands: Sequence[str]) -> list[Method]:
    """All of these; the indices only where their bands exist."""
    listed = [
        Method("brightness", "trivial", brightness, "Mean visible reflectance."),
        Method("darkness", "trivial", lambda chips: 1.0 - brightness(chips), "One minus brightness."),
        Method("sobel", "trivial", sobel, "Sobel gradient of the brightness."),
        Method("distance", "trivial", distance_to_mean, "Distance to the chip's mean colour."),
        Method("noise", "trivial", smooth_noise, "Smooth random blobs, seeded by the chip's name."),
        Method("chance", "trivial", lambda chips: torch.ones_like(chips.x[:, 0]), "The same value everywhere."),
    ]
    red, near_infrared, green = "B04", "B08", "B03"
    for name, first, second in (("ndvi", near_infrared, red), ("ndwi", green, near_infrared)):
        if {first, second} <= set(bands):
            for sign, a, b in (("", first, second), ("minus-", second, first)):
                draw = partial(normalised_difference, first=a, second=b)
                listed.append(Method(sign + name, "trivial", draw, f"({a} − {b}) / ({a} + {b})."))
    return listed


def product_methods(listed: Sequence[Method]) -> list[Method]:
    """Sharp maps times Grad-CAM at the first convolution, which says roughly where to look, as far as both are listed.

    Always read them beside the product of brightness with the same partner: any sharp picture gains from it.
    """
    by_name = {method.name: method for method in listed}
    partner = by_name.get("gradcam-first")
    sharp = ("lift", "path", "attribution", "brightness", "sobel")
    return [_product(by_name[name], partner) for name in sharp if partner and name in by_name]


def _product(first: Method, second: Method) -> Method:
    """The pixel-wise product of two maps, each divided by its chip's maximum."""

    def scaled(chips: ChipBatch, method: Method) -> Tensor:
        maps = chips.memoise(f"map {method.name}", lambda: method(chips))
        return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)

    def draw(chips: ChipBatch) -> Tensor:
        return scaled(chips, first) * scaled(chips, second)

    about = f"{first.name} times {second.name}, pixel by pixel."
    return Method(f"{first.name} x {second.name}", "product", draw, about, (*first.maps, *second.maps))

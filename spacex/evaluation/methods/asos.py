"""ASOS: how the score falls when every pixel with a certain activation is occluded (Stomberg et al. 2023).

"Activation Space Occlusion Sensitivity" is the classifier authors' own method (Frontiers in AI 6, 1278118,
section 3). The classifier's head only sees activation maps in [-1, 1]^maps. That space is cut into cubes. For
each cube, in each chip, the pixels whose activation lies in the cube (enlarged by `reach`) are set to 0, and
the fall of the score, divided by the number of occluded pixels, is the cube's sensitivity; positive means the
activation is evidence for protected land. A map then colours each pixel by the sensitivity of its cube. Only the
head runs again, so it is cheap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ActivationSpace:
    """Sensitivities of the cubes of activation space."""

    edge: float
    """Edge of a cube."""
    sensitivity: Tensor
    """Mean fall of the score per occluded pixel, ``(cubes,) * maps`` float32; 0 where too few were seen."""
    pixels: Tensor
    """Occluded pixels each sensitivity rests on, same shape."""

    def maps(self, activation: Tensor) -> Tensor:
        """Colour activation maps ``(n, maps, h, w)`` by their cubes: ``(n, h, w)`` float32, signed."""
        index = cube_of(activation, self.edge).unbind(dim=1)
        return self.sensitivity[index]


def cube_of(activation: Tensor, edge: float) -> Tensor:
    """Index of the cube along every axis, ``(n, maps, ...)`` int64; -1..1 is cut from -1 upwards."""
    count = round(2 / edge)
    return ((activation + 1) / edge).long().clamp(0, count - 1)


def fit(
    activations: Iterable[Tensor],
    head: nn.Module,
    edge: float = 0.2,
    reach: float = 2.0,
    least: int = 100,
    batch: int = 32,
) -> ActivationSpace:
    """Measure the sensitivity of every cube.

    Args:
        activations: batches of activation maps ``(n, maps, h, w)`` of chips the classifier gets right,
            preferably of the training split.
        head: activation maps to logits.
        edge: edge of a cube.
        reach: a cube's occlusion takes all pixels within `reach` times its half edge of its centre
            (the authors' "consider factor").
        least: cubes with fewer occluded pixels get sensitivity 0 (the authors' limit).
        batch: occluded copies in one forward pass.
    """
    total_fall = pixels = torch.zeros(0)
    with torch.no_grad():
        for maps in (maps for chips in activations for maps in chips):
            if not len(pixels):
                total_fall, pixels = torch.zeros(2, *(round(2 / edge),) * len(maps))
            _add_chip(maps, head, edge, reach, batch, total_fall, pixels)
    if not len(pixels):
        raise ValueError("ASOS needs at least one chip to measure activation space")
    return ActivationSpace(edge, torch.where(pixels >= least, total_fall / pixels.clamp(min=1), 0.0), pixels)


def _add_chip(
    maps: Tensor, head: nn.Module, edge: float, reach: float, batch: int, total_fall: Tensor, pixels: Tensor
) -> None:
    score = torch.sigmoid(head(maps[None])).flatten()[0]
    # only cubes in which this chip has pixels; the head runs once per cube, a batch of them at a time
    cubes = torch.unique(cube_of(maps[None], edge)[0].flatten(1), dim=1).T
    centres = -1 + (cubes + 0.5) * edge
    for some, where in zip(centres.split(batch), cubes.split(batch), strict=True):
        # Chebyshev distance of every pixel's activation from the cube's centre
        away = (maps[None] - some[:, :, None, None]).abs().amax(dim=1, keepdim=True)
        hidden = away <= reach * edge / 2 + 1e-6  # a value on a cube's face belongs to the cube
        fall = score - torch.sigmoid(head(maps[None].masked_fill(hidden, 0.0))).flatten()
        index = tuple(where.unbind(dim=1))
        # sums of falls over sums of pixels: a chip counts by what it shows of the cube
        total_fall[index] += fall
        pixels[index] += hidden.sum(dim=(1, 2, 3)).float()

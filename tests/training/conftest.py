"""Tiny learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from spacex.api import training
from spacex.model_card import Scaling
from spacex.training.distributed import SINGLE, Distributed
from spacex.training.gan import ExplainedClassifiers, PatternLearner
from spacex.training.presets import PRESETS


class MeanClassifier(torch.nn.Module):
    """A classifier with a known rule: the mean of the first band."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.threshold = threshold

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Logits (n,)."""
        return self.weight * u[:, 0].mean((-2, -1)) - self.threshold


SMALL = {"base": 4, "cap": 8, "downs": 1, "blocks": 1, "stem": 3}
"""A generator's size for tests."""


@pytest.fixture(scope="module")
def no_certificate() -> Iterator[None]:
    """Leaves a training's certificate out, which takes longer than all the rest; tests/evaluation has tests of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "keep_certificate", lambda *_: None)
        yield


@pytest.fixture
def make_learner() -> Callable[..., PatternLearner]:
    """Builds a small learner of any preset around :class:`MeanClassifier`, for chips of any size."""

    def make(
        preset: str = "delta", bands: int = 3, seed: int = 0, distributed: Distributed = SINGLE, **changes: Any
    ) -> PatternLearner:
        chosen = PRESETS[preset]
        small = chosen.generator.model_copy(update=SMALL)
        quick: dict[str, Any] = {"generator": small, "warmup": 0, "pool": min(chosen.pool, 4)}
        if chosen.discriminator is not None:
            quick["discriminator"] = chosen.discriminator.model_copy(update={"base": 4, "strided": 2})
        scaling = Scaling(mean=(0.05,) * bands, std=(0.02,) * bands)
        if chosen.units == "reflectance":
            scaling = Scaling.identity(bands)
        task = ExplainedClassifiers([MeanClassifier()], scaling, (0.02,) * bands)
        return PatternLearner(chosen.model_copy(update=quick | changes), task, 100, seed, distributed)

    return make


@pytest.fixture
def chips() -> torch.Tensor:
    """Six chips (6, 3, 32, 32) of plausible reflectance."""
    return 0.06 + 0.02 * torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))

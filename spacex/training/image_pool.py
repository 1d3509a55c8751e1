"""CycleGAN's history buffer: a discriminator also sees fakes of earlier steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spacex.training.batches import seeded


class ImagePool:
    """Keeps up to `size` fakes (Shrivastava et al. 2017; 50 in CycleGAN). Its state is part of a run's.

    Args:
        size: chips kept; 0 hands every batch through.
        seed: names the random stream.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.generator = size, seeded("pool", seed)
        self.kept: list[Tensor] = []

    def swap(self, fakes: Tensor) -> Tensor:
        """A batch in which, once the pool is full, every second fake is an earlier one that it replaces.

        Args:
            fakes: (n, bands, height, width), detached.
        """
        if self.size == 0:
            return fakes
        return torch.stack([self._swap(fake) for fake in fakes])

    def _swap(self, fake: Tensor) -> Tensor:
        if len(self.kept) < self.size:
            self.kept.append(fake.clone())
            return fake
        if torch.rand(1, generator=self.generator) < 0.5:
            return fake
        slot = int(torch.randint(self.size, (1,), generator=self.generator))
        earlier, self.kept[slot] = self.kept[slot], fake.clone()
        return earlier

    def state_dict(self) -> dict[str, Any]:
        """The fakes and the random stream."""
        return {"kept": list(self.kept), "random": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.kept = list(state["kept"])
        self.generator.set_state(state["random"].cpu())

"""CycleGAN's image pool: a discriminator also sees generated chips of earlier steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spacex.training.batches import seeded


class ImagePool:
    """Keeps up to `size` generated chips (Shrivastava et al. 2017; 50 in CycleGAN); 0 returns every batch as it is."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.generator = size, seeded("pool", seed)
        self.kept: list[Tensor] = []

    def swap(self, fakes: Tensor) -> Tensor:
        """Of generated chips (n, bands, h, w), detached, every second on average exchanged for an earlier one."""
        return fakes if self.size == 0 else torch.stack([self._swap(fake) for fake in fakes])

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
        """The chips and the random stream."""
        return {"kept": list(self.kept), "random": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.kept = list(state["kept"])
        self.generator.set_state(state["random"].cpu())

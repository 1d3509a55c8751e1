"""The order in which chips are seen: a function of seed and epoch, divided among the processes.

A global batch is cut into equal shards, so that any number of processes sees the same batches. The order needs no
state: a resumed run asks for epoch `e` and gets what an uninterrupted one would have got.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from spacex.errors import RequestError
from spacex.training.distributed import SINGLE, Distributed


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by the hash of `parts`: the same parts give the same numbers, everywhere."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class EpochOrder:
    """Batches of indices for one process, a new order each epoch.

    `batch` is the size of the *global* batch, smaller if there are fewer chips than that. Every batch carries as many
    of the `partners`, drawn at random, behind its own.

    Raises:
        RequestError: if there is no chip, or the batch cannot be divided equally.
    """

    def __init__(
        self,
        indices: Sequence[int],
        batch: int,
        seed: int,
        distributed: Distributed = SINGLE,
        partners: Sequence[int] = (),
    ) -> None:
        if not indices:
            raise RequestError("no chip to train on", do="Look at the split and the labels of the data set.")
        self.indices, self.partners = torch.tensor(indices), torch.tensor(list(partners))
        self.batch = min(batch, len(indices) // distributed.size * distributed.size)
        if self.batch == 0 or self.batch % distributed.size:
            raise RequestError(
                "the batch cannot be shared equally",
                got=f"batch {batch}, {len(indices)} chips, {distributed.size} workers",
                do="Choose a batch that is a multiple of the number of workers.",
            )
        self.seed, self.distributed, self.epoch = seed, distributed, 0

    def __len__(self) -> int:
        """Batches per epoch; what is left over after the last full batch waits for another epoch's order."""
        return len(self.indices) // self.batch

    def __iter__(self) -> Iterator[list[int]]:
        """This process's shard of each batch."""
        # every process draws the same order and takes its own shard of each batch
        generator = seeded("order", self.seed, self.epoch)
        order = self.indices[torch.randperm(len(self.indices), generator=generator)]
        for start in range(0, len(self) * self.batch, self.batch):
            chosen = self._shard(order[start : start + self.batch])
            if len(self.partners):
                drawn = torch.randint(len(self.partners), (self.batch,), generator=generator)
                chosen += self._shard(self.partners[drawn])
            yield chosen

    def _shard(self, batch: Tensor) -> list[int]:
        own: list[int] = batch.chunk(self.distributed.size)[self.distributed.rank].tolist()
        return own


class BatchLoader:
    """Batches of a data set on a device, in the order of an :class:`EpochOrder`.

    The data set gives (chip (bands, size, size) float32, label float32). `readers` processes read ahead; 0 reads in
    this one.
    """

    def __init__(self, dataset: Dataset[Any], order: EpochOrder, readers: int, device: torch.device) -> None:
        self.order, self.device = order, device
        self.loader = DataLoader(
            dataset,
            batch_sampler=order,  # type: ignore[arg-type]
            num_workers=readers,
            persistent_workers=readers > 0,
            pin_memory=device.type == "cuda",
            collate_fn=collate,
            generator=torch.Generator(),  # or its base seed would be drawn from the global stream
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.order)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Chips (n, bands, size, size) and labels (n,) of each batch of that epoch."""
        self.order.epoch = number
        for x, label in self.loader:
            yield x.to(self.device, non_blocking=True), label.to(self.device, non_blocking=True)


def collate(batch: Any) -> Any:
    """A batch that the data set made whole, by `__getitems__`, as it is; else one made of its items."""
    return batch if isinstance(batch, tuple) else default_collate(batch)


def shard(
    dataset: Dataset[Any], indices: Sequence[int], batch: int, distributed: Distributed = SINGLE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of this process's part of the chips, in order, for measuring; the last batch may be smaller."""
    own = list(indices)[distributed.rank :: distributed.size]
    for x, label in DataLoader(Subset(dataset, own), batch_size=batch, collate_fn=collate):
        yield x.to(distributed.device), label.to(distributed.device)

"""The processes that train together: one alone, or several that average their gradients.

A :class:`Distributed` hides from the learners which of the two it is, and whether they run on a CPU or a GPU. It uses
an existing ``torch.distributed`` process group and never starts one: that is the caller's business (Ray, a test).

Rules for the networks under ``DistributedDataParallel`` (each was measured; breaking the second gives wrong gradients
without an error): no batch norm with statistics of one process; one backward per network and step; a discriminator
is frozen and called through `unwrap_ddp` while the generators learn, and sees real and fake chips in one forward when
it learns itself; no search for unused parameters; the frozen classifier is never wrapped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spacex.errors import RequestError

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Distributed:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    """This process, 0 .. size − 1."""
    size: int = 1
    """Number of processes."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where this process computes."""
    precision: Precision = "auto"
    """``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    compile: bool | None = None
    """Whether networks are compiled; None means on a GPU only."""

    @classmethod
    def from_process_group(cls, device: str | torch.device = "cpu", **options: Any) -> Distributed:
        """The initialised process group seen from this process; a single process if there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls(device=torch.device(device), **options)
        return cls(dist.get_rank(), dist.get_world_size(), torch.device(device), **options)

    @property
    def is_main(self) -> bool:
        """True for rank 0, the one process that writes logs and checkpoints."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 where `precision` allows it; the generators keep their last convolution and skip in float32."""
        reduced = self.precision == "bfloat16" or (self.precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on this device, its gradients averaged over the processes, compiled on a GPU."""
        # channels last: 1.2 times as fast without normalisation
        module = module.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.size == 1:
            return self.compiled(module)
        # compiled first: around the wrapper, the compiler would have to trace its communication too
        module = self.compiled(convert_sync_batch_norm(module))
        gpus = [self.device.index] if self.device.type == "cuda" else None
        # running statistics are equal on all processes already, so buffers need no broadcast per step
        return DistributedDataParallel(module, device_ids=gpus, forward_sync_buffers=False)

    def compiled(self, module: nn.Module) -> nn.Module:
        """The module through ``torch.compile`` on a GPU (or where asked), unchanged otherwise."""
        if self.device.type == "cuda" if self.compile is None else self.compile:
            module.compile()
        return module

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: Any) -> Any:
        """Rank 0's plain value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def all_gather(self, shard: Tensor) -> Tensor:
        """The global batch in the order of the ranks, from equal shards (n, ...) on the device."""
        if self.size == 1:
            return shard
        parts = [torch.empty_like(shard) for _ in range(self.size)]
        dist.all_gather(parts, shard.contiguous())
        return torch.cat(parts)

    def gather_rows(self, values: Tensor) -> Tensor:
        """The rows of every process, (n_total, ...), on the CPU; row counts may differ."""
        if self.size == 1:
            return values.cpu()
        return torch.cat([torch.from_numpy(part) for part in self.gather_objects(values.cpu().numpy())])

    def gather_objects(self, value: Any) -> list[Any]:
        """The plain value of every process, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


SINGLE = Distributed()
"""One process on the CPU."""


def choose_device(gpu: bool) -> torch.device:
    """The first GPU if one is asked for, the CPU otherwise.

    Raises:
        RequestError: if a GPU is asked for and there is none.
    """
    if not gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RequestError(
            "no GPU here", expected="a CUDA device", do="Leave --gpu out, or work on a machine with a GPU."
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def unwrap_ddp(module: nn.Module) -> nn.Module:
    """The module inside its distributed wrapper, if it has one."""
    return module.module if isinstance(module, DistributedDataParallel) else module


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Within the block no parameter collects a gradient, though gradients flow through the modules."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


class _AllReduceSum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        if dist.is_initialized():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _AllReduceSum.forward(ctx, gradients[0])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batch of all processes, on CPU and GPU alike.

    torch's SyncBatchNorm refuses CPU tensors; with statistics of its own, each of two processes would learn something
    else than one process does.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, channels, h, w), same shape; the statistics are float32."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        # sums, sums of squares and the count travel in one all-reduce
        count = torch.full_like(values[0, :1, 0, 0], values.numel() // values.shape[1])
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        sums = _AllReduceSum.apply(sums)  # type: ignore[no-untyped-call]
        mean, square = sums[:-1].div(sums[-1]).chunk(2)
        variance = (square - mean.square()).clamp_min(0)  # rounding may leave it just below 0
        with torch.no_grad():
            # the count stays on its device: reading it would make the CPU wait for the GPU
            rate, total = self.momentum or 0.1, sums[-1]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            self.running_mean.lerp_(mean, rate)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * total / (total - 1).clamp_min(1), rate)  # type: ignore[union-attr]
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        out: Tensor = (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
        return out


def convert_sync_batch_norm(module: nn.Module) -> nn.Module:
    """Turn every batch norm of the module into a `SyncBatchNorm2d`, in place; parameters and names stay."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncBatchNorm2d
    return module

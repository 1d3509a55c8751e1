"""Who else is computing: one process alone, or several that average their gradients.

A :class:`Distributed` hides the difference between the two, and between a CPU and a GPU, from the learners. It
speaks to ``torch.distributed`` only; whoever started the process group (a runner, a test) is none of its
business.

The rules for four networks under ``DistributedDataParallel`` (each was measured; breaking the second
gives wrong gradients without an error): no batch norm with statistics of one worker; one backward per
network and step; a discriminator is frozen and called through `unwrap_ddp` while the generators learn, and
sees real and fake in one forward when it learns itself; no search for unused parameters; the frozen
classifier is never wrapped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Distributed:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    """This process, 0 .. size − 1; rank 0 writes logs and checkpoints."""
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
        """The distributed of the process group that is already initialised; alone if there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls(device=torch.device(device), **options)
        return cls(dist.get_rank(), dist.get_world_size(), torch.device(device), **options)

    @property
    def is_main(self) -> bool:
        """True for the one process that writes."""
        return self.rank == 0

    @property
    def uses_bfloat16(self) -> bool:
        """True if the bodies of the networks run in bfloat16."""
        return self.precision == "bfloat16" or (self.precision == "auto" and self.device.type == "cuda")

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 for what tolerates it; the generators keep their last convolution and skip in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.uses_bfloat16)

    def to_device(self, module: nn.Module) -> nn.Module:
        """The module on this device, channels last (1.2 × faster without normalisation)."""
        return module.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on this device, compiled where that pays, its gradients averaged over the distributed."""
        module = self.to_device(module)
        if self.size > 1:
            module = convert_sync_batch_norm(module)
            gpus = [self.device.index] if self.device.type == "cuda" else None
            module = DistributedDataParallel(module, device_ids=gpus, forward_sync_buffers=False)
        return self.compiled(module)

    def compiled(self, module: nn.Module) -> nn.Module:
        """The module through ``torch.compile`` on a GPU (or where asked), unchanged otherwise."""
        wanted = self.device.type == "cuda" if self.compile is None else self.compile
        if wanted:
            module.compile()
        return module

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The same names with the mean over the distributed."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(sorted(values), (total / self.size).tolist(), strict=True))

    def barrier(self) -> None:
        """Until everyone is here."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: Any) -> Any:
        """The leader's plain value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def all_gather(self, share: Tensor) -> Tensor:
        """The global batch, in the order of the workers, from equal shares (n, ...) on the device."""
        if self.size == 1:
            return share
        parts = [torch.empty_like(share) for _ in range(self.size)]
        dist.all_gather(parts, share.contiguous())
        return torch.cat(parts)

    def gather_rows(self, values: Tensor) -> Tensor:
        """The rows of every process, (n_total, ...), on the CPU; row counts may differ."""
        if self.size == 1:
            return values.cpu()
        rows: list[Any] = [None] * self.size
        dist.all_gather_object(rows, values.cpu().numpy())
        return torch.cat([torch.from_numpy(part) for part in rows])


SINGLE = Distributed()
"""One process on the CPU."""


def choose_device(gpu: bool) -> torch.device:
    """The first GPU if one is asked for, the CPU otherwise.

    Raises:
        RequestError: if a GPU is asked for and there is none.
    """
    from spacex.errors import RequestError

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
    parameters = [p for module in modules for p in module.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class _Summed(torch.autograd.Function):
    """The sum over the distributed; its gradient is the sum of the distributed's gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        if dist.is_initialized():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Summed.forward(ctx, gradients[0])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the whole distributed's batch, on CPU and GPU alike.

    torch's SyncBatchNorm refuses CPU tensors; without sharing, two workers would learn something else
    than one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, channels, h, w), same shape; the statistics are float32."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = torch.full_like(values[0, :1, 0, 0], values.numel() // values.shape[1])
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        sums = _Summed.apply(sums)  # type: ignore[no-untyped-call]
        mean, square = sums[:-1].div(sums[-1]).chunk(2)
        variance = (square - mean.square()).clamp_min(0)
        self._remember(mean.detach(), variance.detach(), float(sums[-1].detach()))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        out: Tensor = (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
        return out

    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        rate = self.momentum or 0.1
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        self.running_mean.lerp_(mean, rate)  # type: ignore[union-attr]
        self.running_var.lerp_(variance * count / max(count - 1, 1), rate)  # type: ignore[union-attr]


def convert_sync_batch_norm(module: nn.Module) -> nn.Module:
    """Turn every batch norm of the module into a shared one, in place; parameters and names stay."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncBatchNorm2d
    return module

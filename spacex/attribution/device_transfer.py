"""Copies arrays to the networks' device and back; on a GPU without making it wait for either.

A plain copy stops the processor until the GPU is free, and the GPU until the copy is done. From pinned memory,
on a stream of its own, the copy runs beside the computation of the batch before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


class DeviceTransfer:
    """Copies float32 arrays to the device of the networks and back; on the CPU nothing is copied."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        count = 2 if device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]

    def to_device(self, values: Array) -> Tensor:
        """The array on the device; on a GPU the copy may still be running, and whatever uses it will wait."""
        tensor = torch.from_numpy(values)
        if not self._streams:
            return tensor
        upload, _ = self._streams
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(upload):
            copied = tensor.pin_memory().to(self._device, non_blocking=True)
        compute.wait_stream(upload)
        # or the allocator could give the memory away while the networks still read it
        copied.record_stream(compute)
        return copied

    def to_host(self, tensors: Mapping[str, Tensor | None]) -> Callable[[], dict[str, Any]]:
        """Start copying tensors back; the function that is returned waits until they have arrived. None stays None."""
        if not self._streams:
            arrays = {name: _numpy(tensor) for name, tensor in tensors.items()}
            return lambda: arrays
        _, download = self._streams
        # the download stream starts when the results are computed, and the computing of the next batch goes on
        download.wait_stream(torch.cuda.current_stream(self._device))
        pinned: dict[str, Tensor | None] = dict.fromkeys(tensors)
        with torch.cuda.stream(download):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                host = pinned[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                host.copy_(tensor.contiguous(), non_blocking=True)
                tensor.record_stream(download)
        done = download.record_event()

        def wait() -> dict[str, Any]:
            done.synchronize()
            return {name: _numpy(tensor) for name, tensor in pinned.items()}

        return wait


def _numpy(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().contiguous().numpy()

"""Arrays to the networks' device and back, on a GPU without making it wait for either.

A plain copy stops the processor until the GPU is free, and the GPU until the copy is done. From pinned memory,
on a stream of its own, it runs beside the computing of the batch before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


class DeviceTransfer:
    """Carries float32 arrays to one device and back; on the CPU nothing needs carrying.

    Args:
        device: where the networks are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        count = 2 if device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]

    def to_device(self, values: Array) -> Tensor:
        """The array on the device; on a GPU it may still be under way, and whatever uses it will wait."""
        tensor = torch.from_numpy(values)
        if not self._streams:
            return tensor
        there, _ = self._streams
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(there):
            sent = tensor.pin_memory().to(self._device, non_blocking=True)
        computing.wait_stream(there)
        sent.record_stream(computing)  # or its memory could be given away while the networks read it
        return sent

    def to_host(self, tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, Array]]:
        """Starts bringing tensors back; the call that is returned waits until they are here."""
        if not self._streams:
            here = {name: _numpy(tensor) for name, tensor in tensors.items()}
            return lambda: here
        _, back = self._streams
        back.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(back):
            landed = {name: _pinned(tensor) for name, tensor in tensors.items()}
            for tensor in tensors.values():
                tensor.record_stream(back)
        done = back.record_event()

        def wait() -> dict[str, Array]:
            done.synchronize()
            return {name: _numpy(tensor) for name, tensor in landed.items()}

        return wait


def _pinned(tensor: Tensor) -> Tensor:
    here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    here.copy_(tensor.contiguous(), non_blocking=True)
    return here


def _numpy(tensor: Tensor) -> Array:
    result: Array = tensor.detach().contiguous().numpy()
    return result

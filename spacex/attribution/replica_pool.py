"""Copies of the networks on the CPU, one per thread: faster than all threads on one chip.

A chip's layers are small, and threads that share one spend much of their time waiting for each other: on two cores
two chips at once take 48 ms each where two threads on one take 96 (windows of the generators 125 against 182 ms). And
a chip's maps do not depend on the number of threads, or on how full a batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spacex.attribution.attributor import Attributor, ChipMaps, GeneratorOutput

Array = NDArray[np.float32]


class ReplicaPool:
    """`size` copies of the networks, a thread for each; every window or chip of a batch goes to one that is free.

    `make` makes one copy, on the CPU; it need not be thread-safe.
    """

    whole_batches = False

    def __init__(self, make: Callable[[], Attributor], size: int) -> None:
        self._free: SimpleQueue[Attributor] = SimpleQueue()
        for _ in range(size):
            self._free.put(make())
        # each thread of Python has its own number of threads in PyTorch
        self._pool = ThreadPoolExecutor(size, "networks", initializer=torch.set_num_threads, initargs=(1,))

    def generate(self, x: Array) -> Callable[[], GeneratorOutput]:
        """As `Attributor.generate`."""
        return self._map("generate", x)

    def classify(
        self, x: Array, delta_minus: Array | None = None, delta_plus: Array | None = None
    ) -> Callable[[], ChipMaps]:
        """As `Attributor.classify`."""
        return self._map("classify", x, delta_minus, delta_plus)

    def rescore(self, x: Array) -> Callable[[], ChipMaps]:
        """As `Attributor.rescore`."""
        return self._map("rescore", x)

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """As `Attributor.attribute`."""
        return self._map("attribute", x)

    def _map(self, method: str, x: Array, *more: Array | None) -> Callable[[], Any]:
        """Submit every picture of a batch by itself; the function that is returned waits for all."""
        futures = []
        for i in range(len(x)):
            single = (None if batch is None else batch[i : i + 1] for batch in (x, *more))
            futures.append(self._pool.submit(self._run, method, *single))
        return lambda: _concatenate([future.result() for future in futures])

    def _run(self, method: str, *arrays: Array | None) -> GeneratorOutput | ChipMaps:
        networks = self._free.get()
        try:
            output: GeneratorOutput | ChipMaps = getattr(networks, method)(*arrays)()
            return output
        finally:
            self._free.put(networks)


def _concatenate(outputs: list[Any]) -> Any:
    """Outputs for one picture each as one output for all."""

    def join(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: np.concatenate([one[name] for one in values]) for name in values[0]}
        return None if values[0] is None else np.concatenate(values)

    joined = {field.name: join([getattr(one, field.name) for one in outputs]) for field in fields(outputs[0])}
    return type(outputs[0])(**joined)

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
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from spacex.attribution.attributor import Attributor, ChipMaps, GeneratorOutput

Array = NDArray[np.float32]
Output = TypeVar("Output", GeneratorOutput, ChipMaps)


class ReplicaPool:
    """As many copies of the networks as threads; every window or chip of a batch goes to one that is free.

    Args:
        make: makes one copy, on the CPU; it need not be thread-safe.
        size: number of copies.
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
        return self._map(lambda networks, i: networks.generate(x[i : i + 1])(), len(x))

    def classify(self, x: Array, delta_minus: Array | None) -> Callable[[], ChipMaps]:
        """As `Attributor.classify`."""

        def one(networks: Attributor, i: int) -> ChipMaps:
            return networks.classify(x[i : i + 1], None if delta_minus is None else delta_minus[i : i + 1])()

        return self._map(one, len(x))

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """As `Attributor.attribute`."""
        return self._map(lambda networks, i: networks.attribute(x[i : i + 1])(), len(x))

    def _map(self, work: Callable[[Attributor, int], Output], count: int) -> Callable[[], Output]:
        futures = [self._pool.submit(self._run, work, i) for i in range(count)]
        return lambda: _concatenate([future.result() for future in futures])

    def _run(self, work: Callable[[Attributor, int], Output], i: int) -> Output:
        networks = self._free.get()
        try:
            return work(networks, i)
        finally:
            self._free.put(networks)


def _concatenate(outputs: list[Output]) -> Output:
    """Outputs for one picture each as one output for all."""
    joined = {field.name: _stack([getattr(one, field.name) for one in outputs]) for field in fields(outputs[0])}
    return type(outputs[0])(**joined)


def _stack(values: list[Any]) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return {name: np.concatenate([one[name] for one in values]) for name in values[0]}

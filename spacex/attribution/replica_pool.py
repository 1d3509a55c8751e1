"""Networks side by side: on a processor, a chip per thread is faster than all threads on one chip.

A chip's layers are small, and threads that share one spend much of their time waiting for each other: on two cores
two chips at once take 48 ms each where two threads on one take 96 (windows of the generators 125 against 182 ms). And
what a chip's maps are no longer depends on how many threads there are, or how full a batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from spacex.attribution.attributor import Attributor, ChipMaps, GeneratorOutput

Array = NDArray[np.float32]
Answer = TypeVar("Answer", GeneratorOutput, ChipMaps)


class ReplicaPool:
    """As many copies of the networks as threads; every window or chip of a batch goes to one that is free.

    Args:
        make: makes the networks, on the CPU; they need not be thread-safe.
        size: of the crew.
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
        return self._share(lambda networks, i: networks.generate(x[i : i + 1])(), len(x))

    def classify(self, x: Array, delta_minus: Array | None) -> Callable[[], ChipMaps]:
        """As `Attributor.classify`."""

        def one(networks: Attributor, i: int) -> ChipMaps:
            return networks.classify(x[i : i + 1], None if delta_minus is None else delta_minus[i : i + 1])()

        return self._share(one, len(x))

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """As `Attributor.attribute`."""
        return self._share(lambda networks, i: networks.attribute(x[i : i + 1])(), len(x))

    def _share(self, work: Callable[[Attributor, int], Answer], count: int) -> Callable[[], Answer]:
        futures = [self._pool.submit(partial(self._work, work, i)) for i in range(count)]
        return lambda: _joined([future.result() for future in futures])

    def _work(self, work: Callable[[Attributor, int], Answer], i: int) -> Answer:
        networks = self._free.get()
        try:
            return work(networks, i)
        finally:
            self._free.put(networks)


def _joined(answers: list[Answer]) -> Answer:
    """Answers for one picture each as one for all."""
    joined = {field.name: _stacked([getattr(one, field.name) for one in answers]) for field in fields(answers[0])}
    return type(answers[0])(**joined)


def _stacked(values: list[Any]) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return {name: np.concatenate([one[name] for one in values]) for name in values[0]}

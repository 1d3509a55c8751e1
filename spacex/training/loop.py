"""A training run from data to checkpoint: a generator of epochs that can be killed and taken up again.

A run lives in one folder (or any fsspec URI): ``card.json`` and weights once it is finished, ``state/``
to resume from, ``log/`` to log_images at. The folder is its name: the same request in the same place goes on
where it stopped, and does nothing if it had finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import fsspec
from pydantic import Field
from torch import Tensor

from spacex.errors import SpacexError
from spacex.settings import Settings
from spacex.training.batches import BatchLoader
from spacex.training.data import DatasetSettings
from spacex.training.distributed import Distributed
from spacex.training.run_logger import RunLogger
from spacex.training.state import RunStore

FREE = frozenset({"readers", "trust"})
"""Settings that may differ when a run is resumed: they do not change what is learnt."""


class Run(Settings):
    """What every training run is told."""

    source: DatasetSettings
    output: str
    """Folder or fsspec URI of the run."""
    seed: int = 0
    readers: int = 0
    """Processes per worker that read ahead; 0 reads between the steps."""
    pictures_every: int = 200
    """Steps between two pictures."""
    trust: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    """Modules whose networks may be imported and built (`spacex.models.third_party`)."""


@dataclass(frozen=True)
class Epoch:
    """What a run yields after each epoch, when its state is safely down."""

    number: int
    """Counted from 1."""
    of: int
    """Epochs of the whole run."""
    metrics: dict[str, float]
    """Losses of the last step and the validation split's figures."""
    seconds: float
    """Time the epoch took, with validation and saving."""
    warning: str | None = None
    """What is wrong with the run, if something is (it collapsed)."""

    def __str__(self) -> str:
        """One line with the validation split's figures, and a second one with a warning."""
        chosen = {n.removeprefix("val/"): v for n, v in self.metrics.items() if n.startswith("val/")}
        figures = "  ".join(f"{name} {value:.3f}" for name, value in chosen.items())
        line = f"epoch {self.number}/{self.of}  {self.seconds:.0f} s  {figures}"
        return line if self.warning is None else f"{line}\nwarning: {self.warning}"


class Learner(Protocol):
    """What learns: anything with steps counted and a state."""

    step_number: int

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while learning."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        ...


@dataclass(frozen=True)
class TrainingLoop:
    """How one kind of run fills the loop all runs share."""

    settings: Run
    distributed: Distributed
    learner: Learner
    loader: BatchLoader
    epochs: int
    step: Callable[[int, Tensor, Tensor], dict[str, Tensor]]
    """(epoch from 0, chips, labels) to the step's numbers."""
    validate: Callable[[], dict[str, float]]
    """Figures on the validation split, the same on every worker."""
    finish: Callable[[float], None]
    """Measures all splits and writes the checkpoint; called once, by all workers, with the seconds it took."""
    log_images: Callable[[RunLogger, int], None] = lambda logger, step: None
    """Draws a picture."""
    health_check: Callable[[int, dict[str, float]], str | None] = lambda epoch, metrics: None
    """(epoch from 0, its metrics) to what is wrong with the run, if something is."""

    def run(self) -> Iterator[Epoch]:
        """Resume, train, save after every epoch, and write the checkpoint at the end."""
        store = RunStore(self.settings.output, self.distributed)
        done, seconds = 0, 0.0
        if (saved := store.load()) is not None:
            done, state = saved
            seconds = state["seconds"]
            self.learner.load_state_dict(state["learner"])
        place = self.settings.output if self.distributed.is_main else None
        if done < self.epochs:
            with RunLogger(place, self.learner.step_number) as logger:
                for number in range(done, self.epochs):
                    epoch = self._epoch(number, store, logger, seconds)
                    seconds += epoch.seconds
                    yield epoch
        if done < self.epochs or not finished(self.settings.output):
            self.finish(seconds)
        self.distributed.barrier()

    def _epoch(self, number: int, store: RunStore, logger: RunLogger, before: float) -> Epoch:
        start = time.perf_counter()
        for x, label in self.loader.epoch(number):
            values = self.step(number, x, label)
            logger.step(self.learner.step_number, values)
            if self.distributed.is_main and self.learner.step_number % self.settings.pictures_every == 0:
                self.log_images(logger, self.learner.step_number)
        logger.flush()
        _check_finite(logger.last)
        metrics = {**logger.last, **self.validate()}
        warning = self.health_check(number, metrics)
        if warning is not None:
            logger.warn(warning)
        seconds = before + time.perf_counter() - start
        store.save(number + 1, {"learner": self.learner.state_dict(), "seconds": seconds})
        logger.epoch(number + 1, metrics)
        return Epoch(number + 1, self.epochs, metrics, time.perf_counter() - start, warning)


def finished(uri: str) -> bool:
    """True if a run's checkpoint is there."""
    fs, root = fsspec.core.url_to_fs(uri)
    return bool(fs.exists(f"{root.rstrip('/')}/card.json"))


def _check_finite(values: dict[str, float]) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise SpacexError(
            "the run diverged",
            got=f"{broken[0]} = {values[broken[0]]}",
            do="The last good epoch is saved. Change the preset and use another --output.",
        )

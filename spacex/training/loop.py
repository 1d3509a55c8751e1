"""The training loop that all runs share: a generator of epochs that can be killed and resumed.

A run lives in one folder (or any fsspec URI): ``card.json`` and weights once it is finished, ``state/`` to resume
from, ``log/`` to look at. The same request in the same place goes on where it stopped, and does nothing if it had
finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import fsspec
from pydantic import Field
from torch import Tensor

from spacex.errors import SpacexError
from spacex.settings import Settings
from spacex.training.batches import BatchLoader
from spacex.training.classifier import ClassifierLearner
from spacex.training.data import DatasetSettings
from spacex.training.distributed import Distributed
from spacex.training.gan import PatternLearner
from spacex.training.run_logger import RunLogger
from spacex.training.state import RunStore

OWN_STATE = frozenset({"pools"})
"""Parts of a learner's state that each process has for itself."""


PROGRESS_S = 10.0
"""Seconds between two lines within an epoch."""
Progress = Callable[[str], object]
"""Takes a line about a run that goes on."""


class Run(Settings):
    """Settings of every training run."""

    source: DatasetSettings
    output: str
    """Folder or fsspec URI of the run."""
    seed: int = 0
    readers: int = 0
    """Processes per worker that read ahead; 0 reads between the steps."""
    pictures_every: int = 200
    """Steps between two logged images; the last step is always shown."""
    trust: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    """Modules whose networks may be imported and built (`spacex.models.third_party`)."""


@dataclass(frozen=True)
class Epoch:
    """What a run yields after each epoch, once its state is saved."""

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


@dataclass(frozen=True)
class TrainingLoop:
    """The loop, and the callbacks by which one kind of run fills it."""

    settings: Run
    distributed: Distributed
    learner: ClassifierLearner | PatternLearner
    loader: BatchLoader
    epochs: int
    step: Callable[[int, Tensor, Tensor], dict[str, Tensor]]
    """(epoch from 0, chips, labels) to the step's numbers."""
    validate: Callable[[], dict[str, float]]
    """Figures on the validation split, the same on every process."""
    finish: Callable[[float], None]
    """Measures all splits and writes the checkpoint; called once, by all processes, with the run's seconds."""
    log_images: Callable[[RunLogger, int], None] = lambda logger, step: None
    """Logs an image of a few chips."""
    progress: Progress = lambda line: None
    """Takes a line at the start and now and then within a long epoch; called by the main process only."""
    health_check: Callable[[int, dict[str, float]], str | None] = lambda epoch, metrics: None
    """(epoch from 0, its metrics) to what is wrong with the run, if something is."""

    def run(self) -> Iterator[Epoch]:
        """Resume, train, save after every epoch, and write the checkpoint at the end."""
        store = RunStore(self.settings.output, self.distributed)
        done, seconds = 0, 0.0
        if (saved := store.load()) is not None:
            done, shared, own = saved
            seconds = shared["seconds"]
            self.learner.load_state_dict({**shared["learner"], **own})
        if done < self.epochs:
            uri = self.settings.output if self.distributed.is_main else None
            with RunLogger(uri, self.learner.step_number) as logger:
                begun = f"after epoch {done} of {self.epochs}, " if done else ""
                self._say(f"training {begun}{self.epochs - done} epochs of {len(self.loader)} steps")
                for number in range(done, self.epochs):
                    epoch = self._epoch(number, store, logger, seconds)
                    seconds += epoch.seconds
                    yield epoch
        # a run that was killed after its last epoch has its state but perhaps no checkpoint
        if done < self.epochs or not finished(self.settings.output):
            self.finish(seconds)
        self.distributed.barrier()

    def _epoch(self, number: int, store: RunStore, logger: RunLogger, before: float) -> Epoch:
        """Train one epoch, validate, and save the state; `before` are the seconds of the earlier ones."""
        start = shown = time.perf_counter()
        for index, (x, label) in enumerate(self.loader.epoch(number), start=1):
            values = self.step(number, x, label)
            logger.step(self.learner.step_number, values)
            last = (number + 1, index) == (self.epochs, len(self.loader))
            due = last or self.learner.step_number % self.settings.pictures_every == 0
            if self.distributed.is_main and due:
                self.log_images(logger, self.learner.step_number)
            if (now := time.perf_counter()) - shown >= PROGRESS_S and index < len(self.loader):
                shown, left = now, (now - start) / index * (len(self.loader) - index)
                self._say(f"epoch {number + 1}/{self.epochs}  step {index}/{len(self.loader)}  {left:.0f} s left in it")
        logger.flush()
        _check_finite(logger.last)
        metrics = {**logger.last, **self.validate()}
        if (warning := self.health_check(number, metrics)) is not None:
            logger.warn(warning)
        # the state is saved before the epoch is reported: a caller that stops after a report loses nothing
        seconds = before + time.perf_counter() - start
        # all processes learn alike; only what they draw and keep for themselves differs
        shared = self.learner.state_dict()
        own = {name: shared.pop(name) for name in OWN_STATE & shared.keys()}
        store.save(number + 1, {"learner": shared, "seconds": seconds}, own)
        logger.epoch(number + 1, metrics)
        return Epoch(number + 1, self.epochs, metrics, time.perf_counter() - start, warning)

    def _say(self, line: str) -> None:
        if self.distributed.is_main:
            self.progress(line)


def finished(uri: str) -> bool:
    """True if a run's checkpoint is there."""
    fs, root = fsspec.core.url_to_fs(uri)
    return bool(fs.exists(f"{root.rstrip('/')}/card.json"))


def _check_finite(values: dict[str, float]) -> None:
    if broken := [name for name, value in values.items() if not math.isfinite(value)]:
        raise SpacexError(
            "the run diverged",
            got=f"{broken[0]} = {values[broken[0]]}",
            do="The last good epoch is saved. Change the preset and use another --output.",
        )

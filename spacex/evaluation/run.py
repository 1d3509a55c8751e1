"""The evaluation itself: chips stream by in batches, every method draws, every number goes to disk at once.

Nothing grows with the number of chips except the rows on disk and a few numbers per chip: a batch is read,
judged and dropped, so 2,400 chips need no more memory than four.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacex.attribution.names import PATH_STEPS
from spacex.checkpoint import Checkpoint
from spacex.errors import DataError
from spacex.evaluation import calibration, counterfactual, perturbation, rows, sanity
from spacex.evaluation.ceilings import ceilings
from spacex.evaluation.gallery import Gallery
from spacex.evaluation.methods import asos
from spacex.evaluation.methods.baselines import ChipBatch, Method, brightness
from spacex.evaluation.methods.captum import Effort
from spacex.evaluation.methods.selection import all_methods, choose, has_lift
from spacex.evaluation.perturbation import Fill
from spacex.evaluation.samples import ChipSource, Samples
from spacex.models.classes import native_head
from spacex.settings import Settings

SANITY = (
    "lift",
    "path",
    "attribution",
    "integrated",
    "deeplift",
    "gradient",
    "gradcam-first",
    "gradcam-last",
    "brightness",
)
"""Methods the cascade of random layers is run for."""


class EvaluationSettings(Settings):
    """What is evaluated, and how much work it may be."""

    split: str = "test"
    limit: int | None = None
    """Natural chips to draw; None for all."""
    methods: tuple[str, ...] = ()
    """Names of methods; empty for all."""
    batch: int = 4
    """Chips held at once."""
    seed: int = 0
    """Of the draw of chips, the bootstrap, and random layers."""
    path_steps: int = PATH_STEPS
    effort: Effort = Effort()
    perturbed: int = 4
    """Chips on which insertion and deletion are measured; 0 for none."""
    fills: tuple[Fill, ...] = ("blur",)
    """What stands where pixels were taken away."""
    asos_chips: int = 24
    """Training chips on which ASOS measures activation space; 0 leaves ASOS out."""
    sanity_chips: int = 4
    """Chips of the randomisation cascade; 0 for none."""


@dataclass
class Outcome:
    """What a run leaves behind, besides `chips.parquet`."""

    settings: EvaluationSettings
    seconds: dict[str, float] = field(default_factory=dict)
    """Working time per method, shared work counted for everyone who used it."""
    chips: int = 0
    """Chips that were evaluated."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Chips that were not, by reason."""
    counterfactuals: list[pd.DataFrame] = field(default_factory=list)
    """Per chip, the numbers of :func:`spacex.evaluation.counterfactual.quality`."""
    promises: list[pd.DataFrame] = field(default_factory=list)
    """Per square of each chip, the numbers of :func:`spacex.evaluation.calibration.promises`."""
    agreement: list[pd.DataFrame] = field(default_factory=list)
    """Per chip, the rank correlation with the twin's maps."""
    cascade: list[sanity.Step] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    """One sentence per method."""
    definitions: list[str] = field(default_factory=list)
    """Names of the definitions, the primary one first."""
    wall: float = 0.0
    """Seconds the whole stream took."""


@dataclass(frozen=True)
class Comparisons:
    """Other checkpoints an evaluation may use."""

    second: Checkpoint | None = None
    """An independently trained classifier in the same bands and units: does the change mean the same to it?"""
    twin: Checkpoint | None = None
    """Generators for the same classifier from another seed: do the maps agree?"""
    controls: dict[str, Checkpoint] = field(default_factory=dict)
    """Generators that should find nothing, by name, e.g. trained with λ_AM = 0."""


Report = Callable[[int, int, str], None]
"""Called with chips done, chips in all, and the method at work."""


class Evaluation:
    """One checkpoint on one data set.

    Args:
        source: the chips.
        checkpoint: what is evaluated.
        settings: how.
        company: other checkpoints.
    """

    def __init__(
        self,
        source: ChipSource,
        checkpoint: Checkpoint,
        settings: EvaluationSettings,
        company: Comparisons | None = None,
    ) -> None:
        self.source, self.checkpoint, self.settings = source, checkpoint, settings
        self.company = company or Comparisons()
        listed = all_methods(checkpoint, settings.effort, self._activation_space(), self.company.controls)
        listed += ceilings(source, has_lift(checkpoint))
        self.methods = choose(listed, settings.methods) if settings.methods else listed
        self.definitions = source.definitions
        self.outcome = Outcome(settings, dict.fromkeys((method.name for method in self.methods), 0.0))
        self.outcome.about = {method.name: getattr(method, "about", "") for method in self.methods}
        self.outcome.definitions = [definition.name for definition in self.definitions]
        self.gallery = Gallery(self.methods)

    def run(self, file: Path, report: Report = lambda *_: None) -> Outcome:
        """Evaluate every chip and write `file` (Parquet, a row per chip and method) as it goes.

        Raises:
            DataError: if no chip fits the definition.
        """
        start, total = time.perf_counter(), len(self.source.natural)
        writer: pq.ParquetWriter | None = None
        done = 0
        try:
            for samples, areas, seen in self._eligible():
                # a row group per batch: what is on disk needs no memory any more
                table = pa.concat_tables(self._batch(samples, areas, partial(report, done + seen, total)))
                if writer is None:  # only now: no chip may fit, and then nothing is written
                    file.parent.mkdir(parents=True, exist_ok=True)
                    writer = pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
                done += seen
        except KeyboardInterrupt:
            if writer is None:
                raise
            # chips come in a random order, so what is there is a fair sample and worth a report
            self.outcome.left_out["the run was stopped before it came to them"] = total - done
            self.gallery.drop_unfinished()
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise DataError("no chip fits the definition", got=self.outcome.left_out, do="Raise --limit.")
        self.outcome.wall = time.perf_counter() - start
        return self.outcome

    def _eligible(self) -> Iterator[tuple[Samples, list[rows.Region], int]]:
        for samples in self.source.batches(self.settings.batch):
            score = torch.sigmoid(self._chips(samples).logit).numpy()
            areas = rows.regions(samples, self.definitions)
            usable = np.logical_or.reduce([area.usable for area in areas])
            self._count("the classifier does not take it for natural", score < 0.5)
            self._count("too little or too much of it is inside", (score >= 0.5) & ~usable)
            kept = samples.pick((score >= 0.5) & usable)
            if len(kept):
                yield kept, rows.regions(kept, self.definitions), len(samples)

    def _batch(self, samples: Samples, areas: list[rows.Region], report: Callable[[str], None]) -> Iterator[pa.Table]:
        chips = self._chips(samples)
        facts = self._facts(chips, samples, areas)
        first = self.outcome.chips
        self._side_questions(chips, samples, first)
        self.gallery.open(chips, samples, areas[0], facts["hard"])
        for method in self.methods:
            report(method.name)
            maps, seconds = timed(method, chips)
            self.outcome.seconds[method.name] += seconds
            self.gallery.show(method, maps)
            numbers = rows.measure(maps.cpu().numpy(), areas) | self._perturb(chips, maps, first)
            head = {"method": [method.name] * len(samples), "family": [method.family] * len(samples)}
            yield pa.Table.from_pandas(pd.DataFrame({**head, **facts, **numbers}), preserve_index=False)
        self.outcome.chips += len(samples)

    def _facts(self, chips: ChipBatch, samples: Samples, areas: list[rows.Region]) -> dict[str, Sequence[object]]:
        hard, auroc = rows.is_hard(brightness(chips).cpu().numpy(), areas[0])
        score = torch.sigmoid(chips.logit).cpu().numpy()
        unlike = chips.dissimilarity
        return {
            "file": list(samples.files),
            "place": list(samples.places),
            "score": list(score),
            "hard": list(hard),
            "brightness_auroc": list(auroc),
            "dissimilarity": [math.nan] * len(samples) if unlike is None else unlike.tolist(),
        }

    def _side_questions(self, chips: ChipBatch, samples: Samples, first: int) -> None:
        if self.checkpoint.minimiser is None:
            return
        second = self.company.second.classifier if self.company.second else None
        quality = counterfactual.quality(chips, second)
        table = pd.DataFrame({name: values.cpu().numpy() for name, values in quality.items()})
        self.outcome.counterfactuals.append(table.assign(file=samples.files, place=samples.places))
        if maps := [method.name for method in self.methods if method.name in calibration.MAPS]:
            promised = calibration.promises(chips, maps)
            self.outcome.promises.append(promised.assign(place=np.asarray(samples.places)[promised["chip"]]))
        if self.company.twin is not None:
            self.outcome.agreement.append(self._agreement(chips, samples))
        if first < self.settings.sanity_chips:
            shown = [method for method in self.methods if method.name in SANITY]
            self.outcome.cascade += sanity.randomise(chips, shown, seed=self.settings.seed)

    def _agreement(self, chips: ChipBatch, samples: Samples) -> pd.DataFrame:
        assert self.company.twin is not None
        twin = ChipBatch(self.company.twin, chips.x, chips.names, chips.steps)
        both = [method for method in self.methods if method.name in ("lift", "attribution")]
        scores = {method.name: sanity.spearman(method(chips), method(twin)) for method in both}
        return pd.DataFrame({**scores, "place": samples.places})

    def _perturb(self, chips: ChipBatch, maps: Tensor, first: int) -> dict[str, NDArray[np.float64]]:
        out = {}
        take = max(0, min(len(maps), self.settings.perturbed - first))
        for fill in self.settings.fills:
            both = np.full((2, len(maps)), np.nan)
            if take:
                u = chips.u[:take]
                hidden = perturbation.filled(u, fill, self._others(take) if fill == "other" else None)
                found = perturbation.areas(self._score, u, hidden, maps[:take], batch=self.settings.effort.batch)
                both[:, :take] = torch.stack(found).cpu().numpy()
            out[f"deletion_{fill}"], out[f"insertion_{fill}"] = both
        return out

    def _others(self, count: int) -> Tensor:
        samples = next(self.source.batches(count, natural=False), None)
        if samples is None or len(samples) < count:
            raise DataError("the fill 'other' needs chips of label 0 in the same split")
        return self._chips(samples).u

    def _score(self, u: Tensor) -> Tensor:
        score: Tensor = torch.sigmoid(self.checkpoint.classifier(u))
        return score

    def _chips(self, samples: Samples) -> ChipBatch:
        return ChipBatch(self.checkpoint, samples.x, samples.files, self.settings.path_steps)

    def _count(self, reason: str, flags: NDArray[np.bool_]) -> None:
        self.outcome.left_out[reason] = self.outcome.left_out.get(reason, 0) + int(flags.sum())

    def _activation_space(self) -> asos.Space | None:
        head = native_head(self.checkpoint.classifier)
        wanted = not self.settings.methods or any(name.startswith("asos") for name in self.settings.methods)
        if head is None or not (wanted and self.settings.asos_chips):
            return None
        train = self.source.beside("train", self.settings.asos_chips)
        right = (self._right(samples) for samples in train.batches(self.settings.batch))
        return asos.fit(right, head, self.settings.effort.asos_edge, batch=self.settings.effort.batch)

    def _right(self, samples: Samples) -> Tensor:
        chips = self._chips(samples)
        with torch.no_grad():
            return chips.network.activation_map(chips.u[chips.logit > 0])


def timed(method: Method, chips: ChipBatch) -> tuple[Tensor, float]:
    """A method's maps, and the seconds they would have cost alone."""
    chips.borrowed = 0.0
    start = time.perf_counter()
    maps = method(chips)
    return maps, time.perf_counter() - start + chips.borrowed

"""Runs an evaluation: chips stream by in batches, every method draws its maps, every number goes to disk at once.

Nothing grows with the number of chips except the rows on disk and a few numbers per chip: a batch is read,
evaluated and dropped, so 2,400 chips need no more memory than four.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from spacex.attribution.attributor import Attributor
from spacex.attribution.inference import choose_precision
from spacex.attribution.names import PATH_STEPS
from spacex.checkpoint import Checkpoint
from spacex.errors import DataError
from spacex.evaluation import calibration, counterfactual, perturbation, rows, sanity
from spacex.evaluation.gallery import Gallery
from spacex.evaluation.methods import asos
from spacex.evaluation.methods.captum import Effort
from spacex.evaluation.methods.chip_batch import ChipBatch, supported_maps
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.evaluation.methods.trivial import brightness
from spacex.evaluation.perturbation import Fill
from spacex.evaluation.samples import ChipSource, Samples
from spacex.evaluation.upper_bounds import upper_bounds
from spacex.models.classes import native_head
from spacex.settings import Settings
from spacex.training.data import SplitName

SANITY = ("lift", "path", "attribution", "integrated", "deeplift", "gradient", "gradcam-first", "gradcam-last",
          "brightness")  # fmt: skip
"""Methods whose maps are compared while the classifier's layers are randomised."""


class EvaluationSettings(Settings):
    """What is evaluated, and how much work it may be."""

    split: SplitName = "test"
    limit: int | None = None
    """Natural chips to draw; None for all."""
    methods: tuple[str, ...] = ()
    """Names of methods; empty for all."""
    batch: int = 4
    """Chips held at once."""
    seed: int = 0
    """Of the draw of chips, the bootstrap, and random layers."""
    path_steps: int = PATH_STEPS
    """Points on the path from x− to x."""
    precision: str = "float32"
    """Of the networks that draw our maps, as for the mapping (`spacex.attribution.names.PRECISIONS`). float32 by
    default, so that tables do not depend on the machine."""
    effort: Effort = Effort()
    perturbed: int = 4
    """Chips on which insertion and deletion are measured; 0 for none."""
    fills: tuple[Fill, ...] = ("blur",)
    """What replaces the pixels that are taken away."""
    asos_chips: int = 24
    """Training chips on which ASOS measures activation space; 0 leaves ASOS out."""
    sanity_chips: int = 4
    """Chips on which the classifier's layers are randomised; 0 for none."""


@dataclass
class Outcome:
    """Results of a run, besides `chips.parquet`."""

    settings: EvaluationSettings
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Working time per method, shared work counted for every method that used it."""
    chips: int = 0
    """Chips that were evaluated."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Chips that were not, by reason."""
    counterfactuals: list[pd.DataFrame] = field(default_factory=list)
    """Per chip, the numbers of :func:`spacex.evaluation.counterfactual.quality`."""
    squares: list[pd.DataFrame] = field(default_factory=list)
    """Per square of each chip, the numbers of :func:`spacex.evaluation.calibration.square_sums`."""
    agreement: list[pd.DataFrame] = field(default_factory=list)
    """Per chip, the rank correlation with the maps of the other seed's generators."""
    randomised: list[sanity.Step] = field(default_factory=list)
    """How the maps change while the classifier's layers are randomised."""
    about: dict[str, str] = field(default_factory=dict)
    """One sentence per method."""
    definitions: list[str] = field(default_factory=list)
    """Names of the definitions, the primary one first."""
    wall: float = 0.0
    """Seconds the whole run took."""


ProgressCallback = Callable[[int, int, str], None]
"""Called with chips done, chips in all, and the method at work."""


class Evaluation:
    """One checkpoint on the chips of one data set.

    Args:
        source: the chips.
        checkpoint: what is evaluated.
        settings: what is evaluated of it.
        other_classifier: independently trained in the same bands and units: does the change mean the same to it?
        other_seed: generators for the same classifier from another seed: do the maps agree?
        controls: generators that should find nothing, by name, e.g. trained with λ_AM = 0.
    """

    def __init__(
        self,
        source: ChipSource,
        checkpoint: Checkpoint,
        settings: EvaluationSettings,
        other_classifier: Checkpoint | None = None,
        other_seed: Checkpoint | None = None,
        controls: Mapping[str, Checkpoint] | None = None,
    ) -> None:
        self.source, self.checkpoint, self.settings = source, checkpoint, settings
        self.definitions = source.definitions
        self.other_classifier = None if other_classifier is None else other_classifier.classifier
        listed = all_methods(checkpoint, settings.effort, self._activation_space(), controls)
        listed += upper_bounds(source, with_lift="lift" in supported_maps(checkpoint))
        self.methods = choose(listed, settings.methods) if settings.methods else listed
        self.attributor = self._attributor(checkpoint)
        self.other_seed = None if other_seed is None else self._attributor(other_seed)
        self.outcome = Outcome(settings, about={method.name: method.about for method in self.methods})
        self.outcome.definitions = [definition.name for definition in self.definitions]
        self.gallery = Gallery(self.methods)

    def run(self, file: Path, report: ProgressCallback = lambda *_: None) -> Outcome:
        """Evaluate every chip and write `file` (Parquet, a row per chip and method) as it goes.

        Raises:
            DataError: if no chip fits the definition.
        """
        start, total = time.perf_counter(), len(self.source.natural)
        writer: pq.ParquetWriter | None = None
        done = 0
        try:
            for samples, chips, read in self._eligible():
                # a row group per batch: what is on disk needs no memory any more
                at = done + read
                table = pa.concat_tables(self._batch(samples, chips, partial(report, at, total)))
                if writer is None:  # only now: no chip may fit, and then nothing is written
                    file.parent.mkdir(parents=True, exist_ok=True)
                    writer = pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
                done = at
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
            raise DataError("no chip fits the definition", got=dict(self.outcome.left_out), do="Raise --limit.")
        self.outcome.wall = time.perf_counter() - start
        return self.outcome

    def _eligible(self) -> Iterator[tuple[Samples, ChipBatch, int]]:
        """Batches of the chips that count, already classified, and how many chips were read for each."""
        for samples in self.source.batches(self.settings.batch):
            usable = np.logical_or.reduce([region.usable for region in rows.regions(samples, self.definitions)])
            # every chip is classified once: together with its maps, or alone if no map of it will be measured
            if len(unusable := samples.pick(~usable)):
                natural = (self._score(self.attributor.standardise(unusable.x.numpy())) >= 0.5).numpy()
                self._count(not_natural=~natural, unusable=natural)
            if len(kept := samples.pick(usable)):
                chips = ChipBatch(self.attributor, kept.x, kept.files)
                natural = (chips.score >= 0.5).numpy()
                self._count(not_natural=~natural)
                if natural.any():
                    yield kept.pick(natural), chips.pick(natural), len(samples)

    def _count(self, not_natural: NDArray[np.bool_], unusable: NDArray[np.bool_] | tuple[()] = ()) -> None:
        self.outcome.left_out["the classifier does not take it for natural"] += int(not_natural.sum())
        self.outcome.left_out["too little or too much of it is inside"] += int(np.sum(unusable))

    def _batch(self, samples: Samples, chips: ChipBatch, report: Callable[[str], None]) -> Iterator[pa.Table]:
        regions = rows.regions(samples, self.definitions)
        facts = self._facts(chips, samples, regions[0])
        if self.checkpoint.minimiser is not None:
            self._examine_counterfactuals(chips, samples)
        self.gallery.open(chips, samples, regions[0], facts["hard"])
        for method in self.methods:
            report(method.name)
            maps, seconds = method.timed(chips)
            self.outcome.seconds[method.name] += seconds
            self.gallery.show(method, maps)
            numbers = rows.measure(maps.cpu().numpy(), regions) | self._perturb(chips, maps)
            head = {"method": [method.name] * len(samples), "family": [method.family] * len(samples)}
            yield pa.Table.from_pandas(pd.DataFrame({**head, **facts, **numbers}), preserve_index=False)
        self.outcome.chips += len(samples)

    def _facts(self, chips: ChipBatch, samples: Samples, region: rows.Region) -> dict[str, Sequence[object]]:
        hard, auroc = rows.is_hard(brightness(chips).cpu().numpy(), region)
        dissimilarity = chips.dissimilarity
        return {
            "file": list(samples.files),
            "place": list(samples.places),
            "score": list(chips.score.cpu().numpy()),
            "hard": list(hard),
            "brightness_auroc": list(auroc),
            "dissimilarity": [math.nan] * len(samples) if dissimilarity is None else dissimilarity.tolist(),
        }

    def _examine_counterfactuals(self, chips: ChipBatch, samples: Samples) -> None:
        """Everything about x+ and x− that is not a map: their quality, calibration, agreement and randomisation."""
        quality = counterfactual.quality(chips, self.other_classifier)
        table = pd.DataFrame({name: values.cpu().numpy() for name, values in quality.items()})
        self.outcome.counterfactuals.append(table.assign(file=samples.files, place=samples.places))
        if maps := [method.name for method in self.methods if method.name in calibration.MAPS]:
            sums = calibration.square_sums(chips, maps)
            self.outcome.squares.append(sums.assign(place=np.asarray(samples.places)[sums["chip"]]))
        if self.other_seed is not None:
            other_seed = ChipBatch(self.other_seed, chips.x, chips.names)
            both = [method for method in self.methods if method.name in ("lift", "attribution")]
            scores = {method.name: sanity.spearman(method(chips), method(other_seed)) for method in both}
            self.outcome.agreement.append(pd.DataFrame({**scores, "place": samples.places}))
        if self.outcome.chips < self.settings.sanity_chips:
            shown = [method for method in self.methods if method.name in SANITY]
            self.outcome.randomised += sanity.randomise(chips, shown, seed=self.settings.seed)

    def _perturb(self, chips: ChipBatch, maps: Tensor) -> dict[str, NDArray[np.float64]]:
        out = {}
        take = max(0, min(len(maps), self.settings.perturbed - self.outcome.chips))
        for fill in self.settings.fills:
            both = np.full((2, len(maps)), np.nan)
            if take:
                u, other = chips.u[:take], self._anthropogenic(take) if fill == "other" else None
                hidden, batch = perturbation.filled(u, fill, other), self.settings.effort.batch
                areas = perturbation.areas(self._score, u, hidden, maps[:take], batch=batch)
                both[:, :take] = torch.stack(areas).cpu().numpy()
            out[f"deletion_{fill}"], out[f"insertion_{fill}"] = both
        return out

    def _score(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.attributor.score(u).logit)

    def _anthropogenic(self, count: int) -> Tensor:
        """Chips of the other class, standardised, to fill with."""
        samples = next(self.source.batches(count, natural=False), None)
        if samples is None or len(samples) < count:
            raise DataError("the fill 'other' needs chips of label 0 in the same split")
        return self.attributor.standardise(samples.x.numpy())

    def _attributor(self, checkpoint: Checkpoint) -> Attributor:
        """The networks for the maps that the chosen methods are made from."""
        wanted = {name for method in self.methods for name in method.maps} & set(supported_maps(checkpoint))
        precision = choose_precision(self.settings.precision)
        return Attributor(checkpoint, sorted(wanted), self.settings.path_steps, precision=precision)

    def _activation_space(self) -> asos.ActivationSpace | None:
        head = native_head(self.checkpoint.classifier)
        wanted = not self.settings.methods or any(name.startswith("asos") for name in self.settings.methods)
        if head is None or not (wanted and self.settings.asos_chips):
            return None
        attributor = Attributor(self.checkpoint, ())

        def correct(samples: Samples) -> Tensor:
            """Activation maps of the chips that are classified correctly."""
            chips = ChipBatch(attributor, samples.x, samples.files)
            with torch.no_grad():
                return chips.network.activation_map(chips.u[chips.logit > 0])

        train = self.source.beside("train", self.settings.asos_chips)
        maps = (correct(samples) for samples in train.batches(self.settings.batch))
        return asos.fit(maps, head, self.settings.effort.asos_edge, batch=self.settings.effort.batch)

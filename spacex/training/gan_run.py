"""A run that ends with a checkpoint of patterns: a classifier with its maximiser and its minimiser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn

from spacex.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from spacex.errors import RequestError
from spacex.model_card import Card
from spacex.models.generator import Generator, alignment
from spacex.training.batches import BatchLoader, EpochOrder, shard
from spacex.training.classifier_run import SYNTHETIC, check_side, data_record, training_record
from spacex.training.data import (
    SPLITS,
    DatasetSplit,
    SplitName,
    band_statistics,
    evenly_spaced,
    first_chips,
    open_split,
)
from spacex.training.distributed import SINGLE, Distributed
from spacex.training.gan import ROLES, ExplainedClassifiers, PatternLearner
from spacex.training.image_sheets import sheet
from spacex.training.loop import FREE, Epoch, Run, TrainingLoop
from spacex.training.metrics import collapse, measure_frame, measure_generators
from spacex.training.presets import DELTA, Preset
from spacex.training.run_logger import RunLogger
from spacex.training.state import RunStore

INTENDED = "Shows which pixels of a Sentinel-2 chip its classifier takes for natural (attribution maps)."
LIMITS = (
    "Explains this classifier, not nature: x- is a small change that lowers the score, not the same land "
    "without its pattern. Made for reflectance of the bands, season and region it was trained on."
)
SHOWN = 4
"""Chips in a picture."""


class PatternRun(Run):
    """What a run of maximiser and minimiser is told."""

    classifier: str
    """Checkpoint of the classifier to explain, folder or URI."""
    extra_classifiers: tuple[str, ...] = Field((), validation_alias=AliasChoices("extra_classifiers", "further"))
    """More classifiers of the same task that the change must move too; the maps explain them together."""
    preset: Preset = DELTA


def prepare_patterns(
    run: PatternRun, distributed: Distributed = SINGLE
) -> tuple[list[Checkpoint], dict[SplitName, DatasetSplit], EpochOrder]:
    """Everything that can be wrong with the request, found out before anything is trained or written.

    Args:
        run: what was asked for.
        distributed: who will train; only its size matters here.

    Raises:
        RequestError: as `learn_patterns`.
    """
    judges = _classifiers(run)
    splits = {name: open_split(run.source, name) for name in SPLITS}
    check_side(splits, judges[0].card.chip_size)
    _check_pooling(judges[0].card.chip_size, run.preset)
    order = _order(run, splits["train"], distributed)
    RunStore(run.output).check_settings(run, FREE)
    return judges, splits, order


def learn_patterns(run: PatternRun, distributed: Distributed = SINGLE) -> Iterator[Epoch]:
    """Train the maximiser and the minimiser; the checkpoint is in ``run.output`` after the last epoch.

    Raises:
        RequestError: if the data set or a classifier is not usable or does not fit the preset, or if another
            run lives in ``run.output``.
    """
    judges, splits, order = prepare_patterns(run, distributed)
    task = _task(run, judges, splits["train"], distributed)
    loader = BatchLoader(splits["train"].dataset, order, run.readers, distributed.device)
    learner = PatternLearner(run.preset, task, run.preset.epochs * len(loader), run.seed, distributed)
    torch.manual_seed(run.seed * 1000 + distributed.rank)
    RunStore(run.output, distributed).bind(run, FREE)
    measures = _Measures(learner, splits, run)
    yield from TrainingLoop(
        settings=run,
        distributed=distributed,
        learner=learner,
        loader=loader,
        epochs=run.preset.epochs,
        step=lambda epoch, x, label: learner.step(*_parted(x, run.preset), activate=epoch >= run.preset.pretrain),
        validate=measures.validate,
        finish=lambda seconds: _finish(run, learner, judges[0], splits, measures, seconds),
        log_images=measures.log_images,
        health_check=measures.health_check,
    ).run()


class _Measures:
    """What is looked at beside the loss: figures of the splits, and pictures."""

    def __init__(self, learner: PatternLearner, splits: dict[Any, DatasetSplit], run: PatternRun) -> None:
        self.learner, self.splits, self.run = learner, splits, run
        self.shown = first_chips(splits["val"], splits["val"].natural, SHOWN).to(learner.distributed.device)

    def validate(self) -> dict[str, float]:
        measured = self._of(self.splits["val"])
        return {f"val/{name}": value for name, value in measured.items() if name != "chips"}

    def health_check(self, epoch: int, metrics: dict[str, float]) -> str | None:
        if epoch < self.run.preset.pretrain:
            return None
        return collapse({n.removeprefix("val/"): v for n, v in metrics.items() if n.startswith("val/")})

    def all(self) -> dict[str, dict[str, float]]:
        # of the training chips a sample as large as the test split: it is for comparison only
        few = len(self.splits["test"].natural)
        return {name: self._of(split, few if name == "train" else None) for name, split in self.splits.items()}

    def frame(self) -> int:
        u = self.learner.task.scaling.standardise(self.shown)
        generators = [cast(Generator, self.learner.result(side)) for side, _ in ROLES]
        return measure_frame(generators, u, least=u.shape[-1] // 8)

    @torch.no_grad()
    def log_images(self, logger: RunLogger, step: int) -> None:
        u = self.learner.task.scaling.standardise(self.shown)
        plus, minus = (self.learner.task.scaling.restore(self.learner.result(side)(u)) for side, _ in ROLES)
        logger.picture(step, sheet(self.shown, plus, minus, self.run.source.bands))

    def _of(self, split: DatasetSplit, few: int | None = None) -> dict[str, float]:
        learner, task = self.learner, self.learner.task
        chosen = evenly_spaced(split.natural, few or len(split.natural))
        read = shard(split.dataset, chosen, self.run.preset.batch, learner.distributed)
        plus, minus = (learner.result(side) for side, _ in ROLES)
        spread, judge = torch.tensor(task.spread), learner.classifiers[0]
        return measure_generators(judge, plus, minus, task.scaling, spread, read, learner.distributed)


def _classifiers(run: PatternRun) -> list[Checkpoint]:
    found = [
        load_checkpoint(uri, bands=run.source.bands, trust=run.trust)
        for uri in (run.classifier, *run.extra_classifiers)
    ]
    wanted = run.preset.units
    for one in found:
        units = "reflectance" if set(one.card.scaling.std) == {1.0} else "sigma"
        if units != wanted:
            raise RequestError(
                f"preset {run.preset.name!r} does not fit classifier {one.uri}",
                got=f"a classifier that sees {units}",
                expected=wanted,
                do=f"Train one with jobs/train_classifier.py --units {wanted}, or choose another preset.",
            )
        if one.card.target != run.source.target or one.card.chip_size != found[0].card.chip_size:
            got = f"target {one.card.target or 'natural'}, chips of {one.card.chip_size} pixels"
            expected = f"target {run.source.target or 'natural'}, chips of {found[0].card.chip_size} pixels"
            raise RequestError(f"classifier {one.uri} judges something else", got=got, expected=expected)
        if one.card.scaling != found[0].card.scaling:
            raise RequestError(f"classifier {one.uri} has another scaling than {found[0].uri}")
    return found


def _check_pooling(side: int, preset: Preset) -> None:
    step = 2 * alignment(preset.generator)  # the frame is measured on chips of half the size
    if side % step:
        what, do = "the chips do not fit the generators", "Choose fewer halvings, e.g. --set generator.downs=1."
        raise RequestError(what, got=f"{side} x {side} pixels", expected=f"a multiple of {step}", do=do)


def _task(
    run: PatternRun, judges: list[Checkpoint], train: DatasetSplit, distributed: Distributed
) -> ExplainedClassifiers:
    scaling = judges[0].card.scaling
    spread = scaling.std if run.preset.units == "sigma" else band_statistics(train, distributed).std
    return ExplainedClassifiers([judge.classifier for judge in judges], scaling, spread)


def _order(run: PatternRun, train: DatasetSplit, distributed: Distributed) -> EpochOrder:
    preset = run.preset
    partners = train.unnatural if preset.domain == "class" and preset.discriminator is not None else []
    chosen = train.all if preset.inputs == "all" else train.natural
    return EpochOrder(chosen, preset.batch, run.seed, distributed, partners)


def _parted(x: Tensor, preset: Preset) -> tuple[Tensor, Tensor | None]:
    if preset.domain == "class" and preset.discriminator is not None:
        own, partners = x.chunk(2)
        return own, partners
    return x, None


def _of_classifier(judge: Checkpoint, figures: dict[str, Any]) -> dict[str, Any]:
    """What a card tells of its classifier, which may come with generators of its own."""
    return cast(dict[str, Any], figures.get("classifier", {})) if judge.card.kind == "patterns" else figures


def _finish(
    run: PatternRun,
    learner: PatternLearner,
    judge: Checkpoint,
    splits: dict[Any, DatasetSplit],
    measures: _Measures,
    seconds: float,
) -> None:
    metrics = measures.all()
    if not learner.distributed.is_main:
        return
    frame = measures.frame()
    preset, shape = run.preset, run.preset.generator.model_copy(update={"bands": len(run.source.bands)})
    side = judge.card.chip_size
    card = Card(
        kind="patterns",
        bands=run.source.bands,
        scaling=judge.card.scaling,
        chip_size=side,
        classifier=judge.card.classifier,
        classes=judge.card.classes,
        target=judge.card.target,
        features=judge.card.features,
        generator=shape,
        preset=preset.name,
        frame=frame,
        stride=side // 2 if shape.norm == "instance" else side - 2 * frame,
        data=data_record(run, splits),
        metrics={"classifier": _of_classifier(judge, judge.card.metrics), "patterns": metrics},
        training={
            "patterns": training_record(run, seconds),
            "classifier": _of_classifier(judge, judge.card.training),
        },
        intended_use=INTENDED,
        limits=" ".join(filter(None, (preset.note, LIMITS))) + (SYNTHETIC if run.source.root == "demo" else ""),
    )
    modules: dict[str, nn.Module] = {"classifier": judge.classifier}
    generators = {side: learner.result(side) for side, _ in ROLES}
    save_checkpoint(run.output, card, modules | generators, judge.applicability)

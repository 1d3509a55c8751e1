"""Train the maximiser and the minimiser of a classifier, from a data set to the checkpoint of all three."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn

from spacex.attribution.lift import try_lift
from spacex.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from spacex.datasets.tiles import Chips
from spacex.errors import RequestError
from spacex.model_card import Card, Scaling, default_frame, default_stride
from spacex.models.classifier import ClassifierSettings
from spacex.models.generator import Generator, alignment
from spacex.training.applicability import fit_applicability
from spacex.training.batches import BatchLoader, EpochOrder, shard
from spacex.training.classifier_run import SYNTHETIC, check_side, data_record, digests_of, training_record
from spacex.training.data import SPLITS, SplitName, band_statistics, evenly_spaced, open_split
from spacex.training.distributed import SINGLE, Distributed
from spacex.training.enlarge import enlarge
from spacex.training.gan import ROLES, ExplainedClassifiers, PatternLearner
from spacex.training.generator_start import load_start, start_from
from spacex.training.image_sheets import contact_sheet
from spacex.training.loop import Epoch, Progress, Run, TrainingLoop
from spacex.training.members import measure_spread
from spacex.training.metrics import collapse_reason, measure_frame, measure_generators
from spacex.training.presets import DELTA, Preset
from spacex.training.run_logger import RunLogger
from spacex.training.sensitivity import measure_sensitivity
from spacex.training.state import RunStore

INTENDED = "Shows which pixels of a Sentinel-2 chip its classifier takes for natural (attribution maps)."
LIMITS = (
    "Explains this classifier, not nature: x- is a small change that lowers the score, not the same land "
    "without its pattern. Made for reflectance of the bands, season and region it was trained on."
)
SHOWN = 3
"""Chips of each class in a logged image."""


class PatternRun(Run):
    """Settings of a run of maximiser and minimiser."""

    classifier: str
    """Checkpoint of the classifier to explain, folder or URI."""
    extra_classifiers: tuple[str, ...] = Field((), validation_alias=AliasChoices("extra_classifiers", "further"))
    """More classifiers of the same task that the change must move too; the maps explain them together."""
    start: str = Field("", exclude_if=lambda uri: not uri)
    """Checkpoint whose generators are trained on, instead of new ones. Omitted from the JSON when empty."""
    preset: Preset = DELTA


def prepare_patterns(
    run: PatternRun, distributed: Distributed = SINGLE
) -> tuple[list[Checkpoint], list[Checkpoint], dict[SplitName, Chips], EpochOrder]:
    """Open classifiers, what is started from, and data, and check all before anything is trained or written.

    Raises:
        RequestError: as `learn_patterns`.
    """
    classifiers, preset = _load_classifiers(run), run.preset
    splits = {name: open_split(run.source, name) for name in SPLITS}
    # our own network's head is built for one size; others average over the chip, and may map with larger chips
    fixed = any(isinstance(one.card.classifier, ClassifierSettings) for one in classifiers)
    side = classifiers[0].card.chip_size if fixed else splits["train"].side
    check_side(splits, side)
    step = 2 * alignment(preset.generator)  # the frame is measured on chips of half the size
    if side % step:
        do = "Choose fewer halvings, e.g. --set generator.downs=1."
        got, expected = f"{side} x {side} pixels", f"a multiple of {step}"
        raise RequestError("the chips do not fit the generators", got=got, expected=expected, do=do)
    train = splits["train"]
    chips, partners = train.all if preset.inputs == "all" else train.natural, train.unnatural
    order = EpochOrder(chips, preset.batch, run.seed, distributed, partners if _has_partners(preset) else ())
    start = load_start(run.start, preset.generator, run.source.bands, run.trust)
    RunStore(run.output, digests=digests_of(splits, [*classifiers, *start])).check_settings(run)
    return classifiers, start, splits, order


def learn_patterns(
    run: PatternRun, distributed: Distributed = SINGLE, progress: Progress = lambda line: None
) -> Iterator[Epoch]:
    """Train the maximiser and the minimiser; the checkpoint is in ``run.output`` after the last epoch.

    Raises:
        RequestError: if the data set or a classifier is not usable or does not fit the preset, or if another
            run lives in ``run.output``.
    """
    classifiers, start, splits, order = prepare_patterns(run, distributed)
    preset, networks, scaling = run.preset, [c.classifier for c in classifiers], classifiers[0].card.scaling
    spread = scaling.std
    if _sees_reflectance(classifiers[0]):
        statistics = band_statistics(splits["train"], distributed)
        spread = statistics.std
        if preset.units == "sigma":
            networks, scaling = [_Restoring(network, statistics) for network in networks], statistics
    explained = ExplainedClassifiers(networks, scaling, spread)
    loader = BatchLoader(splits["train"], order, run.readers, distributed.device)
    learner = PatternLearner(preset, explained, preset.epochs * len(loader), run.seed, distributed)
    start_from(learner, start)
    torch.manual_seed(run.seed * 1000 + distributed.rank)
    RunStore(run.output, distributed, digests_of(splits, [*classifiers, *start])).bind(run)
    evaluation = _Evaluation(learner, splits, run)

    def step(epoch: int, x: Tensor, label: Tensor) -> dict[str, Tensor]:
        # the order puts as many chips of the other class behind the batch, if there are any
        x, partners = x.chunk(2) if len(order.partners) else (x, None)
        return learner.step(x, partners, activate=epoch >= preset.pretrain_epochs)

    yield from TrainingLoop(
        settings=run,
        distributed=distributed,
        learner=learner,
        loader=loader,
        epochs=preset.epochs,
        step=step,
        validate=evaluation.validate,
        finish=lambda seconds: _finish(evaluation, classifiers[0], start, seconds),
        log_images=evaluation.log_images,
        health_check=evaluation.health_check,
        progress=progress,
    ).run()


class _Evaluation:
    """What is measured beside the loss: metrics of the splits, and images of a few chips."""

    def __init__(self, learner: PatternLearner, splits: dict[SplitName, Chips], run: PatternRun) -> None:
        self.learner, self.splits, self.run = learner, splits, run
        val = splits["val"]
        chips = [val[i][0] for i in (*val.natural[:SHOWN], *val.unnatural[:SHOWN])]
        self.shown = torch.stack(chips).to(learner.distributed.device)

    def validate(self) -> dict[str, float]:
        measured = self._measure(self.splits["val"])
        return {f"val/{name}": value for name, value in measured.items() if name != "chips"}

    def health_check(self, epoch: int, metrics: dict[str, float]) -> str | None:
        if epoch < self.run.preset.pretrain_epochs:
            return None
        return collapse_reason({n.removeprefix("val/"): v for n, v in metrics.items() if n.startswith("val/")})

    def enlarge(self) -> dict[str, float]:
        """Enlarge the minimiser's changes if the preset asks for it; gives the factor for the card."""
        if not (share := self.run.preset.turns):
            return {}
        minimiser = cast(Generator, self.learner.result("minimiser"))
        return {"enlarged": enlarge(minimiser, share, lambda: self._measure(self.splits["val"])["flipped"])}

    def all(self) -> dict[SplitName, dict[str, float]]:
        # of the training chips a sample as large as the test split: it is for comparison only
        few = len(self.splits["test"].natural)
        return {name: self._measure(split, few if name == "train" else None) for name, split in self.splits.items()}

    def frame(self) -> int:
        u = self.learner.explained.scaling.standardise(self.shown)
        generators = [cast(Generator, self.learner.result(role)) for role, _ in ROLES]
        return measure_frame(generators, u, least=default_frame(u.shape[-1]))

    @torch.no_grad()
    def log_images(self, logger: RunLogger, step: int) -> None:
        scaling = self.learner.explained.scaling
        u = scaling.standardise(self.shown)
        plus, minus = (scaling.restore(self.learner.result(role)(u)) for role, _ in ROLES)
        logger.image(step, contact_sheet(self.shown, plus, minus, self.run.source.bands))

    def _measure(self, split: Chips, few: int | None = None) -> dict[str, float]:
        learner, explained, count = self.learner, self.learner.explained, few or len(split)
        natural, others = (
            shard(split, evenly_spaced(chips, count), self.run.preset.batch, learner.distributed)
            for chips in (split.natural, split.unnatural)
        )
        plus, minus = (learner.result(role) for role, _ in ROLES)
        spread, classifier = torch.tensor(explained.spread), learner.classifiers[0]
        return measure_generators(
            classifier, plus, minus, explained.scaling, spread, natural, learner.distributed, others
        )


def _load_classifiers(run: PatternRun) -> list[Checkpoint]:
    """The classifier to explain and the extra ones, which must see and score the same."""
    uris = (run.classifier, *run.extra_classifiers)
    loaded = [load_checkpoint(uri, bands=run.source.bands, trust=run.trust) for uri in uris]
    first = loaded[0]
    for one in loaded:
        # generators that count in standard deviations serve any classifier, those that draw reflectance only its own
        if run.preset.units == "reflectance" and not _sees_reflectance(one):
            raise RequestError(
                f"preset {run.preset.name!r} does not fit classifier {one.uri}",
                got="a classifier that sees standardised bands",
                expected="one that sees reflectance",
                do="Train one with jobs/train_classifier.py --units reflectance, or choose another preset.",
            )
        if one.card.target != run.source.target or one.card.chip_size != first.card.chip_size:
            raise RequestError(
                f"classifier {one.uri} scores something else",
                got=f"target {one.card.target or 'natural'}, chips of {one.card.chip_size} pixels",
                expected=f"target {run.source.target or 'natural'}, chips of {first.card.chip_size} pixels",
            )
        if one.card.scaling != first.card.scaling:
            raise RequestError(f"classifier {one.uri} has another scaling than {first.uri}")
    return loaded


def _sees_reflectance(checkpoint: Checkpoint) -> bool:
    return set(checkpoint.card.scaling.std) == {1.0}


class _Restoring(nn.Module):
    """A classifier of reflectance that takes chips in standard deviations, as the delta form makes them."""

    def __init__(self, classifier: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.classifier, self.scaling = classifier, scaling

    def forward(self, u: Tensor) -> Tensor:
        """Standardised chips (n, bands, h, w) to the classifier's logits."""
        logits: Tensor = self.classifier(self.scaling.restore(u))
        return logits


def _standalone(trained: Generator, scaling: Scaling) -> Generator:
    """A generator that was trained in standard deviations, for a checkpoint whose networks see reflectance."""
    settings = trained.settings.model_copy(update={"mean": scaling.mean, "std": scaling.std})
    with torch.device("meta"):
        made = Generator(settings)
    made.load_state_dict(trained.state_dict(), assign=True)
    return made.eval()


def _has_partners(preset: Preset) -> bool:
    """Whether chips of the other class are read beside those that the generators learn on."""
    return preset.inputs == "mixed" or (preset.domain == "class" and preset.discriminator is not None)


def _finish(evaluation: _Evaluation, classifier: Checkpoint, start: list[Checkpoint], seconds: float) -> None:
    """Measure all splits and write the checkpoint, with how the generators it started from were trained."""
    run, learner, source = evaluation.run, evaluation.learner, classifier.card
    enlarged, metrics, train = evaluation.enlarge(), evaluation.all(), evaluation.splits["train"]
    known = classifier.applicability
    if train.side != source.chip_size:  # chips of another size have other statistics
        network, batch = classifier.classifier, run.preset.batch
        known = fit_applicability(network, source.scaling, train, batch, learner.distributed, source.features)
    frame, side = evaluation.frame(), train.side
    generators = {role: cast(Generator, learner.result(role)) for role, _ in ROLES}
    if (scaling := learner.explained.scaling) != source.scaling:
        generators = {role: _standalone(generator, scaling) for role, generator in generators.items()}
    shape = generators["maximiser"].settings
    # a checkpoint that already has generators keeps its classifier's entries under "classifier"
    nested = source.kind == "patterns"
    card = Card(
        kind="patterns",
        bands=run.source.bands,
        scaling=source.scaling,
        chip_size=side,
        classifier=source.classifier,
        classes=source.classes,
        target=source.target,
        features=source.features,
        generator=shape,
        preset=run.preset.name,
        frame=frame,
        # with instance norm chips never agree, so twice as many are blended
        stride=side // 8 * 4 if shape.norm == "instance" else default_stride(side, frame),
        lift=try_lift(classifier.classifier, len(run.source.bands), side),
        data=data_record(run, evaluation.splits),
        metrics={
            "classifier": source.metrics.get("classifier", {}) if nested else source.metrics,
            "patterns": metrics,
        },
        members=source.members,
        training={
            "patterns": training_record(run, seconds) | enlarged,
            **({"start": start[0].card.training.get("patterns", {})} if start else {}),
            "classifier": source.training.get("classifier", {}) if nested else source.training,
        },
        intended_use=INTENDED,
        limits=" ".join(filter(None, (run.preset.note, LIMITS))),
        meaning=SYNTHETIC if run.source.root == "demo" else train.meaning or source.meaning,
    )
    if card.members is not None and side != source.chip_size:
        networks, val = (classifier.classifier, *classifier.further), evaluation.splits["val"]
        update = {"spread": measure_spread(networks, source.scaling, val)}
        card = card.model_copy(update={"members": card.members.model_copy(update=update)})
    trained = replace(classifier, card=card, maximiser=generators["maximiser"], minimiser=generators["minimiser"])
    sensitivity = measure_sensitivity(trained, train, learner.distributed)
    if learner.distributed.is_main:
        save_checkpoint(run.output, card, trained.modules, known, sensitivity)

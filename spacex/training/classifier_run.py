"""Train a classifier from a data set to its checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from spacex.attribution.lift import try_lift
from spacex.checkpoint import Checkpoint, save_checkpoint
from spacex.checkpoint_networks import classifier_view
from spacex.datasets.kinds import split_kind
from spacex.datasets.tiles import Chips
from spacex.errors import DataError, RequestError
from spacex.model_card import Card, ClassifierShape, Scaling
from spacex.models.classes import check_output_columns, output_columns
from spacex.models.classifier import ClassifierSettings
from spacex.models.features import find_features
from spacex.models.pretrained import freeze_backbone, load_pretrained
from spacex.models.third_party import network_builder
from spacex.training.applicability import fit_applicability
from spacex.training.batches import BatchLoader, EpochOrder, shard
from spacex.training.classifier import ClassifierLearner
from spacex.training.data import SPLITS, SplitName, band_statistics, open_split
from spacex.training.distributed import SINGLE, Distributed
from spacex.training.loop import Epoch, Progress, Run, TrainingLoop
from spacex.training.metrics import measure_classifier, share_taken
from spacex.training.presets import ClassifierRecipe
from spacex.training.state import RunStore

INTENDED = "Scores how natural a Sentinel-2 chip looks, 0 to 1, in the sense of its training labels."
LIMITS = (
    "Made for surface reflectance of the bands, the season and the region it was trained on; it says nothing "
    "about protection status, and a score outside those conditions means nothing."
)
SYNTHETIC = (
    "Natural means natural land of the embedded synthetic landscape: fit for trying the software, not for real land."
)
"""What the labels of the embedded data set mean."""
MIN_SIDE = 64
"""Smallest chip, in pixels, that our own classifier's head can take."""


class ClassifierRun(Run):
    """Settings of a classifier's run."""

    recipe: ClassifierRecipe = ClassifierRecipe()
    network: ClassifierShape = ClassifierSettings()
    """Sizes of our own network, or the function that builds another one."""
    units: Literal["sigma", "reflectance"] = "sigma"
    """Whether chips are standardised per band; the `paper` and `repository` presets need ``reflectance``."""
    weights: str = Field("", exclude_if=lambda file: not file)
    """File of pretrained weights to start from, safetensors."""
    freeze: bool = Field(False, exclude_if=lambda wanted: not wanted)
    """Whether only the network's head learns."""

    def unused(self) -> dict[str, str]:
        """As `Settings.unused`."""
        return super().unused() | {"pictures_every": "no value: a classifier's run logs no pictures"}


def start_network(run: ClassifierRun, shape: ClassifierShape) -> tuple[nn.Module, dict[str, str]]:
    """The network before training, and the digest of the weights that it starts from, if it does.

    Raises:
        CheckpointError: if the weights are not those of the network.
    """
    network, digests = network_builder(shape, run.trust)(), {}
    if run.weights:
        digests["digest of weights"] = load_pretrained(network, run.weights)
    if run.freeze:
        freeze_backbone(network)
    return network, digests


def prepare_classifier(
    run: ClassifierRun, distributed: Distributed = SINGLE
) -> tuple[dict[SplitName, Chips], EpochOrder]:
    """Open the data and check the whole request before anything is trained or written.

    Raises:
        RequestError: as `learn_classifier`.
    """
    splits = {name: open_split(run.source, name) for name in SPLITS}
    check_side(splits)
    shape, *_ = network_for(run, splits["train"])
    order = EpochOrder(splits["train"].all, run.recipe.batch, run.seed, distributed)
    if run.recipe.mosaics:
        output_columns(network_builder(shape, run.trust)(), len(run.source.bands), 2 * splits["train"].side)
        if order.batch % (4 * distributed.size):
            got, expected = f"batch {order.batch}", f"a multiple of {4 * distributed.size}"
            raise RequestError("a batch cannot be made into mosaics of 2 x 2", got=got, expected=expected)
    _, digests = start_network(run, shape)
    RunStore(run.output, digests=digests_of(splits) | digests).check_settings(run)
    return splits, order


def learn_classifier(
    run: ClassifierRun, distributed: Distributed = SINGLE, progress: Progress = lambda line: None
) -> Iterator[Epoch]:
    """Train a classifier; the checkpoint is in ``run.output`` when the last epoch has been taken.

    Raises:
        RequestError: if the data set is not usable, or another run lives in ``run.output``.
    """
    splits, order = prepare_classifier(run, distributed)
    train = splits["train"]
    shape, outputs, features = network_for(run, train)
    sigma = run.units == "sigma"
    scaling = band_statistics(train, distributed) if sigma else Scaling.identity(len(run.source.bands))
    loader = BatchLoader(train, order, run.readers, distributed.device)
    torch.manual_seed(run.seed)  # the same initial weights on every process
    (network, digests), steps = start_network(run, shape), run.recipe.epochs * len(loader)
    learner = ClassifierLearner(run.recipe, network, scaling, steps, run.seed, distributed, outputs)
    torch.manual_seed(run.seed * 1000 + distributed.rank)  # occlusion and dropout of its own on each
    RunStore(run.output, distributed, digests_of(splits) | digests).bind(run)

    def measure(split: Chips) -> dict[str, Any]:
        chips = shard(split, split.all, run.recipe.batch, distributed)
        return measure_classifier(learner.result(), scaling, chips, distributed, split.classes)

    def by_class(split: Chips) -> dict[str, float]:
        rows = split.infos.groupby("class").indices
        chips = {name: shard(split, own.tolist(), run.recipe.batch, distributed) for name, own in rows.items()}
        return {str(name): share_taken(learner.result(), scaling, own, distributed) for name, own in chips.items()}

    def validate() -> dict[str, float]:
        measured = measure(splits["val"])
        names = ("accuracy", "auroc", "ece", "correlation")
        return {f"val/{name}": float(measured[name]) for name in names if name in measured}

    def finish(seconds: float) -> None:
        metrics = {name: measure(split) for name, split in splits.items()}
        if not train.classes and "class" in train.infos:
            metrics["test"]["taken_for_natural"] = by_class(splits["test"])
        known = fit_applicability(learner.result(), scaling, train, run.recipe.batch, distributed, features)
        if not distributed.is_main:
            return
        card = Card(
            kind="classifier",
            bands=run.source.bands,
            scaling=scaling,
            classifier=shape,
            classes=train.classes,
            target=train.classes[-1] if train.classes else "",
            features=features,
            chip_size=train.side,
            data=data_record(run, splits),
            metrics=metrics,
            training=training_record(run, seconds) | digests,
            intended_use=INTENDED,
            limits=LIMITS,
            meaning=SYNTHETIC if run.source.root == "demo" else train.meaning,
        )
        network = copy.deepcopy(learner.result()).cpu().requires_grad_(False)
        record = try_lift(classifier_view(network, card), len(card.bands), card.chip_size)
        card = card.model_copy(update={"lift": record})
        save_checkpoint(run.output, card, {"classifier": network}, known)

    yield from TrainingLoop(
        settings=run,
        distributed=distributed,
        learner=learner,
        loader=loader,
        epochs=run.recipe.epochs,
        step=lambda epoch, x, label: learner.step(x, label),
        validate=validate,
        finish=finish,
        progress=progress,
    ).run()


def network_for(run: ClassifierRun, train: Chips) -> tuple[ClassifierShape, int, tuple[str, ...]]:
    """The network a run will train: its settings for these chips, its logits per chip, its features if not ours.

    Raises:
        RequestError: if it cannot take such chips, or gives logits for another number of classes.
    """
    bands, side, count = len(run.source.bands), train.side, len(train.classes)
    if isinstance(run.network, ClassifierSettings):
        step = 2**run.network.levels
        if side % step or side < MIN_SIDE:
            raise RequestError(
                "the chips do not fit the classifier",
                got=f"{side} x {side} pixels",
                expected=f"a multiple of {step}, at least {MIN_SIDE}",
                do="Cut or scale the pictures, or --set network.levels=N.",
            )
        outputs = count if count > 2 else 1
        fitted = {"bands": bands, "chip_size": side, "outputs": outputs}
        return run.network.model_copy(update=fitted), outputs, ()
    network = network_builder(run.network, run.trust)().eval()
    outputs = output_columns(network, bands, side)
    check_output_columns(outputs, count, run.network.network)
    return run.network, outputs, find_features(network, torch.zeros(1, bands, side, side))


def check_side(splits: dict[SplitName, Chips], side: int | None = None) -> None:
    """Refuse splits of different chip sizes, or of another than `side`.

    Raises:
        DataError: naming the sizes.
    """
    expected = side or splits["train"].side
    for name, split in splits.items():
        if split.side != expected:
            what = f"the split {name!r} holds chips of another size"
            raise DataError(what, got=f"{split.side} pixels", expected=f"{expected} pixels")


def digests_of(splits: dict[Any, Chips], classifiers: Sequence[Checkpoint] = ()) -> dict[str, str]:
    """Digests of what a run reads, by which a resumed run is known."""
    numbered = {f"digest of classifier {number}": one.digest for number, one in enumerate(classifiers)}
    return {"digest of data": splits["train"].split_hash, **numbered}


def data_record(run: Run, splits: dict[Any, Chips]) -> dict[str, Any]:
    """The card's entry on the data: name, cells along a mosaic's side, split, counts, files left out."""
    kind, folder = split_kind(run.source.root)
    return {
        "name": ":".join(filter(None, (kind, folder.rstrip("/").rsplit("/", 1)[-1]))),
        **({"mosaic": run.source.mosaic} if run.source.mosaic > 1 else {}),
        "split": splits["train"].split_origin,
        "split_hash": splits["train"].split_hash,
        "chips": {name: {"natural": len(s.natural), "unnatural": len(s.unnatural)} for name, s in splits.items()},
        "left_out": list(dict.fromkeys(str(problem) for split in splits.values() for problem in split.problems)),
    }


def training_record(run: Run, seconds: float) -> dict[str, Any]:
    """The card's entry on the training: the run's settings without this machine's folders, and how long it took."""
    folders = {"output", "source", "classifier", "extra_classifiers", "weights"}
    plain = run.model_dump(mode="json", exclude=folders | {"readers", "pictures_every"})
    return {**plain, "seconds": round(seconds, 1)}

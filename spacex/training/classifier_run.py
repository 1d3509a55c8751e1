"""A run that ends with a classifier's checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch

from spacex.checkpoint import save_checkpoint
from spacex.errors import DataError, RequestError
from spacex.model_card import Card, Scaling, Shape
from spacex.models.classes import check_output_columns, output_columns
from spacex.models.classifier import ClassifierSettings
from spacex.models.features import find_features
from spacex.models.third_party import network_builder
from spacex.training.applicability import fit_applicability
from spacex.training.batches import BatchLoader, EpochOrder, shard
from spacex.training.classifier import ClassifierLearner
from spacex.training.data import SPLITS, DatasetSplit, SplitName, band_statistics, open_split
from spacex.training.distributed import SINGLE, Distributed
from spacex.training.loop import FREE, Epoch, Run, TrainingLoop
from spacex.training.metrics import measure_classifier
from spacex.training.presets import ClassifierRecipe
from spacex.training.state import RunStore

INTENDED = "Scores how natural a Sentinel-2 chip looks, 0 to 1, in the sense of its training labels."
LIMITS = (
    "Made for surface reflectance of the bands, the season and the region it was trained on; it says nothing "
    "about protection status, and a score outside those conditions means nothing."
)
SYNTHETIC = " Trained on the embedded synthetic landscape only: fit for trying the software, not for real land."


class ClassifierRun(Run):
    """What a classifier's run is told."""

    recipe: ClassifierRecipe = ClassifierRecipe()
    network: Shape = ClassifierSettings()
    """Our own network's sizes, or the function that builds another one."""
    units: Literal["sigma", "reflectance"] = "sigma"
    """Whether chips are standardised per band; the `paper` and `repository` presets need ``reflectance``."""


def prepare_classifier(
    run: ClassifierRun, distributed: Distributed = SINGLE
) -> tuple[dict[SplitName, DatasetSplit], EpochOrder]:
    """Everything that can be wrong with the request, found out before anything is trained or written.

    Args:
        run: what was asked for.
        distributed: who will train; only its size matters here.

    Raises:
        RequestError: as `learn_classifier`.
    """
    splits = {name: open_split(run.source, name) for name in SPLITS}
    check_side(splits)
    network_for(run, splits["train"])
    order = EpochOrder(splits["train"].all, run.recipe.batch, run.seed, distributed)
    RunStore(run.output).check_settings(run, FREE)
    return splits, order


def learn_classifier(run: ClassifierRun, distributed: Distributed = SINGLE) -> Iterator[Epoch]:
    """Train a classifier; the checkpoint is in ``run.output`` when the last epoch has been taken.

    Raises:
        RequestError: if the data set is not usable, or another run lives in ``run.output``.
    """
    splits, order = prepare_classifier(run, distributed)
    train, bands = splits["train"], len(run.source.bands)
    shape, outputs, features = network_for(run, train)
    scaling = band_statistics(train, distributed) if run.units == "sigma" else Scaling.identity(bands)
    loader = BatchLoader(train.dataset, order, run.readers, distributed.device)
    torch.manual_seed(run.seed)
    network, steps = network_builder(shape, run.trust)(), run.recipe.epochs * len(loader)
    learner = ClassifierLearner(run.recipe, network, scaling, steps, run.seed, distributed, outputs)
    torch.manual_seed(run.seed * 1000 + distributed.rank)
    RunStore(run.output, distributed).bind(run, FREE)
    measure = partial(_measured, learner, run.recipe.batch, distributed)
    about = _card(shape, features, scaling, train)
    yield from TrainingLoop(
        settings=run,
        distributed=distributed,
        learner=learner,
        loader=loader,
        epochs=run.recipe.epochs,
        step=lambda epoch, x, label: learner.step(x, label),
        validate=lambda: _flat(measure(splits["val"])),
        finish=lambda seconds: _finish(run, learner, about, splits, _each(measure, splits), seconds),
    ).run()


def network_for(run: ClassifierRun, train: DatasetSplit) -> tuple[Shape, int, tuple[str, ...]]:
    """The network a run will train: its settings for these chips, its logits per chip, and its features if not ours.

    Raises:
        RequestError: if it cannot judge such chips, or tells another number of classes.
    """
    bands, count = len(run.source.bands), len(train.classes)
    if isinstance(run.network, ClassifierSettings):
        outputs = count if count > 2 else 1
        _check_halving(train.side, run.network.levels)
        fitted = {"bands": bands, "chip_size": train.side, "outputs": outputs}
        return run.network.model_copy(update=fitted), outputs, ()
    network = network_builder(run.network, run.trust)().eval()
    outputs = output_columns(network, bands, train.side)
    check_output_columns(outputs, count, run.network.network)
    return run.network, outputs, find_features(network, torch.zeros(1, bands, train.side, train.side))


def check_side(splits: dict[SplitName, DatasetSplit], side: int | None = None) -> None:
    """Refuse splits of different chip sizes, or of another than `side`.

    Raises:
        DataError: naming the sizes.
    """
    for name, split in splits.items():
        wanted = side or splits["train"].side
        if split.side != wanted:
            what = f"the split {name!r} holds chips of another size"
            raise DataError(what, got=f"{split.side} pixels", expected=f"{wanted} pixels")


def _check_halving(side: int, levels: int) -> None:
    step, least = 2**levels, 64
    if side % step or side < least:
        what, got = "the chips do not fit the classifier", f"{side} x {side} pixels"
        expected = f"a multiple of {step}, at least {least}"
        raise RequestError(what, got=got, expected=expected, do="Cut or scale the pictures, or --set network.levels=N.")


def _measured(learner: ClassifierLearner, batch: int, distributed: Distributed, chips: DatasetSplit) -> dict[str, Any]:
    read = shard(chips.dataset, chips.all, batch, distributed)
    return measure_classifier(learner.result(), learner.scaling, read, distributed, chips.classes)


def _each(
    measure: Callable[[DatasetSplit], dict[str, Any]], splits: dict[Any, DatasetSplit]
) -> dict[Any, dict[str, Any]]:
    return {name: measure(split) for name, split in splits.items()}


def _flat(measured: dict[str, Any]) -> dict[str, float]:
    return {f"val/{name}": float(measured[name]) for name in ("accuracy", "auroc", "ece")}


def _finish(
    run: ClassifierRun,
    learner: ClassifierLearner,
    about: dict[str, Any],
    splits: dict[Any, DatasetSplit],
    metrics: dict[Any, dict[str, Any]],
    seconds: float,
) -> None:
    train, distributed, features = splits["train"], learner.distributed, about["features"]
    known = fit_applicability(learner.result(), learner.scaling, train, run.recipe.batch, distributed, features)
    if not learner.distributed.is_main:
        return
    card = Card(
        kind="classifier",
        bands=run.source.bands,
        **about,
        data=data_record(run, splits),
        metrics=metrics,
        training=training_record(run, seconds),
        intended_use=INTENDED,
        limits=LIMITS + (SYNTHETIC if run.source.root == "demo" else ""),
    )
    save_checkpoint(run.output, card, {"classifier": learner.result()}, known)


def _card(shape: Shape, features: tuple[str, ...], scaling: Scaling, train: DatasetSplit) -> dict[str, Any]:
    """What the card says of the network and its chips; of small chips an eighth on each side is frame."""
    frame = train.side // 8
    return {
        "scaling": scaling,
        "classifier": shape,
        "classes": train.classes,
        "target": train.classes[-1] if train.classes else "",
        "features": features,
        "chip_size": train.side,
        "frame": frame,
        "stride": train.side - 2 * frame,
    }


def data_record(run: Run, splits: dict[Any, DatasetSplit]) -> dict[str, Any]:
    """What the card says about the data: name, split, counts, files left out."""
    return {
        "name": run.source.root.rstrip("/").rsplit("/", 1)[-1],
        "split": "by place" if run.source.grouped else "official",
        "split_hash": splits["train"].digest,
        "chips": {name: {"natural": len(s.natural), "unnatural": len(s.unnatural)} for name, s in splits.items()},
        "left_out": [problem for split in splits.values() for problem in split.problems],
    }


def training_record(run: Run, seconds: float) -> dict[str, Any]:
    """The run's settings for the card, without this machine's folders, and how long it took."""
    plain = run.model_dump(mode="json", exclude={"output", "source", "readers", "pictures_every"})
    kept = {key: value for key, value in plain.items() if key not in ("classifier", "extra_classifiers")}
    return {**kept, "seconds": round(seconds, 1)}

"""A run that ends with a classifier's checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch

from spacex.card import Card, Scaling
from spacex.checkpoint import save_checkpoint
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.training.applicability import learn_where
from spacex.training.batches import EpochOrder, Feed, portions
from spacex.training.classifier import ClassifierLearner
from spacex.training.data import SPLITS, Split, SplitName, band_statistics, open_split
from spacex.training.metrics import measure_classifier
from spacex.training.presets import ClassifierRecipe
from spacex.training.runs import FREE, Course, Epoch, Run
from spacex.training.state import RunStore
from spacex.training.team import ALONE, Team

INTENDED = "Scores how natural a Sentinel-2 chip looks, 0 to 1, in the sense of its training labels."
LIMITS = (
    "Made for surface reflectance of the bands, the season and the region it was trained on; it says nothing "
    "about protection status, and a score outside those conditions means nothing."
)
SYNTHETIC = " Trained on the embedded synthetic landscape only: fit for trying the software, not for real land."


class ClassifierRun(Run):
    """What a classifier's run is told."""

    recipe: ClassifierRecipe = ClassifierRecipe()
    network: ClassifierSettings = ClassifierSettings()
    units: Literal["sigma", "reflectance"] = "sigma"
    """Whether chips are standardised per band; the `paper` and `repository` presets need ``reflectance``."""


def prepare_classifier(run: ClassifierRun, team: Team = ALONE) -> tuple[dict[SplitName, Split], EpochOrder]:
    """Everything that can be wrong with the request, found out before anything is trained or written.

    Args:
        run: what was asked for.
        team: who will train; only its size matters here.

    Raises:
        RequestError: as `learn_classifier`.
    """
    splits = {name: open_split(run.source, name) for name in SPLITS}
    order = EpochOrder(splits["train"].all, run.recipe.batch, run.seed, team)
    RunStore(run.output).check(run, FREE)
    return splits, order


def learn_classifier(run: ClassifierRun, team: Team = ALONE) -> Iterator[Epoch]:
    """Train a classifier; the checkpoint is in ``run.output`` when the last epoch has been taken.

    Raises:
        RequestError: if the data set is not usable, or another run lives in ``run.output``.
    """
    splits, order = prepare_classifier(run, team)
    train, bands = splits["train"], len(run.source.bands)
    scaling = band_statistics(train, team) if run.units == "sigma" else Scaling.identity(bands)
    feed = Feed(train.dataset, order, run.readers, team.device)
    torch.manual_seed(run.seed)
    network = Classifier(run.network.model_copy(update={"bands": bands}))
    learner = ClassifierLearner(run.recipe, network, scaling, run.recipe.epochs * len(feed), run.seed, team)
    torch.manual_seed(run.seed * 1000 + team.rank)
    RunStore(run.output, team).claim(run, FREE)
    measure = partial(_measured, learner, run.recipe.batch, team)
    yield from Course(
        run=run,
        team=team,
        learner=learner,
        feed=feed,
        epochs=run.recipe.epochs,
        step=lambda epoch, x, label: learner.step(x, label),
        validate=lambda: _flat(measure(splits["val"])),
        finish=lambda seconds: _finish(run, learner, scaling, splits, _each(measure, splits), seconds),
    ).follow()


def _measured(learner: ClassifierLearner, batch: int, team: Team, chips: Split) -> dict[str, Any]:
    read = portions(chips.dataset, chips.all, batch, team)
    return measure_classifier(learner.result(), learner.scaling, read, team)


def _each(measure: Callable[[Split], dict[str, Any]], splits: dict[Any, Split]) -> dict[Any, dict[str, Any]]:
    return {name: measure(split) for name, split in splits.items()}


def _flat(measured: dict[str, Any]) -> dict[str, float]:
    return {f"val/{name}": float(measured[name]) for name in ("accuracy", "auroc", "ece")}


def _finish(
    run: ClassifierRun,
    learner: ClassifierLearner,
    scaling: Scaling,
    splits: dict[Any, Split],
    metrics: dict[Any, dict[str, Any]],
    seconds: float,
) -> None:
    known = learn_where(learner.result(), scaling, splits["train"], run.recipe.batch, learner.team)
    if not learner.team.leads:
        return
    card = Card(
        kind="classifier",
        bands=run.source.bands,
        scaling=scaling,
        classifier=run.network.model_copy(update={"bands": len(run.source.bands)}),
        data=described(run, splits),
        metrics=metrics,
        training=told(run, seconds),
        intended_use=INTENDED,
        limits=LIMITS + (SYNTHETIC if run.source.root == "demo" else ""),
    )
    save_checkpoint(run.output, card, {"classifier": learner.result()}, known)


def described(run: Run, splits: dict[Any, Split]) -> dict[str, Any]:
    """What the card says about the data: name, split, counts, files left out."""
    return {
        "name": run.source.root.rstrip("/").rsplit("/", 1)[-1],
        "split": "by place" if run.source.grouped else "official",
        "split_hash": splits["train"].digest,
        "chips": {name: {"natural": len(s.natural), "unnatural": len(s.unnatural)} for name, s in splits.items()},
        "left_out": [problem for split in splits.values() for problem in split.problems],
    }


def told(run: Run, seconds: float) -> dict[str, Any]:
    """The run's settings for the card, without this machine's folders, and how long it took."""
    plain = run.model_dump(mode="json", exclude={"output", "source", "readers", "pictures_every"})
    kept = {key: value for key, value in plain.items() if key not in ("classifier", "further")}
    return {**kept, "seconds": round(seconds, 1)}

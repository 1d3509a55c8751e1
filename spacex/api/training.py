"""Training from Python: a classifier, and the maximiser and minimiser that explain it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from spacex.checkpoint import Checkpoint, load_checkpoint, read_card
from spacex.errors import RequestError
from spacex.models.third_party import ThirdPartySettings, check_installed, check_trusted
from spacex.settings import PICTURE_BANDS, SENTINEL2_BANDS, checked
from spacex.storage import local_path
from spacex.training.classifier_run import ClassifierRun, learn_classifier, prepare_classifier
from spacex.training.data import DatasetSettings, holds_pictures
from spacex.training.distributed import Distributed, Precision, choose_device
from spacex.training.gan_run import PatternRun, learn_patterns, prepare_patterns
from spacex.training.loop import Epoch, Run
from spacex.training.presets import PRESETS, with_overrides

PresetName = Literal["delta", "paper", "repository", "class-difference"]


def tell(epoch: Epoch) -> None:
    """One line per epoch on stderr."""
    print(epoch, file=sys.stderr, flush=True)


class TrainingSettings(TypedDict, total=False):
    """What both trainings may be told besides."""

    limit: int | None
    """Use only this many chips of each split; all."""
    seed: int
    """Names weights, order and augmentation; 0."""
    workers: int
    """Ray workers; 0 trains in this process, without Ray."""
    gpu: bool
    """One GPU per worker, bfloat16 and torch.compile."""
    precision: Precision
    """Of the networks' bodies; ``auto`` is bfloat16 on a GPU only."""
    readers: int
    """Processes per worker that read ahead; 0."""
    grouped: bool
    """Split by place; the official split leaks."""
    strict: bool
    """Refuse a data set with a bad file."""
    trust: Sequence[str]
    """Modules whose networks may be imported and built; their code runs on this machine."""
    changes: Sequence[str]
    """Any setting, e.g. ``recipe.batch=16``."""
    report: Callable[[Epoch], None]
    """Called after each epoch; prints a line."""


def train_classifier(
    data: str,
    output: str = "runs/classifier",
    *,
    bands: Sequence[str] | None = None,
    target: str | None = None,
    network: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    units: Literal["sigma", "reflectance"] = "sigma",
    base: int = 32,
    epochs: int = 50,
    **settings: Unpack[TrainingSettings],
) -> Checkpoint:
    """Train the classifier that says how natural a chip looks, or take up a run that was stopped.

    Args:
        data: AnthroProtect or MapInWild folder as published, a folder of pictures by class, or ``demo``.
        output: folder or fsspec URI of the run and its checkpoint.
        bands: names in the order the network sees them; None for B02, B03, B04, or what pictures have.
        target: the class to be scored and explained, where a data set names its classes (pictures by their folders,
            AnthroProtect's layout by a `classes.csv`); None for natural.
        network: another network than ours, ``module:callable`` of an installed package that is trusted.
        arguments: its keyword arguments.
        units: ``sigma`` standardises bands (for preset delta); ``reflectance`` is for paper and repository.
        base: channels of the U-Net's first level.
        epochs: passes over the training split.
        settings: see `TrainingSettings`.

    Returns:
        The trained checkpoint.

    Raises:
        RequestError: if data and settings do not fit; nothing was trained.

    >>> import spacex
    >>> small = spacex.train_classifier("demo", "runs/doctest", base=4, epochs=1, limit=4, changes=["recipe.batch=2"],
    ...                                 report=lambda epoch: None)
    >>> small.card.kind
    'classifier'
    """
    source = _source(data, _bands(data, bands), settings, target or "")
    run = ClassifierRun(source=source, output=_absolute(output), units=units, **_common(settings))
    sizes = [f"recipe.epochs={epochs}"]
    if network is None:
        sizes.append(f"network.base={base}")
    else:
        run = run.model_copy(update={"network": _foreign(network, arguments or {}, settings)})
    return _follow(
        learn_classifier, prepare_classifier, with_overrides(run, [*sizes, *settings.get("changes", [])]), settings
    )


def train_gan(
    data: str,
    classifier: str = "runs/classifier",
    output: str = "runs/gan",
    *,
    preset: PresetName = "delta",
    further: Sequence[str] = (),
    epochs: int | None = None,
    **settings: Unpack[TrainingSettings],
) -> Checkpoint:
    """Train the maximiser and the minimiser of a classifier, or take up a run that was stopped.

    Args:
        data: AnthroProtect or MapInWild folder as published, a folder of pictures by class, or ``demo``.
        classifier: checkpoint of the classifier to explain; its target class is what the two raise and lower.
        output: folder or fsspec URI of the run and its checkpoint.
        preset: how to train (`spacex.training.presets.PRESETS`).
        further: other classifiers the change must move too.
        epochs: passes over the chips; None for the preset's.
        settings: see `TrainingSettings`; `changes` are the preset's, e.g. ``generator.base=16``.

    Returns:
        The trained checkpoint: classifier, maximiser and minimiser.

    Raises:
        RequestError: if data, classifier and settings do not fit; nothing was trained.

    >>> import spacex
    >>> sizes = ["generator.base=4", "generator.cap=8", "generator.blocks=1", "batch=2", "warmup=1"]
    >>> trained = spacex.train_gan("demo", "runs/doctest", "runs/doctest-gan", epochs=1, limit=4, changes=sizes,
    ...                            report=lambda epoch: None)
    >>> trained.card.kind
    'patterns'
    """
    judges = [_absolute(uri) for uri in (classifier, *further)]
    asked = [f"epochs={epochs}"] if epochs else []
    card = read_card(judges[0])
    run = PatternRun(
        source=_source(data, card.bands, settings, card.target),
        output=_absolute(output),
        classifier=judges[0],
        extra_classifiers=tuple(judges[1:]),
        preset=with_overrides(PRESETS[preset], [*asked, *settings.get("changes", [])]),
        **_common(settings),
    )
    return _follow(learn_patterns, prepare_patterns, run, settings)


def _bands(data: str, asked: Sequence[str] | None) -> tuple[str, ...]:
    known = PICTURE_BANDS if data != "demo" and holds_pictures(Path(data)) else SENTINEL2_BANDS
    bands = tuple(asked or known[:3])
    if unknown := [name for name in bands if name not in known]:
        raise RequestError("unknown bands", got=",".join(unknown), expected=f"some of {','.join(known)}")
    return bands


def _foreign(network: str, arguments: Mapping[str, Any], settings: TrainingSettings) -> ThirdPartySettings:
    foreign = checked(lambda: ThirdPartySettings(network=network, arguments=dict(arguments)))
    check_trusted(foreign, settings.get("trust", ()))
    check_installed(foreign)
    return foreign


def _source(data: str, bands: tuple[str, ...], settings: TrainingSettings, target: str) -> DatasetSettings:
    """The chips asked for; the embedded data set is built now rather than by every worker at once."""
    if data == "demo":
        from spacex.synthetic.dataset import demo_dataset

        demo_dataset()
    elif not Path(data).is_dir():
        raise RequestError(f"no folder {data}", do="Give the data set's folder, or 'demo'.")
    limit = settings.get("limit")
    if limit is not None and limit < 2:
        raise RequestError("the limit leaves too little", got=limit, expected="2 or more")
    grouped, strict = settings.get("grouped", False), settings.get("strict", False)
    return DatasetSettings(root=data, bands=bands, limit=limit, grouped=grouped, strict=strict, target=target)


def _common(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "seed": settings.get("seed", 0),
        "readers": settings.get("readers", 0),
        "trust": tuple(settings.get("trust", ())),
    }


def _follow(
    learn: Callable[[Any, Distributed], Iterator[Epoch]],
    prepare: Callable[[Any, Distributed], object],
    run: Run,
    settings: TrainingSettings,
) -> Checkpoint:
    """Train in this process, or with Ray's workers."""
    workers, gpu, precision = settings.get("workers", 0), settings.get("gpu", False), settings.get("precision", "auto")
    if workers < 0:
        raise RequestError("workers counts processes", got=workers, expected="0 or more")
    if workers:
        from spacex.training.ray_train import train

        prepare(run, Distributed(size=workers))
        train(learn, run, workers=workers, gpu=gpu, precision=precision)
    else:
        report = settings.get("report", tell)
        for epoch in learn(run, Distributed(device=choose_device(gpu), precision=precision)):
            report(epoch)
    return load_checkpoint(run.output, trust=run.trust)


def _absolute(uri: str) -> str:
    """Local folders with their full path, so that every worker means the same one; other URIs as they are."""
    path = local_path(uri)
    return uri if path is None else str(path.resolve())

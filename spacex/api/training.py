"""Training from Python: a classifier, and the maximiser and minimiser that explain it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, Unpack

from spacex.api.declaration import complete, documented, pick
from spacex.api.evaluation import keep_certificate, print_line
from spacex.api.training_settings import ClassifierSettings, GanSettings, TrainingSettings
from spacex.checkpoint import Checkpoint, load_checkpoint, read_card
from spacex.errors import RequestError, SpacexError
from spacex.models.third_party import ThirdPartySettings, check_installed, check_trusted
from spacex.settings import PICTURE_BANDS, SENTINEL2_BANDS, checked
from spacex.storage import absolute_uri
from spacex.training.classifier_run import ClassifierRun, learn_classifier, prepare_classifier
from spacex.training.data import DatasetSettings, holds_pictures
from spacex.training.distributed import Distributed, choose_device
from spacex.training.gan_run import PatternRun, learn_patterns, prepare_patterns
from spacex.training.loop import Epoch, Progress, Run
from spacex.training.members import join_members, member_runs
from spacex.training.overrides import with_overrides
from spacex.training.presets import PRESETS
from spacex.weights import SHIPPED

GPU_READERS = 4
"""Processes that read ahead for a GPU, which would wait if chips were read between its steps."""
R = TypeVar("R", bound=Run)

Report = Callable[[Epoch], None]
"""Called after each epoch."""


@documented(ClassifierSettings)
def train_classifier(
    data: str | None = None,
    output: str | None = None,
    /,
    *,
    report: Report = print_line,
    progress: Progress = print_line,
    **settings: Unpack[ClassifierSettings],
) -> Checkpoint:
    """Train the classifier that says how natural a chip looks, or resume a run that was stopped.

    Args:
        {settings}
        report: called after each epoch; prints a line.
        progress: called with a line at the start and now and then within a long epoch; prints it.

    Returns:
        The trained checkpoint.

    Raises:
        RequestError: if data and settings do not fit; nothing was trained.

    >>> import spacex
    >>> small = spacex.train_classifier("demo", "runs/doctest", base=4, epochs=1, limit=4, changes=["recipe.batch=2"],
    ...                                 report=lambda epoch: None, progress=lambda line: None)
    >>> small.card.kind
    'classifier'
    """
    asked = complete(ClassifierSettings, settings, data=data, output=output)
    overrides = [f"recipe.epochs={asked['epochs']}"] if asked["epochs"] else []
    if asked["freeze"] and not asked["weights"]:
        raise RequestError("--freeze trains the head of a pretrained network alone", do="Name its --weights.")
    run = ClassifierRun(
        source=_source(asked, _bands(asked), asked["target"] or ""),
        units=asked["units"],
        weights=asked["weights"] or "",
        freeze=asked["freeze"],
        **_common(asked, asked["output"]),
    )
    if asked["network"] is None:
        if asked["arguments"]:
            raise RequestError("--network-args are those of another network", do="Name it with --network.")
        overrides += [f"network.base={asked['base']}"] if asked["base"] else []
    else:
        if asked["base"]:
            raise RequestError("--base is a size of our own network", do="Give --network-args, or leave --network out.")
        third_party = {"network": asked["network"], "arguments": dict(asked["arguments"] or {})}
        network = checked(lambda: ThirdPartySettings(**third_party))
        check_trusted(network, asked["trust"])
        check_installed(network)
        run = run.model_copy(update={"network": network})
    run = with_overrides(run, [*overrides, *asked["changes"]])
    runs = member_runs(run, asked["members"])
    join = join_members if len(runs) > 1 else None
    return _train(learn_classifier, prepare_classifier, runs, asked, report, progress, join)


@documented(GanSettings)
def train_gan(
    data: str | None = None,
    classifier: str | None = None,
    output: str | None = None,
    /,
    *,
    report: Report = print_line,
    progress: Progress = print_line,
    **settings: Unpack[GanSettings],
) -> Checkpoint:
    """Train the maximiser and the minimiser of a classifier, or resume a run that was stopped.

    Args:
        {settings}
        report: called after each epoch; prints a line.
        progress: called with a line at the start and now and then within a long epoch; prints it.

    Returns:
        The trained checkpoint: classifier, maximiser and minimiser.

    Raises:
        RequestError: if data, classifier and settings do not fit; nothing was trained.

    >>> import spacex
    >>> sizes = ["generator.base=4", "generator.cap=8", "generator.blocks=1", "batch=2", "warmup=1"]
    >>> trained = spacex.train_gan("demo", "runs/doctest", "runs/doctest-gan", epochs=1, limit=4, changes=sizes,
    ...                            report=lambda epoch: None, progress=lambda line: None)
    >>> trained.card.kind
    'patterns'
    """
    asked = complete(GanSettings, settings, data=data, classifier=classifier, output=output)
    classifiers = [_checkpoint_uri(uri) for uri in (asked["classifier"], *asked["further"])]
    overrides = [f"epochs={asked['epochs']}"] if asked["epochs"] else []
    card = read_card(classifiers[0])
    run = PatternRun(
        source=_source(asked, card.bands, card.target),
        classifier=classifiers[0],
        extra_classifiers=tuple(classifiers[1:]),
        start=_checkpoint_uri(asked["start"]) if asked["start"] else "",
        preset=with_overrides(PRESETS[asked["preset"]], [*overrides, *asked["changes"]]),
        **_common(asked, asked["output"]),
    )
    return _train(learn_patterns, prepare_patterns, [run], asked, report, progress)


def _checkpoint_uri(uri: str) -> str:
    """Where a checkpoint lies, for every process; those that ship keep their name."""
    return uri if uri in SHIPPED else absolute_uri(uri)


def _bands(asked: ClassifierSettings) -> tuple[str, ...]:
    """The bands asked for, or the first three that the data set has."""
    known = PICTURE_BANDS if asked["data"] != "demo" and holds_pictures(asked["data"]) else SENTINEL2_BANDS
    bands = tuple(asked["bands"] or known[:3])
    if unknown := [name for name in bands if name not in known]:
        raise RequestError("unknown bands", got=",".join(unknown), expected=f"some of {','.join(known)}")
    return bands


def _source(asked: TrainingSettings, bands: tuple[str, ...], target: str) -> DatasetSettings:
    """The chips asked for; the embedded data set is built now rather than by every worker at once."""
    if asked["data"] == "demo":
        from spacex.synthetic.dataset import demo_dataset

        demo_dataset()
    which = pick(asked, ("limit", "grouped", "strict", "mosaic", "season"))
    return DatasetSettings(root=asked["data"], bands=bands, target=target, **which)


def _common(asked: TrainingSettings, output: str) -> dict[str, Any]:
    """Fields that both kinds of run have."""
    readers = asked["readers"]
    if readers is None:
        readers = min(GPU_READERS, os.cpu_count() or 1) if asked["gpu"] else 0
    return {"output": absolute_uri(output), "trust": tuple(asked["trust"]), "seed": asked["seed"], "readers": readers}


def share_batch(run: R, workers: int, progress: Progress) -> R:
    """The run with its batch, where that cannot be shared equally, raised to the next multiple of the workers."""
    name = "recipe" if isinstance(run, ClassifierRun) else "preset"
    numbers = getattr(run, name)
    # up, not down: a batch smaller than the workers would leave some of them without a chip
    batch = -(-numbers.batch // workers) * workers
    if batch == numbers.batch:
        return run
    progress(f"batch {batch} instead of {numbers.batch}, so that {workers} workers have {batch // workers} chips each")
    return run.model_copy(update={name: numbers.model_copy(update={"batch": batch})})


def _train(
    learn: Callable[[Any, Distributed, Progress], Iterator[Epoch]],
    prepare: Callable[[Any, Distributed], object],
    runs: Sequence[R],
    asked: TrainingSettings,
    report: Report,
    progress: Progress,
    join: Callable[[Sequence[Any], str], object] | None = None,
) -> Checkpoint:
    """Train run after run, in this process or with Ray's workers, and `join` them in the checkpoint of the first."""
    if asked["workers"]:
        from spacex.execution.ray_cluster import connect
        from spacex.training.ray_train import train

        runs = [share_batch(run, asked["workers"], progress) for run in runs]
        connect(print_output=True)
        prepare(runs[0], Distributed(size=asked["workers"]))
    for number, run in enumerate(runs, start=1):
        if len(runs) > 1:
            progress(f"classifier {number} of {len(runs)}, seed {run.seed}")
        if asked["workers"]:
            train(learn, run, workers=asked["workers"], gpu=asked["gpu"], precision=asked["precision"])
        else:
            here = Distributed(device=choose_device(asked["gpu"]), precision=asked["precision"])
            for epoch in learn(run, here, progress):
                report(epoch)
    output, trust = runs[0].output, runs[0].trust
    device = "cuda" if asked["gpu"] and not asked["workers"] else "cpu"
    if join is not None:
        join(runs, device)
    trained = load_checkpoint(output, trust=trust)
    if trained.card.certificate is None:
        try:
            keep_certificate(trained, runs[0].source, progress, device)
        except SpacexError as error:  # the training is finished all the same
            progress(f"no certificate: {error}")
    return load_checkpoint(output, trust=trust)

"""One call from a data set and a checkpoint to a report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.datasets.kinds import split_kind
from spacex.errors import CheckpointError, RequestError
from spacex.evaluation.report import write_report
from spacex.evaluation.run import Evaluation, EvaluationSettings, ProgressCallback
from spacex.evaluation.samples import ChipSource, LandCoverSource, MosaicSource, UnmappedSource, has_land_cover
from spacex.evaluation.table import Table
from spacex.settings import Settings
from spacex.weights import default_checkpoint


class EvaluationRequest(Settings):
    """What `spacex evaluate` and `spacex.evaluate` are asked for."""

    data: str
    """Data set, as for training: a folder, ``eurosat:FOLDER``, or `demo` for the embedded world's."""
    mosaic: int = 1
    """Chips are mosaics of so many smaller ones along a side, whose natural cells are known."""
    output: str
    """Folder of the report; made if it is not there."""
    checkpoint: str | None = None
    """URI or name of the checkpoint; None for the one that ships for this kind of data."""
    second: str | None = None
    """Checkpoint of an independently trained classifier in the same bands and units."""
    twin: str | None = None
    """Checkpoint with generators for the same classifier, trained from another seed."""
    controls: dict[str, str] = Field(default_factory=dict)
    """Checkpoints with generators that should find nothing, by name."""
    trust: tuple[str, ...] = ()
    """Modules whose networks the checkpoints may build."""
    settings: EvaluationSettings = EvaluationSettings()


def evaluate(request: EvaluationRequest, report: ProgressCallback = lambda *_: None) -> Table:
    """Run every method on every chip and write the report.

    Raises:
        RequestError: if data and checkpoints do not fit together; nothing was written.
    """
    checkpoint = load_checkpoint(request.checkpoint or default_checkpoint(request.data), trust=request.trust)
    others = _load_others(request, checkpoint)
    evaluation = Evaluation(_open_source(request, checkpoint), checkpoint, request.settings, **others)
    output = Path(request.output)
    outcome = evaluation.run(output / "chips.parquet", report)
    return write_report(output, request.data, checkpoint, outcome, evaluation.gallery.pictures)


def _open_source(request: EvaluationRequest, checkpoint: Checkpoint) -> ChipSource:
    data = request.data
    if data == "demo":
        from spacex.synthetic.dataset import demo_dataset

        data = str(demo_dataset())
    if not Path(split_kind(data)[1]).is_dir():
        raise RequestError(f"no folder {data}", do="Give the data set's folder, or 'demo'.")
    settings, card = request.settings, checkpoint.card
    kind: Callable[..., ChipSource] = LandCoverSource if has_land_cover(data) else UnmappedSource
    if request.mosaic > 1:
        kind = partial(MosaicSource, mosaic=request.mosaic)
    source = kind(data, card.bands, settings.split, settings.limit, settings.seed, card.target)
    _check_side(f"the checkpoint {checkpoint.uri}", source.data.side, card.chip_size)
    return source


def _load_others(request: EvaluationRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoints to compare with, as `Evaluation` takes them."""
    card = checkpoint.card

    def load(uri: str, role: str, *, generators: bool = False, same_units: bool = False) -> Checkpoint:
        other = load_checkpoint(uri, bands=card.bands, trust=request.trust)
        _check_side(f"the {role} {uri}", other.card.chip_size, card.chip_size)
        if generators and other.minimiser is None:
            raise CheckpointError(f"the {role} {uri} has no generators", expected="kind 'patterns'")
        if same_units and other.card.scaling != card.scaling:  # the same chip must mean the same number to both
            do = f"Train it in the units of {checkpoint.uri}."
            raise CheckpointError(f"the {role} {uri} has other units than the checkpoint", do=do)
        return other

    controls = {name: load(uri, name, generators=True) for name, uri in request.controls.items()}
    second = load(request.second, "second classifier", same_units=True) if request.second else None
    twin = load(request.twin, "twin", generators=True, same_units=True) if request.twin else None
    return {"other_classifier": second, "other_seed": twin, "controls": controls}


def _check_side(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise CheckpointError(f"{what} is for other chips", got=f"{got} pixels", expected=f"{expected} pixels")

"""One call from a data set and a checkpoint to a report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import Field

from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.errors import CheckpointError, RequestError
from spacex.evaluation.picture_source import PictureSource
from spacex.evaluation.report import Subject, write_report
from spacex.evaluation.run import Comparisons, Evaluation, EvaluationSettings, Report
from spacex.evaluation.samples import ChipSource, Source
from spacex.evaluation.table import Table
from spacex.settings import Settings
from spacex.training.data import holds_pictures


class EvaluationRequest(Settings):
    """What `jobs/evaluate.py` is asked for."""

    data: str
    """Folder in AnthroProtect's layout or of pictures by class, or `demo` for the embedded world's."""
    output: str
    """Folder of the report; made if it is not there."""
    checkpoint: str | None = None
    """URI of the checkpoint; None for the weights that ship."""
    second: str | None = None
    """Checkpoint of an independently trained classifier in the same bands and units."""
    twin: str | None = None
    """Checkpoint with generators for the same classifier, trained from another seed."""
    controls: dict[str, str] = Field(default_factory=dict)
    """Checkpoints with generators that should find nothing, by name."""
    trust: tuple[str, ...] = ()
    """Modules whose networks the checkpoints may build."""
    settings: EvaluationSettings = EvaluationSettings()


def evaluate(request: EvaluationRequest, report: Report = lambda *_: None) -> Table:
    """Run every method on every chip and write the report.

    Args:
        request: what is asked for.
        report: called with chips done, chips in all, and the method at work.

    Raises:
        RequestError: if data and checkpoints do not fit together; nothing was written.
    """
    checkpoint = load_checkpoint(request.checkpoint, trust=request.trust)
    company = _company(request, checkpoint)
    settings = request.settings
    source = _source(_folder(request.data), checkpoint, settings)
    evaluation = Evaluation(source, checkpoint, settings, company)
    output = Path(request.output)
    outcome = evaluation.run(output / "chips.parquet", report)
    return write_report(output, Subject(request.data, checkpoint), outcome, evaluation.gallery.pictures)


def _source(folder: Path, checkpoint: Checkpoint, settings: EvaluationSettings) -> ChipSource:
    card, kind = checkpoint.card, PictureSource if holds_pictures(folder) else Source
    source = kind(folder, card.bands, settings.split, settings.limit, settings.seed, card.target)
    if source.data.side != card.chip_size:
        got, expected = f"{source.data.side} pixels", f"{card.chip_size} pixels"
        raise CheckpointError(f"the checkpoint {checkpoint.uri} judges other chips", got=got, expected=expected)
    return source


def _folder(data: str) -> Path:
    if data == "demo":
        from spacex.synthetic.dataset import demo_dataset

        return demo_dataset()
    if not Path(data).is_dir():
        raise RequestError(f"no folder {data}", do="Give the data set's folder, or 'demo'.")
    return Path(data)


def _company(request: EvaluationRequest, checkpoint: Checkpoint) -> Comparisons:
    fitting = partial(_fitting, checkpoint, request.trust)
    controls = {name: fitting(uri, name, generators=True) for name, uri in request.controls.items()}
    second = fitting(request.second, "second classifier") if request.second else None
    twin = fitting(request.twin, "twin", generators=True) if request.twin else None
    if twin is not None and twin.card.scaling != checkpoint.card.scaling:
        raise CheckpointError(f"the twin {request.twin} has other units", do="Train it from the same classifier.")
    return Comparisons(second, twin, controls)


def _fitting(
    checkpoint: Checkpoint, trust: tuple[str, ...], uri: str, role: str, generators: bool = False
) -> Checkpoint:
    other = load_checkpoint(uri, bands=checkpoint.card.bands, trust=trust)
    if other.card.chip_size != checkpoint.card.chip_size:
        expected = f"{checkpoint.card.chip_size} pixels"
        raise CheckpointError(f"the {role} {uri} judges other chips", got=other.card.chip_size, expected=expected)
    if generators and other.minimiser is None:
        raise CheckpointError(f"the {role} {uri} has no generators", expected="kind 'patterns'")
    if role == "second classifier" and other.card.scaling != checkpoint.card.scaling:
        # the same chip must mean the same number to both
        raise CheckpointError(f"the {role} {uri} has other units than {checkpoint.uri}")
    return other

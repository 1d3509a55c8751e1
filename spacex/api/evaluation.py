"""Evaluation from Python: how well a checkpoint's maps point beside other methods', and what its card should say."""

from __future__ import annotations

import sys
from typing import Unpack

from spacex.api.declaration import complete, documented, pick
from spacex.api.evaluation_settings import CertifySettings, EvaluateSettings
from spacex.certificate import Certificate
from spacex.checkpoint import Checkpoint, load_checkpoint, write_card
from spacex.errors import RequestError
from spacex.evaluation.certify import certify as measure
from spacex.evaluation.evaluate import EvaluationRequest
from spacex.evaluation.evaluate import evaluate as evaluate_request
from spacex.evaluation.methods.captum import QUICK, Effort
from spacex.evaluation.run import EvaluationSettings, ProgressCallback
from spacex.evaluation.table import Table
from spacex.training.data import DatasetSettings
from spacex.training.loop import Progress
from spacex.weights import SHIPPED


def print_line(line: object) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)


@documented(EvaluateSettings)
def evaluate(
    data: str | None = None,
    checkpoint: str | None = None,
    output: str | None = None,
    /,
    *,
    report: ProgressCallback = lambda done, total, method: None,
    **settings: Unpack[EvaluateSettings],
) -> Table:
    """Compare where methods point, on chips with known land cover, and write a report.

    Args:
        {settings}
        report: called with chips done, chips in all, and the method at work.

    Returns:
        The table; ``.frame()`` gives it as a DataFrame.

    Raises:
        RequestError: if data, checkpoints and settings do not fit; nothing was written.

    >>> import spacex
    >>> table = spacex.evaluate("demo", output="report", limit=2, methods=("attribution", "brightness"), perturbed=0,
    ...                         asos_chips=0, sanity_chips=0)
    >>> list(table.frame()["method"])
    ['attribution', 'brightness']
    """
    asked = complete(EvaluateSettings, settings, data=data, checkpoint=checkpoint, output=output)
    if asked["data"] is None:
        raise RequestError("data is missing", do="Give the data set's folder, or 'demo'.")
    how = pick(asked, EvaluationSettings.model_fields) | {
        "methods": asked["methods"] or (),
        "effort": asked["effort"] or (QUICK if asked["quick"] else Effort()),
    }
    what = pick(asked, EvaluationRequest.model_fields) | {"controls": asked["controls"] or {}}
    return evaluate_request(EvaluationRequest(**what, settings=EvaluationSettings(**how)), report)


@documented(CertifySettings)
def certify(
    checkpoint: str | None = None, data: str | None = None, /, *, progress: Progress = print_line,
    **settings: Unpack[CertifySettings],
) -> Certificate:  # fmt: skip
    """Measure a finished checkpoint on test chips, and keep the result in its card, which maps and reports show.

    Args:
        {settings}
        progress: called with a line before each part; prints it.

    Returns:
        The certificate: its `checks`, each with a 95 % interval by place and a trivial control beside it.

    Raises:
        RequestError: if the checkpoint ships with this package, or data and settings do not fit.

    >>> import spacex
    >>> small = spacex.train_classifier("demo", "runs/doctest", base=4, epochs=1, limit=4, changes=["recipe.batch=2"],
    ...                                 report=lambda epoch: None, progress=lambda line: None)
    >>> certificate = spacex.certify("runs/doctest", "demo", progress=lambda line: None)
    >>> certificate.checks[0].name, certificate.checks[0].control
    ('AUROC', 'colour alone')
    """
    asked = complete(CertifySettings, settings, checkpoint=checkpoint, data=data)
    if asked["checkpoint"] in SHIPPED:
        do = "Copy its folder, or read what was measured: spacex.load_checkpoint(...).card.certificate."
        raise RequestError("the card of a checkpoint that ships is not written", got=asked["checkpoint"], do=do)
    trained = load_checkpoint(asked["checkpoint"], trust=asked["trust"])
    how = pick(asked, ("mosaic", "grouped"))
    source = DatasetSettings(root=asked["data"], bands=trained.card.bands, target=trained.card.target, **how)
    return keep_certificate(trained, source, progress, planted=asked["planted"])


def keep_certificate(
    checkpoint: Checkpoint, source: DatasetSettings, progress: Progress, device: str = "cpu", planted: bool = False
) -> Certificate:
    """Measure a checkpoint on a data set's test split, and write the result into its card."""
    certificate = measure(checkpoint, source, progress, device, planted)
    if certificate.doubt:
        progress(f"doubtful: {certificate.doubt}")
    write_card(checkpoint.uri, checkpoint.card.model_copy(update={"certificate": certificate}))
    return certificate

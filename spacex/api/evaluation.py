"""Evaluation from Python: how well a checkpoint's maps point, compared with other methods'."""

from __future__ import annotations

from typing import Unpack

from spacex.api.declaration import complete, documented, pick
from spacex.api.evaluation_settings import EvaluateSettings
from spacex.errors import RequestError
from spacex.evaluation.evaluate import EvaluationRequest
from spacex.evaluation.evaluate import evaluate as evaluate_request
from spacex.evaluation.methods.captum import QUICK, Effort
from spacex.evaluation.run import EvaluationSettings, ProgressCallback
from spacex.evaluation.table import Table


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

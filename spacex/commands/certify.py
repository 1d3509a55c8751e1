"""Measure a finished checkpoint on chips that its training has not seen, and keep the result in its card.

    spacex certify runs/gan --data /data/anthroprotect

    spacex certify runs/europe --data eurosat:/data/eurosat

Trainings end with the same measurements. Each check is a mean over test chips with its 95 % interval by place: AUROC
and accuracy beside colour alone, whether haze and other gains are seen, what x- and x+ do to scores, the grid pointing
game, and whether the map depends on what the classifier learned. Maps, reports and the STAC item show them. Exit
code 2: the request is wrong, and the card is as it was.
"""

from __future__ import annotations

from spacex.api.evaluation_settings import CertifySettings
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command


def certify(asked: CertifySettings) -> None:
    """Measure, and print every check."""
    from spacex.api import evaluation

    certificate = evaluation.certify(**asked)
    for check in certificate.checks:
        print(check)
    for name, reason in certificate.missing.items():
        print(f"{name}: not measured: {reason}")


app = make_app(make_command(CertifySettings, certify), __doc__)

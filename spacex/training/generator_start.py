"""Start a training of maximiser and minimiser from those of a checkpoint, instead of from new ones."""

from __future__ import annotations

from collections.abc import Sequence

from spacex.attribution.inference import check_generators
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.errors import RequestError
from spacex.models.generator import GeneratorSettings
from spacex.training.distributed import unwrap_ddp
from spacex.training.gan import ROLES, PatternLearner

FREE = {"bands", "mean", "std", "threshold"}
"""Settings that change no weight's shape, or follow from the data."""


def load_start(uri: str, shape: GeneratorSettings, bands: tuple[str, ...], trust: Sequence[str]) -> list[Checkpoint]:
    """The checkpoint at `uri`, whose generators have a shape and bands; an empty list if no `uri` is given.

    Raises:
        RequestError: if its generators have another shape, or if new generators would have a threshold.
        CheckpointError: if it cannot be read, or has no generators.
    """
    if not uri:
        if shape.threshold:
            raise RequestError(
                "new generators change nothing, and below a threshold they would never learn",
                got=f"generator.threshold = {shape.threshold:g}",
                do="Train some without it first, and give their folder as --start.",
            )
        return []
    checkpoint = load_checkpoint(uri, bands=bands, trust=trust)
    check_generators(checkpoint)
    asked, given = (
        {name: value for name, value in settings.model_dump().items() if name not in FREE}
        for settings in (shape, checkpoint.card.generator or shape)
    )
    if other := [f"generator.{name}={value}" for name, value in given.items() if value != asked[name]]:
        raise RequestError(
            f"the generators of {uri} have another shape",
            got=", ".join(other),
            expected=", ".join(f"{name}={asked[name]}" for name in given if given[name] != asked[name]),
            do=f"Add --set {' --set '.join(other)}.",
        )
    return [checkpoint]


def start_from(learner: PatternLearner, start: Sequence[Checkpoint]) -> None:
    """Give a learner the generators of a checkpoint, if there is one; the running mean begins with its first step."""
    for checkpoint in start:
        for role, _ in ROLES:
            unwrap_ddp(learner.networks[role]).load_state_dict(getattr(checkpoint, role).state_dict())

"""Judging from Python: attribution of chips at hand, and the evaluation of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spacex.attribution.attributor import Attributor, ChipMaps
from spacex.attribution.names import DEFAULT_MAPS, MapName
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.datasets.pictures import read_pictures
from spacex.errors import RequestError
from spacex.evaluation import evaluate as evaluation
from spacex.evaluation.run import EvaluationSettings, Report
from spacex.evaluation.table import Table
from spacex.settings import PICTURE_BANDS

BATCH = 4
"""Chips in the networks at once, always as many: some kernels round by the size of their batch."""


def attribute(
    chips: NDArray[np.floating[Any]] | str | Path | Sequence[str | Path],
    checkpoint: Checkpoint | str | None = None,
    *,
    maps: Sequence[MapName] = DEFAULT_MAPS,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
) -> ChipMaps:
    """Attribution maps and score of chips, or of pictures.

    Args:
        chips: (n, bands, side, side) or one chip (bands, side, side), surface reflectance 0..1 without NaN, bands in
            the order of the checkpoint's card, side its chip size (256). Or files of pictures, PNG, JPEG or GeoTIFF,
            for a checkpoint that was trained on pictures.
        checkpoint: trained networks with generators, or their URI; None for the weights that ship.
        maps: which maps to compute.
        device: where the networks run.
        trust: modules whose networks the checkpoint may build.

    Returns:
        The maps by name, (n, side, side) float32 each, reflectance or logits per pixel; the score (n,) in [0, 1]; and
        the dissimilarity (n,), above 1 for chips unlike those the classifier was trained on, if the checkpoint knows.

    Raises:
        RequestError: if chips and checkpoint do not fit.

    >>> import numpy as np, spacex
    >>> found = spacex.attribute(np.full((3, 256, 256), 0.05, "float32"))
    >>> {name: values.shape for name, values in found.maps.items()}, found.score.shape
    ({'attribution': (1, 256, 256), 'lift': (1, 256, 256)}, (1,))
    """
    networks = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, trust=trust)
    x = _checked(_pixels(chips, networks), networks)
    patterns = Attributor(networks, maps, device=device)
    parts = [patterns(_whole(x[start : start + BATCH])) for start in range(0, len(x), BATCH)]
    found = {name: np.concatenate([part.maps[name] for part in parts])[: len(x)] for name in patterns.maps}
    unlike = [part.dissimilarity for part in parts if part.dissimilarity is not None]
    score = np.concatenate([part.score for part in parts])[: len(x)]
    return ChipMaps(found, score, np.concatenate(unlike)[: len(x)] if unlike else None)


def _whole(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A whole batch, the last chip repeated, so that a chip's answer does not depend on how many are asked with it."""
    return np.concatenate([x, np.repeat(x[-1:], BATCH - len(x), axis=0)])


def _pixels(chips: Any, networks: Checkpoint) -> NDArray[np.float32]:
    """Arrays as float32; files opened."""
    files = [chips] if isinstance(chips, str | Path) else chips
    if not (isinstance(files, Sequence) and files and all(isinstance(one, str | Path) for one in files)):
        return np.asarray(chips, dtype=np.float32)
    if networks.card.bands != PICTURE_BANDS:
        got, do = f"a checkpoint for {','.join(networks.card.bands)}", "Give reflectance as an array."
        raise RequestError("pictures need a checkpoint trained on pictures", got=got, do=do)
    return np.asarray(read_pictures(files, networks.card.chip_size).numpy(), dtype=np.float32)


def _checked(x: NDArray[np.float32], networks: Checkpoint) -> NDArray[np.float32]:
    card = networks.card
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or not len(x) or x.shape[1:] != (len(card.bands), card.chip_size, card.chip_size):
        expected = f"(n, {len(card.bands)}, {card.chip_size}, {card.chip_size}), bands {','.join(card.bands)}"
        raise RequestError("the chips' shape", got=x.shape, expected=expected)
    if not np.isfinite(x).all():
        raise RequestError("chips must be finite", do="Fill pixels without data, e.g. with the chip's median.")
    return x


def evaluate(
    data: str,
    checkpoint: str | None = None,
    output: str = "report",
    *,
    second: str | None = None,
    twin: str | None = None,
    controls: Mapping[str, str] | None = None,
    report: Report = lambda done, total, method: None,
    trust: Sequence[str] = (),
    **settings: Any,
) -> Table:
    """Compare where maps point on a labelled data set with land cover, and write the report.

    Args:
        data: folder in AnthroProtect's layout, of pictures by class (where nothing says where maps should point), or
            ``demo``.
        checkpoint: URI; None for the weights that ship.
        output: folder of the report: index.html, table.csv, chips.parquet and the figures.
        second: checkpoint of a second classifier: does the change transfer to it?
        twin: generators of another seed for the same classifier: do the maps agree?
        controls: checkpoints whose maps should be empty, by name.
        report: called with chips done, chips in all, and the method at work.
        trust: modules whose networks the checkpoints may build.
        settings: fields of `spacex.evaluation.run.EvaluationSettings`, e.g. ``limit=40, methods=("path",)``.

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
    request = evaluation.EvaluationRequest(
        data=data,
        output=output,
        checkpoint=checkpoint,
        second=second,
        twin=twin,
        controls=dict(controls or {}),
        trust=tuple(trust),
        settings=EvaluationSettings(**settings),
    )
    return evaluation.evaluate(request, report)

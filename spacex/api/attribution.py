"""Chips looked at from Python: `attribute` explains their scores, `score` only scores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from spacex.settings import PICTURE_BANDS

BATCH = 4
"""Chips in the networks at once, always as many: some kernels round by the size of their batch."""


@dataclass(frozen=True)
class Attribution(ChipMaps):
    """Maps and score of chips, and the generated chips they come from."""

    x_plus: NDArray[np.float32] | None = None
    """(n, bands, side, side) what the maximiser makes of the chips, reflectance; None without maps."""
    x_minus: NDArray[np.float32] | None = None
    """The same of the minimiser."""
    score_plus: NDArray[np.float32] | None = None
    """(n,) the classifier's score of `x_plus`."""
    score_minus: NDArray[np.float32] | None = None
    """(n,) the classifier's score of `x_minus`."""


def attribute(
    chips: NDArray[np.floating[Any]] | str | Path | Sequence[str | Path],
    checkpoint: Checkpoint | str = "europe",
    *,
    maps: Sequence[MapName] = DEFAULT_MAPS,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
) -> Attribution:
    """Attribution maps and score of chips, or of pictures.

    Args:
        chips: (n, bands, side, side) or one chip (bands, side, side), surface reflectance 0..1 without NaN, bands in
            the order of the checkpoint's card, side its chip size. Or files of pictures, PNG, JPEG or GeoTIFF,
            for a checkpoint that was trained on pictures.
        checkpoint: trained networks with generators, or their URI; or the name of one that ships.
        maps: which maps to compute.
        device: where the networks run.
        trust: modules whose networks the checkpoint may build.

    Returns:
        The maps by name, (n, side, side) float32 each, reflectance or logits per pixel; the score (n,) in [0, 1]; the
        dissimilarity (n,), above 1 for chips unlike those the classifier was trained on, if the checkpoint knows; and
        the paper's x+ and x-, the chips with a raised and a lowered score, with their scores.

    Raises:
        RequestError: if chips and checkpoint do not fit.

    >>> import numpy as np, spacex
    >>> result = spacex.attribute(np.full((3, 64, 64), 0.05, "float32"))
    >>> {name: values.shape for name, values in result.maps.items()}, result.score.shape
    ({'attribution': (1, 64, 64), 'lift': (1, 64, 64)}, (1,))
    >>> result.x_minus.shape, bool(result.score_minus[0] <= result.score[0])
    ((1, 3, 64, 64), True)
    """
    networks = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, trust=trust)
    x = _checked(_pixels(chips, networks), networks)
    attributor = Attributor(networks, maps, device=device)
    # The last batch is filled with its last chip: a chip's maps must not depend on how many chips there are.
    filled = np.concatenate([x, np.repeat(x[-1:], -len(x) % BATCH, axis=0)])
    batches = [attributor(filled[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    values = {name: np.concatenate([batch.maps[name] for batch in batches])[: len(x)] for name in batches[0].maps}
    dissimilarity = [batch.dissimilarity for batch in batches if batch.dissimilarity is not None]
    score = np.concatenate([batch.score for batch in batches])[: len(x)]
    generated: dict[str, Any] = {}
    if attributor.maps:
        parts = [_generate(attributor, filled[start : start + BATCH]) for start in range(0, len(x), BATCH)]
        generated = {name: np.concatenate([part[name] for part in parts])[: len(x)] for name in parts[0]}
    return Attribution(values, score, np.concatenate(dissimilarity)[: len(x)] if dissimilarity else None, **generated)


def score(
    chips: NDArray[np.floating[Any]] | str | Path | Sequence[str | Path],
    checkpoint: Checkpoint | str = "europe",
    *,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Scores of chips, or of pictures, by the classifier of a checkpoint, whether it has generators or not.

    Args:
        chips: as of `attribute`: reflectance, which is scaled as the checkpoint's card says, or files of pictures.
        checkpoint: trained networks, or their URI; or the name of one that ships.
        device: where the classifier runs.
        trust: modules whose networks the checkpoint may build.

    Returns:
        (n,) float32 in [0, 1]: naturalness, or the probability of the card's target class.

    Raises:
        RequestError: if chips and checkpoint do not fit.

    >>> import numpy as np, spacex
    >>> spacex.score(np.full((2, 3, 64, 64), 0.05, "float32")).shape
    (2,)
    """
    return attribute(chips, checkpoint, maps=(), device=device, trust=trust).score


def _generate(attributor: Attributor, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """x+ and x- of whole chips as reflectance, and their scores."""
    chips = torch.from_numpy(x).to(attributor.device)
    u, made = attributor.scaling.standardise(chips), {}
    # the change is brought back to reflectance and added to the chip: what is not changed stays as it was, to the bit
    for name, change in (("plus", attributor.delta_plus(u)), ("minus", attributor.delta_minus(u))):
        made[f"x_{name}"] = (chips + attributor.scaling.restore_change(change)).cpu().numpy()
        made[f"score_{name}"] = attributor.score(u + change).logit.sigmoid().cpu().numpy()
    return made


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

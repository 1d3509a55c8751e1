"""Attribution of chips from Python: `attribute`."""

from __future__ import annotations

from collections.abc import Sequence
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
    >>> result = spacex.attribute(np.full((3, 256, 256), 0.05, "float32"))
    >>> {name: values.shape for name, values in result.maps.items()}, result.score.shape
    ({'attribution': (1, 256, 256), 'lift': (1, 256, 256)}, (1,))
    """
    networks = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, trust=trust)
    x = _checked(_pixels(chips, networks), networks)
    attributor = Attributor(networks, maps, device=device)
    # The last batch is filled with its last chip: a chip's maps must not depend on how many chips there are.
    filled = np.concatenate([x, np.repeat(x[-1:], -len(x) % BATCH, axis=0)])
    batches = [attributor(filled[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    values = {name: np.concatenate([batch.maps[name] for batch in batches])[: len(x)] for name in attributor.maps}
    dissimilarity = [batch.dissimilarity for batch in batches if batch.dissimilarity is not None]
    score = np.concatenate([batch.score for batch in batches])[: len(x)]
    return ChipMaps(values, score, np.concatenate(dissimilarity)[: len(x)] if dissimilarity else None)


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

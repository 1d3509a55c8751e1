"""How good a classifier and a pair of generators are, per split.

Accuracy, AUROC, calibration and the confusion table are torchmetrics' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional import classification as tm

from spacex.model_card import Scaling
from spacex.models.generator import Generator
from spacex.training.distributed import SINGLE, Distributed

BINS = 15
"""Bins of the expected calibration error."""
NOTICEABLE = 1e-4
"""Smallest fall of a score that counts: of a chip that is sure already, x₊ differs from x by rounding."""


def classification(score: Tensor, label: Tensor) -> dict[str, Any]:
    """Accuracy at 0.5, AUROC, expected calibration error and the confusion table.

    Args:
        score: (n,) in [0, 1].
        label: (n,) 0 or 1.

    Returns:
        ``accuracy``, ``auroc``, ``ece`` (L1, `BINS` equal bins) and ``confusion``: counts by true (unnatural,
        natural) and predicted class.
    """
    truth = label.round().long()
    table = tm.binary_confusion_matrix(score, truth)
    return {
        "chips": len(score),
        "accuracy": float(tm.binary_accuracy(score, truth)),
        "auroc": float(tm.binary_auroc(score, truth)),
        "ece": float(tm.binary_calibration_error(score, truth, n_bins=BINS, norm="l1")),
        "confusion": {
            "unnatural": {"unnatural": int(table[0, 0]), "natural": int(table[0, 1])},
            "natural": {"unnatural": int(table[1, 0]), "natural": int(table[1, 1])},
        },
    }


def multiclass_metrics(logits: Tensor, label: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """How well several classes are told apart, and how well the last, the target, is from the rest.

    Args:
        logits: (n, classes).
        label: (n,) numbers of classes.
        classes: their names, the target last.

    Returns:
        ``accuracy``; ``by_class``, the share of each class's chips that is called so (NaN where it has no chip);
        ``confusion``: counts by true and predicted class; ``auroc`` and ``ece`` of the target's softmax probability.
    """
    truth, said = label.round().long(), logits.argmax(dim=1)
    table = tm.multiclass_confusion_matrix(said, truth, num_classes=len(classes)).tolist()
    target = classification(logits.softmax(dim=1)[:, -1].contiguous(), (truth == len(classes) - 1).float())
    counts = {name: dict(zip(classes, row, strict=True)) for name, row in zip(classes, table, strict=True)}
    return {
        "chips": len(truth),
        "accuracy": float((said == truth).float().mean()),
        "by_class": {name: row[name] / (sum(row.values()) or nan) for name, row in counts.items()},
        "auroc": target["auroc"],
        "ece": target["ece"],
        "confusion": counts,
    }


@torch.no_grad()
def measure_classifier(
    classifier: nn.Module,
    scaling: Scaling,
    chips: Iterable[tuple[Tensor, Tensor]],
    distributed: Distributed = SINGLE,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """How good a classifier in eval mode is over this worker's part, gathered over the distributed.

    Args:
        classifier: gives (n,), (n, 1) or (n, classes).
        scaling: reflectance to its units.
        chips: chips and labels.
        distributed: whose parts are gathered.
        classes: names, the target last; none for natural and not.

    Returns:
        `multiclass_metrics` if there are names, else `classification`.
    """
    logits, labels = [torch.zeros(0)], [torch.zeros(0)]
    for x, label in chips:
        with distributed.autocast():
            logits.append(classifier(scaling.standardise(x)).float().cpu())
        labels.append(label.cpu())
    found, truth = distributed.gather_rows(torch.cat(logits)), distributed.gather_rows(torch.cat(labels))
    if not classes:
        return classification(found.flatten().sigmoid(), truth)
    one = found.ndim == 1 or found.shape[1] == 1
    # one logit is that of the second of two classes against the first
    return multiclass_metrics(F.pad(found.reshape(-1, 1), (1, 0)) if one else found, truth, classes)


@torch.no_grad()
def measure_generators(
    classifier: nn.Module,
    maximiser: nn.Module,
    minimiser: nn.Module,
    scaling: Scaling,
    spread: Tensor,
    chips: Iterable[tuple[Tensor, Tensor]],
    distributed: Distributed = SINGLE,
) -> dict[str, float]:
    """What the generators do to a split's natural chips.

    Args:
        classifier: the explained one, in eval mode.
        maximiser: w₊.
        minimiser: w₋.
        scaling: of the classifier.
        spread: (bands,) standard deviation of each band's reflectance, the unit of a change.
        chips: this worker's chips (reflectance) and labels.
        distributed: whose parts are gathered.

    Returns:
        ``lowered``: share of chips with score(x₋) < score(x), judged on the logit, where no two scores round to
        the same 1; ``not_lowered``: with score(x₊) ≥ score(x) − `NOTICEABLE`; ``flipped``: share of x₋ called
        unnatural; mean logits ``z``, ``z_plus``, ``z_minus``; ``change_plus`` and ``change_minus``: mean
        |change| in standard deviations.
    """
    rows = [torch.zeros(0, 5)]
    for x, _ in chips:
        u = scaling.standardise(x)
        # float32 whatever the distributed trains in: x₊ may differ from x by less than bfloat16 resolves
        plus, minus = maximiser(u), minimiser(u)
        z = classifier(torch.cat([u, plus, minus])).view(3, -1)
        changes = [_spreads(scaling.restore(c) - x, spread) for c in (plus, minus)]
        rows.append(torch.stack([*z, *changes], dim=1).cpu())
    z, up, down, more, less = distributed.gather_rows(torch.cat(rows)).unbind(1)
    return {
        "chips": len(z),
        "lowered": float((down < z).float().mean()),
        "not_lowered": float((up.sigmoid() >= z.sigmoid() - NOTICEABLE).float().mean()),
        "flipped": float((down < 0).float().mean()),
        "z": float(z.mean()),
        "z_plus": float(up.mean()),
        "z_minus": float(down.mean()),
        "change_plus": float(more.mean()),
        "change_minus": float(less.mean()),
    }


def _spreads(change: Tensor, spread: Tensor) -> Tensor:
    return (change.abs() / spread.to(change.device).view(1, -1, 1, 1)).mean(dim=(1, 2, 3))


@torch.no_grad()
def measure_frame(generators: Iterable[Generator], u: Tensor, least: int = 32, tolerance: float = 0.01) -> int:
    """Pixels to cut from a chip's edges so that overlapping chips agree, measured on trained generators.

    A chip's middle is redrawn without its surroundings; ring by ring from the edge inwards, the two changes
    may differ by `tolerance` of the larger mean |change|. `spacex.models.generator.context` is the bound that
    always suffices; hardly any trained weights reach that far.

    Args:
        generators: the maximiser and the minimiser.
        u: chips in the networks' units, (n, bands, size, size); size a multiple of 4 times their alignment.
        least: smallest answer.
        tolerance: share of the larger generator's mean |change|.

    Returns:
        A multiple of 4 up to size / 4. With instance norm chips never agree, and the answer is `least`.
    """
    quarter = u.shape[-1] // 4
    middle = slice(quarter, -quarter)
    side = torch.arange(2 * quarter)
    depth = torch.minimum(side, side.flip(0))
    ring = torch.minimum(depth[:, None], depth[None, :])
    local = [generator for generator in generators if generator.settings.norm == "none"]
    wholes = [generator.delta(u) for generator in local]
    level = max((float(whole.abs().mean()) for whole in wholes), default=0.0)
    frame = least
    for generator, whole in zip(local, wholes, strict=True):
        part = generator.delta(u[..., middle, middle].contiguous(memory_format=torch.channels_last))
        error = (whole[..., middle, middle] - part).abs().mean((0, 1)).cpu()
        rings = torch.zeros(quarter).scatter_reduce(0, ring.flatten(), error.flatten(), "mean", include_self=False)
        differing = (rings > tolerance * level).nonzero()
        deepest = int(differing[-1]) + 1 if len(differing) else 0
        frame = max(frame, min(-(-deepest // 4) * 4, quarter))
    return frame


def collapse(measured: dict[str, float]) -> str | None:
    """Why a pair of generators is useless, in one line; None if it is not.

    No effect: w₋ moves the mean logit by less than a twentieth of its size (or of 1, where that is larger).
    No likeness: a picture differs from its chip by more than half a standard deviation of the bands on
    average. Broken: something is not a number.
    """
    if any(value != value for value in measured.values()):
        return "collapsed: the generators give values that are not numbers"
    far = max(measured["change_plus"], measured["change_minus"])
    if far > 0.5:
        return f"collapsed: no more likeness, pictures differ from their chips by {far:.2f} standard deviations"
    effect = measured["z"] - measured["z_minus"]
    if effect < 0.05 * max(1.0, abs(measured["z"])):
        return f"collapsed: no score change, the minimiser lowers the mean logit by {effect:.3f}"
    return None

"""Figures of merit of a classifier and of a pair of generators, per split.

Accuracy, AUROC, calibration and the confusion table are torchmetrics' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
SCORE_TOLERANCE = 1e-4
"""Fall of a score that does not count: on chips with scores near 1, x₊ differs from x by rounding."""
MAX_CHANGE = 0.5
"""Mean change in standard deviations above which a generated chip is no longer like its chip."""
MIN_EFFECT = 0.05
"""Share of the mean logit (at least of 1) by which x₋ must lower it, and x₊ raise it on chips of one class."""


def binary_metrics(score: Tensor, label: Tensor) -> dict[str, Any]:
    """Metrics of scores (n,) in [0, 1] against labels (n,) 0 or 1, or natural shares in between.

    Returns:
        ``chips``; ``accuracy`` at 0.5; ``auroc``, NaN if all are of one class; ``ece``, the expected calibration error
        (L1, `BINS` equal bins);
        ``confusion``: counts by true (unnatural, natural) and predicted class. Where there are shares, these are of the
        chips that are natural or not as a whole, and there are ``mixed``, the number of the others, and
        ``correlation``, Pearson's, of score and share over all.
    """
    pure = (label == 0) | (label == 1)
    if not pure.all():
        together = torch.corrcoef(torch.stack([score.double(), label.double()]))[0, 1]
        mixed = {"mixed": int((~pure).sum()), "correlation": float(together)}
        return {**binary_metrics(score[pure], label[pure]), **mixed}
    truth, names = label.long(), ("unnatural", "natural")
    both = bool(truth.any() and not truth.all())
    return {
        "chips": len(score),
        "accuracy": float(tm.binary_accuracy(score, truth)),
        "auroc": float(tm.binary_auroc(score, truth)) if both else nan,
        "ece": float(tm.binary_calibration_error(score, truth, n_bins=BINS, norm="l1")),
        "confusion": _by_name(tm.binary_confusion_matrix(score, truth), names),
    }


def multiclass_metrics(logits: Tensor, label: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Metrics of logits (n, classes) against numbers of classes (n,); the last class is the target.

    Returns:
        ``chips``, ``accuracy``; ``by_class``, the recall of each class (NaN where it has no chip); ``confusion``:
        counts by true and predicted class; ``auroc`` and ``ece`` of the target's softmax probability.
    """
    truth, predicted = label.round().long(), logits.argmax(dim=1)
    counts = _by_name(tm.multiclass_confusion_matrix(predicted, truth, num_classes=len(classes)), classes)
    target = binary_metrics(logits.softmax(dim=1)[:, -1].contiguous(), (truth == len(classes) - 1).float())
    return {
        "chips": len(truth),
        "accuracy": float((predicted == truth).float().mean()),
        "by_class": {name: row[name] / (sum(row.values()) or nan) for name, row in counts.items()},
        "auroc": target["auroc"],
        "ece": target["ece"],
        "confusion": counts,
    }


def _by_name(table: Tensor, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """A confusion table, rows true and columns predicted, by the names of the classes."""
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, table.tolist(), strict=True)}


@torch.no_grad()
def measure_classifier(
    classifier: nn.Module,
    scaling: Scaling,
    chips: Iterable[tuple[Tensor, Tensor]],
    distributed: Distributed = SINGLE,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of a classifier over the chips of all processes: `multiclass_metrics` of named classes, else binary ones.

    The classifier, in eval mode, gives (n,), (n, 1) or (n, classes); `chips` are this process's, with their labels. The
    target is the last of the `classes`; there are none for natural and not.
    """
    logits, labels = [torch.zeros(0)], [torch.zeros(0)]
    for x, label in chips:
        with distributed.autocast():
            logits.append(classifier(scaling.standardise(x)).float().cpu())
        labels.append(label.cpu())
    z, truth = distributed.gather_rows(torch.cat(logits)), distributed.gather_rows(torch.cat(labels))
    if not classes:
        return binary_metrics(z.flatten().sigmoid(), truth)
    if z.ndim == 1 or z.shape[1] == 1:
        # one logit is that of the second of two classes against the first, whose own is then 0
        z = F.pad(z.reshape(-1, 1), (1, 0))
    return multiclass_metrics(z, truth, classes)


@torch.no_grad()
def share_taken(
    classifier: nn.Module, scaling: Scaling, chips: Iterable[tuple[Tensor, Tensor]], distributed: Distributed = SINGLE
) -> float:
    """Share of the chips of all processes that a classifier of one logit, in eval mode, takes for natural."""
    taken = torch.zeros(1, 2)
    for x, _ in chips:
        with distributed.autocast():
            taken += torch.tensor([[int((classifier(scaling.standardise(x)) >= 0).sum()), len(x)]])
    natural, count = distributed.gather_rows(taken).sum(dim=0).tolist()
    return float(natural / count)


@torch.no_grad()
def measure_generators(
    classifier: nn.Module,
    maximiser: nn.Module,
    minimiser: nn.Module,
    scaling: Scaling,
    spread: Tensor,
    chips: Iterable[tuple[Tensor, Tensor]],
    distributed: Distributed = SINGLE,
    others: Iterable[tuple[Tensor, Tensor]] = (),
) -> dict[str, float]:
    """What the generators do to the natural chips of a split, and x₊ to the others.

    Networks are in eval mode; `chips`, the natural ones, and `others` (reflectance, with labels) are this process's;
    `spread` is the standard deviation of each band's reflectance, (bands,), the unit of a change.

    Returns:
        ``lowered``: share of chips whose logit of x₋ is below that of x (scores may both round to 1);
        ``not_lowered``: share with score(x₊) ≥ score(x) − `SCORE_TOLERANCE`; ``flipped``: share of x₋ classified as
        unnatural; mean logits ``z``, ``z_plus``, ``z_minus``; ``change_plus``, ``change_minus``: mean |change| in
        standard deviations. If there are others, of them: ``turned``: share of x₊ classified as natural; ``z_others``,
        ``z_plus_others``, ``change_plus_others``.
    """

    def measure(chips: Iterable[tuple[Tensor, Tensor]], *generators: nn.Module) -> Iterator[Tensor]:
        """Columns: the logit of x, those of the generated chips, and their changes."""
        rows = [torch.zeros(0, 1 + 2 * len(generators))]
        for x, _ in chips:
            u = scaling.standardise(x)
            # float32 whatever the training's precision: x₊ may differ from x by less than bfloat16 resolves
            made = [generator(u) for generator in generators]
            # one pass of the classifier over x and what was made of it
            z = classifier(torch.cat([u, *made])).view(1 + len(made), -1)
            per_band = spread.to(x.device).view(1, -1, 1, 1)
            changes = [((scaling.restore(one) - x).abs() / per_band).mean(dim=(1, 2, 3)) for one in made]
            rows.append(torch.stack([*z, *changes], dim=1).cpu())
        yield from distributed.gather_rows(torch.cat(rows)).unbind(1)

    columns = list(measure(chips, maximiser, minimiser))
    z, z_plus, z_minus = columns[:3]
    names = ("z", "z_plus", "z_minus", "change_plus", "change_minus")
    measured = {
        "chips": len(z),
        "lowered": float((z_minus < z).float().mean()),
        "not_lowered": float((z_plus.sigmoid() >= z.sigmoid() - SCORE_TOLERANCE).float().mean()),
        "flipped": float((z_minus < 0).float().mean()),
        **{name: float(column.mean()) for name, column in zip(names, columns, strict=True)},
    }
    z_others, z_plus_others, change = measure(others, maximiser)
    if len(z_others):
        measured["turned"] = float((z_plus_others > 0).float().mean())
        for name, column in (("z", z_others), ("z_plus", z_plus_others), ("change_plus", change)):
            measured[f"{name}_others"] = float(column.mean())
    return measured


@torch.no_grad()
def measure_frame(generators: Iterable[Generator], u: Tensor, least: int = 32, tolerance: float = 0.01) -> int:
    """Pixels to cut from a chip's edges so that overlapping chips agree, measured on trained generators.

    The middle of a chip is generated again without its surroundings. In every ring of pixels that is kept the
    two changes may differ by at most `tolerance` of the larger mean |change|. `spacex.models.generator.context` is
    the bound that always suffices; hardly any trained weights reach that far.

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
    # number of each pixel's ring: its distance from the nearest edge of the middle
    side = torch.arange(2 * quarter)
    depth = torch.minimum(side, side.flip(0))
    ring = torch.minimum(depth[:, None], depth[None, :])
    local = [generator for generator in generators if generator.settings.norm == "none"]
    deltas = [generator.delta(u) for generator in local]
    level = max((float(delta.abs().mean()) for delta in deltas), default=0.0)
    frame = least
    for generator, delta in zip(local, deltas, strict=True):
        part = generator.delta(u[..., middle, middle].contiguous(memory_format=torch.channels_last))
        error = (delta[..., middle, middle] - part).abs().mean((0, 1)).cpu()
        rings = torch.zeros(quarter).scatter_reduce(0, ring.flatten(), error.flatten(), "mean", include_self=False)
        # the deepest ring that still differs, rounded up to a multiple of 4
        differing = (rings > tolerance * level).nonzero()
        deepest = int(differing[-1]) + 1 if len(differing) else 0
        frame = max(frame, min(-(-deepest // 4) * 4, quarter))
    return frame


def collapse_reason(measured: dict[str, Any]) -> str | None:
    """Why a pair of generators, or one of them, is useless, in one line; None if they are not.

    No score change: w₋ lowers the mean logit of natural chips by less than `MIN_EFFECT`, or w₊ raises neither that of
    natural chips nor that of the others by as much. No likeness: generated chips differ by more than `MAX_CHANGE`.
    Broken: a figure is not a number, of which a card has null.
    """
    if any(value is None or value != value for value in measured.values()):
        return "collapsed: the generators give values that are not numbers"
    change = max(value for name, value in measured.items() if name.startswith("change_"))
    if change > MAX_CHANGE:
        return f"collapsed: no more likeness, pictures differ from their chips by {change:.2f} standard deviations"
    effect = measured["z"] - measured["z_minus"]
    if effect < MIN_EFFECT * max(1.0, abs(measured["z"])):
        return f"collapsed: no score change, the minimiser lowers the mean logit by {effect:.3f}"
    classes = [name for name in ("", "_others") if f"z_plus{name}" in measured]
    raised = {name: measured[f"z_plus{name}"] - measured[f"z{name}"] for name in classes}
    if all(rise < MIN_EFFECT * max(1.0, abs(measured[f"z{name}"])) for name, rise in raised.items()):
        return f"collapsed: no score change, the maximiser raises the mean logit by {max(raised.values()):.3f}"
    return None

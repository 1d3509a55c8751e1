"""The planted-shortcut experiment: is a map faithful to the classifier, or only to the class?

    python tests/benchmarks/shortcut.py --output runs/shortcut    # an hour of two threads

On the embedded world two patterns can separate the classes: the natural one (mire and bare fell) and planted reddish
knolls. The classifier has learned the natural one and provably ignores the knolls: taking them away, with an
exact counterfactual, hardly changes its logit. The generators then learn on chips where *both* patterns go with
the label, so that nothing but the classifier says which one matters. A faithful map lies on the natural
pattern. The control that must fail is a class-conditional adversary, which sees what differs between the classes.

Writes `index.html`, `shortcut.csv` and `shortcut.png`. Data and checkpoints are kept in the output's `work`; a stopped
run goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from shortcut_report import write_shortcut

from spacex.attribution.attributor import Attributor
from spacex.bootstrap import draw, interval
from spacex.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from spacex.evaluation import metrics
from spacex.evaluation.methods.captum import Effort
from spacex.evaluation.methods.chip_batch import ChipBatch, Method, supported_maps
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.evaluation.samples import LandCoverSource, Samples
from spacex.evaluation.sanity import randomise_layers
from spacex.settings import SENTINEL2_BANDS, Settings
from spacex.synthetic.chip import counterfactual, read_records
from spacex.synthetic.dataset import build_dataset
from spacex.training.classifier_run import ClassifierRun, learn_classifier
from spacex.training.data import DatasetSettings
from spacex.training.distributed import Distributed, Precision
from spacex.training.gan_run import PatternRun, learn_patterns
from spacex.training.overrides import with_overrides
from spacex.training.presets import CLASS_DIFFERENCE, DELTA, Preset

USED, IGNORED = 1, 2
"""Values of the truth masks: mire and fell; planted knolls."""

OURS = ("lift", "path", "attribution", "lowered")
RIVALS = ("deeplift", "integrated", "gradcam-last", "gradcam-first", "brightness", "chance")


_VARIANTS: dict[str, Preset] = {
    "delta": DELTA,
    "random-classifier": DELTA,
    "single-domain": with_overrides(CLASS_DIFFERENCE, ["domain=single", "name=single-domain", "note="]),
    "class-difference": CLASS_DIFFERENCE,
    "class-difference-0": with_overrides(CLASS_DIFFERENCE, ["weights.activation=0"]),
}
"""The default; the same against a random classifier; with the paper's adversary, which judges both generators
against natural chips; with the class-conditional one; and that with λ_AM = 0."""


class ShortcutSettings(Settings):
    """Size of the experiment."""

    seed: int = 0
    bands: tuple[str, ...] = SENTINEL2_BANDS[:3]
    chips: dict[str, int] = {"train": 800, "val": 40, "test": 160}  # noqa: RUF012
    """Chips per split; a quarter of the test chips carry both patterns."""
    classifier: str | None = None
    """A classifier of natural chips to test instead of training one; it must ignore the knolls all the same."""
    classifier_changes: tuple[str, ...] = (
        "network.base=8", "recipe.batch=8", "recipe.epochs=10", "recipe.rate=0.0015", "recipe.cutmix=0.2",
        "recipe.loss=bce",
    )  # fmt: skip
    """Changes to the classifier's run, as for `--set` of jobs/train_classifier.py."""
    generator_changes: tuple[str, ...] = (
        "generator.base=12", "generator.cap=48", "generator.blocks=3", "generator.downs=2", "generator.stem=5",
        "batch=4", "warmup=30", "epochs=6",
    )  # fmt: skip
    """Changes to all presets, as for `--set` of jobs/train_gan.py; the defaults are the shipped weights' shape."""
    variants: tuple[str, ...] = tuple(_VARIANTS)
    """Generators to train."""
    precision: Precision = "bfloat16"
    """Of the training."""


def run_shortcut(output: Path, settings: ShortcutSettings, say: Callable[[str], None]) -> pd.DataFrame:
    """Build the data, train what is needed, measure, and write `shortcut.csv` and `index.html`.

    Stopped runs go on where they were when called again with the same output.

    Args:
        output: folder of the report; data and checkpoints are kept in its `work`.
        settings: size of the experiment.
        say: called with lines about the progress.
    """
    work = output / "work"
    data = _data(work, settings, say)
    classifier = settings.classifier or trained_classifier(
        work, data, settings, say, Distributed(precision=settings.precision)
    )
    classified = load_checkpoint(classifier, bands=settings.bands)
    both = list(with_both(LandCoverSource(data, settings.bands, "test")))
    use = usage(data, classified, both)
    say("removing the natural pattern moves the logit by {used:.2f}, the knolls by {ignored:.2f}".format(**use))
    tables = [measure(classified, both, RIVALS, "no generator")]
    for name in settings.variants:
        trained = _variant(name, work, data, classifier, settings, say)
        tables.append(measure(trained, both, OURS, name))
    table = pd.concat(tables, ignore_index=True)
    about = f"Settings: seed {settings.seed}, chips {settings.chips}, {', '.join(settings.generator_changes)}."
    write_shortcut(output, table, use, sum(map(len, both)), about)
    return table


def _data(work: Path, settings: ShortcutSettings, say: Callable[[str], None]) -> Path:
    folder = work / "chips"
    if not (folder / "infos.csv").exists():
        say(f"painting {sum(settings.chips.values())} chips with and without knolls")
        build_dataset(folder, settings.chips, settings.seed, planted="random")
    return folder


def trained_classifier(
    work: Path, data: Path, settings: ShortcutSettings, say: Callable[[str], None], distributed: Distributed
) -> str:
    """A classifier of a folder of chips, by these settings; gives the checkpoint's folder."""
    source = DatasetSettings(root=str(data), bands=settings.bands, preload=distributed.device.type == "cuda")
    run = ClassifierRun(source=source, output=str(work / "classifier"), seed=settings.seed)
    for epoch in learn_classifier(with_overrides(run, settings.classifier_changes), distributed):
        say(f"classifier, {epoch}")
    return run.output


def confounded(work: Path, data: Path) -> Path:
    """The same chips, but only natural ones with knolls and others without: both patterns go with the label.

    Raises:
        DataError: as :func:`spacex.synthetic.chip.read_records`.
    """
    folder = work / "confounded"
    records = read_records(data)
    (folder / "tiles").mkdir(parents=True, exist_ok=True)
    link = folder / "tiles" / "s2"
    if not link.exists():
        link.symlink_to((data / "tiles" / "s2").resolve(), target_is_directory=True)
    with (data / "infos.csv").open() as file, (folder / "infos.csv").open("w", newline="") as target:
        rows = csv.DictReader(file)
        writer = csv.DictWriter(target, list(rows.fieldnames or ()))
        writer.writeheader()
        for row in rows:
            planted = bool(np.isfinite(records[row["file"]].distractor_level))
            if planted == (row["label"] == "1"):
                writer.writerow(row)
    return folder


def _variant(
    name: str, work: Path, data: Path, classifier: str, settings: ShortcutSettings, say: Callable[[str], None]
) -> Checkpoint:
    explained = _randomised(work, classifier, data) if name == "random-classifier" else classifier
    run = PatternRun(
        source=DatasetSettings(root=str(confounded(work, data)), bands=settings.bands),
        output=str(work / name),
        seed=settings.seed,
        classifier=explained,
        preset=with_overrides(_VARIANTS[name], settings.generator_changes),
    )
    for epoch in learn_patterns(run, Distributed(precision=settings.precision)):
        say(f"{name}, {epoch}")
    return load_checkpoint(run.output)


def _randomised(work: Path, classifier: str, data: Path) -> str:
    """The same network with every layer randomised, its logits stretched to mean 2 and spread 2.

    Unstretched they would hardly vary, and no generator would learn anything from them.
    """
    trained = load_checkpoint(classifier)
    network: Any = list(randomise_layers(trained.classifier))[-1][1]
    samples = next(LandCoverSource(data, trained.card.bands, "train").batches(32))
    plain = logits(Checkpoint(trained.card, network), samples.x)
    stretch = 2.0 / max(float(plain.std()), 1e-6)
    network.head[-1].weight.mul_(stretch)
    network.head[-1].bias.mul_(stretch).add_(2.0 - stretch * float(plain.mean()))
    bare: dict[str, Any] = {"kind": "classifier", "generator": None, "hashes": {}, "metrics": {}}
    return save_checkpoint(work / "random", trained.card.model_copy(update=bare), {"classifier": network}).uri


def with_both(source: LandCoverSource, size: int = 4) -> Iterator[Samples]:
    """Natural chips that carry both patterns, in batches."""
    for samples in source.batches(size):
        truth = samples.codes["truth"]
        keep = (truth == USED).any(axis=(1, 2)) & (truth == IGNORED).any(axis=(1, 2))
        if keep.any():
            yield samples.pick(keep)


def usage(data: Path, checkpoint: Checkpoint, batches: list[Samples]) -> dict[str, float]:
    """What the classifier uses: mean |change of the logit| and share of flips when a pattern is taken away."""
    shifts: dict[str, list[NDArray[np.float64]]] = {"plain": [], "used": [], "ignored": []}
    for samples in batches:
        plain = logits(checkpoint, samples.x)
        shifts["plain"].append(plain)
        for name, x in without(data, checkpoint.card.bands, samples).items():
            shifts[name].append(logits(checkpoint, x))
    plain, used, ignored = (np.concatenate(shifts[name]) for name in ("plain", "used", "ignored"))
    natural = plain > 0
    return {
        "logit": float(plain.mean()),
        "natural": float(natural.mean()),
        "used": float(np.abs(plain - used).mean()),
        "ignored": float(np.abs(plain - ignored).mean()),
        "used_flips": float((used[natural] < 0).mean()),
        "ignored_flips": float((ignored[natural] < 0).mean()),
    }


def without(data: Path, bands: Sequence[str], samples: Samples) -> dict[str, torch.Tensor]:
    """The chips without mire and fell (`used`), and without the knolls (`ignored`): exact counterfactuals.

    Returns:
        Reflectance (n, bands, 256, 256) float32 each.
    """
    wanted = [SENTINEL2_BANDS.index(band) for band in bands]
    ways: dict[str, dict[str, Any]] = {"used": {}, "ignored": {"without": (), "distractors": False}}
    return {
        name: torch.from_numpy(np.stack([counterfactual(data, file, **way)[wanted] for file in samples.files]))
        for name, way in ways.items()
    }


def logits(checkpoint: Checkpoint, x: torch.Tensor) -> NDArray[np.float64]:
    """(n,) of reflectance (n, bands, 256, 256)."""
    with torch.no_grad():
        logit: torch.Tensor = checkpoint.classifier(checkpoint.card.scaling.standardise(x))
    return logit.double().numpy()


def measure(checkpoint: Checkpoint, batches: list[Samples], names: tuple[str, ...], variant: str) -> pd.DataFrame:
    """Where each method's map lies: share, density and area-matched IoU on both patterns, a row per method."""
    methods = choose(all_methods(checkpoint, Effort()), names)
    attributor = Attributor(checkpoint, supported_maps(checkpoint))
    frames_by_method: dict[str, list[pd.DataFrame]] = {method.name: [] for method in methods}
    places: list[str] = []
    for samples in batches:
        chips = ChipBatch(attributor, samples.x, samples.files)
        places += samples.places
        for method in methods:
            frames_by_method[method.name].append(pd.DataFrame(falls(method, chips, samples.codes["truth"])))
    draws = draw(places)
    rows = []
    for name, frames in frames_by_method.items():
        row: dict[str, Any] = {"variant": variant, "method": name}
        for column, values in pd.concat(frames).items():
            value = interval(values.to_numpy(dtype=np.float64), draws)
            row |= {str(column): value.mean, f"{column}_low": value.low, f"{column}_high": value.high}
        rows.append(row)
    return pd.DataFrame(rows)


def falls(method: Method, chips: ChipBatch, truth: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
    """Per chip and pattern: share of the map's total, density over the background's, IoU and AUROC.

    Density 1 is the background's level: more than that on the ignored pattern is unfaithful.
    """
    maps = method(chips).cpu().numpy()
    flat, codes = maps.reshape(len(maps), -1), truth.reshape(len(truth), -1)
    everywhere, groups = np.ones(codes.shape, dtype=bool), metrics.sort(flat)
    background = _mean_where(flat, codes == 0)
    out = {}
    for name, value in (("used", USED), ("ignored", IGNORED)):
        inside = codes == value
        ranking = metrics.rank(groups, inside, everywhere)
        out[f"share_{name}"] = metrics.energy(flat, inside, everywhere)
        level = _mean_where(flat, inside)
        out[f"density_{name}"] = np.divide(level, background, out=np.full(len(level), np.nan), where=background > 0)
        out[f"iou_{name}"], out[f"auroc_{name}"] = metrics.area_matched_iou(ranking), metrics.auroc(ranking)
    return out


def _mean_where(values: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    total = np.where(where, values, 0.0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(where.sum(axis=1), 1))


def main() -> None:
    """Run the experiment, and print its progress."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder of the report")
    parser.add_argument("--seed", type=int, default=0, help="of data and training")
    parser.add_argument("--threads", type=int, help="of the networks; PyTorch's own choice if not given")
    asked = parser.parse_args()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    run_shortcut(asked.output, ShortcutSettings(seed=asked.seed), partial(print, flush=True))
    print(f"planted-shortcut experiment: {asked.output.resolve()} (index.html, shortcut.csv)")


if __name__ == "__main__":
    main()

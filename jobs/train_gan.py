"""Train the maximiser and the minimiser that show what a classifier takes for natural.

Presets (spacex/training/presets.py has every number and its source):

- delta: a small, norm-free change stopped by a margin; the default, and the fastest to train and to map with.

- paper: as published (needs a classifier trained with --units reflectance).

- repository: the published code's sizes and factors, its activation term connected (likewise).

- class-difference: shows what separates the classes, NOT what the classifier uses; in a planted-shortcut
test it pointed at a pattern the classifier provably ignores.

Examples:
    python jobs/train_gan.py --data demo --classifier runs/classifier --output runs/gan

    python jobs/train_gan.py --data /data/anthroprotect --preset paper --gpu

    ray job submit --working-dir . -- python jobs/train_gan.py --data /data --workers 8 --gpu

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder: card.json, classifier, maximiser, minimiser.
log/ holds, per step, every loss term, the gradient each term sends to each generator, the scores and the
changes, and every few hundred steps a picture. A run that collapses says so. Exit code 2: the request is
wrong, and nothing was trained.
"""

from __future__ import annotations

from typing import Annotated, Literal

import _cli
import typer
from _training import follow, make_source

app = _cli.make_app(__doc__ or "")


@app.command(help=__doc__)
def main(
    data: Annotated[str, typer.Option(help="AnthroProtect or MapInWild folder as published, or 'demo'.")],
    classifier: Annotated[str, typer.Option(help="Checkpoint of the classifier to explain.")] = "runs/classifier",
    output: Annotated[str, typer.Option(help="Folder or fsspec URI of the run and its checkpoint.")] = "runs/gan",
    preset: Annotated[
        Literal["delta", "paper", "repository", "class-difference"], typer.Option(help="How to train.")
    ] = "delta",
    further: Annotated[
        list[str] | None, typer.Option(help="Another classifier the change must move too; may be repeated.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the chips; the preset's.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only this many chips of each split.")] = None,
    seed: Annotated[int, typer.Option(help="Names weights, order and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(help="Ray workers; 0 trains in this process without Ray.")] = 0,
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU per worker, bfloat16 and torch.compile.")] = False,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="auto: bfloat16 on a GPU only.")
    ] = "auto",
    readers: Annotated[int, typer.Option(min=0, help="Processes per worker that read ahead.")] = 0,
    grouped: Annotated[bool, typer.Option("--grouped", help="Split by place; the official split leaks.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a data set with a bad file.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Any of the preset's settings, e.g. generator.base=16.")
    ] = None,
) -> None:
    """Train, and print where the checkpoint is."""
    from _training import absolute

    from spacex.checkpoint import read_card
    from spacex.training.pattern_run import PatternRun, learn_patterns, prepare_patterns
    from spacex.training.presets import PRESETS, changed

    judges = [absolute(uri) for uri in (classifier, *(further or []))]
    source = make_source(data, ",".join(read_card(judges[0]).bands), limit, grouped, strict)
    asked = [f"epochs={epochs}"] if epochs else []
    chosen = changed(PRESETS[preset], [*asked, *(change or [])])
    run = PatternRun(
        source=source,
        output=output,
        seed=seed,
        readers=readers,
        classifier=judges[0],
        further=tuple(judges[1:]),
        preset=chosen,
    )
    follow(learn_patterns, prepare_patterns, run, workers, gpu, precision)


if __name__ == "__main__":
    _cli.run(app)

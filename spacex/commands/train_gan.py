"""Train the maximiser and the minimiser that show what a classifier takes for natural.

Presets (spacex/training/presets.py has every number and its source):

- delta: a small, norm-free change stopped by a margin; the default, and the fastest to train and to map with.

- paper: as published (needs a classifier trained with --units reflectance).

- repository: the published code's sizes and factors, its activation term connected (likewise).

- class-difference: shows what separates the classes, NOT what the classifier uses; in a planted-shortcut
test it pointed at a pattern the classifier provably ignores.

Examples:
    spacex train-gan --data demo --classifier runs/classifier --output runs/gan

    spacex train-gan --data /data/anthroprotect --preset paper --gpu

    ray job submit --working-dir . -- python jobs/train_gan.py --data /shared/data --classifier /shared/classifier
      --output /shared/gan --workers 8 --gpu

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder: card.json, classifier, maximiser, minimiser.
log/ holds, per step, every loss term, the gradient each term sends to each generator, the scores and the
changes, and every few hundred steps a picture. Of the numbers after an epoch, measured on the natural chips of val,
flipped is the share of x- that are no longer natural, lowered the share whose score x- lowers, not_lowered the share
whose score x+ keeps or raises, z, z_plus and z_minus are mean logits of x, x+ and x-, and change_plus and change_minus
mean changes in standard deviations of reflectance. A run that collapses says so. Exit code 2: the request is
wrong, and nothing was trained.
"""

from __future__ import annotations

from spacex.api.training_settings import GanSettings
from spacex.commands.app import make_app
from spacex.commands.execution import run_interruptibly
from spacex.commands.parameters import make_command


def train_gan(asked: GanSettings) -> None:
    """Train, and print where the checkpoint is."""
    from spacex.api import training

    trained = run_interruptibly(lambda: training.train_gan(**asked), safe="finished epochs are")
    print(f"checkpoint: {trained.uri}")


app = make_app(make_command(GanSettings, train_gan), __doc__)

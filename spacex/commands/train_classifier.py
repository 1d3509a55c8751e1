"""Train the classifier that says how natural a Sentinel-2 chip looks.

The network and its training are those of AnthroProtect's authors and of the paper: U-Net with three
activation maps and a small head, one-cycle schedule, CutMix as edge strips, random rotation and occlusion.

Examples:
    spacex train-classifier --data demo

    spacex train-classifier --data /data/anthroprotect --output runs/classifier --gpu

    ray job submit --working-dir . -- python jobs/train_classifier.py --data /shared/data --output /shared/classifier
      --workers 8 --gpu

    spacex train-classifier --data pictures/ --target zebra

    spacex train-classifier --data demo --network timm:create_model
      --network-args '{"model_name": "resnet18", "num_classes": 1}'

Another network than ours is built by a function of an installed package; its output is one logit per chip, or one per
class. What it names is imported only if you --trust the module, or it is one of a few functions that do nothing else.

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder (card.json and weights); log/ holds TensorBoard
events and one line of numbers per step. Exit code 2: the request is wrong, and nothing was trained.
"""

from __future__ import annotations

from spacex.api.training_settings import ClassifierSettings
from spacex.commands.app import make_app
from spacex.commands.execution import run_interruptibly
from spacex.commands.parameters import make_command


def train_classifier(asked: ClassifierSettings) -> None:
    """Train, and print where the checkpoint is."""
    from spacex.api import training

    trained = run_interruptibly(lambda: training.train_classifier(**asked), safe="finished epochs are")
    print(f"checkpoint: {trained.uri}")


app = make_app(make_command(ClassifierSettings, train_classifier), __doc__)

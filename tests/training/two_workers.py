"""Run by test_team.py, once per worker: learns from its share of fixed batches and leaves its gradients behind."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from spacex.model_card import Scaling
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.training.classifier import ClassifierLearner
from spacex.training.distributed import SINGLE, Distributed, unwrap_ddp
from spacex.training.gan import ExplainedClassifiers, PatternLearner
from spacex.training.presets import PRESETS, ClassifierRecipe

IDENTITY = Scaling.identity(3)


class MeanClassifier(torch.nn.Module):
    """The mean of the first band."""

    def forward(self, u):
        return u[:, 0].mean((-2, -1))


def patterns(name, distributed):
    """One step of every network of a preset."""
    preset = PRESETS[name]
    small = {"base": 4, "cap": 8, "downs": 1, "blocks": 1, "stem": 3}
    changes = {"generator": preset.generator.model_copy(update=small), "warmup": 0, "blotches": 0.5}
    if preset.discriminator is not None:
        changes["discriminator"] = preset.discriminator.model_copy(update={"base": 4, "strided": 2})
    task = ExplainedClassifiers([MeanClassifier()], IDENTITY, (1.0,) * 3)
    learner = PatternLearner(preset.model_copy(update=changes), task, 10, 0, distributed)
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for side in ("maximiser", "minimiser"):  # a fresh delta generator changes nothing, and passes no gradient on
        torch.manual_seed(3)
        torch.nn.init.normal_(unwrap_ddp(learner.networks[side]).last.weight, 0, 0.1)
    # one step: after Adam's first, the sign of a rounding error can decide which way L1 pulls at a pixel
    learner.step(*(part.chunk(distributed.size)[distributed.rank] for part in (x, 1 - x)))
    return learner.networks


def classifier(distributed):
    """Two steps with CutMix and rotation; occlusion is each worker's own and off here."""
    torch.manual_seed(0)
    network = Classifier(ClassifierSettings(base=2, levels=2, chip_size=64, occlusion=0))
    learner = ClassifierLearner(ClassifierRecipe(rate=1e-3), network, IDENTITY, 10, 0, distributed)
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    label = torch.arange(8).remainder(2).float()
    for _ in range(2):
        learner.step(*(part.chunk(distributed.size)[distributed.rank] for part in (x, label)))
    return {"classifier": learner.network}


def main(rank, size, folder):
    """All cases; gradients and parameters by name."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    distributed = Distributed.from_process_group() if size > 1 else SINGLE
    networks = {"classifier": classifier(distributed)} | {name: patterns(name, distributed) for name in PRESETS}
    found = {}
    for case, nets in networks.items():
        for name, network in nets.items():
            for key, parameter in unwrap_ddp(network).named_parameters():
                found[f"{case} {name} {key}"] = (parameter.grad, parameter.detach())
            for key, value in unwrap_ddp(network).named_buffers():
                found[f"{case} {name} {key}"] = (torch.zeros(1), value.float())
    torch.save(found, Path(folder) / f"{size}-{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

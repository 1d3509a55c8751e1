"""Train the classifier: one step, with the augmentation of its authors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spacex.model_card import Scaling
from spacex.models.pretrained import frozen_modules
from spacex.training.augment import (
    EDGES,
    draw_partners,
    draw_per_band,
    draw_strips,
    draw_turns,
    mix_strip,
    quarter_mosaics,
    quarter_turns,
)
from spacex.training.batches import seeded
from spacex.training.distributed import SINGLE, Distributed, unwrap_ddp
from spacex.training.gradient_probe import clip_gradients
from spacex.training.presets import ClassifierRecipe


class ClassifierLearner:
    """A classifier and everything that changes while it learns.

    Augmentation is drawn for the global batch, and CutMix may take a strip from another process's chip: two processes
    learn what one would. Only the occlusion inside the network is drawn by each process for itself.

    The network turns (n, bands, side, side) into n logits, (n,) or (n, 1), or (n, classes). `classes` are the logits
    per chip: 1 for two classes; more are trained with cross-entropy, the target's is the last. `steps` is the length of
    the run, for the one-cycle schedule.
    """

    def __init__(
        self,
        recipe: ClassifierRecipe,
        network: nn.Module,
        scaling: Scaling,
        steps: int,
        seed: int = 0,
        distributed: Distributed = SINGLE,
        classes: int = 1,
    ) -> None:
        self.recipe, self.scaling, self.distributed = recipe, scaling, distributed
        self.seed, self.classes, self.step_number = seed, classes, 0
        self.average: AveragedModel | None = None
        if recipe.average:
            ema = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(network, distributed.device, multi_avg_fn=ema, use_buffers=True)
            # read at every update: on a GPU the CPU would wait for it
            self.average.n_averaged = self.average.n_averaged.cpu()
        self.frozen = frozen_modules(network)
        self.network = distributed.wrap(network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
        self.schedule = OneCycleLR(self.optimiser, recipe.rate, total_steps=max(steps, 2))

    def step(self, x: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            x: this process's shard, (n, bands, side, side) float32 reflectance.
            label: (n,) float32, 1 natural, the natural share of a mosaic; of several classes the class's number.

        Returns:
            Scalars on the device: ``loss``, ``grad``, ``score/natural``, ``score/unnatural``, ``rate``.
        """
        self.network.train()
        for module in self.frozen:
            module.eval()
        # soft targets, since CutMix blends them: (n,) share of natural, or (n, classes) share of each
        target = F.one_hot(label.long(), self.classes).float() if self.classes > 1 else label
        target = torch.lerp(target, torch.full_like(target, 1 / max(self.classes, 2)), self.recipe.smoothing)
        x, target = self._augment(x, target)
        u = self.scaling.standardise(x).contiguous(memory_format=torch.channels_last)
        with self.distributed.autocast():
            logit = self.network(u)
        logit = logit.float().view(target.shape)
        loss = self._loss(logit, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(self.network, self.recipe.clip)
        rate = torch.tensor(self.schedule.get_last_lr()[0])
        self.optimiser.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(unwrap_ddp(self.network))
        self.step_number += 1
        return {"loss": loss.detach(), "grad": norm, "rate": rate, **_mean_scores(logit.detach(), target)}

    def result(self) -> nn.Module:
        """The network in eval mode, with the running mean of its weights where one is kept."""
        return (unwrap_ddp(self.network) if self.average is None else self.average.module).eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while learning."""
        return {
            "step": self.step_number,
            "network": unwrap_ddp(self.network).state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            **({} if self.average is None else {"average": self.average.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.step_number = state["step"]
        unwrap_ddp(self.network).load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def _loss(self, logit: Tensor, target: Tensor) -> Tensor:
        if self.classes > 1:
            return F.cross_entropy(logit, target)
        if self.recipe.loss == "bce":
            return F.binary_cross_entropy_with_logits(logit, target)
        return F.mse_loss(logit.sigmoid(), target)

    def _augment(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Random turns, flips, gains, offsets, CutMix with chips of another label of the global batch, mosaics."""
        generator = seeded("augment", self.seed, self.step_number)
        n, first = len(x) * self.distributed.size, len(x) * self.distributed.rank
        own = slice(first, first + len(x))
        if self.recipe.rotate:
            turns, flips = draw_turns(n, generator)
            x = quarter_turns(x, turns[own], flips[own])
        if any(self.recipe.gains + self.recipe.offsets):
            # in reflectance, before standardisation
            gains = draw_per_band(n, x.shape[1], self.recipe.gains, generator).exp()[own].to(x.device)
            x = x * gains + draw_per_band(n, x.shape[1], self.recipe.offsets, generator)[own].to(x.device)
        if self.recipe.cutmix:
            x, target = self._mix(x, target, n, own, generator)
        if self.recipe.mosaics and torch.rand(1, generator=generator) < self.recipe.mosaics:
            x, target = quarter_mosaics(x, target, generator)
        return x, target

    def _mix(self, x: Tensor, target: Tensor, n: int, own: slice, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """CutMix of this process's chips, those of `own` in the global batch of `n`."""
        edges, shares = draw_strips(n, self.recipe.cutmix, self.recipe.strip, generator)
        # partners may lie in another process's shard
        all_chips, all_targets = self.distributed.all_gather(x), self.distributed.all_gather(target)
        labels = all_targets.argmax(dim=1) if self.classes > 1 else all_targets
        partners = draw_partners(labels.cpu(), generator).tolist()
        chips, targets = [], []
        for i in range(own.start, own.stop):
            other = partners[i]
            chip, area = mix_strip(all_chips[i], all_chips[other], EDGES[int(edges[i])], float(shares[i]))
            chips.append(chip)
            targets.append(all_targets[i] * (1 - area) + all_targets[other] * area)
        return torch.stack(chips), torch.stack(targets)


def _mean_scores(logit: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Mean score of natural and of unnatural chips; a mixed chip counts in both, by its shares."""
    several = logit.ndim > 1
    score, weight = (logit.softmax(dim=1)[:, -1], target[:, -1]) if several else (logit.sigmoid(), target)
    return {
        "score/natural": (score * weight).sum() / weight.sum().clamp_min(1e-6),
        "score/unnatural": (score * (1 - weight)).sum() / (1 - weight).sum().clamp_min(1e-6),
    }

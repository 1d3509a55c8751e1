"""Pattern enhancement: one step of maximiser, minimiser and, if there are any, their discriminators.

The paper's Eq. 6, L = L_sim + L_cyc + L_adv + λ·L_AM, for both generators in one backward pass. A step
makes four generator passes (two without a cycle): what w₊ and w₋ make of x serves similarity,
activation, adversary and as the other's input alike. The classifier judges both pictures in one pass and
is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spacex.attribution.inference import prepare_classifier
from spacex.model_card import Scaling
from spacex.models.discriminator import Discriminator
from spacex.models.generator import Generator
from spacex.training import losses
from spacex.training.augment import Blotches, blotched, draw_blotches, jitter, zoomed
from spacex.training.batches import seeded
from spacex.training.distributed import SINGLE, Distributed, frozen, unwrap_ddp
from spacex.training.gradient_probe import GradientProbe, clip_gradients
from spacex.training.image_pool import ImagePool
from spacex.training.losses import Direction
from spacex.training.presets import Preset

ROLES: tuple[tuple[str, Direction], ...] = (("maximiser", "raise"), ("minimiser", "lower"))
"""The two generators, and where each is to push the score."""


@dataclass(frozen=True)
class ExplainedClassifiers:
    """What the generators explain, fixed for a run."""

    classifiers: Sequence[nn.Module]
    """Frozen, in eval mode; the first is the explained one, further ones make the change transfer."""
    scaling: Scaling
    """Reflectance to the classifiers' units."""
    spread: tuple[float, ...]
    """Standard deviation of each band's reflectance, the unit in which changes are logged."""


class PatternLearner:
    """Both generators and their discriminators, with everything that changes while they learn.

    Args:
        preset: what is trained with which numbers.
        task: what they explain.
        steps: length of the run, for the schedule.
        seed: names the initial weights and all draws.
        distributed: who trains together.
    """

    def __init__(
        self, preset: Preset, task: ExplainedClassifiers, steps: int, seed: int = 0, distributed: Distributed = SINGLE
    ) -> None:
        self.preset, self.task, self.distributed, self.seed = preset, task, distributed, seed
        self.step_number = 0
        # a fifth of a step less than with the networks as they were trained
        self.classifiers = [
            distributed.compiled(prepare_classifier(c, "float32", distributed.device)) for c in task.classifiers
        ]
        self.spread = torch.tensor(task.spread, device=distributed.device).view(1, -1, 1, 1)
        torch.manual_seed(seed)
        bands = {"bands": len(task.scaling.mean)}
        shape = preset.generator.model_copy(update=bands)
        self.generators = {side: Generator(shape) for side, _ in ROLES}
        self.averages = {side: self._average(net) for side, net in self.generators.items()} if preset.average else {}
        self.discriminators: dict[str, nn.Module] = {}
        if preset.discriminator is not None:
            judge = preset.discriminator.model_copy(update=bands)
            self.discriminators = {side: Discriminator(judge) for side, _ in ROLES}
        self.networks = {
            **self._named("", self.generators),
            **self._named("discriminator of ", self.discriminators),
        }
        self.networks = {name: distributed.wrap(network) for name, network in self.networks.items()}
        self.optimisers = {name: self._optimiser(name) for name in self.networks}
        self.schedules = {name: LambdaLR(o, self._factor(steps)) for name, o in self.optimisers.items()}
        self.pools = {side: ImagePool(preset.pool, seed + i) for i, side in enumerate(self.discriminators)}

    def step(self, x: Tensor, partners: Tensor | None = None, activate: bool = True) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            x: chips to change, (n, bands, 256, 256) float32 reflectance.
            partners: as many chips of the other class, for a class-conditional adversary.
            activate: False while pre-training, without L_AM.

        Returns:
            Scalars on the device: ``loss/<term>/<generator>``, ``grad/<term>/<generator>``,
            ``score/x|plus|minus``, ``change/plus|minus`` (mean, in standard deviations).
        """
        for network in self.networks.values():
            network.train()
        u = self._standardised(self._blotched(x))
        made, log = self._generator_step(u, activate)
        if self.discriminators:
            log |= self._discriminator_step(u, made, None if partners is None else self._standardised(partners))
        for schedule in self.schedules.values():
            schedule.step()
        self.step_number += 1
        return log

    def result(self, side: str) -> nn.Module:
        """The generator as the checkpoint gets it: the mean of its weights if the preset keeps one."""
        if side in self.averages:
            mean: nn.Module = self.averages[side].module
            return mean.eval()
        return unwrap_ddp(self.networks[side]).eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while learning."""
        return {
            "step": self.step_number,
            "networks": {name: unwrap_ddp(network).state_dict() for name, network in self.networks.items()},
            "averages": {side: mean.state_dict() for side, mean in self.averages.items()},
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "schedules": {name: s.state_dict() for name, s in self.schedules.items()},
            "pools": {side: pool.state_dict() for side, pool in self.pools.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.step_number = state["step"]
        for name, network in self.networks.items():
            unwrap_ddp(network).load_state_dict(state["networks"][name])
            self.optimisers[name].load_state_dict(state["optimisers"][name])
            self.schedules[name].load_state_dict(state["schedules"][name])
        for side, mean in self.averages.items():
            mean.load_state_dict(state["averages"][side])
        for side, pool in self.pools.items():
            pool.load_state_dict(state["pools"][side])

    def _generator_step(self, u: Tensor, activate: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        probe = GradientProbe()
        judges = [unwrap_ddp(d) for d in self.discriminators.values()]
        with frozen(*judges), self.distributed.autocast():
            before = self._unchanged(u)
            made = {side: self.networks[side](u) for side, _ in ROLES}
            logits = self._judged(made, probe) if activate else None
            terms = self._terms(u, made, probe) | self._activations(logits, before)
            total = torch.stack(list(terms.values())).sum()
        for side, _ in ROLES:
            self.optimisers[side].zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norms = {f"grad/all/{side}": clip_gradients(self.networks[side], self.preset.clip) for side, _ in ROLES}
        for side, _ in ROLES:
            self.optimisers[side].step()
            if side in self.averages:
                self.averages[side].update_parameters(unwrap_ddp(self.networks[side]))
        made = {side: picture.detach() for side, picture in made.items()}
        losses_now = {f"loss/{name}": term.detach() for name, term in terms.items()}
        return made, {**losses_now, **probe.norms(), **norms, **self._seen(u, made, before[0], logits)}

    def _terms(self, u: Tensor, made: dict[str, Tensor], probe: GradientProbe) -> dict[str, Tensor]:
        """Every weighted term of Eq. 6 that has a factor, by ``term/generator``, except the activation."""
        weights, terms = self.preset.weights, {}
        for side, _ in ROLES:
            picture = probe.probe(made[side], f"similarity/{side}")
            terms[f"similarity/{side}"] = weights.similarity * losses.similarity(u, picture, self.preset.change_norm)
            if weights.smooth:
                change = probe.probe(made[side], f"smooth/{side}") - u
                terms[f"smooth/{side}"] = weights.smooth * losses.total_variation(change, self.preset.change_norm)
            if weights.edges:
                picture = probe.probe(made[side], f"edges/{side}")
                terms[f"edges/{side}"] = weights.edges * losses.added_edges(u, picture, self.preset.change_norm)
            if side in self.discriminators:
                patches = unwrap_ddp(self.networks[f"discriminator of {side}"])(
                    probe.probe(made[side], f"adversary/{side}")
                )
                terms[f"adversary/{side}"] = weights.adversary * losses.fool(patches, self.preset.adversary)
        if weights.cycle:
            terms |= self._cycles(u, made, probe)
        return terms

    def _cycles(self, u: Tensor, made: dict[str, Tensor], probe: GradientProbe) -> dict[str, Tensor]:
        terms = {}
        for side, other in (("maximiser", "minimiser"), ("minimiser", "maximiser")):
            start = made[other]
            if self.preset.cycle_trains == "own":
                start = start.detach()
            restored = self.networks[side](probe.probe(start, f"cycle/{other}"))
            loss = losses.cycle(u, probe.probe(restored, f"cycle/{side}"))
            terms[f"cycle/{side}"] = self.preset.weights.cycle * loss
        return terms

    @torch.no_grad()
    def _unchanged(self, u: Tensor) -> list[Tensor]:
        """Of each classifier the logits of x: what a margin starts from, and the first's for the log."""
        return [classifier(u).float() for classifier in self.classifiers]

    def _judged(self, made: dict[str, Tensor], probe: GradientProbe) -> list[tuple[Tensor, ...]]:
        """Of each classifier the logits of x₊ and of x₋, from one pass over both."""
        both = torch.cat([probe.probe(made[side], f"activation/{side}") for side, _ in ROLES])
        if self.preset.jitter:
            both = jitter(both, self.preset.jitter, seeded("jitter", self.seed, self.step_number))
        if self.preset.zoom < 1:
            both = zoomed(both, self.preset.zoom, seeded("zoom", self.seed, self.step_number))
        return [classifier(both).chunk(2) for classifier in self.classifiers]

    def _activations(self, logits: list[tuple[Tensor, ...]] | None, before: list[Tensor]) -> dict[str, Tensor]:
        if logits is None or not self.preset.weights.activation:
            return {}
        factor = self.preset.weights.activation / len(logits)
        sides = zip(ROLES, zip(*logits, strict=True), strict=True)
        return {
            f"activation/{side}": factor
            * torch.stack([self._pushed(z, of_x, direction) for z, of_x in zip(each, before, strict=True)]).sum()
            for (side, direction), each in sides
        }

    def _pushed(self, logit: Tensor, before: Tensor, direction: Direction) -> Tensor:
        if self.preset.activation == "bce":
            return losses.activation_bce(logit, direction)
        margin = self.preset.margin_plus if direction == "raise" else self.preset.margin_minus * before.clamp_min(1)
        return losses.activation_margin(logit, direction, margin)

    def _discriminator_step(self, u: Tensor, made: dict[str, Tensor], partners: Tensor | None) -> dict[str, Tensor]:
        log = {}
        for side in self.discriminators:
            name = f"discriminator of {side}"
            # moving towards the other class, the minimiser is judged against that class
            real = partners if side == "minimiser" and partners is not None else u
            fake = self.pools[side].swap(made[side])
            with self.distributed.autocast():
                patches = self.networks[name](torch.cat([real, fake]))
                called_real, called_fake = patches.split([len(real), len(fake)])
                loss = losses.discriminate(called_real, called_fake, self.preset.adversary)
            self.optimisers[name].zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimisers[name].step()
            log[f"loss/discriminator/{side}"] = loss.detach()
        return log

    @torch.no_grad()
    def _seen(
        self, u: Tensor, made: dict[str, Tensor], before: Tensor, logits: list[tuple[Tensor, ...]] | None
    ) -> dict[str, Tensor]:
        """Mean scores (of x₊ and x₋ as the loss saw them, where it did) and mean changes."""
        with self.distributed.autocast():
            after = logits[0] if logits else self.classifiers[0](torch.cat([*made.values()])).chunk(2)
        scores = [one.float().sigmoid().mean() for one in (before, *after)]
        log = {f"score/{name}": score for name, score in zip(("x", "plus", "minus"), scores, strict=True)}
        x = self.task.scaling.restore(u)
        for name, picture in zip(("plus", "minus"), made.values(), strict=True):
            log[f"change/{name}"] = ((self.task.scaling.restore(picture) - x).abs() / self.spread).mean()
        return log

    def _blotched(self, x: Tensor) -> Tensor:
        if not self.preset.blotches:
            return x
        generator = seeded("blotches", self.seed, self.step_number)
        drawn = draw_blotches(len(x) * self.distributed.size, x.shape[1], self.preset.blotches, generator)
        mine = slice(len(x) * self.distributed.rank, len(x) * (self.distributed.rank + 1))
        # in reflectance: not every preset's networks see standardised chips
        return blotched(x, Blotches(*(part[mine] for part in drawn)), self.spread)

    def _standardised(self, x: Tensor) -> Tensor:
        return self.task.scaling.standardise(x).contiguous(memory_format=torch.channels_last)

    def _average(self, network: nn.Module) -> AveragedModel:
        mean = get_ema_multi_avg_fn(self.preset.average)  # type: ignore[no-untyped-call]
        return AveragedModel(network, self.distributed.device, multi_avg_fn=mean, use_buffers=True)

    def _optimiser(self, name: str) -> torch.optim.Adam:
        rate = self.preset.discriminator_rate if name.startswith("discriminator") else self.preset.rate
        return torch.optim.Adam(self.networks[name].parameters(), rate, self.preset.betas)

    def _factor(self, steps: int) -> Any:
        return lambda step: rate_factor(step, steps, self.preset.warmup, self.preset.decay_from)

    @staticmethod
    def _named(prefix: str, networks: dict[str, Any]) -> dict[str, nn.Module]:
        return {f"{prefix}{side}": network for side, network in networks.items()}


def rate_factor(step: int, steps: int, warmup: int, decay_from: float) -> float:
    """Factor of the rates at `step` (from 0) of `steps`: up over `warmup`, level, down to 0 at the end."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    left = max(steps * (1 - decay_from), 1e-9)
    return rise * min(1.0, max(0.0, (steps - step) / left))

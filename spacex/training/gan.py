"""Train the generators: one step of maximiser, minimiser and, where the preset has them, their discriminators.

The loss is the paper's Eq. 6, L = L_sim + L_cyc + L_adv + λ·L_AM, for both generators in one backward pass. A step
runs the generators four times (twice without a cycle loss): w₊(x) and w₋(x) serve the similarity, activation and
adversarial terms and are also the other generator's input for the cycle. The frozen classifier scores both at once.
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
from spacex.training.augment import add_blotches, draw_blotches, random_jitter, random_zoom
from spacex.training.batches import seeded
from spacex.training.distributed import SINGLE, Distributed, frozen, unwrap_ddp
from spacex.training.gradient_probe import GradientProbe, clip_gradients
from spacex.training.image_pool import ImagePool
from spacex.training.losses import Direction
from spacex.training.mixed_inputs import mixed_inputs
from spacex.training.presets import Preset
from spacex.training.schedule import rate_factor

ROLES: tuple[tuple[str, Direction], ...] = (("maximiser", "raise"), ("minimiser", "lower"))
"""The two generators, and the direction in which each moves the score."""

ByRole = dict[str, Tensor]
"""A batch for each of the two, or of each."""


@dataclass(frozen=True)
class ExplainedClassifiers:
    """What the generators explain; fixed for a run."""

    classifiers: Sequence[nn.Module]
    """Frozen, in eval mode; the first is the explained one, further ones make the change transfer."""
    scaling: Scaling
    """Reflectance to the classifiers' units."""
    spread: tuple[float, ...]
    """Standard deviation of each band's reflectance, the unit in which changes are logged."""


class PatternLearner:
    """Both generators and their discriminators, with everything that changes while they learn.

    `steps` is the length of the run, for the learning-rate schedule; `seed` that of the initial weights and all draws.
    """

    def __init__(
        self,
        preset: Preset,
        explained: ExplainedClassifiers,
        steps: int,
        seed: int = 0,
        distributed: Distributed = SINGLE,
    ) -> None:
        self.preset, self.explained, self.distributed, self.seed = preset, explained, distributed, seed
        self.step_number = 0
        device = distributed.device
        # fused for inference, which makes a step a fifth shorter
        prepared = [prepare_classifier(c, "float32", device) for c in explained.classifiers]
        self.classifiers = [distributed.compiled(c) for c in prepared]
        self.spread = torch.tensor(explained.spread, device=device).view(1, -1, 1, 1)
        torch.manual_seed(seed)
        bands = {"bands": len(explained.scaling.mean)}
        shape = preset.generator.model_copy(update=bands)
        networks: dict[str, nn.Module] = {role: Generator(shape) for role, _ in ROLES}
        self.averages: dict[str, AveragedModel] = {}
        if preset.average:
            ema = get_ema_multi_avg_fn(preset.average)  # type: ignore[no-untyped-call]
            for role, _ in ROLES:
                self.averages[role] = AveragedModel(networks[role], device, multi_avg_fn=ema, use_buffers=True)
                # read at every update: on a GPU the CPU would wait for it
                self.averages[role].n_averaged = self.averages[role].n_averaged.cpu()
        self.pools: dict[str, ImagePool] = {}
        if preset.discriminator is not None:
            patch_gan = preset.discriminator.model_copy(update=bands)
            networks |= {f"discriminator of {role}": Discriminator(patch_gan) for role, _ in ROLES}
            # pools exist even with size 0: their keys say which generators have a discriminator
            self.pools = {role: ImagePool(preset.pool, seed + i) for i, (role, _) in enumerate(ROLES)}
        self.networks = {name: distributed.wrap(network) for name, network in networks.items()}
        # one Adam per network, as the paper's code has it
        self.optimisers, self.schedules = {}, {}
        for name, network in self.networks.items():
            rate = preset.discriminator_rate if name.startswith("discriminator") else preset.rate
            self.optimisers[name] = torch.optim.Adam(network.parameters(), rate, preset.betas)
            self.schedules[name] = LambdaLR(
                self.optimisers[name], lambda step: rate_factor(step, steps, preset.warmup, preset.decay_from)
            )

    def step(self, x: Tensor, partners: Tensor | None = None, activate: bool = True) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            x: chips to change, (n, bands, side, side) float32 reflectance.
            partners: as many chips of the other class, for a class-conditional adversary and for mixed inputs.
            activate: False while pre-training, without L_AM.

        Returns:
            Scalars on the device: ``loss/<term>/<generator>``, ``grad/<term>/<generator>``,
            ``score/x|plus|minus``, ``change/plus|minus`` (mean, in standard deviations).
        """
        for network in self.networks.values():
            network.train()
        u = self._standardise(self._add_blotches(x))
        inputs, costs = {role: u for role, _ in ROLES}, {role: torch.ones_like(u[:, :1, :1, :1]) for role, _ in ROLES}
        if partners is not None and self.preset.inputs == "mixed":
            others, cells = (
                self._standardise(self._add_blotches(partners)),
                seeded("cells", self.seed, self.step_number),
            )
            inputs, costs = mixed_inputs(u, others, self.preset, self._score, cells, self.distributed)
        generated, log = self._generator_step(inputs, costs, activate)
        if self.pools:
            other_class = u if partners is None or self.preset.domain == "single" else self._standardise(partners)
            log |= self._discriminator_step(u, generated, other_class)
        for schedule in self.schedules.values():
            schedule.step()
        self.step_number += 1
        return log

    def result(self, role: str) -> nn.Module:
        """The generator that goes into the checkpoint: the running mean of its weights if the preset keeps one."""
        if role in self.averages:
            return self.averages[role].module.eval()
        return unwrap_ddp(self.networks[role]).eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while learning."""
        parts = {key: {name: o.state_dict() for name, o in objects.items()} for key, objects in self._parts().items()}
        return {"step": self.step_number, **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.step_number = state["step"]
        for key, objects in self._parts().items():
            for name, part in objects.items():
                part.load_state_dict(state[key][name])

    def _parts(self) -> dict[str, dict[str, Any]]:
        networks = {name: unwrap_ddp(network) for name, network in self.networks.items()}
        updates: dict[str, Any] = {"optimisers": self.optimisers, "schedules": self.schedules}
        return {"networks": networks, "averages": self.averages, **updates, "pools": self.pools}

    def _generator_step(self, inputs: ByRole, costs: ByRole, activate: bool) -> tuple[ByRole, dict[str, Tensor]]:
        """One update of both generators on their chips; gives x₊ and x₋ (detached, by role) and the log."""
        probe = GradientProbe()
        # Gradients flow through the discriminators to the generators but are not collected in them. They are called
        # unwrapped: a DistributedDataParallel module expects exactly one forward and backward per step.
        discriminators = [unwrap_ddp(self.networks[f"discriminator of {role}"]) for role in self.pools]
        with frozen(*discriminators), self.distributed.autocast():
            with torch.no_grad():  # the logits of x: margins start from them
                before = [self._by_role(classifier, inputs) for classifier in self.classifiers]
            generated = {role: self.networks[role](u) for role, u in inputs.items()}
            logits = self._classify(generated, probe) if activate else None
            terms = self._terms(inputs, generated, costs, probe) | self._activations(logits, before)
            total = torch.stack(list(terms.values())).sum()
        for role, _ in ROLES:
            self.optimisers[role].zero_grad(set_to_none=True)
        # one backward pass for both generators: DDP averages the processes' gradients while it runs
        total.backward()  # type: ignore[no-untyped-call]
        norms = {f"grad/all/{role}": clip_gradients(self.networks[role], self.preset.clip) for role, _ in ROLES}
        for role, _ in ROLES:
            self.optimisers[role].step()
            # in every process alike, since the averaged gradients are
            if role in self.averages:
                self.averages[role].update_parameters(unwrap_ddp(self.networks[role]))
        generated = {role: picture.detach() for role, picture in generated.items()}
        log = {f"loss/{name}": term.detach() for name, term in terms.items()} | probe.norms() | norms
        return generated, log | self._scores(inputs, generated, before[0]["minimiser"], logits)

    @staticmethod
    def _by_role(classifier: nn.Module, inputs: ByRole) -> ByRole:
        """The logits of each generator's chips, from one pass where both have the same."""
        plus, minus = inputs.values()
        of_minus = classifier(minus).float()
        return {"maximiser": of_minus if plus is minus else classifier(plus).float(), "minimiser": of_minus}

    def _terms(self, inputs: ByRole, generated: ByRole, costs: ByRole, probe: GradientProbe) -> dict[str, Tensor]:
        """Every term of Eq. 6 whose weight is not 0, weighted, as ``term/generator``; the activation is apart."""
        weights, norm, terms = self.preset.weights, self.preset.change_norm, {}
        for role, plain in inputs.items():
            # penalties are proportional to the change, so that a factor of both pictures is one of theirs
            cost = costs[role]
            u = plain * cost
            # each term reads an alias of its own, so that the probe can tell their gradients apart
            picture = probe.alias(generated[role], f"similarity/{role}") * cost
            terms[f"similarity/{role}"] = weights.similarity * losses.similarity(u, picture, norm)
            if weights.smooth:
                delta = probe.alias(generated[role], f"smooth/{role}") * cost - u
                terms[f"smooth/{role}"] = weights.smooth * losses.total_variation(delta, norm)
            if weights.edges:
                picture = probe.alias(generated[role], f"edges/{role}") * cost
                terms[f"edges/{role}"] = weights.edges * losses.added_edges(u, picture, norm)
            if role in self.pools:
                discriminator = unwrap_ddp(self.networks[f"discriminator of {role}"])
                patches = discriminator(probe.alias(generated[role], f"adversary/{role}"))
                terms[f"adversary/{role}"] = weights.adversary * losses.adversarial(patches, self.preset.adversary)
        if weights.cycle:
            terms |= self._cycles(inputs, generated, probe)
        return terms

    def _cycles(self, inputs: ByRole, generated: ByRole, probe: GradientProbe) -> dict[str, Tensor]:
        """w₊(w₋(x)) and w₋(w₊(x)) against x, named after the generator that runs second."""
        terms = {}
        for role, other in (("maximiser", "minimiser"), ("minimiser", "maximiser")):
            start = generated[other]
            if self.preset.cycle_trains == "own":
                start = start.detach()
            restored = self.networks[role](probe.alias(start, f"cycle/{other}"))
            loss = losses.cycle(inputs[other], probe.alias(restored, f"cycle/{role}"))
            terms[f"cycle/{role}"] = self.preset.weights.cycle * loss
        return terms

    def _classify(self, generated: dict[str, Tensor], probe: GradientProbe) -> list[tuple[Tensor, ...]]:
        """The logits of x₊ and of x₋, (n,) each, of every classifier, from one pass over both."""
        both = torch.cat([probe.alias(generated[role], f"activation/{role}") for role, _ in ROLES])
        # at another place and scale each step: noise that lowers the score only at one exact place must not pay
        if self.preset.jitter:
            both = random_jitter(both, self.preset.jitter, seeded("jitter", self.seed, self.step_number))
        if self.preset.zoom < 1:
            both = random_zoom(both, self.preset.zoom, seeded("zoom", self.seed, self.step_number))
        return [classifier(both).chunk(2) for classifier in self.classifiers]

    def _activations(self, logits: list[tuple[Tensor, ...]] | None, before: list[ByRole]) -> dict[str, Tensor]:
        """λ·L_AM of both generators, averaged over the classifiers."""
        preset, terms = self.preset, {}
        if logits is None or not preset.weights.activation:
            return {}
        for index, (role, direction) in enumerate(ROLES):
            each = []
            for of_x, of_generated in zip(before, logits, strict=True):
                if preset.activation == "bce":
                    each.append(losses.activation_bce(of_generated[index], direction))
                    continue
                # the margin grows with how far the chip's own logit lies on the other side
                raises = direction == "raise"
                share, far = (preset.margin_plus, -of_x[role]) if raises else (preset.margin_minus, of_x[role])
                each.append(losses.activation_margin(of_generated[index], direction, share * far.clamp_min(1)))
            terms[f"activation/{role}"] = preset.weights.activation / len(logits) * torch.stack(each).sum()
        return terms

    def _discriminator_step(self, u: Tensor, generated: ByRole, partners: Tensor) -> dict[str, Tensor]:
        log = {}
        for role, pool in self.pools.items():
            name = f"discriminator of {role}"
            # a minimiser that moves towards the other class is compared with real chips of that class
            real = partners if role == "minimiser" else u
            with self.distributed.autocast():
                # real and fake in one forward pass: DDP allows one per step
                patches = self.networks[name](torch.cat([real, pool.swap(generated[role])]))
                of_real, of_fake = patches.split([len(real), len(generated[role])])
                loss = losses.discriminator(of_real, of_fake, self.preset.adversary)
            self.optimisers[name].zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimisers[name].step()
            log[f"loss/discriminator/{role}"] = loss.detach()
        return log

    @torch.no_grad()
    def _scores(
        self, inputs: ByRole, generated: ByRole, before: Tensor, logits: list[tuple[Tensor, ...]] | None
    ) -> dict[str, Tensor]:
        """Mean scores of w₋'s x, x₊ and x₋ (jittered as in the loss, where there is one) and mean changes."""
        with self.distributed.autocast():
            after = logits[0] if logits else self.classifiers[0](torch.cat([*generated.values()])).chunk(2)
        scores = [logit.float().sigmoid().mean() for logit in (before, *after)]
        log = {f"score/{name}": score for name, score in zip(("x", "plus", "minus"), scores, strict=True)}
        restore = self.explained.scaling.restore
        for name, (role, picture) in zip(("plus", "minus"), generated.items(), strict=True):
            log[f"change/{name}"] = ((restore(picture) - restore(inputs[role])).abs() / self.spread).mean()
        return log

    @torch.no_grad()
    def _score(self, u: Tensor) -> Tensor:
        with self.distributed.autocast():
            score: Tensor = self.classifiers[0](u).float().sigmoid()
        return score

    def _add_blotches(self, x: Tensor) -> Tensor:
        if not self.preset.blotches:
            return x
        # drawn for the global batch, so that two processes see what one would; in reflectance, because not every
        # preset's networks see standardised chips
        generator = seeded("blotches", self.seed, self.step_number)
        blotches = draw_blotches(len(x) * self.distributed.size, x.shape[1], self.preset.blotches, generator)
        return add_blotches(x, blotches.shard(len(x), self.distributed.rank), self.spread)

    def _standardise(self, x: Tensor) -> Tensor:
        return self.explained.scaling.standardise(x).contiguous(memory_format=torch.channels_last)

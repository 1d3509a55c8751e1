"""Images per second of a training step of the maximiser and minimiser, ours against one of the published shape.

    python tests/benchmarks/gan_step.py
    python tests/benchmarks/gan_step.py --gpu --base 64 --blocks 12 --batch 16

Same base width, blocks, levels, chips, classifier and machine, one run, steps taken in turn. The published shape is
what ``cyclegan.py`` of ahmedemam576/SpacEX @ 2c6df0d does per step, written down again here: six generator passes
(identity and fake are computed separately though they are the same picture), instance norm, a direct picture,
two PatchGAN discriminators with pools of 50, least squares, four Adams, float32, contiguous. Its activation term is
computed here on both fakes, because without it the step would not train what ours trains.
``ours`` is the `delta` preset; ``ours without probe`` the same without measuring each term's gradient norm.
On a GPU a fourth row adds bfloat16 and torch.compile to ours against its eager float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.model_card import Scaling
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.discriminator import Discriminator, DiscriminatorSettings
from spacex.models.generator import Generator, GeneratorSettings
from spacex.training.distributed import Distributed
from spacex.training.gan import ExplainedClassifiers, PatternLearner
from spacex.training.gradient_probe import GradientProbe
from spacex.training.image_pool import ImagePool
from spacex.training.presets import DELTA

Step = Callable[[Tensor], object]


def published(shape: GeneratorSettings, classifier: nn.Module, device: torch.device) -> Step:
    """The published step: generators, then both discriminators."""
    direct = shape.model_copy(update={"form": "direct", "norm": "instance", "pool": "stride"})
    up, down = Generator(direct).to(device), Generator(direct).to(device)
    discriminators = [Discriminator(DiscriminatorSettings(base=shape.base, norm="instance")).to(device) for _ in "ab"]
    pools = [ImagePool(50, i) for i in range(2)]
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (up, down, *discriminators)]
    classifier = classifier.to(device)

    def step(x: Tensor) -> None:
        for adam in adams[:2]:
            adam.zero_grad()
        same = F.l1_loss(up(x), x) + F.l1_loss(down(x), x)
        fakes = [up(x), down(x)]
        cycles = F.l1_loss(down(fakes[0]), x) + F.l1_loss(up(fakes[1]), x)
        adversarial = sum(
            (discriminator(fake) - 1).square().mean() for discriminator, fake in zip(discriminators, fakes, strict=True)
        )
        logits = [classifier(fake) for fake in fakes]
        active = F.softplus(-logits[0]).mean() + F.softplus(logits[1]).mean()
        (13 * same + 5 * cycles + adversarial + 5 * active).backward()
        adams[0].step()
        adams[1].step()
        for discriminator, pool, fake, adam in zip(discriminators, pools, fakes, adams[2:], strict=True):
            adam.zero_grad()
            kept = pool.swap(fake.detach())
            (((discriminator(x) - 1).square().mean() + discriminator(kept).square().mean()) / 2).backward()
            adam.step()

    return step


def ours(shape: GeneratorSettings, classifier: nn.Module, distributed: Distributed) -> Step:
    """A step of the `delta` preset."""
    preset = DELTA.model_copy(update={"generator": shape})
    task = ExplainedClassifiers([classifier], Scaling.identity(3), (1.0,) * 3, {"raise": 2.0, "lower": 2.0})
    return PatternLearner(preset, task, 1000, 0, distributed).step


@contextmanager
def without_probe() -> Iterator[None]:
    """Within the block no gradient norm is measured per term."""
    probe = GradientProbe.alias
    GradientProbe.alias = lambda self, picture, name: picture  # type: ignore[method-assign]
    try:
        yield
    finally:
        GradientProbe.alias = probe  # type: ignore[method-assign]


def main() -> None:
    """Time the steps in turn, and print the best of each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("base", 16), ("blocks", 3), ("downs", 2), ("batch", 4), ("rounds", 3), ("threads", 0)):
        options.add_argument(f"--{name}", type=int, default=value)
    options.add_argument("--gpu", action="store_true")
    chosen = options.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    device = torch.device("cuda" if chosen.gpu else "cpu")
    shape = GeneratorSettings(base=chosen.base, cap=4 * chosen.base, downs=chosen.downs, blocks=chosen.blocks, stem=7)
    distributed = Distributed(device=device, precision="float32", compile=False)
    rows: dict[str, Step] = {
        "published shape, float32": published(shape, _classifier(), device),
        "ours, float32": ours(shape, _classifier(), distributed),
        "ours without probe, float32": ours(shape, _classifier(), distributed),
        "ours, bfloat16": ours(shape, _classifier(), Distributed(device=device, precision="bfloat16", compile=False)),
    }
    if chosen.gpu:
        rows["ours, bfloat16, compiled"] = ours(shape, _classifier(), Distributed(device=device, precision="bfloat16"))
    _report(rows, torch.rand(chosen.batch, 3, 256, 256, device=device), chosen.rounds)


def _report(rows: dict[str, Step], x: Tensor, rounds: int) -> None:
    best = dict.fromkeys(rows, float("inf"))
    for name in chain(*[rows] * (rounds + 1)):  # the first round warms up
        with without_probe() if "without" in name else _nothing():
            best[name] = min(best[name], _seconds(rows[name], x))
    first = best[next(iter(rows))]
    for name, seconds in best.items():
        print(f"{name:30s} {len(x) / seconds:8.2f} images/s   {first / seconds:5.2f} x")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _seconds(step: Step, x: Tensor) -> float:
    start = time.perf_counter()
    step(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _classifier() -> nn.Module:
    torch.manual_seed(0)
    return Classifier(ClassifierSettings(base=8)).eval().requires_grad_(False)


if __name__ == "__main__":
    main()

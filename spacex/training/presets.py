"""What is trained with which numbers: small frozen settings, and where every number comes from.

``PRESETS`` names four ways to train the maximiser and the minimiser; ``ClassifierRecipe`` is the
classifier's. Change one with ``PRESETS["delta"].model_copy(update={...})``; a checkpoint's card records
the values that were used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from spacex.errors import RequestError
from spacex.models.discriminator import DiscriminatorSettings
from spacex.models.generator import GeneratorSettings
from spacex.settings import Settings, checked
from spacex.training import losses
from spacex.training.losses import Adversary

S = TypeVar("S", bound=Settings)

FORMER_NAMES = {"raised": "margin_plus", "lowered": "margin_minus", "size": "change_norm"}
"""Names of a preset's settings in earlier versions; still read from runs and still accepted when typed."""


def with_overrides(settings: S, changes: Iterable[str]) -> S:
    """A copy of any settings with some values replaced and checked.

    Args:
        settings: what to start from.
        changes: ``name=value`` each, inner names with dots (``generator.base=16``), values JSON or text.

    Raises:
        RequestError: if a name is unknown or a value does not fit.
    """
    plain = settings.model_dump()
    for change in changes:
        name, _, text = change.partition("=")
        *path, last = name.strip().split(".")
        place = plain
        for step in path:
            inner = place.get(step)
            place = inner if isinstance(inner, dict) else {}
        if last not in place:
            last = FORMER_NAMES.get(last, last)
        if last not in place:
            names = ", ".join(sorted(place)) or "no setting there"
            raise RequestError(f"no setting {name!r}", got=change, expected=names)
        place[last] = _value(text)
    return checked(lambda: type(settings).model_validate(plain))


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Weights(Settings):
    """Factors of the terms in the generators' loss (the paper's Eq. 6; the last two are ours)."""

    similarity: float = Field(ge=0)
    cycle: float = Field(ge=0)
    adversary: float = Field(ge=0)
    activation: float = Field(ge=0)
    smooth: float = Field(default=0.0, ge=0)
    """Of the change's total variation."""
    edges: float = Field(default=0.0, ge=0, exclude_if=lambda factor: factor == 0)
    """Of the edges that a generated picture has and x has not: patterns are to be taken away or deepened, not added.
    Unsaid where it is 0, so that runs and cards from before there was a choice stay what they were."""


class Preset(Settings):
    """One way to train the maximiser and the minimiser."""

    name: str
    units: Literal["reflectance", "sigma"]
    """What the networks see, plain or standardised per band; the classifier must have been trained in it."""
    generator: GeneratorSettings
    discriminator: DiscriminatorSettings | None = None
    """None trains without an adversary: no discriminators, no pools."""
    domain: Literal["single", "class"] = "single"
    """Whose pictures count as real: the input domain (paper), or the class a generator moves towards."""
    adversary: Adversary = "bce"
    activation: Literal["bce", "margin"]
    margin_plus: float = Field(default=3.0, gt=0)
    """Margin of x₊: the logit that it shall rise above."""
    margin_minus: float = Field(default=0.75, gt=0)
    """Margin of x₋, chip by chip: it shall fall below −margin_minus·max(z, 1), z being the logit of its own x."""
    weights: Weights
    change_norm: losses.Size = "l1"
    """How the size of a change, and its total_variation, are measured."""
    cycle_trains: Literal["both", "own"] = "both"
    """Eq. 6 writes L_max(w₊, w₋): a cycle trains both generators; ``own`` only the one it is named after."""
    inputs: Literal["natural", "all"] = "natural"
    """Which chips the generators learn on."""
    blotches: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda share: share == 0)
    """Share of the chips that carry blotches of a foreign colour, so that what is new is not redrawn for being new.
    For land with patterns that no training chip shows; costs some of how well the maps point at those that they do.
    Unsaid where it is 0, so that runs and cards from before there was a choice stay what they were."""
    jitter: int = Field(default=0, ge=0)
    """Shift in pixels, with a random quarter turn and flip, of w(x) before the classifier; 0 is off."""
    zoom: float = Field(default=1.0, gt=0, le=1)
    """Smallest side, as a share of a chip, of the squares of w(x) that are enlarged before the classifier looks; 1 is
    off."""
    pool: int = Field(default=0, ge=0)
    """Earlier fakes kept per discriminator (CycleGAN's history buffer)."""
    rate: float = Field(gt=0)
    discriminator_rate: float = Field(default=4e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    warmup: int = Field(default=0, ge=0)
    """Steps over which the rates rise linearly from zero."""
    decay_from: float = Field(default=1.0, ge=0, le=1)
    """Share of the run after which the rates fall linearly to zero; 1 keeps them."""
    clip: float | None = None
    """Largest gradient norm per generator; None does not clip."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of the running mean of the weights that is kept; 0 keeps the last weights."""
    batch: int = Field(gt=0)
    epochs: int = Field(gt=0)
    pretrain: int = Field(default=0, ge=0)
    """First epochs, of `epochs`, without the activation term."""
    note: str = ""
    """A warning that goes into the card and the help."""

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {FORMER_NAMES.get(name, name): value for name, value in values.items()}


PAPER = Preset(
    name="paper",
    units="reflectance",
    generator=GeneratorSettings(form="direct", norm="instance", base=64, cap=256, downs=3, blocks=12),
    discriminator=DiscriminatorSettings(base=64, strided=3, norm="instance"),
    activation="bce",
    weights=Weights(similarity=1, cycle=1, adversary=1, activation=0.3),
    pool=50,
    rate=2e-4,
    discriminator_rate=2e-4,
    batch=8,
    epochs=200,
    pretrain=50,
)
"""As published (Emam et al. 2024).

From the paper: Figure 2's shape (three pooling levels, twelve residual blocks), PatchGAN 70 × 70, the factors
1, 1, 1 and λ = 0.3, cross-entropy for both the adversary (Eq. 1) and the activation (Eq. 5), pre-training
without L_AM, Adam's betas (0.5, 0.999), a single domain of class-positive chips (Figure 1).
From its code, where the paper is silent: base 64, one Adam per network, rate 2e-4, constant, a pool of
50 fakes. Ours, because neither says: at most 256 channels (2.3 × cheaper than two levels at like
parameters), batch 8, 200 epochs of which 50 pre-train. Loss factors of one are dominated by the
adversary and the activation, because reflectance differences are about 0.01: read the logged gradient
norms.
"""

REPOSITORY = Preset(
    name="repository",
    units="reflectance",
    generator=GeneratorSettings(form="direct", norm="instance", downs=2, blocks=9, pool="stride"),
    discriminator=DiscriminatorSettings(base=64, strided=4, norm="instance"),
    adversary="least-squares",
    activation="bce",
    weights=Weights(similarity=13, cycle=5, adversary=1, activation=5),
    inputs="all",
    pool=50,
    rate=2e-4,
    discriminator_rate=2e-4,
    decay_from=0.005,
    batch=3,
    epochs=1000,
)
"""The published code's sizes and factors (ahmedemam576/SpacEX @ 2c6df0d, ``cyclegan.py``), activation
connected.

From the code: nine blocks at a quarter of the size, base 64, least squares, 13 (its "identity" term is the
paper's L_sim), 5, 1 and λ = 5, a pool of 50, four Adams at 2e-4 that fall linearly from epoch 5 of 1000,
batch 3 (hard-coded in its loader), chips of both classes. Different on purpose: λ multiplies the
cross-entropy on the *generated* chip; the code took L1 on the logit of the real one, a constant. Its
CutMix of the generators' input is left out as well. Its discriminator sees 94 pixels; four strided
layers of ours see 142, three would see 70.
"""

DELTA = Preset(
    name="delta",
    units="sigma",
    generator=GeneratorSettings(form="delta", norm="none", base=32, cap=128, downs=3, blocks=12, limit=3.0),
    activation="margin",
    weights=Weights(similarity=1, cycle=0, adversary=0, activation=0.3, smooth=0.3, edges=10),
    change_norm="group",
    jitter=6,
    zoom=0.625,
    rate=1e-3,
    betas=(0.9, 0.99),
    warmup=50,
    decay_from=0.6,
    clip=1.0,
    average=0.99,
    batch=12,
    epochs=12,
)
"""The default: a small norm-free change, stopped by a margin, without an adversary.

From our trials on planted truth (96-pixel chips, two cores): no normalisation and zero-initialised branches,
x + 3σ·tanh(h/3) in per-band standard deviations, rate 1e-3 after 50 warm-up steps with a linear fall over the
last 40 %, gradient norm at most 1, batch 12, 300 steps. No adversary: the single-domain one left a residue on a
pattern the classifier ignores.
From the embedded world's validation split (``spacex/synthetic/weights/README.md``): the margin; the change's total
variation, and a random turn, flip and shift before the classifier looks. Both keep the change from being noise that
only this classifier at this very place would mind, and the path map gains .04 in IoU. There the single-domain
adversary pointed worse than none as well. Charging a pixel for all bands together and showing the classifier squares
of the picture enlarged as well gain another .03. Where a classifier takes fields for unnatural, to strew green spots
is cheaper than to take a mire away; spots have edges, so the edges that a picture has and x has not are charged for:
.68 instead of .45 for one such classifier, and no difference for the one that ships. With the paper's 0.3 for the
activation more x₋ get below one half than with 0.1, and lift is the same; with it a maximiser that may draw edges
strokes red lines along clear-cuts, and |x₊ − x₋| points at those (.59; with both charged .79). No blotches: with them
on every chip the generators leave alone what they have not seen, and bare fells with it.
The margins: a logit of -1.5 asked of every x₋ is much of a chip that the classifier is hardly sure of and little of
one that it is very sure of; three quarters of its own logit turn nearly all, and the maps stay what they were.
All of it turns every one and, for one classifier of three, repaints whole chips. A maximiser that is never asked for
anything lowers as often as it raises, and natural chips lie above 1.5 to begin with: it is asked for 3, a score of
.95.
Adam's betas are not the (0.5, 0.999) of adversarial training: where few chips ask for anything, the remembered
gradients are small, and with those the first large one moves every weight by up to 16 rates. Two of six maximisers
ran into the limit of their change so, where tanh has no slope to come back by; with (0.9, 0.99) a step is one rate.
From the speed notes: base 32 with at most 128 channels, three levels, twelve blocks is 30 × cheaper per km² to
map with than the published network.
"""

CLASS_DIFFERENCE = DELTA.model_copy(
    update={
        "name": "class-difference",
        "discriminator": DiscriminatorSettings(base=32, strided=2, spectral=True),
        "domain": "class",
        "weights": Weights(similarity=1, cycle=0, adversary=0.5, activation=0.1),
        "change_norm": "l1",
        "zoom": 1.0,
        "betas": (0.5, 0.999),
        "note": "Shows what differs between the classes, not what the classifier uses: in a planted-shortcut "
        "test it pointed 7.5 times above background at a pattern the classifier provably ignores.",
    }
)
"""Opt-in: `delta` with a class-conditional adversary (w₋ judged against real unnatural chips, w₊ against
natural ones).

From our trials: factor 0.5, spectral norm, receptive field 34, discriminator rate 4e-4. **Not an
explanation of the classifier**: the same map came out with λ_AM = 0 and with a random classifier.
"""

PRESETS: dict[str, Preset] = {p.name: p for p in (PAPER, REPOSITORY, DELTA, CLASS_DIFFERENCE)}


class ClassifierRecipe(Settings):
    """How the classifier is trained.

    From the paper: one-cycle schedule to 0.01, weight decay 1e-4, batch 32, CutMix, rotation, occlusion
    of the activation map (a setting of the model). From its classifier's authors (ASOS; Stomberg et al.
    2023): sigmoid with mean squared error, CutMix of 80 % of the chips with an edge strip of up to half
    the chip, 50 epochs. The optimiser is not reported: AdamW, ours. Ours as well: the limit on the gradient
    norm, without which a single bad batch of few chips can silence the head for good.
    """

    rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    batch: int = Field(default=32, gt=0)
    epochs: int = Field(default=50, gt=0)
    cutmix: float = Field(default=0.8, ge=0, le=1)
    """Share of the chips that are mixed."""
    strip: float = Field(default=0.5, gt=0, le=0.5)
    """Largest share of a chip replaced by a strip of another one."""
    rotate: bool = True
    loss: Literal["mse", "bce"] = "mse"
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all weights; None does not clip."""

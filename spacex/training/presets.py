"""Presets: the numbers with which generators and classifier are trained, and where each number comes from.

``PRESETS`` names four ways to train the maximiser and the minimiser; ``ClassifierRecipe`` is the classifier's. Change
one with `spacex.training.overrides.with_overrides`; a checkpoint's card records the values that were used. Settings
that the JSON omits at their defaults came later: so older cards and runs stay equal.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from spacex.models.discriminator import DiscriminatorSettings
from spacex.models.generator import GeneratorSettings
from spacex.settings import Settings
from spacex.training.losses import Adversary, ChangeNorm
from spacex.training.overrides import FORMER_NAMES

NonNegative = Annotated[float, Field(ge=0)]


class Weights(Settings):
    """Factors of the terms in the generators' loss (the paper's Eq. 6; the last two are ours)."""

    similarity: float = Field(ge=0)
    cycle: float = Field(ge=0)
    adversary: float = Field(ge=0)
    activation: float = Field(ge=0)
    """The paper's λ."""
    smooth: float = Field(default=0.0, ge=0)
    """Of the change's total variation."""
    edges: float = Field(default=0.0, ge=0, exclude_if=lambda factor: factor == 0)
    """Of the edges that a generated chip has and x has not: patterns are to be removed or deepened, not added."""


class Preset(Settings):
    """One way to train the maximiser and the minimiser."""

    name: str
    units: Literal["reflectance", "sigma"]
    """What the generators see and the losses count in: plain reflectance (form ``direct``), or standard deviations per
    band (form ``delta``)."""
    generator: GeneratorSettings
    discriminator: DiscriminatorSettings | None = None
    """None trains without an adversary: no discriminators, no image pools."""
    domain: Literal["single", "class"] = "single"
    """Whose chips count as real: the input domain's (paper), or those of the class a generator moves towards."""
    adversary: Adversary = "bce"
    activation: Literal["bce", "margin"]
    margin_plus: float = Field(default=0.75, gt=0)
    """Target of x₊ relative to its own chip: the logit margin_plus·max(−z, 1), z being the logit of x."""
    margin_minus: float = Field(default=0.75, gt=0)
    """Target of x₋ likewise: the logit −margin_minus·max(z, 1)."""
    weights: Weights
    change_norm: ChangeNorm = "l1"
    """How the size of a change, and of its total variation, is measured."""
    cycle_trains: Literal["both", "own"] = "both"
    """Eq. 6 writes L_max(w₊, w₋): a cycle trains both generators; ``own`` only the one it is named after."""
    inputs: Literal["natural", "all", "mixed"] = "natural"
    """Chips learned on: natural ones, all, or (``mixed``) w₋ natural ones, w₊ half of these and as many others."""
    natural_cost: float = Field(default=1.0, gt=0, exclude_if=lambda factor: factor == 1)
    """With mixed inputs, the factor of what w₊ pays for a change of natural chips: it is to leave them as they are."""
    other_cost: float = Field(default=0.0, ge=0, exclude_if=lambda factor: factor == 0)
    """With mixed inputs, w₋ sees both classes too, and this is the factor of what it pays for a change of chips and
    cells that the classifier, whatever their label, takes for the other class. 0: it sees natural chips alone."""
    cells: int = Field(default=1, ge=1, exclude_if=lambda count: count == 1)
    """Where `other_cost` lets w₋ see both classes: the most cells along the side of a mosaic of a natural chip and
    another one, a power of two. A batch has 1, 2, 4 ... up to so many, at random. 1: whole chips alone."""
    blotches: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda share: share == 0)
    """Share of the chips that get blotches of a foreign colour, so that the generators leave unknown patterns alone.
    For land with patterns that no training chip shows; maps then point less well at what training chips show."""
    jitter: int = Field(default=0, ge=0)
    """Shift in pixels, with a random quarter turn and flip, of w(x) before the classifier; 0 is off."""
    zoom: float = Field(default=1.0, gt=0, le=1)
    """Smallest side, as a share of a chip, of the squares of w(x) that are enlarged before the classifier; 1 is off."""
    pool: int = Field(default=0, ge=0)
    """Earlier generated chips kept per discriminator (CycleGAN's image pool)."""
    rate: float = Field(gt=0)
    discriminator_rate: float = Field(default=4e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's."""
    warmup: int = Field(default=0, ge=0)
    """Steps over which the rates rise linearly from zero; at most a quarter of the run."""
    decay_from: float = Field(default=1.0, ge=0, le=1)
    """Share of the run after which the rates fall linearly to zero; 1 keeps them."""
    clip: float | None = None
    """Largest gradient norm per generator; None does not clip."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of the running mean of the weights that is kept; 0 keeps the last weights."""
    batch: int = Field(gt=0)
    epochs: int = Field(gt=0)
    turns: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda share: share == 0)
    """Of the natural validation chips that w₋ is to turn: in the end its changes are enlarged, by a half at most."""
    pretrain: float = Field(default=0.0, ge=0, lt=1)
    """Share of the epochs, the first ones, without the activation term. A number of epochs is read as its share."""
    note: str = ""
    """A warning that goes into the card and the help."""

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = {FORMER_NAMES.get(name, name): value for name, value in values.items()}
        pretrain, epochs = values.get("pretrain"), values.get("epochs")
        if isinstance(pretrain, int | float) and isinstance(epochs, int | float) and 1 <= pretrain < epochs:
            values["pretrain"] = pretrain / epochs
        return values

    @model_validator(mode="after")
    def _check_units(self) -> Preset:
        if (self.units == "sigma") != (self.generator.form == "delta"):
            words = (
                "a delta, its limit and its losses count in standard deviations (sigma), a direct image is reflectance"
            )
            raise ValueError(f"generators of the form {self.generator.form} do not work in {self.units}: {words}")
        if self.cells & (self.cells - 1):
            raise ValueError(f"cells = {self.cells}, expected a power of two: 1, 2, 4 ...")
        return self

    def unused(self) -> dict[str, str]:
        """As `Settings.unused`."""
        mixed, active = self.inputs == "mixed", self.weights.activation
        sizes = " ".join(f"discriminator.{name}" for name in DiscriminatorSettings.model_fields)
        needed = {
            "a preset with a discriminator": (self.discriminator, "weights.adversary"),
            "a preset with a discriminator, and weights.adversary above 0": (
                self.discriminator and self.weights.adversary, f"domain adversary pool discriminator_rate {sizes}"),
            "inputs = mixed": (mixed, "natural_cost other_cost"),
            "inputs = mixed and other_cost above 0": (mixed and self.other_cost, "cells"),
            "generators of the delta form": (self.generator.form == "delta", "turns"),
            "weights.cycle above 0": (self.weights.cycle, "cycle_trains"),
            "activation = margin": (self.activation == "margin", "margin_plus margin_minus"),
            "weights.activation above 0": (active, "activation margin_plus margin_minus jitter zoom pretrain"),
        }  # fmt: skip
        own = {name: what for what, (there, names) in needed.items() if not there for name in names.split()}
        return super().unused() | own

    @property
    def pretrain_epochs(self) -> int:
        """Epochs without the activation term; always fewer than `epochs`, so that every run trains it in the end."""
        return min(round(self.pretrain * self.epochs), self.epochs - 1)


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
    pretrain=0.25,
)
"""As published (Emam et al. 2024).

From the paper: the shape of Figure 2 (three pooling levels, twelve residual blocks), PatchGAN 70 x 70, the factors
1, 1, 1 and λ = 0.3, cross-entropy for both the adversary (Eq. 1) and the activation (Eq. 5), pre-training without
L_AM, Adam's betas (0.5, 0.999), a single domain of class-positive chips (Figure 1).
From its repository, where the paper is silent: base 64, one Adam per network, rate 2e-4, an image pool of 50 (code);
200 epochs (the README's command).
Ours: at most 256 channels (2.3 times cheaper than two levels with as many parameters); batch 8, where the README's
command has 1 and the code's loader 3; a quarter of the epochs pre-trains; a constant rate, where the main script lets
it fall linearly. With factors of one the adversary and the activation dominate, because differences of reflectance are
about 0.01: read the logged gradient norms.
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
"""Sizes and factors of the published code (ahmedemam576/SpacEX @ 2c6df0d, ``cyclegan.py``), activation connected.

From the code: nine blocks at a quarter of the size, base 64, least squares, the factors 13 (its "identity" term is
the paper's L_sim), 5, 1 and λ = 5, an image pool of 50, four Adams at 2e-4 that fall linearly from epoch 5 of 1000,
batch 3 (hard-coded in its loader), chips of both classes.
Different on purpose: λ multiplies the cross-entropy on the *generated* chip, where the code takes L1 on the logit of
the real one, a constant; its CutMix of the generators' input is left out. Its discriminator sees 94 pixels; four
strided layers of ours see 142, three would see 70.
"""

DELTA = Preset(
    name="delta",
    units="sigma",
    generator=GeneratorSettings(form="delta", norm="none", base=32, cap=128, downs=3, blocks=12, limit=3.0),
    activation="margin",
    weights=Weights(similarity=1, cycle=0, adversary=0, activation=0.3, smooth=0.3, edges=10),
    change_norm="group",
    inputs="mixed",
    natural_cost=10,
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
"""The default: a small change without normalisation, limited by a margin, without an adversary.

All numbers are ours; ``spacex/synthetic/weights/README.md`` has the measurements on the embedded country.

- No normalisation: the result must not depend on where a chip is cut. 32 to 128 channels: 30 times cheaper to map with
  than the published network.
- No adversary: a single-domain one left residue on a pattern that the classifier ignores, and pointed worse.
- Total variation, jitter and zoom keep the change from being noise that lowers the score only at one exact place. The
  group norm charges a pixel for all bands together.
- Edges: if the classifier treats fields as anthropogenic, the minimiser can lower the score cheaply by adding small
  green patches instead of removing the mire. The edge loss penalises edges of x₋ and of x₊ that x has not.
- Margins: a fixed target logit is hard for uncertain chips and easy for confident ones. The target of x₋ is therefore
  -0.75 times the chip's own logit (at most -0.75), which flips nearly all chips; with the whole logit some chips are
  repainted entirely. That of x₊ mirrors it. Natural chips lie beyond it, so that x₊ has something to do only on chips
  of the other class: it sees both, and pays tenfold for a change of natural ones, which it would repaint as well.
- Adam's betas (0.9, 0.99): where few chips still ask for a change, remembered gradients are small, and with the
  (0.5, 0.999) of adversarial training the first large gradient moves every weight by up to 16 rates, into the flat
  part of the tanh. With these a step is one rate.
- No blotches: with them on every chip the generators also leave alone what training chips show, such as bare fell.
"""

CLASS_DIFFERENCE = DELTA.model_copy(
    update={
        "name": "class-difference",
        "discriminator": DiscriminatorSettings(base=32, strided=2, spectral=True),
        "domain": "class",
        "weights": Weights(similarity=1, cycle=0, adversary=0.5, activation=0.1),
        "change_norm": "l1",
        "inputs": "natural",
        "natural_cost": 1.0,
        "zoom": 1.0,
        "betas": (0.5, 0.999),
        "note": "Shows what differs between the classes, not what the classifier uses: in a planted-shortcut "
        "test it pointed 7.5 times above background at a pattern the classifier provably ignores.",
    }
)
"""Opt-in: `delta` with a class-conditional adversary (w₋ against real unnatural chips, w₊ against natural ones).

Ours: factor 0.5, spectral norm, receptive field 34, discriminator rate 4e-4. **Not an explanation of the
classifier**: the same map came out with λ = 0 and with a random classifier.
"""

PRESETS: dict[str, Preset] = {p.name: p for p in (PAPER, REPOSITORY, DELTA, CLASS_DIFFERENCE)}


class ClassifierRecipe(Settings):
    """How the classifier is trained.

    From the paper: one-cycle schedule to 0.01, weight decay 1e-4, batch 32, CutMix. From its classifier's authors
    (ASOS; Stomberg et al. 2023): sigmoid with mean squared error, quarter turns, CutMix of 80 % of the chips with an
    edge strip of up to half the chip, occlusion of the activation map (a setting of the network), 50 epochs. Ours:
    AdamW, since the optimiser is not reported, and the limit on the gradient norm, without which a single bad batch
    of few chips can silence the head for good.
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
    gains: tuple[NonNegative, NonNegative] = Field(default=(0.0, 0.0), exclude_if=lambda spreads: not any(spreads))
    """Standard deviations of the logarithm of a random factor of a chip's reflectance: of all bands, of each band. For
    other scenes, seasons and corrections than those trained on."""
    offsets: tuple[NonNegative, NonNegative] = Field(default=(0.0, 0.0), exclude_if=lambda spreads: not any(spreads))
    """Standard deviations of a random reflectance added to a chip: to all bands, to each band. It stands for haze."""
    average: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda decay: decay == 0)
    """Decay per step of the running mean of the weights that is kept; 0 keeps the last weights."""
    mosaics: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda share: share == 0)
    """Share of the batches that are made into mosaics of 2 x 2 of their own chips, for networks of any chip size."""
    smoothing: float = Field(default=0.0, ge=0, lt=0.5, exclude_if=lambda share: share == 0)
    """Labels are drawn to the mean of all classes by this share of the way."""

    def unused(self) -> dict[str, str]:
        """As `Settings.unused`."""
        return {} if self.cutmix else {"strip": "cutmix above 0"}

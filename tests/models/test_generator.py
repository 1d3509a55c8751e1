"""The generator: the published sizes, the exact identity, and chips that agree where they overlap."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode  # shapes without arithmetic
from torch.utils.flop_counter import FlopCounterMode

from spacex.models.generator import Generator, GeneratorSettings, Residual, alignment, context

SMALL = GeneratorSettings(base=4, cap=8, downs=2, blocks=2, stem=5)
REPOSITORY = GeneratorSettings(form="direct", norm="instance", downs=2, blocks=9, pool="stride")


def awake(settings: GeneratorSettings, seed: int = 0, scale: float = 0.3) -> Generator:
    """A generator whose every weight does something."""
    torch.manual_seed(seed)
    generator = Generator(settings).eval()
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, 0.0, scale)
    return generator.requires_grad_(False)


@pytest.mark.parametrize(
    ("settings", "millions", "billions"),
    [
        (GeneratorSettings(), 16.10, 30.8),
        (GeneratorSettings(bands=10), 16.14, 33.7),
        (GeneratorSettings(form="direct", norm="instance"), 16.10, 30.8),
        (GeneratorSettings(cap=512), 59.75, 77.3),
        (REPOSITORY, 11.38, 56.8),
        (GeneratorSettings(downs=2, base=32), 3.74, 18.1),
    ],
)
def test_parameters_and_multiplications(settings: GeneratorSettings, millions: float, billions: float) -> None:
    with FakeTensorMode(), FlopCounterMode(display=False) as flops, torch.no_grad():
        generator = Generator(settings).eval()
        generator(torch.zeros(1, settings.bands, 256, 256))
    assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(millions, abs=0.011)
    assert flops.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.06)


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_a_fresh_delta_generator_is_exactly_the_identity(norm: str) -> None:
    generator = Generator(SMALL.model_copy(update={"norm": norm}))
    u = torch.randn(2, 3, 64, 64)
    assert torch.equal(generator(u), u)
    assert generator.delta(u).abs().max() == 0
    generator(u).sum().backward()
    assert generator.last.weight.grad is not None
    assert generator.last.weight.grad.abs().sum() > 0  # it can leave the identity


def test_the_change_is_bounded_and_what_was_added() -> None:
    generator = awake(SMALL, scale=5.0)
    u = torch.randn(1, 3, 64, 64)
    delta = generator.delta(u)
    assert 2.9 < delta.abs().max() <= 3
    assert torch.equal(u + delta, generator(u))


@pytest.mark.parametrize("silent", [True, False])
def test_a_threshold_has_a_gradient_everywhere(silent: bool) -> None:
    torch.manual_seed(0)
    generator, u = Generator(SMALL), torch.randn(1, 3, 64, 64)
    if not silent:
        torch.nn.init.normal_(generator.last.weight, 0.0, 0.05)
    sizes = generator.delta(u).detach().square().mean(1).sqrt()
    generator.settings = SMALL.model_copy(update={"threshold": float(sizes.median()) or 0.1})
    delta = generator.delta(u)
    assert float((delta == 0).float().mean()) == pytest.approx(1.0 if silent else 0.5, abs=0.01)
    delta.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in generator.parameters())


def test_the_direct_form_draws_between_zero_and_one() -> None:
    generator = awake(SMALL.model_copy(update={"form": "direct"}))
    u = torch.rand(1, 3, 64, 64)
    out = generator(u)
    assert 0 <= out.min() < out.max() <= 1
    assert torch.allclose(generator.delta(u), out - u)


def test_residual_branches_start_silent() -> None:
    body = Generator(SMALL).body
    blocks = [layer for layer in body if isinstance(layer, Residual)]
    x = torch.randn(1, 8, 8, 8)
    assert len(blocks) == 2
    assert all(torch.equal(block(x), x) for block in blocks)


def corners(generator: Generator, scene: Tensor, shift: int, side: int = 128) -> tuple[Tensor, Tensor]:
    """The two answers on the overlap of two chips `shift` pixels apart in both directions."""
    one = generator.delta(scene[..., :side, :side])[..., shift:, shift:]
    two = generator.delta(scene[..., shift : shift + side, shift : shift + side])[..., : side - shift, : side - shift]
    return one, two


@pytest.mark.parametrize(
    "change",
    [{}, {"pool": "stride"}, {"downs": 1, "blocks": 3}, {"downs": 3, "blocks": 0}, {"stem": 7, "blocks": 1}],
)
def test_norm_free_chips_agree_behind_the_frame(change: dict[str, object]) -> None:
    settings = SMALL.model_copy(update=change)
    frame, scene = context(settings), torch.randn(1, 3, 144, 144)
    one, two = corners(awake(settings), scene, shift=16)
    inner = slice(frame, -frame)
    assert (one - two)[..., inner, inner].abs().max() < 1e-5
    assert (one - two).abs().max() > 1e-3  # the frame is needed


def test_instance_norm_never_agrees() -> None:
    settings = SMALL.model_copy(update={"norm": "instance"})
    scene = torch.randn(1, 3, 144, 144) * torch.linspace(0.2, 2, 144)
    one, two = corners(awake(settings), scene, shift=16)
    inner = slice(32, -32)
    assert (one - two)[..., inner, inner].abs().mean() > 0.01 * one.abs().mean()


@given(phase=st.integers(0, 7), downs=st.integers(1, 3), blocks=st.integers(0, 2), strided=st.booleans())
@hypothesis_settings(max_examples=8)
def test_context_is_what_gradients_reach(phase: int, downs: int, blocks: int, strided: bool) -> None:
    settings = SMALL.model_copy(
        update={
            "downs": downs,
            "blocks": blocks,
            "pool": "stride" if strided else "average",
            "form": "direct",
        }
    )
    generator = awake(settings).double()
    for parameter in generator.parameters():
        parameter.abs_()  # nothing cancels, and no ReLU is shut
    u = torch.full((1, 3, 144, 144), 1e-9, dtype=torch.double, requires_grad=True)
    pixel = 72 + phase
    generator.last(generator.body(u))[0, 0, pixel, pixel].backward()
    rows = u.grad[0, 0].abs().sum(dim=1).nonzero().flatten() - pixel
    assert max(-rows.min(), rows.max()) <= context(settings)
    if phase in (0, alignment(settings) - 1):
        assert max(-rows.min(), rows.max()) >= context(settings) - alignment(settings)


def test_context_of_the_settings_in_use() -> None:
    assert context(SMALL) == 32  # so a frame of 32 pixels is exact
    assert context(GeneratorSettings()) == 226  # more than any frame of a 256-pixel chip


def test_shifts_by_the_alignment_commute_and_others_do_not() -> None:
    generator, u = awake(SMALL), torch.randn(1, 3, 128, 128)
    inner = slice(48, 80)
    for shift, agrees in ((4, True), (8, True), (2, False), (1, False)):
        moved = torch.roll(generator.delta(torch.roll(u, shift, dims=-1)), -shift, dims=-1)
        difference = (moved - generator.delta(u))[..., inner, inner].abs().max()
        assert (difference < 1e-5) == agrees
    assert alignment(SMALL) == 4


def test_the_tail_stays_float32_in_bfloat16() -> None:
    generator = awake(SMALL, scale=0.1)
    u = torch.randn(1, 3, 64, 64)
    seen: list[torch.dtype] = []
    generator.last.register_forward_hook(lambda _, inputs, out: seen.extend([inputs[0].dtype, out.dtype]))
    exact = generator.delta(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, delta = generator(u), generator.delta(u)
    generator.body.to(torch.bfloat16)
    weights = generator(u)
    assert set(seen) == {torch.float32}
    assert out.dtype == weights.dtype == torch.float32
    # unchanged parts of the picture keep every bit of the input
    assert torch.equal(out - delta, u + delta - delta)
    assert (delta - exact).abs().max() < 0.05 * exact.abs().max()


def test_channels_last_gives_the_same_answer() -> None:
    generator, u = awake(SMALL), torch.randn(2, 3, 64, 64)
    wanted = generator(u)
    generator.to(memory_format=torch.channels_last)
    out = generator(u.contiguous(memory_format=torch.channels_last))
    # rounding is relative to the sums inside: 4e-5 of the largest value where the processor has AVX2 only
    assert torch.allclose(out, wanted, rtol=0.0, atol=1e-4 * float(wanted.abs().max()))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_an_odd_stem_is_padded_whatever_the_bands() -> None:
    # the repository pads by the number of bands instead of by half the kernel
    for bands in (1, 3, 10):
        for stem in (3, 5, 7):
            generator = Generator(SMALL.model_copy(update={"bands": bands, "stem": stem}))
            assert generator(torch.zeros(1, bands, 32, 32)).shape == (1, bands, 32, 32)

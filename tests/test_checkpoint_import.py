"""Foreign weights: the same logits as the network they came from, and nothing of theirs is ever run."""

from __future__ import annotations

import itertools
import runpy
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from torch import Tensor, nn

from spacex.checkpoint import load_checkpoint
from spacex.checkpoint_import import import_checked, imported_card, read_state_dict
from spacex.errors import CheckpointError
from spacex.models.asos import convert
from spacex.settings import SENTINEL2_BANDS
from tests.small_eurosat import build_eurosat

JOB = Path(__file__).parents[1] / "jobs" / "import_checkpoint.py"


class Stage(nn.Module):
    """Convolution, batch norm and ReLU under names of their own, with the bias that our network has not."""

    def __init__(self, bands: int, out: int, bias: bool) -> None:
        super().__init__()
        self.thing = nn.ModuleDict({"c": nn.Conv2d(bands, out, 3, padding=1, bias=bias), "n": nn.BatchNorm2d(out)})

    def forward(self, x: Tensor) -> Tensor:
        return self.thing["n"](self.thing["c"](x)).relu()


class ForeignUNet(nn.Module):
    """A U-Net written independently of ours: other names, other order of joining kept the textbook's."""

    def __init__(
        self, bands: int, maps: int, down: list[int], up: list[int], kernel: int, pool: str, bias: bool
    ) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
        self.first = Stage(bands, down[0], bias)
        self.going_down = nn.Sequential(*[Stage(a, b, bias) for a, b in itertools.pairwise(down)])
        self.going_up = nn.ModuleList()
        deep = down[-1]
        for fine, out in zip(down[-2::-1], up, strict=True):
            inner = [nn.Conv2d(deep, fine, kernel, padding=kernel // 2)] if kernel else []
            self.going_up.append(nn.Sequential(*inner, Stage((fine if kernel else deep) + fine, out, bias)))
            deep = out
        self.final = nn.Conv2d(deep, maps, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.first(x)]
        for stage in self.going_down:
            kept.append(stage(self.pool(kept[-1])))
        x = kept.pop()
        for step in self.going_up:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            x = step[0](x) if len(step) == 2 else x
            x = step[-1](torch.cat([kept.pop(), x], dim=1))
        return self.final(x).tanh()


class Foreign(nn.Module):
    """ASOS as its repository builds it: `unet`, then `classifier` with or without dropout."""

    def __init__(
        self,
        bands: int = 3,
        down: tuple[int, ...] = (2, 4, 8),
        up: tuple[int, ...] = (4, 2),
        *,
        kernel: int = 0,
        pool: str = "max",
        bias: bool = True,
        dropout: bool = True,
        classes: int = 1,
        maps: int = 3,
    ) -> None:
        super().__init__()
        self.unet = ForeignUNet(bands, maps, list(down), list(up), kernel, pool, bias)
        drop = [nn.Dropout(0.5)] if dropout else []
        layers: list[nn.Module] = []
        for factor in (1, 2, 4):
            layers += [nn.Conv2d(factor * maps, 2 * factor * maps, 5, stride=3), nn.ReLU(inplace=True), *drop]
        layers += [nn.Flatten(), nn.Linear(512 * maps, 128), nn.ReLU(inplace=True), *drop]
        self.classifier = nn.Sequential(*layers, nn.Linear(128, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.unet(x))


def foreign(**changes) -> Foreign:
    """A foreign network in eval mode whose batch norms have seen something."""
    torch.manual_seed(3)
    model = Foreign(**changes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": False, "bias": False},
        {"bands": 10, "maps": 2},
        {"kernel": 1},
        {"kernel": 3, "bias": False},
        {"down": (2, 4, 8, 8), "up": (4, 2, 2)},  # the last level keeps its width, as in the popular PyTorch U-Net
        {"pool": "average"},
    ],
)
def test_the_import_says_what_the_original_says(changes: dict[str, object]) -> None:
    original = foreign(**changes)
    model = convert(original.state_dict(), pool=changes.get("pool", "max"))
    chips = torch.rand(2, changes.get("bands", 3), 256, 256)
    assert torch.allclose(model(chips), original(chips).squeeze(1), atol=1e-5)
    assert torch.allclose(model.activation_map(chips), original.unet(chips), atol=1e-5)


def test_two_classes_become_one_logit() -> None:
    original = foreign(classes=2)
    chips = torch.rand(2, 3, 256, 256)
    score = convert(original.state_dict())(chips).sigmoid()
    assert torch.allclose(score, original(chips).softmax(dim=1)[:, 1], atol=1e-6)


@pytest.mark.parametrize("form", ["plain", "hparams", "lightning", "wrapped"])
def test_every_plausible_form_is_read(form: str, tmp_path: Path) -> None:
    state = foreign().state_dict()
    settings = {
        "in_channels": 3,
        "unet_activation": nn.Tanh(),
        "final_activation": nn.Sigmoid(),
        "criterion": nn.MSELoss(),
    }
    content = {
        "plain": state,
        "hparams": {"state_dict": state, "hparams": settings},
        "lightning": {
            "epoch": 49,
            "pytorch-lightning_version": "1.8.0",
            "state_dict": state,
            "hyper_parameters": settings,
        },
        "wrapped": OrderedDict((f"module.model.{name}", value) for name, value in state.items()),
    }[form]
    torch.save(content, tmp_path / "x.pt")
    found = read_state_dict(tmp_path / "x.pt")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.victim), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_named_and_never_run(zipped: bool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    torch.save(
        {"state_dict": foreign().state_dict(), "hparams": Malice(victim)},
        tmp_path / "x.pt",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=r"the Python object _?io\.open"):
        read_state_dict(tmp_path / "x.pt")
    assert not victim.exists()
    torch.load(tmp_path / "x.pt", weights_only=False)["hparams"].close()
    assert victim.exists()  # the file was dangerous indeed


def test_a_whole_pickled_model_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save(foreign(), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"Python object .*Foreign.*state_dict"):
        read_state_dict(tmp_path / "x.pt")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    for name, message in (("text.pt", "text.pt"), ("missing.pt", "cannot be read")):
        with pytest.raises(CheckpointError, match=message):
            read_state_dict(tmp_path / name)
    for number, content in enumerate(([1, 2], {"a": 1}, {})):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(CheckpointError, match="holds no weights"):
            read_state_dict(tmp_path / f"{number}.pt")


def without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if part not in name}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"backbone.weight": torch.zeros(1)}, "no ASOS.*backbone"),
        (without(foreign().state_dict(), "unet"), "no ASOS"),
        (without(foreign().state_dict(), "classifier.3"), r"layers \[0, 6, 10, 13\].*\[0, 2, 4, 7, 9\]"),
        (without(foreign().state_dict(), "13.bias"), "no classifier.13.bias"),
        (without(foreign().state_dict(), "going_down.1"), "not one this package can build"),
        (without(foreign().state_dict(), "unet.going"), "not one this package can build"),
        (foreign().state_dict() | {"unet.extra.weight": torch.zeros(3)}, "unknown layer.*unet.extra"),
        (foreign().state_dict() | {"classifier.10.weight": torch.zeros(128, 24)}, "another shape.*256 pixels"),
    ],
)
def test_what_does_not_fit_is_said(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert(state)


def test_bands_follow_from_their_number_or_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"")
    three, ten, four = (convert(foreign(bands=bands).state_dict()) for bands in (3, 10, 4))
    assert imported_card(three, tmp_path / "x.pt").bands == ("B02", "B03", "B04")
    assert imported_card(ten, tmp_path / "x.pt").bands == SENTINEL2_BANDS
    assert imported_card(three, tmp_path / "x.pt", ["B08", "B04", "B03"]).bands == ("B08", "B04", "B03")
    with pytest.raises(CheckpointError, match=r"4 input channels.*--bands"):
        imported_card(four, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="unclear"):
        imported_card(three, tmp_path / "x.pt", ["B02", "B03"])


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """A foreign file that pools by the average, and eight chips labelled by the sign of its own logit."""
    original = foreign(pool="average")
    random = np.random.default_rng(0)
    chips = [random.integers(1, 10_000, (10, 256, 256)).astype(np.uint16) for _ in range(8)]
    bright = [(chip // (1 + 4 * (i % 2))).clip(1) for i, chip in enumerate(chips)]
    seen = torch.stack([torch.from_numpy(chip[:3].astype(np.float32)) / 10_000 for chip in bright])
    logits = original(seen).squeeze(1)
    original.classifier[-1].bias -= logits.median()
    rows = []
    for i, (chip, logit) in enumerate(zip(bright, logits - logits.median(), strict=True)):
        label = int(logit > 0)
        name = f"{'wdpa-II' if label else 'anthropo'}_{i}_0.tif"
        path = tmp_path / "tiles" / "s2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", driver="GTiff", dtype="uint16", count=10, height=256, width=256) as file:
            file.write(chip)
        rows.append((name, 20.0, 60.0 + i, name.split("_")[0], label, "test"))
    columns = ["file", "lon", "lat", "category", "label", "dataset"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "infos.csv", index=False)
    torch.save(original.state_dict(), tmp_path / "asos.pt")
    return tmp_path / "asos.pt", tmp_path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_labelled_chips_tell_how_it_pools_and_whether_it_works(labelled: tuple[Path, Path]) -> None:
    file, root = labelled
    classifier, card = import_checked(file, None, str(root))
    assert card.metrics["average"]["accuracy"] == 1
    assert card.metrics["max"]["accuracy"] < 1
    assert classifier.settings.pool == "average"
    infos = pd.read_csv(root / "infos.csv")
    infos.assign(label=1 - infos["label"]).to_csv(root / "infos.csv", index=False)
    with pytest.raises(CheckpointError, match=r"does not do what its authors report.*accuracy 0"):
        import_checked(file, None, str(root))


def run_job(*arguments: str | Path) -> int:
    """Exit code of the job, run as `python jobs/import_checkpoint.py` runs it, but in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(JOB.parent)
        patch.setattr(sys, "argv", [str(JOB), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(JOB), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "asos.pt", tmp_path / "out"
    torch.save(foreign().state_dict(), file)
    assert run_job(file, "--output", out) == 0
    assert f"checkpoint: {out}" in capsys.readouterr().out
    checkpoint = load_checkpoint(out, bands=("B02", "B03", "B04"))
    chips = torch.rand(1, 3, 256, 256)
    assert torch.allclose(checkpoint.classifier(chips), foreign()(chips).squeeze(1), atol=1e-5)

    file.unlink()
    assert run_job(file, "--output", out) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_program_from_the_command_line_to_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    ).eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.zeros(2, 3, 64, 64),), dynamic_shapes=dynamic)
    torch.export.save(program, file := tmp_path / "mine.pt2")
    data, out = f"eurosat:{build_eurosat(tmp_path / 'eurosat')}", tmp_path / "out"
    assert run_job(file, "--bands", "B04,B03,B02", "--check", data, "--output", out) == 0
    said = capsys.readouterr().out
    checkpoint = load_checkpoint(out)  # without trust
    card = checkpoint.card
    assert (card.bands, card.chip_size, card.data["file"]) == (("B04", "B03", "B02"), 64, "mine.pt2")
    metrics = card.metrics["test"]
    assert f"test: accuracy {metrics['accuracy']:.4f} on {metrics['chips']} chips\ncheckpoint: {out}" in said
    chips = torch.rand(5, 3, 64, 64)
    assert torch.equal(checkpoint.classifier(card.scaling.standardise(chips)), network(chips)[:, 0])


def test_a_program_that_fits_no_chips_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    for sizes, said in (((4, 8, 9), "takes no square chips"), ((4, 8, 8), "another number of logits")):
        torch.export.save(torch.export.export(network, (torch.zeros(1, *sizes),)), tmp_path / "mine.pt2")
        assert run_job(tmp_path / "mine.pt2", "--output", tmp_path / "out") == 2
        assert said in capsys.readouterr().err
    network[2] = nn.Linear(4, 1)
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, 4, 8, 8),)), tmp_path / "mine.pt2")
    assert run_job(tmp_path / "mine.pt2", "--output", tmp_path / "out") == 2
    assert "the bands of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

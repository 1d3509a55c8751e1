"""Programs of torch.export: read as bytes and JSON, to the bit what was exported, and never allowed to run anything."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.attribution.lift import check_lift
from spacex.checkpoint import Card, Scaling, load_checkpoint, save_checkpoint
from spacex.checkpoint_import import import_program
from spacex.errors import CheckpointError
from spacex.evaluation.sanity import randomise_layers
from spacex.model_card import LiftRecord
from spacex.models.exported import DTYPES, NUMBERS, OPERATORS, Program, read_program
from spacex.models.third_party import ThirdPartySettings, network_builder

BANDS = ("B02", "B03", "B04")


class Mixed(nn.Module):
    """Convolution, in-place ReLU, max pool, layer norm, attention, sizes, a constant, a padded sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.bn = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.BatchNorm2d(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(16, 1)
        self.register_buffer("order", torch.arange(63, -1, -1))
        self.register_buffer("hidden", torch.zeros(64, 64).masked_fill(torch.arange(64) % 7 == 0, -torch.inf))

    def forward(self, u: Tensor) -> Tensor:
        x = self.bn(self.stem(u)).relu_()
        pooled = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        tokens = self.norm(x.flatten(2).transpose(1, 2))[:, self.order]
        q, k, v = self.qkv(tokens).view(u.shape[0], 64, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v, self.hidden).transpose(1, 2).reshape(tokens.shape)
        mean = F.gelu(tokens, approximate="tanh").mean(1)
        return self.head(torch.cat([mean, pooled.amax((2, 3))], 1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = Mixed().eval()
    network.bn.running_var.fill_(2.0)
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.randn(2, 3, 32, 32),), dynamic_shapes=dynamic)
    path = tmp_path_factory.mktemp("programs") / "mixed.pt2"
    torch.export.save(program, path)
    return network, path


def edited(path: Path, name: str, edit: Callable[[Any], Any], **replaced: bytes) -> Path:
    """A copy of a program in which one JSON file of it reads otherwise, and others hold other bytes."""
    target = path.with_name("edited.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as sink:
        for inner in source.namelist():
            data = replaced.get(inner.rpartition("/")[2], source.read(inner))
            if inner.endswith(name):
                content = json.loads(data)
                edit(content)
                data = json.dumps(content).encode()
            sink.writestr(inner, data)
    return target


def nodes(content: Any) -> Any:
    return content["graph_module"]["graph"]["nodes"]


def test_a_program_gives_what_its_network_gave_for_any_number_of_chips(exported):
    network, path = exported
    _, program = read_program(str(path))
    for count in (1, 2, 5):
        chips = torch.randn(count, 3, 32, 32)
        assert torch.equal(program(chips), network(chips))


def test_a_checkpoint_of_it_opens_without_trust_and_is_followed_by_lift(exported, tmp_path):
    network, path = exported
    settings, program = read_program(str(path))
    card = Card(kind="classifier", bands=BANDS, scaling=Scaling.identity(3), chip_size=32, classifier=settings)
    save_checkpoint(tmp_path, card, {"classifier": program})
    again = load_checkpoint(tmp_path)
    chips = torch.randn(3, 3, 32, 32)
    assert torch.equal(again.classifier(chips), network(chips)[:, 0])
    record = check_lift(again.classifier, 3, 32)
    assert isinstance(record, LiftRecord)
    assert record.miss < 1e-4
    assert record.quadrature == ()


def test_its_weights_can_be_drawn_anew(exported):
    """As the certificate does, which compares a map with that of a network without training."""
    _, program = read_program(str(exported[1]))
    before = {name: weight.clone() for name, weight in program.named_parameters()}
    ((_, random),) = randomise_layers(program)
    after = dict(random.named_parameters())
    assert {name for name in before if torch.equal(before[name], after[name])} == {
        name for name, weight in before.items() if weight.dim() == 1
    }
    chips = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(random(chips), program(chips))


def test_nothing_that_is_pickled_is_read(exported, tmp_path):
    marker = tmp_path / "ran"

    class Command:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    _, path = exported
    payload = io.BytesIO()
    torch.save(Command(), payload)

    def pickled(content: Any) -> None:
        next(iter(content["config"].values()))["use_pickle"] = True

    made = edited(path, "model_weights_config.json", pickled, weight_0=payload.getvalue())
    with pytest.raises(CheckpointError, match=r"is pickled; expected plain bytes"):
        read_program(str(made))
    assert not marker.exists()
    with pytest.raises(Exception, match="Parameter"):
        torch.export.load(made)
    assert marker.exists(), "the file is harmless, so this test shows nothing"


def test_expressions_are_not_evaluated(exported, tmp_path):
    marker = tmp_path / "ran"
    _, path = exported

    def evil(content: Any) -> None:
        sizes = next(iter(content["graph_module"]["graph"]["tensor_values"].values()))["sizes"]
        sizes[0] = {"as_expr": {"expr_str": f"__import__('os').system('touch {marker}')", "hint": None}}

    made = edited(path, "models/model.json", evil)
    _, program = read_program(str(made))
    program(torch.zeros(1, 3, 32, 32))
    assert not marker.exists()
    with pytest.raises(AttributeError):
        torch.export.load(made)
    assert marker.exists(), "the file is harmless, so this test shows nothing"


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "torch.ops.aten.from_file.default", "torch.ops.aten.as_strided.default", "_operator.attrgetter",
     "torch.ops.aten.conv2d.__init__", "torch.ops.higher_order.cond", "os.system", "math.sqrt"],
)  # fmt: skip
def test_other_operators_are_refused_in_the_file_and_in_a_card(exported, target):
    _, path = exported
    made = edited(path, "models/model.json", lambda content: nodes(content)[0].update(target=target))
    with pytest.raises(CheckpointError, match=r"it calls .*expected operators of a known list"):
        read_program(str(made))
    settings, _ = read_program(str(path))
    steps = [[target.removeprefix("torch.ops."), *settings.arguments["steps"][0][1:]]]
    stranger = ThirdPartySettings(network=settings.network, arguments=settings.arguments | {"steps": steps})
    with pytest.raises(CheckpointError, match="it calls"):
        network_builder(stranger)()


def test_weights_end_where_their_bytes_end(exported):
    _, path = exported

    def longer(content: Any) -> None:
        next(iter(content["config"].values()))["tensor_meta"]["sizes"][0] = {"as_int": 4000}

    with pytest.raises(CheckpointError, match="out of bounds"):
        read_program(str(edited(path, "model_weights_config.json", longer)))


def test_what_is_no_program_is_said(tmp_path):
    (tmp_path / "text.pt2").write_text("no program")
    with zipfile.ZipFile(tmp_path / "empty.pt2", "w") as archive:
        archive.writestr("a", b"")
    for name in ("text.pt2", "empty.pt2", "missing.pt2"):
        with pytest.raises(CheckpointError, match=r"the program cannot be read.*a \.pt2 file of torch\.export\.save"):
            read_program(str(tmp_path / name))


def _graph(content: Any) -> Any:
    return content["graph_module"]["graph"]


def _first(content: Any) -> Any:
    """The first weight, as the graph names it."""
    return content["graph_module"]["signature"]["input_specs"][0]["parameter"]["arg"]


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("model.json", lambda content: content.update(graph_module=[1])),
        ("model.json", lambda content: _graph(content).update(nodes="abc")),
        ("model.json", lambda content: _graph(content)["nodes"][0].update(target=5)),
        ("model.json", lambda content: _graph(content)["nodes"][0]["inputs"][0].update(arg="x")),
        ("model.json", lambda content: _first(content).update(name="a.b")),
        ("model.json", lambda content: _first(content).update(name="forward")),
        ("model_weights_config.json", lambda content: content.update(config=[1])),
        ("model_weights_config.json", lambda content: next(iter(content["config"].values()))["tensor_meta"].update(
            storage_offset={"as_int": 2**70})),
    ],
)  # fmt: skip
def test_programs_that_are_wrong_anywhere_are_refused_in_one_line(exported, name, edit):
    with pytest.raises(CheckpointError, match=r"the program cannot be read"):
        read_program(str(edited(exported[1], name, edit)))


@pytest.mark.parametrize("sizes", [[], [1], [1, 3, 4097, 4097], [1, 3, -5, -5], [1, 0, 64, 64], [1, 3, 64, 32]])
def test_programs_of_other_chips_are_refused_before_they_run(exported, sizes):
    def edit(content: Any) -> None:
        values = _graph(content)["tensor_values"]
        chips = next(one for one in content["graph_module"]["signature"]["input_specs"] if "user_input" in one)
        values[chips["user_input"]["arg"]["as_tensor"]["name"]]["sizes"] = [{"as_int": size} for size in sizes]

    with pytest.raises(CheckpointError, match=r"takes no square chips"):
        import_program(edited(exported[1], "model.json", edit), None)


def test_weights_that_are_not_numbers_are_refused(exported):
    with zipfile.ZipFile(exported[1]) as archive:
        size = len(archive.read(next(name for name in archive.namelist() if name.endswith("/weight_0"))))
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        read_program(str(edited(exported[1], "none", lambda content: None, weight_0=b"\xff" * size)))


def test_a_function_of_more_than_chips_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    torch.export.save(torch.export.export(Two(), (torch.ones(2), torch.ones(2))), tmp_path / "two.pt2")
    with pytest.raises(CheckpointError, match="2 inputs and 1 results"):
        read_program(str(tmp_path / "two.pt2"))


def test_values_are_let_go_after_their_last_use(exported):
    settings, program = read_program(str(exported[1]))
    seen = [name for names in program.done for name in names]
    assert len(seen) == len(set(seen))
    assert settings.arguments["logits"] not in seen
    assert settings.arguments["chips"] in seen


def test_the_lists_name_what_there_is():
    for name in OPERATORS:
        assert hasattr(torch.ops.aten, name), name
    assert set(NUMBERS) == {"add", "sub", "mul", "floordiv", "neg", "getitem"}
    assert len(set(DTYPES.values())) == len(DTYPES)
    assert Program("u", "u", [], [])(torch.ones(1)) == 1

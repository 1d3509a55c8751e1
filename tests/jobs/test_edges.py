"""Every option of every command with the edge values of its type: exit 0 or 2, one line, and nothing written on 2.

Requests that pass the checks go on to the real catalogue, data set and checkpoint, up to the point where pixels would
be mapped or networks trained: only that last step is taken out.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import rasterio
import torch
from typer.models import ArgumentInfo, ParameterInfo

from spacex.commands.app import invoke
from spacex.commands.main import COMMANDS
from spacex.cube.store import create_cube

NUMBERS = ("-1", "0", "1", "", " ", "x", "nan", "inf", "-inf", "1e308", "1e-9", "1.5", "2147483648", "9" * 30)
TEXTS = ("", " ", "x", ",", "a,,b", "-", "../nowhere/at/all", "/proc/x", "/dev/null/x", "foo://x", "ftp://x", "s3://",
         "http://127.0.0.1:9/x", "memory://", "\x1b[31m", "two\nlines", "\x00", "é", "x" * 3000)  # fmt: skip
EDGES: dict[Any, tuple[str, ...]] = {
    bool: ("",),
    int: NUMBERS,
    float: NUMBERS,
    str: TEXTS,
    Literal: ("", "x", "DEMO"),
    tuple: ("", "1,2,3", "24,67,25,nan", "25,67,24,68", "24,68,25,67", "-181,0,0,1", "24,67,25,91", "1e400,0,1,1",
            "175,65,-175,70", "-180,0,180,1", "24,67,25,68,1", "23.93,67.95,24.07,68.0", "23.93 67.95 24.07 68.0"),
}  # fmt: skip
MORE = {
    "map --output": ("/proc/x.zarr", "/dev/null/x.zarr", "foo://x.zarr", "http://127.0.0.1:9/x.zarr", ".zarr",
                     "a/b.zarr", "s3://nowhere-at-all/x.zarr", "memory://x.zarr", "/x\x00.zarr", "x.tif", "file:///proc/x.zarr"),
    "map --datetime": ("2020", "2020-07", "2020-13", "2020-07-32", "2020/2019", "2020-07-01/..", "0000", "10000",
                       "summer", "2020-07-01/", "/", "2020-07-01/2020-07-02/2020-07-03", "2020-W01"),
    "map --crs": ("EPSG:99999", "EPSG:4326", "EPSG:3035", "EPSG:32634", "EPSG:4978", "3035", "{}", "WGS 84"),
    "map --resolution": ("7.3", "10", "20", "0.001", "1000", "1001"),
    "map --maps": ("naturalness", "attribution", "attribution,attribution", "attribution,", "gradcam"),
    "map --stride": ("4", "190", "192", "200", "256"),
    "map --tile-size": ("512", "700", "8192", "8704"),
    "map --clear-classes": ("4", "4,cloudy", "0", "12", "4,4", "4;5"),
    "map --tiles": ("x.geojson", "no/folder/x.geojson", "/proc/x.geojson", ".", "out/"),
    "map --quicklook": ("x.png", "no/folder/x.png", "/proc/x.png", "x.jpg", ".png"),
    "map --area": ("atlantis", "finland", ".", "/etc/passwd"),
    "map --max-cloud-cover": ("100", "140"),
    "make-dataset --output": ("/proc/x", "/dev/null/x", "s3://bucket/x", "x.zarr", "a/b", ".", "file:///proc/x"),
    "make-dataset --datetime": ("2020", "2020-07", "2020-13", "2020/2019", "0000", "/"),
    "make-dataset --natural": (".", "/etc/passwd", "/vsimem/x.gpkg", "PG:dbname=x"),
    "make-dataset --natural-where": ("IUCN_CAT = 'II'", "IUCN_CAT = 'Ia'", "1 = 1", "';--", "nothing = 1"),
    "make-dataset --land-cover": (".", "/etc/passwd", "/vsicurl/http://127.0.0.1:9/x.tif"),
    "make-dataset --anthropogenic-classes": ("1,2", "24", "9", "1,,2", "312"),
    "make-dataset --bands": ("all", "B02", "B02,B02", "B99", "B02,B12"),
    "make-dataset --crs": ("EPSG:99999", "EPSG:4326", "EPSG:32634", "EPSG:4978"),
    "make-dataset --resolution": ("7.3", "10", "20", "0.001", "1000", "1001"),
    "make-dataset --distance": ("0", "1e6", "1000001"),
    "make-dataset --area": ("atlantis", "finland", ".", "/etc/passwd"),
    "make-dataset --clear-classes": ("4", "4,cloudy", "4,4"),
    "make-dataset --max-cloud-cover": ("100", "140"),
    "train-classifier --bands": ("all", "B02", "B02,B02", "B99", "B02,"),
    "train-classifier --set": ("recipe.batch=0", "recipe.batch=x", "recipe=1", "=", "recipe.bogus=1",
                               "network.levels=9", "source.root=/x", "recipe.rate=NaN", "output=/proc/x", "a.b.c.d=1",
                               "recipe.rate.x=1"),
    "train-classifier --network": ("third_party_networks:Stages", "third_party_networks:no_network",
    "nowhere_at_all:x", "os:system", ":x",
                                   "x:", "a b:c", "../x:y", "torch:load"),
    "train-classifier --network-args": ("{}", "[]", "null", "{", '{"classes": 2}', "[" * 9999),
    "train-classifier --target": ("natural",),
    "train-classifier --trust": ("third_party_networks", "os", "third_party_networks,os"),
    "map --trust": ("third_party_networks", "os"),
    "map --uncertainty": ("pixels", "pixels,pixels", "none", "classifier", "classifiers", "classifiers,pixels", ","),
    "train-gan --set": ("generator.base=0", "generator=1", "batch=-1", "weights.cycle=-1",
                        "weights.cycle=NaN", "name=x"),
    "sites --zones": (".", "/etc/passwd", "/vsimem/x.gpkg", "PG:dbname=x"),
    "sites --where": ("1 = 1", "';--", "nothing = 1"),
    "sites --by": (".", "/etc/passwd", "/vsicurl/http://127.0.0.1:9/x.tif"),
    "sites --output": ("x.csv", "x.parquet", "x.shp", "no/folder/x.gpkg", "/proc/x.gpkg", ".gpkg", "memory://x.csv"),
    "evaluate --methods": ("brightness", "brightness,brightness", "bogus", "brightness x chance"),
    "evaluate --control": ("null", "null=", "=x", "null=/nowhere"),
    "import-checkpoint --bands": ("B02,B03,B04", "B02", "B99,B02,B03", "B02,B02,B02"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command with one option or argument set to a value, or with further words."""

    command: str
    option: str = ""
    value: str | None = None
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = " ".join(filter(None, (self.command, self.option, self.value, *self.more)))
        return text[:60].encode("unicode_escape").decode()

    def words(self, base: dict[str, str | None]) -> list[str]:
        """The base request, changed."""
        asked = {**base, **({self.option: self.value} if self.option else {})}
        options = [name if value is None else f"{name}={value}" for name, value in asked.items() if name[:2] == "--"]
        return [*(str(value) for name, value in asked.items() if name[:2] != "--"), *options, *self.more]


def options(command: str) -> dict[str, Any]:
    """Names of a command's options and arguments, with the type that decides their edge values."""
    found = {}
    (registered,) = import_module(f"spacex.commands.{COMMANDS[command]}").app.registered_commands
    for name, parameter in signature(registered.callback).parameters.items():
        plain, info = get_args(parameter.annotation)
        assert isinstance(info, ParameterInfo)
        found[name if isinstance(info, ArgumentInfo) else info.default.partition("/")[0]] = kind_of(plain)
    return found


def kind_of(plain: Any) -> Any:
    parts = [part for part in get_args(plain) if part is not type(None)] if type(None) in get_args(plain) else [plain]
    origin = get_origin(parts[0])
    return str if origin is list else origin or parts[0]


def edges(kind: Any, turn: int) -> tuple[str, ...]:
    """Every third edge value of a type, another third for the next option; all with SPACEX_ALL_EDGES set."""
    found = EDGES[kind]
    return found if len(found) < 14 or "SPACEX_ALL_EDGES" in os.environ else found[turn % 3 :: 3]


CASES = [
    Case(command, option, None if kind is bool else value)
    for command in COMMANDS
    for turn, (option, kind) in enumerate(options(command).items())
    for value in (*edges(kind, turn), *MORE.get(f"{command} {option}", ()))
]
TWICE = [
    Case("map", more=("--datetime=2020-08-01/2020-08-30", "--datetime=2020-08")),
    Case("map", "--datetime", "2020-07", more=("--datetime=2020-07-01/2020-07-31",)),
    Case("map", "--area", "finland"),
    Case("map", "--workers", "2", more=("--local",)),
    Case("map", more=("--bbox", "24,67,25")),
    Case("map", more=("--json",)),
    Case("map", more=("--tile-size=512",)),
    Case("make-dataset", "--workers", "2", more=("--local",)),
    Case("make-dataset", "--bbox", "23.8,67.9,24.2,68.05", more=("--area", "finland")),
    *(Case(command, more=(word,)) for command in COMMANDS for word in ("--no-such-option", "stray", "--")),
    *(
        Case(
            "train-classifier",
            "--set",
            "recipe.batch=4",
            ("--network=third_party_networks:Stages", "--trust=third_party_networks", f"--network-args={arguments}"),
        )
        for arguments in ("{}", '{"classes": 7}', '{"bands": 5}', '{"nothing": 1}', '{"width": "x"}')
    ),
]


def test_the_table_is_large_and_knows_every_option():
    assert len(CASES) >= 300
    assert {key for key in MORE} <= {f"{name} {option}" for name in COMMANDS for option in options(name)}


@pytest.fixture(scope="module")
def stopped():
    """Takes out what would map pixels, train networks or judge maps; everything before is real."""

    def nothing(*_: Any, **__: Any) -> Any:
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spacex.training.loop.TrainingLoop.run", nothing)
        patch.setattr("spacex.mapping.estimate.operations_per_chip", lambda *_: 1)
        patch.setattr("spacex.mapping.estimate.calibrate", lambda *_: pytest.skip("would map a tile"))
        patch.setattr("spacex.evaluation.evaluate.Evaluation.run", nothing)
        table = SimpleNamespace(chips={"all": 0}, methods=())
        patch.setattr("spacex.evaluation.evaluate.write_report", lambda *_: table)
        patch.setattr("spacex.training.ray_train.train", nothing)
        agreed = SimpleNamespace(tile="t", scenes={}, making={}, differing={}, variables=(), same=True)
        patch.setattr("spacex.api.reproduction.reproduce", lambda *_, **__: agreed)
        same = SimpleNamespace(places=np.rec.array(np.zeros(0, [("area_ha", "f8")])), too_small=0, doubts=[],
                               areas={"unchanged": 0.0, "changed": 0.0}, sites=None)  # fmt: skip
        patch.setattr("spacex.api.change.change", lambda *_, **__: same)
        cut = SimpleNamespace(failed={}, stored=0)
        patch.setattr("spacex.api.listing.ListedScenes.cut", lambda *_: cut)
        patch.setattr("spacex.execution.ray_cluster.connect", nothing)
        certified = SimpleNamespace(certificate="measured")
        patch.setattr("spacex.api.training.load_checkpoint", lambda uri, **_: SimpleNamespace(uri=uri, card=certified))
        patch.setattr("spacex.api.evaluation.keep_certificate", lambda *_, **__: SimpleNamespace(checks=(), missing={}))
        patch.setattr("socketserver.BaseServer.serve_forever", nothing)
        patch.setattr("webbrowser.open", nothing)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield patch


@pytest.fixture
def base(
    tmp_path, archive_list, statements, tiny_checkpoint, tiny_data, judged_data, asos_file, make_request, monkeypatch
):
    """A request of each command that is carried out."""
    monkeypatch.chdir(tmp_path)
    threads, handlers = torch.get_num_threads(), list(logging.getLogger("spacex").handlers)
    request = make_request()
    about = {"request": request.model_dump(mode="json")}
    create_cube("cube.zarr", request.spec(tiny_checkpoint.card), "a", about)
    checkpoint, data = tiny_checkpoint.uri, str(tiny_data)
    yield {
        "map": {"--bbox": "23.93,67.95,24.07,68.00", "--datetime": "2020-07-01/2020-08-30", "--catalogue": "demo",
                "--items": archive_list, "--checkpoint": checkpoint, "--tile-size": "512", "--output": "out.zarr",
                "--plan": None},
        "scenes": {"--bbox": "23.93,67.95,24.07,68.00", "--datetime": "2020-07-01/2020-08-30", "--catalogue": "demo",
                   "--items": archive_list},
        "reproduce": {"cube": "cube.zarr", "--at": "24.0,67.97"},
        "change": {"cube": "cube.zarr", "other": "cube.zarr"},
        "make-dataset": {"--natural": str(statements / "natural.gpkg"),
                         "--anthropogenic": str(statements / "human.geojson"),
                         "--land-cover": str(statements / "corine.tif"), "--datetime": "2020-07-01/2020-08-30",
                         "--catalogue": "demo", "--items": archive_list, "--bands": "B02,B03,B04", "--count": "8",
                         "--output": "out", "--plan": None},
        "train-classifier": {"--data": data, "--output": "out", "--set": "network.levels=2"},
        "train-gan": {"--data": data, "--classifier": checkpoint, "--output": "out"},
        "evaluate": {"--data": str(judged_data), "--checkpoint": checkpoint, "--output": "out", "--methods": "chance"},
        "certify": {"checkpoint": checkpoint, "--data": data},
        "import-checkpoint": {"file": str(asos_file), "--output": "out"},
        "view": {"cube": "cube.zarr", "--port": "0"},
        "export": {"cube": "cube.zarr", "folder": "out"},
        "sites": {"cube": "cube.zarr", "--zones": str(statements / "natural.gpkg"), "--output": "sites.gpkg"},
    }  # fmt: skip
    torch.set_num_threads(threads)
    logging.getLogger("spacex").handlers[:] = handlers


@pytest.fixture(scope="module")
def judged_data(tiny_data, tmp_path_factory):
    """The tiny data set with land cover: peat bog everywhere."""
    root = tmp_path_factory.mktemp("judged") / "anthroprotect"
    shutil.copytree(tiny_data, root)
    (root / "tiles" / "lcs").mkdir()
    for chip in (root / "tiles" / "s2").iterdir():
        profile = {"width": 256, "height": 256, "count": 4, "dtype": "uint16"}
        with rasterio.open(root / "tiles" / "lcs" / chip.name, "w", driver="GTiff", **profile) as sink:
            sink.write(np.full((4, 256, 256), 412, "uint16"))
    return root


@pytest.fixture(scope="module")
def asos_file(tmp_path_factory):
    """A small file of AnthroProtect's authors' kind."""
    from test_checkpoint_import import foreign

    path = tmp_path_factory.mktemp("asos") / "asos.pt"
    torch.save(foreign().state_dict(), path)
    return path


def judge(case: Case, base, folder, capsys) -> int:
    capsys.readouterr()
    before = sorted(folder.rglob("*"))
    app = import_module(f"spacex.commands.{COMMANDS[case.command]}").app
    code = invoke(app, case.words(base[case.command]), "spacex")
    told = capsys.readouterr()
    assert code in (0, 2), told.err
    if code == 2:
        assert told.err.startswith("error: ")
        assert told.err.count("\n") == 1
        assert len(told.err) < 5000
        assert told.out == ""
        assert sorted(folder.rglob("*")) == before
    return code


@pytest.mark.parametrize("command", COMMANDS)
def test_the_base_request_is_carried_out(command, base, stopped, tmp_path, capsys):
    assert judge(Case(command), base, tmp_path, capsys) == 0


@pytest.mark.parametrize("case", [*CASES, *TWICE], ids=str)
def test_edges_are_mapped_or_refused(case, base, stopped, tmp_path, capsys):
    judge(case, base, tmp_path, capsys)

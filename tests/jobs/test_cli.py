"""How every command ends: one line, the right exit code, and a log where something unexpected happened."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import spacex
from spacex.commands.app import invoke, make_app
from spacex.commands.execution import check_execution_options, make_runner
from spacex.commands.main import COMMANDS, overview
from spacex.errors import DataError, TileError
from spacex.execution.local import run_local
from spacex.models.generator import GeneratorSettings

ROOT = Path(__file__).parents[2]


def end(body: Callable[[], object]) -> int:
    """The exit code of a command that does this."""

    def command() -> None:
        body()

    return invoke(make_app(command, "A job."), [])


def refuse() -> None:
    raise DataError("no tiles in /data", do="Unpack\nthem.")


def test_a_wrong_request_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(refuse) == 2
    assert capsys.readouterr().err == "error: no tiles in /data. Unpack them.\n"


def test_where_all_that_fails_is_repeated_a_wrong_request_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACEX_REFUSED_EXIT_CODE", "0")  # as the manifests set it
    assert end(refuse) == 0
    assert end(lambda: 1 / 0) == 1


def test_a_wrong_setting_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(lambda: GeneratorSettings(base=0)) == 2
    assert capsys.readouterr().err == "error: base: got 0; expected Input should be greater than or equal to 1.\n"


@pytest.mark.parametrize("error", [TileError("a tile\nfailed"), KeyError("spatial_ref"), OSError(5, "I/O error")])
def test_the_unexpected_is_one_line_with_a_log_that_holds_the_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert end(fail) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert " ".join(str(error).split()) in said
    log = Path(re.search(r"The traceback is in (\S+)", said)[1])
    assert log.parent == tmp_path
    assert "in fail\n" in log.read_text()


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/progress.json")


def wrapped() -> Exception:
    error = TileError("the run cannot go on")
    error.__cause__ = FULL
    return error


@pytest.mark.parametrize(
    ("error", "when"),
    [
        (FULL, "there is room"),
        (wrapped(), "there is room"),
        (RuntimeError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"), "there is room"),  # of safetensors
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "there is room"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "the file system can be written again"),
    ],
)
def test_a_full_disk_is_one_line_that_says_how_to_go_on(
    error: Exception, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert end(fail) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f"What is finished is safe: repeat the command when {when}.\n")
    assert "unexpected" not in said
    assert "traceback" not in said


def test_a_read_only_output_is_still_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse_folder() -> None:
        raise DataError("output cannot be written") from OSError(errno.EROFS, os.strerror(errno.EROFS))

    assert end(refuse_folder) == 2
    assert capsys.readouterr().err == "error: output cannot be written.\n"


def test_a_path_is_printed_to_a_stream_that_lacks_its_letters(tmp_path: Path) -> None:
    code = (
        "from spacex.commands.app import main, make_app;"
        "main(make_app(lambda: print('cube: /data/r\u00e5b\u00e4ck.zarr'), None), [])"
    )
    strict = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=strict)
    assert (done.returncode, done.stdout) == (0, "cube: /data/r\\xe5b\\xe4ck.zarr\n")


def test_the_log_holds_letters_that_the_locale_lacks(tmp_path: Path) -> None:
    code = (
        "from spacex.commands.app import main, make_app\n"
        "def fail(): raise KeyError('r\u00e5b\u00e4ck')\n"
        "main(make_app(fail, None), [])"
    )
    # a locale of ASCII letters, of which Python would otherwise make UTF-8
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TMPDIR": str(tmp_path)}
    (tmp_path / "fail.py").write_text(code)
    command = [sys.executable, str(tmp_path / "fail.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **plain})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    [log] = tmp_path.glob("spacex-*.log")
    assert "r\u00e5b\u00e4ck" in log.read_text("utf-8")


def test_exit_codes_of_a_command_are_its_own() -> None:
    def leave() -> None:
        raise typer.Exit(3)

    assert end(leave) == 3
    assert end(lambda: None) == 0


def test_no_workers_means_this_process_as_for_trainings() -> None:
    asked = {"local": False, "workers": 0, "plan": False, "json": False, "json_logs": False}
    check_execution_options(asked)
    assert asked["local"]
    assert make_runner(asked) is run_local


def test_an_argument_is_called_what_the_usage_calls_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(overview(), ["view", "none.zarr"]) == 2
    assert capsys.readouterr().err == "error: cube: there is no none.zarr.\n"
    assert invoke(overview(), ["view", "--help"]) == 0
    assert "{cube}" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(overview(), ["--version"]) == 0
    assert capsys.readouterr().out == f"spacex {spacex.__version__}\n"


HEAVY = {"torch", "ray", "rasterio", "zarr", "xarray", "matplotlib", "captum", "pandas", "geopandas", "scipy",
         "numpy", "pydantic"}  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    look = f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    code = f"import atexit, sys; atexit.register(lambda: {look}); from spacex.commands.main import main; main()"
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "Usage: spacex" in found.stdout
    assert found.stderr.strip() == "[]"


def test_a_plan_waits_for_no_import_that_only_a_map_needs() -> None:
    """Neither pictures, statistics nor PyTorch's compiler, which counting operations imported: 2.5 of 4 seconds."""
    code = (
        "import sys, torch, spacex.api.mapping, spacex.mapping.worker\n"
        "from spacex.mapping.estimate import _operations\n"
        "assert _operations(lambda: torch.ones(2, 3) @ torch.ones(3, 4)) == 2 * 2 * 3 * 4\n"
        "print(sorted({'matplotlib', 'scipy.stats', 'torch._dynamo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in COMMANDS if (ROOT / "jobs" / f"{COMMANDS[name]}.py").exists()])
def test_a_job_is_its_command(name: str) -> None:
    """The file in jobs/ and the sub-command are one function with one help, but for the name."""
    asked = {"capture_output": True, "text": True, "check": True, "env": {**os.environ, "COLUMNS": "160"}}
    job = [sys.executable, str(ROOT / "jobs" / f"{COMMANDS[name]}.py"), "--help"]
    told = subprocess.run(job, **asked).stdout
    code = "from spacex.commands.main import main; main()"
    command = [sys.executable, "-c", code, name, "--help"]
    other = subprocess.run(command, **asked).stdout
    assert told.replace(f"{COMMANDS[name]}.py", f"spacex {name}", 1).split() == other.split()


REFUSED = [
    "map",
    "map --output x.zarr --bbox 25,67,24,68 --datetime 2020",
    "map --output x.zarr --bbox 24,67,25,68 --datetime 2020 --threads 0",
    "map --output x.zarr --area finland --datetime 2020 --datetime 2020",
    "map --output x.zarr --area finland --datetime 2020 --crs EPSG:99999",
    "map --output /proc/x.zarr --area finland --datetime 2020",
    "map --output foo://x.zarr --area finland --datetime 2020",
    "map --output x.zarr --area finland --datetime 2020 --maps gradcam",
    "map --output x.zarr --area finland --datetime 2020 --tiles no/folder/tiles.geojson",
    "map --output x.zarr --area finland --datetime 2020 --checkpoint /nowhere",
    "map --output x.zarr --area finland --area norway --datetime 2020",
    "make-dataset --output x",
    "make-dataset --output x --datetime 2020",
    "make-dataset --output x --datetime 2020 --natural nowhere.gpkg",
    "make-dataset --output x --datetime 2020 --natural s3://bucket/parks.gpkg",
    "make-dataset --output s3://bucket/x --catalogue demo",
    "make-dataset --output x --catalogue demo --bands B99",
    "make-dataset --output x --catalogue demo --share 2",
    "make-dataset --output x --catalogue demo --datetime summer",
    "train-classifier --data /nowhere",
    "train-classifier --data . --bands B99",
    "train-gan --data . --classifier /nowhere",
    "evaluate --data demo --cube x.zarr",
    "evaluate --data demo --fills water",
    "import-checkpoint /nowhere.pt",
]


@pytest.mark.parametrize("line", REFUSED)
def test_a_refusal_needs_nothing_heavy(line: str, tmp_path: Path) -> None:
    """Words, names and places are judged before torch, Ray, rasterio or Zarr are loaded."""
    heavy = HEAVY - {"numpy", "pydantic"}  # outlines are numbers, and typer reads numbers with pydantic
    look = f"print(sorted({heavy} & set(sys.modules)))"
    code = f"import atexit, sys; atexit.register(lambda: {look}); from spacex.commands.main import main; main()"
    found = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
    assert found.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []

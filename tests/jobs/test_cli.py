"""How jobs end when the request is wrong."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from spacex.errors import DataError, TileError
from spacex.models.generator import GeneratorSettings

CLI = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "_cli.py"))


def end(body: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """What the process exits with when a job does this."""
    app = CLI["make_app"]("A job.")
    app.command()(lambda: body() and None)
    monkeypatch.setattr("sys.argv", ["job"])
    with pytest.raises(SystemExit) as ended:
        CLI["run"](app)
    return ended.value.code


def refuse() -> None:
    raise DataError("no tiles in /data", do="Unpack\nthem.")


def test_a_wrong_request_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(refuse, monkeypatch) == 2
    assert capsys.readouterr().err == "error: no tiles in /data. Unpack them.\n"


def test_a_wrong_setting_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(lambda: GeneratorSettings(base=0), monkeypatch) == 2
    assert capsys.readouterr().err == "error: base: Input should be greater than or equal to 1. Got 0.\n"


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise TileError("a tile failed")

    app = CLI["make_app"](None)
    app.command()(fail)
    monkeypatch.setattr("sys.argv", ["job"])
    with pytest.raises(TileError):
        CLI["run"](app)
    assert end(lambda: None, monkeypatch) == 0

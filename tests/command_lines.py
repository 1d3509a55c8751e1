"""Reads the command lines of documents and manifests with the parsers of the real commands, without running them."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer

from spacex.commands.main import COMMANDS

ROOT = Path(__file__).parents[1]


class Parsed(Exception):
    """Carries the arguments that a benchmark has read."""


@cache
def parser(module: str) -> Any:
    """The parser of a command, by the name of its module in `spacex.commands`."""
    return typer.main.get_command(importlib.import_module(f"spacex.commands.{module}").app)


def options() -> set[str]:
    """Every option of every command."""
    parameters = [parameter for module in COMMANDS.values() for parameter in parser(module).params]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}


def parse(line: str) -> dict[str, Any]:
    """The parameters of `spacex COMMAND …` or `[python] jobs/NAME.py …`.

    Raises:
        Exception: if the command does not exist or does not take these words.
    """
    first, *words = [word for word in shlex.split(line) if word != "python"]
    if first == "spacex":
        name, words = words[0], words[1:]
        if name not in COMMANDS:
            raise ValueError(f"there is no command spacex {name}")
        module = COMMANDS[name]
    else:
        assert (ROOT / first).is_file(), f"there is no {first}"
        module = re.search(r"from spacex\.commands\.(\w+) import app\b", (ROOT / first).read_text())[1]
    parameters: dict[str, Any] = parser(module).make_context(first, words).params
    return parameters


def parse_benchmark(line: str) -> None:
    """Let a benchmark read its arguments, and stop it there.

    Raises:
        SystemExit: if it does not take them.
    """
    file, *words = [word for word in shlex.split(line) if word != "python"]
    assert (ROOT / file).is_file(), f"there is no {file}"
    source = (ROOT / file).read_text()
    benchmark = _load(ROOT / file)
    if "parse_args(" not in source and "typer" not in source:
        assert not words, f"{file} takes no arguments"
        return
    if "typer" in source:
        command = typer.Typer()
        command.command()(benchmark.main)
        typer.main.get_command(command).make_context(file, words)
        return
    read = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise Parsed(read(self, *args, **kwargs))

    with patch.object(argparse.ArgumentParser, "parse_args", stop), patch.object(sys, "argv", [file, *words]):
        try:
            benchmark.main()
        except Parsed:
            return
    raise AssertionError(f"{file} does not read its arguments")


@cache
def _load(file: Path) -> Any:
    """A benchmark as a module; those beside it are found as when it is run."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


def run(words: list[str]) -> int:
    """Run `spacex COMMAND …` in this process; gives its exit code."""
    from spacex.commands import app as entry

    invoke = getattr(entry, "invoke", None) or entry.execute
    return invoke(importlib.import_module(f"spacex.commands.{COMMANDS[words[1]]}").app, words[2:], f"spacex {words[1]}")

"""How every command begins and ends: words are checked in one place, and whatever goes wrong is one line.

Exit codes: 0 done; 1 something unexpected (a log holds the traceback); 2 the request is wrong and nothing was
written; 130 stopped by Ctrl-C. A command may add its own (`spacex map`: 3, 143).
"""

from __future__ import annotations

import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from spacex.errors import RequestError

UNEXPECTED = 1
"""Exit code when something failed that no request should make fail."""
WRONG_REQUEST = 2
"""Exit code when the request cannot be carried out; nothing was written."""

LONGEST_LINE = 2000
"""Characters of an error's line; a word of a megabyte is not repeated whole."""


class Command(TyperCommand):
    """A command whose words keep the rules that hold for all options, whatever they mean."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, and refuse empty text and numbers that are none.

        Raises:
            RequestError: naming the option.
        """
        left = super().parse_args(ctx, list(_box_spread(args)))
        for parameter in () if ctx.resilient_parsing else self.params:
            _check(parameter.opts[0], ctx.params.get(parameter.name))
        return left


def _check(option: str, value: object) -> None:
    if isinstance(value, tuple | list):
        for one in value:
            _check(option, one)
    elif isinstance(value, str) and not (value.strip() and value.isprintable()):
        got = f"{value!r}" if value.strip() else "nothing"
        raise RequestError(f"{option} must be readable text", got=got, do="Leave the option out for its default.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RequestError(option, got=value, expected="a finite number")


def _box_spread(words: Sequence[str]) -> Iterator[str]:
    """`--bbox 24.0,67.9,24.4,68.05` and `--bbox=…` as the four words the parser wants."""
    named = False
    for word in words:
        joined = word.startswith("--bbox=")
        if joined:
            yield "--bbox"
        value = word.removeprefix("--bbox=")
        parts = value.replace(",", " ").split() if joined or named else []
        yield from parts if len(parts) > 1 else [value]
        named = word == "--bbox"


def make_app(command: Callable[..., None], description: str | None) -> typer.Typer:
    """An application of one command, whose `--help` begins with its module's docstring."""
    app = typer.Typer(help=description, add_completion=False, pretty_exceptions_enable=False)
    add(app, command, description)
    return app


def add(app: typer.Typer, command: Callable[..., None], description: str | None, name: str | None = None) -> None:
    """Give an application a command."""
    app.command(name, cls=Command, help=description)(command)


def run(app: typer.Typer, words: list[str] | None = None, name: str | None = None) -> NoReturn:
    """Carry out a command line and end the process.

    Args:
        app: the command.
        words: its arguments; None for those of this process.
        name: what `--help` calls it; None for the file's name.
    """
    sys.exit(execute(app, words, name))


def execute(app: typer.Typer, words: list[str] | None = None, name: str | None = None) -> int:
    """Carry out a command line as `run` does; gives its exit code."""
    try:
        return int(app(words, prog_name=name, standalone_mode=False) or 0)
    except Exception as error:
        return _end(error)


def _end(error: Exception) -> int:
    """Say in one line what went wrong."""
    if (refusal := _refusal(error)) is not None:
        _say(refusal)
        return WRONG_REQUEST
    _say(f"{_unexpected(error)} The traceback is in {_keep(error)}")
    return UNEXPECTED


def _refusal(error: Exception) -> str | None:
    from pydantic import ValidationError

    if isinstance(error, RequestError):
        return str(error)
    if isinstance(error, ValidationError):  # settings check themselves at birth
        from spacex.settings import refusal

        return str(refusal(error))
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}. --help lists the options."
    return None


def _unexpected(error: Exception) -> str:
    from spacex.errors import SpacexError

    return str(error) if isinstance(error, SpacexError) else f"unexpected {type(error).__name__}: {error}."


def _keep(error: Exception) -> str:
    """Write the traceback where it outlives the process; gives the file's path."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="spacex-", suffix=".log", delete=False) as log:
            print(" ".join(sys.argv), file=log)
            traceback.print_exception(error, file=log)
    except OSError as reason:  # the disk may be what failed
        return f"no log, for none could be written ({reason})"
    return log.name


def _say(line: str) -> None:
    line = " ".join(line.split())
    print("error:", line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …", file=sys.stderr)

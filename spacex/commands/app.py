"""Shared entry point of all commands: maps exceptions to exit codes and prints one-line errors.

Exit codes: 0 done; 1 something unexpected (a log holds the traceback); 2 the request is wrong and nothing was
written; 130 stopped by Ctrl-C. A command may add its own (`spacex map`: 3, 143).
"""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NoReturn

import typer

from spacex.commands.parameters import Command
from spacex.errors import RequestError, SpacexError

UNEXPECTED = 1
"""Exit code when something failed that no request should make fail."""
WRONG_REQUEST = 2
"""Exit code when the request cannot be carried out; nothing was written."""

STORAGE_FAULTS = {
    errno.ENOSPC: "there is room",
    errno.EDQUOT: "there is room",
    errno.EROFS: "the file system can be written again",
}
"""Errors of a disk that is full, of a quota that is used up, of a file system that became read-only; and their end."""
REFUSED_EXIT_CODE = "SPACEX_REFUSED_EXIT_CODE"
"""Environment variable with another exit code for `WRONG_REQUEST`, where whatever runs the command repeats all that
fail (KubeRay's `backoffLimit`): a wrong request stays wrong."""

LONGEST_LINE = 2000
"""Characters of an error's line; a word of a megabyte is not repeated whole."""


def make_app(command: Callable[..., None], description: str | None) -> typer.Typer:
    """An application of one command, whose `--help` begins with its module's docstring."""
    app = typer.Typer(help=description, add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=Command, help=description)(command)
    return app


def main(app: typer.Typer, words: list[str] | None = None, name: str | None = None) -> NoReturn:
    """Run a command line and end the process with its exit code; see `invoke`."""
    sys.exit(invoke(app, words, name))


def invoke(app: typer.Typer, words: list[str] | None = None, name: str | None = None) -> int:
    """Run a command line; gives its exit code.

    Args:
        app: the command.
        words: its arguments; None for those of this process.
        name: what `--help` calls it; None for the file's name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not of UTF-8 everywhere, while any path may be printed
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(app(words, prog_name=name, standalone_mode=False) or 0)
    except Exception as error:
        return report_error(error)


def report_error(error: Exception) -> int:
    """Print in one line what went wrong; gives the exit code."""
    # One line for people and for logs of clusters: the traceback, which helps neither, goes to a file.
    refusal, fault = _refusal(error), _storage_fault(error)
    if refusal is None and fault is not None:
        line = fault
    elif refusal is None:
        message = str(error) if isinstance(error, SpacexError) else f"unexpected {type(error).__name__}: {error}."
        line = f"{message} The traceback is in {_save_traceback(error)}"
    else:
        line = refusal
    # texts of libraries and of files hold line breaks
    line = " ".join(line.split())
    print("error:", line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …", file=sys.stderr)
    return UNEXPECTED if refusal is None else int(os.environ.get(REFUSED_EXIT_CODE, WRONG_REQUEST))


def _storage_fault(error: BaseException | None) -> str | None:
    """What to say of storage that takes no more writes; None if it is not to blame."""
    # libraries wrap the system's error or repeat its text, so all causes are searched, and their texts too
    while error is not None:
        for number, when in STORAGE_FAULTS.items():
            if (isinstance(error, OSError) and error.errno == number) or os.strerror(number) in str(error):
                return f"{str(error).strip().rstrip('.')}. What is finished is safe: repeat the command when {when}."
        error = error.__cause__ or error.__context__
    return None


def _refusal(error: Exception) -> str | None:
    """What is wrong with the request; None if the request is not to blame."""
    if isinstance(error, RequestError):
        return str(error)
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}. --help lists the options."
    from pydantic import ValidationError

    if isinstance(error, ValidationError):  # models of settings check themselves when they are made
        from spacex.settings import refusal

        return str(refusal(error))
    return None


def _save_traceback(error: Exception) -> str:
    """Write the traceback where it outlives the process; gives the file's path."""
    try:
        file, name = tempfile.mkstemp(prefix="spacex-", suffix=".log")
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as log:
            print(" ".join(sys.argv), file=log)
            traceback.print_exception(error, file=log)
    except OSError as reason:  # the disk may be what failed
        return f"no log, for none could be written ({reason})"
    return name

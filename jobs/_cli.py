"""What all jobs share: how they end when the request is wrong, and the one line they say then."""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from spacex.errors import RequestError

WRONG_REQUEST = 2
"""Exit code when the request cannot be carried out; nothing was written."""


def make_app(description: str | None) -> typer.Typer:
    """A job with one command, whose `--help` begins with the job's docstring."""
    return typer.Typer(help=description, add_completion=False, pretty_exceptions_enable=False)


def run(app: typer.Typer) -> None:
    """Run a job; a wrong request becomes one `error: …` line on stderr and exit code 2."""
    try:
        app()
    except RequestError as error:
        _refuse(str(error))
    except ValidationError as error:  # settings check themselves at birth
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or error.title
        _refuse(f"{name}: {first['msg']}. Got {first['input']!r}.")


def _refuse(why: str) -> None:
    print(f"error: {why}", file=sys.stderr)
    sys.exit(WRONG_REQUEST)

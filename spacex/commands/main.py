"""`spacex`: every job as a sub-command."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from spacex.commands.app import add, run

COMMANDS = {
    "map": "map_region",
    "make-dataset": "make_dataset",
    "train-classifier": "train_classifier",
    "train-gan": "train_gan",
    "evaluate": "evaluate",
    "export": "export",
    "import-checkpoint": "import_checkpoint",
    "view": "view",
}
"""Sub-commands, each the function and the docstring of a module of this package."""


def main() -> None:
    """The installed command. A sub-command is called directly: its own application answers `--help` at once."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        run(import_module(f"spacex.commands.{COMMANDS[name]}").app, sys.argv[2:], f"spacex {name}")
    run(overview(), sys.argv[1:] or ["--help"], "spacex")


def overview() -> typer.Typer:
    """All commands as one application, which lists them and refuses what is none of them."""
    app = typer.Typer(
        help="Learn what makes land look natural in Sentinel-2 pictures, and draw it on a map.",
        epilog="`spacex COMMAND --help` explains a command and its options.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, module in COMMANDS.items():
        found = import_module(f"spacex.commands.{module}")
        add(app, getattr(found, module), found.__doc__, name)
    return app

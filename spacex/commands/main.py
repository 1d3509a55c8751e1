"""`spacex`: every job as a sub-command."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from spacex.commands import app as application
from spacex.commands.parameters import Command

COMMANDS = {
    "scenes": "scenes",
    "map": "map_region",
    "make-dataset": "make_dataset",
    "train-classifier": "train_classifier",
    "train-gan": "train_gan",
    "evaluate": "evaluate",
    "certify": "certify",
    "sites": "sites",
    "export": "export",
    "change": "change",
    "reproduce": "reproduce",
    "import-checkpoint": "import_checkpoint",
    "view": "view",
}
"""Sub-commands, each a module of this package with an `app` of that command alone."""


WHERE = (
    "Commands work in this process; map and make-dataset work on Ray unless told --local. map, make-dataset, "
    "train-classifier and train-gan: --workers N uses N Ray workers, --workers 0 this process."
)
"""Where commands run, said once for all of them."""


def main() -> None:
    """The installed command. A sub-command is called directly: its own application answers `--help` at once."""
    # Only the module of the command that was named is imported; all of them take three times as long.
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        application.main(import_module(f"spacex.commands.{COMMANDS[name]}").app, sys.argv[2:], f"spacex {name}")
    application.main(overview(), sys.argv[1:] or ["--help"], "spacex")


def overview() -> typer.Typer:
    """All commands as one application, which lists them and refuses what is none of them."""
    app = typer.Typer(
        help="Learn what makes land look natural in Sentinel-2 pictures, and draw it on a map.",
        epilog=f"{WHERE} `spacex COMMAND --help` explains a command and its options.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name, module_name in COMMANDS.items():
        module = import_module(f"spacex.commands.{module_name}")
        (command,) = module.app.registered_commands
        app.command(name, cls=Command, help=module.__doc__)(command.callback)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from spacex import __version__

        print(f"spacex {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass

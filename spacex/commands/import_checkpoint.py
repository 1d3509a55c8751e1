"""Import a classifier that AnthroProtect's authors trained (an ASOS .pt or .ckpt file).

The file is opened without running any Python in it: a file that asks for more than tensors and settings is
refused, and the message names what it asked for. Channels, maps and widths are inferred from the shapes.
Files with 3 channels see B02,B03,B04 and files with 10 channels all ten bands, as reflectance 0..1.

Give --check: shapes do not tell how the U-Net pools, so both ways are tried on labelled chips, the better one
is kept, and a file that then still does worse than its authors report is refused.

Examples:
    spacex import-checkpoint asos_anthroprotect_rgb-channels.pt --check /data/anthroprotect

    spacex train-gan --data /data/anthroprotect --classifier runs/classifier --preset paper

Exit code 2: the file cannot be imported, and nothing was written.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from spacex.commands import options
from spacex.commands.app import make_app
from spacex.commands.validation import check_folder, check_there


def import_checkpoint(
    file: Annotated[str, typer.Argument(help="The authors' file: a path or any fsspec URI.")],
    output: Annotated[
        str, typer.Option(help="Folder or fsspec URI of the checkpoint.", rich_help_panel=options.FIRST)
    ] = "runs/classifier",
    check: Annotated[
        str | None,
        typer.Option(help="Folder of the labelled chips to check it on.", rich_help_panel=options.FIRST),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Its bands in order, e.g. B04,B03,B02.", show_default="the usual ones", rich_help_panel=options.WHAT
        ),
    ] = None,
    pool: Annotated[
        Literal["average", "max"],
        typer.Option(help="How the U-Net pools, if it is not found out by --check.", rich_help_panel=options.WHAT),
    ] = "max",
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Which chips of --check.", rich_help_panel=options.HOW)
    ] = "test",
    limit: options.Limit = None,
) -> None:
    """Import, check, and print where the checkpoint is."""
    check_there("the file", file)
    check_there("--check", check)
    check_folder("--output", output)

    from spacex.checkpoint import save_checkpoint
    from spacex.checkpoint_import import describe, import_checked, read_state
    from spacex.models.asos import convert

    names = [name.strip() for name in bands.split(",")] if bands else None
    if check is None:
        classifier = convert(read_state(file), pool)
        card = describe(classifier, file, names)
    else:
        classifier, card = import_checked(file, names, check, split, limit)
    save_checkpoint(output, card, {"classifier": classifier})
    for way, metrics in card.metrics.items():
        typer.echo(f"pooling by {way}: accuracy {metrics['accuracy']:.4f} on {metrics['chips']} chips")
    typer.echo(f"checkpoint: {output}")


app = make_app(import_checkpoint, __doc__)

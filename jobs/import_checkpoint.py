"""Import a classifier that AnthroProtect's authors trained (an ASOS .pt or .ckpt file).

The file is opened without running any Python in it: a file that asks for more than tensors and settings is
refused, and the message names what it asked for. Channels, maps and widths are inferred from the shapes.
Files with 3 channels see B02,B03,B04 and files with 10 channels all ten bands, as reflectance 0..1.

Give --check: shapes do not tell how the U-Net pools, so both ways are tried on labelled chips, the better one
is kept, and a file that then still does worse than its authors report is refused.

Examples:
    python jobs/import_checkpoint.py asos_anthroprotect_rgb-channels.pt --check /data/anthroprotect

    python jobs/train_gan.py --data /data/anthroprotect --classifier runs/classifier --preset paper

Exit code 2: the file cannot be imported, and nothing was written.
"""

from __future__ import annotations

from typing import Annotated, Literal

import _cli
import typer

app = _cli.make_app(__doc__)


@app.command(help=__doc__)
def main(
    file: Annotated[str, typer.Argument(help="The authors' file: a path or any fsspec URI.")],
    output: Annotated[str, typer.Option(help="Folder or fsspec URI of the checkpoint.")] = "runs/classifier",
    bands: Annotated[
        str | None, typer.Option(help="Its bands in order, e.g. B04,B03,B02, where they are not the usual ones.")
    ] = None,
    check: Annotated[str | None, typer.Option(help="Folder of the labelled chips to check it on.")] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which of them.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many.")] = None,
    pool: Annotated[
        Literal["average", "max"], typer.Option(help="How the U-Net pools, if it is not found out by --check.")
    ] = "max",
) -> None:
    """Import, check, and print where the checkpoint is."""
    from spacex.checkpoint import save_checkpoint
    from spacex.checkpoint_import import convert, describe, import_checked, read_state

    names = bands.split(",") if bands else None
    if check is None:
        classifier = convert(read_state(file), pool)
        card = describe(classifier, file, names)
    else:
        classifier, card = import_checked(file, names, check, split, limit)
    save_checkpoint(output, card, {"classifier": classifier})
    for way, metrics in card.metrics.items():
        typer.echo(f"pooling by {way}: accuracy {metrics['accuracy']:.4f} on {metrics['chips']} chips")
    typer.echo(f"checkpoint: {output}")


if __name__ == "__main__":
    _cli.run(app)

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

from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, MANY, REQUIRED, WHAT, Setting
from spacex.api.validation import check_exists, check_folder, split_names
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command


class ImportOptions(TypedDict, total=False):
    """Options of `spacex import-checkpoint`."""

    file: Annotated[str, Setting("", REQUIRED, argument=True, check=check_exists)]
    """The authors' file: a path or any fsspec URI."""
    output: Annotated[str, Setting(FIRST, "runs/classifier", check=check_folder)]
    """Folder or fsspec URI of the checkpoint."""
    check: Annotated[str | None, Setting(FIRST, check=check_exists)]
    """Folder of the labelled chips to check it on."""
    bands: Annotated[Sequence[str] | None, Setting(WHAT, unset="the usual ones", typed=str, parse=split_names)]
    """Its bands in order, e.g. B04,B03,B02."""
    pool: Annotated[Literal["average", "max"], Setting(WHAT, "max")]
    """How the U-Net pools, if it is not found out by --check."""
    split: Annotated[Literal["train", "val", "test"], Setting(HOW, "test")]
    """Which chips of --check."""
    limit: Annotated[int | None, Setting(HOW, unset="all", least=2, most=MANY)]
    """Use only this many chips of each split."""


def import_checkpoint(asked: ImportOptions) -> None:
    """Import, check, and print where the checkpoint is."""
    from spacex.checkpoint import save_checkpoint
    from spacex.checkpoint_import import import_checked, imported_card, read_state_dict
    from spacex.models.asos import convert

    file, check = asked["file"], asked["check"]
    if check is None:
        classifier = convert(read_state_dict(file), asked["pool"])
        card = imported_card(classifier, file, asked["bands"])
    else:
        classifier, card = import_checked(file, asked["bands"], check, asked["split"], asked["limit"])
    save_checkpoint(asked["output"], card, {"classifier": classifier})
    for way, metrics in card.metrics.items():
        print(f"pooling by {way}: accuracy {metrics['accuracy']:.4f} on {metrics['chips']} chips")
    print(f"checkpoint: {asked['output']}")


app = make_app(make_command(ImportOptions, import_checkpoint), __doc__)

"""Import a classifier: a program of torch.export (.pt2), or one that AnthroProtect's authors trained (.pt, .ckpt).

The file is opened without running any Python in it: a file that asks for more than tensors, settings and known
operators is refused, and the message names what it asked for. Files with 3 channels see B02,B03,B04 and files
with 10 channels all ten bands, as reflectance 0..1. A program's chips are as large as those it was exported for.

Of the authors' files, channels, maps and widths are inferred from the shapes. Give --check: shapes do not tell how
the U-Net pools, so both ways are tried on labelled chips, the better one is kept, and a file that then still does
worse than its authors report is refused. A program's accuracy is measured there.

Examples:
    spacex import-checkpoint mine.pt2 --bands B04,B03,B02 --output runs/mine

    spacex import-checkpoint asos_anthroprotect_rgb-channels.pt --check /data/anthroprotect

    spacex train-gan --data /data/anthroprotect --classifier runs/classifier --preset paper

Exit code 2: the file cannot be imported, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, MANY, REQUIRED, WHAT, Setting
from spacex.api.validation import check_data, check_exists, check_folder, split_names
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command

if TYPE_CHECKING:
    from torch import nn


class ImportOptions(TypedDict, total=False):
    """Options of `spacex import-checkpoint`."""

    file: Annotated[str, Setting("", REQUIRED, argument=True, check=check_exists)]
    """The program or the authors' file: a path or any fsspec URI."""
    output: Annotated[str, Setting(FIRST, "runs/classifier", check=check_folder)]
    """Folder or fsspec URI of the checkpoint."""
    check: Annotated[str | None, Setting(FIRST, check=check_data)]
    """Labelled chips to check it on, as for training."""
    bands: Annotated[Sequence[str] | None, Setting(WHAT, unset="the usual ones", typed=str, parse=split_names)]
    """Its bands in order, e.g. B04,B03,B02."""
    pool: Annotated[Literal["average", "max"], Setting(WHAT, "max")]
    """How the authors' U-Net pools, if it is not found out by --check."""
    split: Annotated[Literal["train", "val", "test"], Setting(HOW, "test")]
    """Which chips of --check."""
    limit: Annotated[int | None, Setting(HOW, unset="all", least=2, most=MANY)]
    """Use only this many chips of each split."""


def import_checkpoint(asked: ImportOptions) -> None:
    """Import, check, and print where the checkpoint is."""
    from spacex.checkpoint import save_checkpoint
    from spacex.checkpoint_import import import_checked, import_program, imported_card, read_state_dict
    from spacex.models.asos import convert

    file, check = asked["file"], asked["check"]
    classifier: nn.Module
    if file.endswith(".pt2"):
        classifier, card = import_program(file, asked["bands"], check, asked["split"], asked["limit"])
    elif check is None:
        classifier = converted = convert(read_state_dict(file), asked["pool"])
        card = imported_card(converted, file, asked["bands"])
    else:
        classifier, card = import_checked(file, asked["bands"], check, asked["split"], asked["limit"])
    save_checkpoint(asked["output"], card, {"classifier": classifier})
    for what, metrics in card.metrics.items():
        way = what if file.endswith(".pt2") else f"pooling by {what}"
        print(f"{way}: accuracy {metrics['accuracy']:.4f} on {metrics['chips']} chips")
    print(f"checkpoint: {asked['output']}")


app = make_app(make_command(ImportOptions, import_checkpoint), __doc__)

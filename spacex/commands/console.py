"""Terminal output of runs: the plan as a table, how a run ended, and what to do next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacex.cube.sites import Sites
    from spacex.dataset_building.folder import DatasetFolder
    from spacex.dataset_building.run import BuiltDataset
    from spacex.mapping.run import Outcome


def echo(line: str) -> None:
    """Print one line on stderr; stdout holds only what other programs read."""
    print(line, file=sys.stderr, flush=True)


def rerun_command() -> str:
    """The command line that started this process."""
    name = sys.argv[0]
    start = ["python", name] if name.endswith(".py") else [os.path.basename(name)]
    return " ".join(map(shlex.quote, [*start, *sys.argv[1:]]))


def executable() -> str:
    """How to call the installed command from here: its path where the shell would not find it."""
    beside = os.path.join(os.path.dirname(sys.executable), "spacex")
    return "spacex" if shutil.which("spacex") or not os.path.exists(beside) else os.path.relpath(beside)


def show_map_plan(description: dict[str, Any], output: str) -> None:
    """Print the plan of a map, `PlannedMap.describe` with ``operations`` and perhaps ``estimate``, as a table."""
    scenes, estimate = description["scenes"], description.get("estimate")
    hours = "not measured; --calibrate N maps N tiles first and estimates"
    if estimate is not None:
        workers = estimate["workers"]
        hours = (
            f"{estimate['hours']:.2f} with {workers} worker{'s' * (workers > 1)}, set by {estimate['set_by']} "
            f"(from {estimate['measured_tiles']} tiles mapped here)"
        )
    rows = (
        ("output", output),
        ("cube", description["cube"]),
        ("tiles", _tiles(description)),
        ("scenes", f"{sum(scenes):,}" + (f" ({', '.join(map(str, scenes))})" if len(scenes) > 1 else "")),
        ("chips", f"{description['chips']:,}"),
        *_amounts(description),
        ("to compute", f"{description['operations']:.1e} operations"),
        ("hours", hours),
    )
    _show_rows(rows)


def show_scenes(rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]) -> None:
    """Print a table of scenes, `ListedScenes.rows`, and which items were left out."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("day", "tile", "orbit", "cloud", "to read"):
        table.add_column(name, justify="left" if name in ("day", "tile") else "right")
    table.add_column("scene", overflow="fold")
    for row in rows:
        cloud = "" if row["cloud_cover"] is None else f"{row['cloud_cover']:.0f} %"
        orbit = "" if row["orbit"] is None else f"{row['orbit']}"
        table.add_row(row["datetime"][:10], row["tile"], orbit, cloud, decimal(row["bytes"]), row["id"])
    Console(highlight=False).print(table)
    total = sum(row["bytes"] for row in rows)
    echo(f"{_items(rows, 'scene')}; a map of this area is expected to read {decimal(total)}")
    _show_scenes(left_out, {})


def show_dataset_plan(description: dict[str, Any], output: str) -> None:
    """Print the plan of a data set, `PlannedDataset.describe`, as a table."""
    rows = (
        ("output", output),
        *((part, _counts(chips, " + ")) for part, chips in description["chips"].items()),
        ("to make", f"{description['chips_to_make']:,} chips"),
        ("tiles", _tiles(description)),
        ("scenes", f"{description['scenes']:,}"),
        *_amounts(description),
    )
    _show_rows(rows)


def show_dataset(dataset: BuiltDataset, folder: DatasetFolder) -> None:
    """Print what a set of chips came to, where everything is, and what to do next."""
    _show_quarantined(dataset.quarantined)
    _show_scenes(dataset.items_left_out, dataset.doubtful_scenes)
    if dataset.left_out:
        name, reason = next(iter(dataset.left_out.items()))
        echo(f"{len(dataset.left_out)} chips were left out for want of data, e.g. {name}: {reason}")
    for part, chips in dataset.counts.items():
        echo(f"{part}: {_counts(chips, ', ')}")
    if dataset.chips and (short := [part for part, chips in dataset.counts.items() if not all(chips.values())]):
        echo(f"{' and '.join(short)} lack a class: training needs both; widen the area or draw more")
    echo(f"{len(dataset.chips):,} chips in {dataset.seconds:.1f} s")
    if sheets := [
        str(file) for label in ("natural", "anthropogenic") if (file := folder.run / f"{label}.png").exists()
    ]:
        echo(f"contact sheets: {', '.join(sheets)}")
    if "report" not in dataset.unwritten:
        echo(f"report: {folder.run / 'report.html'}")
    _show_unwritten(dataset.unwritten)
    root = str(folder.root)
    _show_end(dataset.quarantined, f"train-classifier --data {shlex.quote(root)}", f"data: {root}")


def show_map(outcome: Outcome, output: str, quicklook: str | None) -> None:
    """Print how a run ended, where cube and picture are, and what to do next."""
    from spacex.cube.applicability import trust_line
    from spacex.cube.summary import faint_line, grain_line, meaning_lines, summarise_maps
    from spacex.mapping.request import MapRequest, other_settings
    from spacex.storage import absolute_uri, run_folder

    _show_quarantined(outcome.quarantined)
    _show_scenes(outcome.items_left_out, outcome.doubtful_scenes)
    rate = outcome.chips / outcome.seconds if outcome.seconds else 0.0
    echo(f"{outcome.chips} chips in {outcome.seconds:.1f} s ({rate:.2f} chips/s)")
    if quicklook and "picture" not in outcome.unwritten:
        echo(f"picture: {absolute_uri(quicklook)}")
    if "report" not in outcome.unwritten:
        echo(f"report: {absolute_uri(f'{run_folder(output)}/report.html')}")
    request = MapRequest.model_validate(outcome.cube.attributes["request"])
    bands = outcome.cube.attributes["checkpoint"]["bands"]
    cutout_line = other_settings(request.items, request.composites(bands)) if request.items else ""
    doubts = trust_line(outcome.cube), faint_line(summarise_maps(outcome.cube)), cutout_line, grain_line(outcome.cube)
    for line in (*meaning_lines(outcome.cube), *doubts):
        if line:
            echo(line)
    _show_unwritten(outcome.unwritten)
    _show_end(outcome.quarantined, f"view {shlex.quote(output)}", f"cube: {absolute_uri(output)}")


def show_sites(sites: Sites) -> None:
    """Print a table of sites in short: how many there are in which state, and why some are, last those outside."""
    table = sites.table
    steps = table["first_day"].nunique()
    counts = ", ".join(f"{number:,} {state}" for state, number in sites.count().items())
    echo(f"{_items(table['zone'].unique(), 'zone')} at {steps} time step{'s' * (steps > 1)}: {counts}")
    noted = table[table["reason"] != ""].sort_values("state", key=lambda state: state == "outside", kind="stable")
    for row in noted.head(3).itertuples():
        echo(f"  zone {row.zone}, {row.first_day}: {row.state}: {row.reason}")
    if len(noted) > 3:
        echo(f"  and {len(noted) - 3:,} more: see the column reason")
    if sites.land_cover is not None:
        echo(f"{_items(sites.land_cover['class'].unique(), 'class')[:-1]}es of land cover: {sites.cover}")


def _show_quarantined(quarantined: Mapping[Any, str]) -> None:
    for task, reason in quarantined.items():
        echo(f"given up: tile {task}: {reason}")


def _show_scenes(left_out: Mapping[str, str], doubtful: Mapping[str, str]) -> None:
    """Print which items of the catalogue were left out, and which scenes are doubtful."""
    if left_out:
        echo(f"{_items(left_out, 'item')} of the catalogue left out: {_examples(left_out)}")
    if doubtful:
        echo(
            f"doubtful: the pixels of {_items(doubtful, 'scene')} contradict the stated offset: {_examples(doubtful)}. "
            "Look at the map there; another --collection may state it right, and --leave-out ID goes on without a scene"
        )


def _items(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'s' * (len(things) > 1)}"


def _examples(reasons: Mapping[str, str], most: int = 3) -> str:
    """The first few names with their reasons; all are in the report."""
    shown = ", ".join(f"{name} ({reason})" for name, reason in list(reasons.items())[:most])
    return shown + (f" and {len(reasons) - most:,} more, see the report" if len(reasons) > most else "")


def _show_unwritten(unwritten: Mapping[str, str]) -> None:
    for name, reason in unwritten.items():
        echo(f"not written: {name}: {reason}")
    if unwritten:
        echo(f"The same command writes what is missing:\n  {rerun_command()}")


def _show_end(quarantined: Mapping[Any, str], next_command: str, result: str) -> None:
    """Print what to do next; of a complete run also the result, on stdout."""
    if quarantined:
        echo(f"{len(quarantined)} tiles were given up. To try them again:\n  {rerun_command()}")
        return
    echo(f"next: {executable()} {next_command}")
    print(result)


def _show_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values side by side."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _tiles(description: dict[str, Any]) -> str:
    tiles = description["tiles"]
    return f"{tiles['new'] + tiles['redo']:,} to do ({tiles['redo']:,} of them again), {tiles['done']:,} done"


def _amounts(description: dict[str, Any]) -> list[tuple[str, str]]:
    from rich.filesize import decimal

    return [(f"to {verb}", decimal(description[f"bytes_to_{verb}"])) for verb in ("read", "store")]


def _counts(chips: Mapping[str, int], separator: str) -> str:
    return separator.join(f"{number:,} {name}" for name, number in chips.items())

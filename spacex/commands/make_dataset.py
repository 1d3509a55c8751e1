"""Make labelled chips from any land: from polygons of what is natural and what is not to a data set that trains.

    spacex make-dataset --natural wdpa.gpkg --natural-where "IUCN_CAT in ('Ia','Ib','II')" --land-cover CLC2018.tif --area finland --datetime 2020-07-01/2020-08-30 --output /data/finland

makes a folder in AnthroProtect's layout, which every other command takes as --data. Pixels are read and composited by the
code that maps; chips are drawn from the files alone, balanced, by --seed. `--catalogue demo` needs no further option.

Repeating a command resumes it. On a cluster the same command is submitted, with --output (and --land-cover) on a disk
that every worker sees.

Exit codes: 0 every chip is made or had too little data; 1 something unexpected, a log holds the traceback; 2 the request is
wrong, nothing was written; 3 some tiles were given up, or no chip had enough data; 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import json

import typer

from spacex.api.dataset_settings import MakeDatasetSettings, check_natural
from spacex.commands import console, execution
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command


class DatasetOptions(MakeDatasetSettings, execution.ExecutionOptions, total=False):
    """Options of `spacex make-dataset`."""


def make_dataset(asked: DatasetOptions) -> None:
    """Draw places, make the chips, and print where everything is."""
    from spacex.api.scenes import chosen_area, chosen_intervals

    execution.check_execution_options(asked)
    intervals = chosen_intervals(asked, asked["datetime"])
    check_natural(asked)
    area = chosen_area(asked, asked["bbox"])
    execution.announce(asked)

    from spacex.api.dataset import plan_chips, run_arguments

    work = plan_chips(asked, area, intervals)
    description = work.describe()
    if asked["plan"]:
        print(json.dumps(description, indent=1)) if asked["json"] else console.show_dataset_plan(
            description, asked["output"]
        )
        return
    runner, tiles = execution.make_runner(asked, threads=asked["threads"]), description["tiles"]
    console.echo(
        f"{description['chips_to_make']} chips to make in {tiles['new']} new tiles, {tiles['redo']} to redo, "
        f"{tiles['done']} done -> {work.folder.root}"
    )
    on_start = execution.write_plan(str(work.folder.run / "plan.json"), description)
    dataset = execution.run_interruptibly(lambda: work.run(runner, on_start=on_start, **run_arguments(asked)))
    console.show_dataset(dataset, work.folder)
    if not dataset.complete or not dataset.chips:
        raise typer.Exit(execution.INCOMPLETE)


app = make_app(make_command(DatasetOptions, make_dataset), __doc__)

"""A cube of known values with its page served, for the tests of the web map."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from urllib.parse import quote

import numpy as np

from spacex.cube.layout import CubeSpec
from spacex.cube.overviews import make_overviews
from spacex.cube.store import TileMaps, create_cube
from spacex.execution.tasks import Status, TileTask
from spacex.viewer.serve import open_server, write_page

SPEC = CubeSpec(
    crs="EPSG:3035",
    resolution=10,
    extent=(-505_500, 489_500, 1100, 1500),
    tile_size=512,
    intervals=(("2020-07-01", "2020-08-30"), ("2021-07-01", "2021-08-30")),
    maps={"attribution": "how attribution was made", "lift": "how the lift was made"},
    display=("B04", "B03", "B02"),
)
ABOUT = {
    "title": "A cube of known values",
    "source": "numbers drawn by a test",
    "license": "CC-BY-4.0",
    "request": {"crs": "EPSG:3035"},
    "checkpoint": {"preset": "delta", "bands": ["B02", "B03", "B04"], "data": {"name": "demo"}, "limits": "Tests."},
}
FIRST = TileTask(0, -988, 956)
"""The tile at the upper left: it begins 356 rows above the extent and 28 columns left of it."""
STATES = np.array([[1, 1, 1], [1, 4, 2], [1, 3, 0]], np.uint8)
"""Of the first time step; of the second every tile is done."""


def values(step):
    """Maps and composite of a time step over the whole extent; blocks of 3 × 5 pixels, so that a shift shows."""
    rng = np.random.default_rng(step)
    shape = SPEC.extent[2:]

    def blocks():
        return np.kron(rng.random((-(-shape[0] // 3), -(-shape[1] // 5))), np.ones((3, 5)))[: shape[0], : shape[1]]

    maps = {name: (blocks() * top).astype("f4") for name, top in
            (("attribution", 0.2), ("lift", 3e-4), ("naturalness", 1.0))}  # fmt: skip
    for array in maps.values():
        array[300:330, 200:260] = np.nan
    return maps, np.stack([blocks() for _ in range(3)]).astype("f4") * 0.4 + 0.01


def tile_of(cube, task, maps, composite):
    """A tile of maps and a composite that cover the cube's extent; around them the tile has no data."""
    window = cube.window(task)
    here = window.intersect(cube.extent)

    def cut(array):
        whole = np.full((*array.shape[:-2], *window.shape), np.nan, "f4")
        whole[(..., *here.slices(window))] = array[(..., *here.slices(cube.extent))]
        return whole

    return TileMaps({n: cut(a) for n, a in maps.items()}, np.ones(window.shape, "u2"), cut(composite))


def known_cube(uri):
    """The cube itself, made by the code that maps."""
    made = create_cube(uri, SPEC, "0123", ABOUT)
    for step in (0, 1):
        maps, composite = values(step)
        for row, col in made.spec.tiling:
            task = TileTask(step, row, col)
            state = Status(int(STATES[made.position(task)[1:]])) if step == 0 else Status.DONE
            if state is Status.DONE:
                made.write(task, tile_of(made, task, maps, composite))
            if state is not Status.PENDING:
                made.finish(task, state, {"scenes": [{"id": f"scene-{task}"}]})
    make_overviews(made)
    return made


def table_of_sites(folder):
    """A table of two sites in the cube's corner, in degrees, as GeoParquet."""
    import geopandas
    import shapely

    corners = ((4_895_500, 5_054_000), (4_896_500, 5_053_000))
    shapes = [shapely.box(x, y, x + 500, y + 500) for x, y in corners]
    zones = geopandas.GeoDataFrame({"SITENAME": ["mire", "fell"]}, geometry=shapes, crs="EPSG:3035").to_crs(4326)
    means = {"2020-07-01": (0.25, None), "2021-07-01": (0.75, 0.5)}
    rows = [{"zone": i + 1, "first_day": day, "state": "mapped", "naturalness_mean": means[day][i]}
            for day in means for i in (0, 1)]  # fmt: skip
    both = geopandas.pd.concat([zones, zones], ignore_index=True)
    geopandas.GeoDataFrame(both.assign(**geopandas.pd.DataFrame(rows))).to_parquet(folder / "sites.parquet")
    return str(folder / "sites.parquet")


@contextmanager
def served(uri, zones=None):
    """The address of a cube's page, with a table of sites drawn over it."""
    folder = quote(write_page(uri, zones).rsplit("/", 1)[-1])
    with open_server(uri) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{folder}/"
        server.shutdown()

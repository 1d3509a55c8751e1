"""The web map in a real browser: its pixels against the cube's values, and what it asks the server for."""

from __future__ import annotations

import numpy as np
import pytest
from known_cube import SPEC, STATES, known_cube, served, table_of_sites, tile_of, values
from matplotlib import colormaps

from spacex.areas import box_area, load_area
from spacex.cube.encoding import downsample_2x
from spacex.cube.layout import variables
from spacex.cube.overviews import make_overviews
from spacex.cube.store import create_cube
from spacex.display import to_rgb
from spacex.execution.tasks import Status, TileTask
from spacex.region import Region
from spacex.synthetic.region import DEMO_BBOX

pytestmark = pytest.mark.timeout(300)
LEFT, TOP = 4_895_000, 5_055_000
CENTRE = 500, 350
"""Of the map, in pixels of the page."""
BACKGROUND = [0xDF, 0xE3, 0xE6]
PATCH = (slice(120, 320), slice(150, 400))
"""Rows and columns of the page compared: clear of the panel and of the controls."""


@pytest.fixture(scope="module")
def opened(page, address):
    page.open(address)
    return page


def look_at(page, layer, level, row=350, col=400, **range_):
    """Show a layer alone and opaque, pixel for pixel of a level; `row`, `col` of full size are in the middle."""
    size = 10 * 2**level
    picture = "true" if layer == "composite" else "false"
    page.run(f"""(async () => {{
      spacex.map.getView().setCenter([{LEFT + col * 10}, {TOP - row * 10}]);
      spacex.map.getView().setResolution({size});
      const set = (id, key, value) => {{
        const element = document.getElementById(id); element[key] = value;
        element.dispatchEvent(new Event(id === 'opacity' ? 'input' : 'change', {{bubbles: true}})); }};
      set('picture', 'checked', {picture});
      await spacex.show('{layer}');
      set('opacity', 'value', 1);
      set('clear', 'checked', false);
      {"".join(f"set('{name}', 'value', '{value}');" for name, value in range_.items())}
    }})()""")
    page.settle()
    shown = page.picture()[PATCH].astype(int)
    rows, cols = (slice(part.start - middle + at // 2**level, part.stop - middle + at // 2**level)
                  for part, middle, at in zip(PATCH, CENTRE[::-1], (row, col), strict=True))  # fmt: skip
    return shown, (rows, cols)


def through(colours, array, low, high):
    """RGB of values through a matplotlib map cut to six stops, as a legend would draw them."""
    stops = np.linspace(0, 1, 6)
    share = np.clip((array - low) / (high - low), 0, 1)
    rgb = np.round(colormaps[colours](stops)[:, :3] * 255)
    return np.stack([np.interp(share, stops, channel) for channel in rgb.T], axis=-1)


@pytest.mark.parametrize(
    ("layer", "colours", "low", "high"),
    [("attribution", "inferno", 0.02, 0.15), ("lift", "inferno", 0.0, 2.5e-4), ("naturalness", "cividis", 0.0, 1.0)],
)
@pytest.mark.parametrize("level", [0, 1])
def test_a_map_is_drawn_through_its_colours(opened, cube, layer, colours, low, high, level):
    shown, part = look_at(opened, layer, level, 350 << level, 400 << level, low=low, high=high)
    array = values(0)[0][layer]
    array[156:, 484:] = np.nan  # tiles that were not done
    for _ in range(level):
        array = downsample_2x(array)
    picked = array[part]
    missing = np.isnan(picked)
    assert 0 < missing.mean() < 0.5
    # of 255 steps; the score is kept in 250, and its colours are further apart
    difference = np.abs(shown - through(colours, np.nan_to_num(picked), low, high))[~missing]
    assert difference.max() <= (4 if layer == "naturalness" else 3)
    assert (shown[missing] == BACKGROUND).all()


def test_the_composite_is_drawn_as_everywhere(opened, cube):
    shown, part = look_at(opened, "composite", 1, row=700, col=800)
    composite = next(variable for variable in variables(cube.spec) if variable.name == "composite")
    codes = cube.array("1/composite")[0][(slice(None), *cube.spec.crop(1))][(slice(None), *part)]
    expected = to_rgb(composite.decode(codes), cube.spec.display) * 255
    there = np.isfinite(expected).all(axis=-1) & (shown != BACKGROUND).any(axis=-1)
    assert there.mean() > 0.5
    assert np.abs(shown - expected)[there].max() <= 3


def test_the_composite_does_not_reach_beyond_the_maps(opened, cube):
    """Dashes along a slanted border: composite pixels of 20 m of which the maps have a part only."""
    shown, (rows, cols) = look_at(opened, "composite", 0, row=450, col=600)
    array = values(0)[0]["naturalness"]
    array[156:, 484:] = np.nan  # tiles that were not done
    missing = np.isnan(array[rows, cols])
    assert (shown[missing] == BACKGROUND).all()
    assert (shown[~missing] != BACKGROUND).any(axis=-1).mean() > 0.99


def test_land_unlike_the_training_chips_is_hatched(page, tmp_path):
    spec = SPEC.model_copy(update={"dissimilarity": "made by hand", "intervals": SPEC.intervals[:1]})
    made = create_cube(str(tmp_path / "hatched.zarr"), spec, "0123", {"title": "hatched"})
    maps, composite = values(0)
    maps["dissimilarity"] = np.where(np.arange(1500) < 150, 0.5, 1.5) * np.ones((1100, 1), "f4")
    for row, col in spec.tiling:
        task = TileTask(0, row, col)
        made.write(task, tile_of(made, task, maps, composite))
        made.finish(task, Status.DONE, {})
    make_overviews(made)
    with served(made.uri) as url:
        page.open(url)
        plain = look_at(page, "naturalness", 0)[0]
        page.run("document.getElementById('hatch').click()")
        page.settle()
        without = page.picture()[PATCH].astype(int)
        layers = page.run("spacex.map.getAllLayers().map((layer) => [layer.getClassName(), layer.getZIndex()])")
    # above the sites too, whose colours would hide it
    assert max(layers, key=lambda layer: layer[1] or 0)[0] == "hatch"
    assert dict(layers)["hatch"] > 5
    changed = (plain != without).any(axis=-1)
    middle = 150 - 400 + CENTRE[0] - PATCH[1].start  # where the dissimilarity passes 1; column 400 is in the middle
    assert not changed[:, : middle - 1].any()
    assert 0.1 < changed[:, middle + 1 :].mean() < 0.5


def test_zoomed_to_full_resolution_the_pixels_are_those_of_full_resolution(opened):
    opened.seen.requests.clear()
    look_at(opened, "lift", 0, row=700, col=300)
    assert any("/0/lift/" in request for request in opened.seen.requests)


def test_another_time_step_shows_other_values(opened, cube, address):
    opened.open(address)  # tests before this one have opened others
    opened.run("""(() => { const time = document.getElementById('time'); time.value = 1;
                   time.dispatchEvent(new Event('change')); })()""")
    shown, part = look_at(opened, "lift", 0, low=0, high=3e-4)
    array = values(1)[0]["lift"][part]
    there = ~np.isnan(array)
    assert np.abs(shown - through("inferno", np.nan_to_num(array), 0, 3e-4))[there].max() <= 3
    opened.run("""(() => { const time = document.getElementById('time'); time.value = 0;
                   time.dispatchEvent(new Event('change')); })()""")


def test_values_under_the_pointer(opened, cube):
    look_at(opened, "lift", 0, low=0, high=3e-4)
    opened.point(CENTRE[0] + 20.5, CENTRE[1] - 30.5)
    row, col = 350 - 31, 400 + 20
    opened.wait("document.getElementById('value').textContent.includes('lift')")
    told = opened.run("document.getElementById('value').textContent").split("\n")
    assert f"x {LEFT + col * 10 + 5}, y {TOP - row * 10 - 5} m" in told
    [line] = [line for line in told if line.startswith("lift")]
    assert float(line.split()[1]) == pytest.approx(float(values(0)[0]["lift"][row, col]), rel=6e-3)


def test_the_address_leads_back_to_what_is_seen(opened, address):
    before, _ = look_at(opened, "attribution", 0, low=0.03, high=0.11)
    link = opened.run("location.hash")
    assert "low=0.03" in link
    opened.open(address + link)
    assert np.array_equal(opened.picture()[PATCH], before)


def test_tiles_by_state_and_how_one_was_made(opened):
    look_at(opened, "lift", 0)
    opened.run("document.getElementById('tiles').click()")
    opened.wait("document.getElementById('states').textContent.includes('done')")
    told = opened.run("document.getElementById('states').textContent")
    for number, name in enumerate(("pending", "done", "no data", "outside", "failed")):
        assert f"{name}: {(number == STATES).sum()}" in told
    opened.click(*CENTRE)  # row 350, column 400: the tile below the first one
    opened.wait("!document.getElementById('made').hidden && document.getElementById('provenance').textContent")
    assert opened.run("document.getElementById('tile').textContent") == "Tile n987-e956: done"
    assert "scene-t0-n987-e956" in opened.run("document.getElementById('provenance').textContent")
    opened.run("document.getElementById('tiles').click()")


def test_the_page_says_what_it_shows(opened):
    told = opened.run("document.getElementById('panel').textContent")
    for words in ("A cube of known values", "Licence: CC-BY-4.0.", "Numbers drawn by a test.", "logits per pixel",
                  "how the lift was made", "delta", "2021-07-01 to 2021-08-30", "EPSG:3035"):  # fmt: skip
        assert words in told, words


def test_the_first_view_asks_for_little_and_only_here(page, address, cube):
    page.open(address)
    assert page.seen.errors == []
    assert len(page.seen.requests) <= 35
    root = address.split("/", 3)
    for request in page.seen.requests:
        assert request.split("/", 3)[:3] == root[:3] or request.startswith("data:"), request
    assert page.seen.bytes < 8e6
    # drawn: the picture is not one colour
    assert page.picture()[200:500, 200:500].std() > 20


@pytest.mark.parametrize(("area", "most"), [("the embedded region", 35), ("finland", 20)])
def test_a_map_of_any_size_is_seen_with_few_requests(page, tmp_path, area, most):
    extent = Region(load_area(area) if area == "finland" else box_area(*DEMO_BBOX)).extent
    spec = SPEC.model_copy(update={"extent": (extent.row, extent.col, extent.height, extent.width), "tile_size": 1024})
    empty = create_cube(str(tmp_path / "empty.zarr"), spec, "0123", {"title": area})
    make_overviews(empty)
    with served(empty.uri) as url:
        page.open(url)
    assert len(page.seen.requests) <= most, page.seen.requests
    assert page.seen.errors == []


def test_while_a_run_goes_on_the_levels_that_are_there_are_drawn(page, tmp_path, cube):
    spec = SPEC.model_copy(update={"tile_size": 1024})
    running = create_cube(str(tmp_path / "running.zarr"), spec, "0123", {"title": "running"})
    maps, composite = values(0)
    first = TileTask(0, -494, 478)
    running.write(first, tile_of(running, first, maps, composite))
    running.finish(first, Status.DONE, {})
    with served(running.uri) as url:
        page.open(url)
        assert page.seen.errors == []
        assert not any(".zarr/2/" in request for request in page.seen.requests)
        assert page.picture()[250:450, 300:400].std() > 20


def test_what_is_no_cube_is_said(page, tmp_path):
    gone = create_cube(str(tmp_path / "gone.zarr"), SPEC, "0123", {})
    with served(gone.uri) as url:
        (tmp_path / "gone.zarr" / "zarr.json").unlink()
        page.open(url)
    assert "No cube at" in page.run("document.getElementById('error').textContent")


def test_sites_are_coloured_by_naturalness_and_tell_their_numbers(page, tmp_path):
    made = known_cube(str(tmp_path / "sites.zarr"))
    mire, fell = (4_895_750, 5_054_250), (4_896_750, 5_053_250)  # their middles

    def there(place):
        x, y = page.run(f"spacex.map.getPixelFromCoordinate({list(place)})")
        return round(y), round(x)

    def colour(place):
        row, col = there(place)
        return page.picture()[row - 3 : row + 4, col - 3 : col + 4].reshape(-1, 3).mean(axis=0)

    def tick(shown):
        page.run(f"""(() => {{ const box = document.getElementById('sites'); box.checked = {str(shown).lower()};
                     box.dispatchEvent(new Event('change')); }})()""")
        page.settle()

    with served(made.uri, table_of_sites(tmp_path)) as address:
        page.open(address)
        page.run("spacex.map.getView().setCenter([4896250, 5053750]); spacex.map.getView().setResolution(10)")
        page.settle()
        seen = [colour(mire), colour(fell)]
        tick(False)
        bare = [colour(mire), colour(fell)]
        tick(True)
        # three quarters of the colour of the score over what lies below; grey where there is no score
        score = through("cividis", np.array(0.25), 0, 1)
        assert seen[0] == pytest.approx(0.75 * score + 0.25 * bare[0], abs=6)
        assert seen[1] == pytest.approx(4 / 15 * np.full(3, 0x88) + 11 / 15 * bare[1], abs=6)
        row, col = there(mire)
        page.click(col, row)
        page.wait("!document.getElementById('site').hidden")
        assert page.run("document.getElementById('sitename').textContent") == "mire"
        facts = page.run("document.getElementById('sitefacts').textContent")
        assert "0.25" in facts
        assert "mapped" in facts
        # the second time step has another score, and another colour
        page.run("""(() => { const time = document.getElementById('time'); time.value = 1;
                     time.dispatchEvent(new Event('change')); })()""")
        page.settle()
        tick(False)
        below = colour(mire)
        tick(True)
        score = through("cividis", np.array(0.75), 0, 1)
        assert colour(mire) == pytest.approx(0.75 * score + 0.25 * below, abs=6)
        page.click(0.5 * (col + there(fell)[1]), 0.5 * (row + there(fell)[0]))
        page.wait("document.getElementById('site').hidden")
        assert page.seen.errors == []

"""Which chips lie in a class: shares against exact areas, blocks, land cover in both encodings."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import geometry_mask
from rasterio.transform import from_origin

from spacex.dataset_building.labels import (
    ANTHROPOGENIC,
    CELL,
    COVER_BLOCK,
    LATTICE,
    NATURAL,
    SQUARE,
    Candidates,
    LabelGrid,
    check_cover,
    codes_of,
    cover_block_id,
    cover_block_window,
)
from spacex.dataset_building.request import LandCover
from spacex.datasets.corine import CODES, GRID_CODES, corine_codes
from spacex.errors import DataError
from spacex.grid import CHIP, Grid, Window

GRID = Grid()
NONE = np.empty(0, dtype=object)
WEST, NORTH = 4_915_200.0, 5_038_080.0
"""A corner of a square of cells, metres in EPSG:3035."""
SQUARE_OF_CELLS = Window(-int(NORTH / 80), int(WEST / 80), SQUARE, SQUARE)


def shapes(*found):
    return np.array(found, dtype=object)


def place(left, top, width, height):
    """A rectangle by metres from the corner, rightwards and downwards."""
    return shapely.box(WEST + left, NORTH - top - height, WEST + left + width, NORTH - top)


def test_the_corner_is_one():
    assert (SQUARE_OF_CELLS.row % SQUARE, SQUARE_OF_CELLS.col % SQUARE) == (0, 0)


@given(
    st.lists(
        st.tuples(st.floats(0, 12_000), st.floats(0, 12_000), st.floats(500, 6000), st.floats(500, 6000)),
        min_size=1,
        max_size=4,
    ),
    st.floats(0.3, 1.0),
)
@settings(max_examples=15)
def test_shares_are_those_of_exact_areas(rectangles, share):
    """Oracle: shapely's areas of the union. A cell of 80 m is counted by its middle: within a few hundredths."""
    parks = shapes(*(place(*rectangle) for rectangle in rectangles))
    found = LabelGrid(GRID, parks, NONE).candidates(SQUARE_OF_CELLS, share)
    union = shapely.union_all(parks)
    exact = shapely.area(shapely.intersection(found.boxes(GRID), union)) / (CHIP * 10.0) ** 2
    slack = 4 * len(rectangles) * 40 / 2560
    assert (exact >= share - slack).all()
    np.testing.assert_allclose(found.share, exact, atol=slack)
    starts = {(int(row), int(col)) for row, col in zip(found.row, found.col, strict=True)}
    rows = range(SQUARE_OF_CELLS.row * CELL, SQUARE_OF_CELLS.row * CELL + 1536, LATTICE)
    cols = range(SQUARE_OF_CELLS.col * CELL, SQUARE_OF_CELLS.col * CELL + 1536, LATTICE)
    for row in rows:
        for col in cols:
            box = shapely.box(col * 10.0, -(row + CHIP) * 10.0, (col + CHIP) * 10.0, -row * 10.0)
            if shapely.area(box & union) / (CHIP * 10.0) ** 2 > share + slack:
                assert (row, col) in starts


def test_a_chip_belongs_to_the_polygon_it_lies_in_most_and_small_ones_lie_on_large_ones():
    large, small = place(0, 0, 5120, 2560), place(0, 0, 2560, 2560)
    found = LabelGrid(GRID, shapes(large, small), NONE).candidates(SQUARE_OF_CELLS, 1.0)
    polygons = {
        int(col) - SQUARE_OF_CELLS.col * CELL: int(polygon)
        for col, polygon in zip(found.col, found.polygon_id, strict=True)
    }
    assert polygons == {0: 1, 128: polygons[128], 256: 0}
    assert set(found.label) == {NATURAL}


def test_anthropogenic_chips_lie_outside_all_natural_polygons():
    """A reserve of 100 m in a corner keeps every chip out that touches it, and no other."""
    fields, reserve = place(0, 0, 10_240, 10_240), place(5000, 5000, 100, 100)
    labels = LabelGrid(GRID, shapes(reserve), shapes(fields))
    found = labels.candidates(SQUARE_OF_CELLS, 0.9)
    assert (found.label == ANTHROPOGENIC).all()
    everywhere = LabelGrid(GRID, shapes(place(30_000, 30_000, 10, 10)), shapes(fields)).candidates(SQUARE_OF_CELLS, 0.9)
    apart = ~shapely.intersects(everywhere.boxes(GRID), reserve.buffer(160))
    near = shapely.intersects(found.boxes(GRID), reserve)
    assert not near.any()
    assert len(found) >= apart.sum() > 30
    assert labels.largest_share[NATURAL] < 0.01


def test_squares_are_those_in_which_chips_begin_that_touch_a_label():
    labels = LabelGrid(GRID, shapes(place(3000, 3000, 1000, 1000)), shapes(place(200_000, 3000, 1000, 1000)))
    squares = labels.squares(labels.extent)
    assert len(squares) == 2
    assert SQUARE_OF_CELLS in squares
    assert labels.squares(place(90_000, 3000, 1000, 1000)) == []


def test_no_chip_is_lost_at_the_edge_of_a_square():
    """A park that begins where a square begins: with a share of .5, chips count that begin in the square before."""
    labels = LabelGrid(GRID, shapes(place(0, 0, 2560, 2560)), NONE)
    found = [labels.candidates(square, 0.5) for square in labels.squares(labels.extent)]
    starts = {(int(r), int(c)) for part in found for r, c in zip(part.row, part.col, strict=True)}
    row, col = SQUARE_OF_CELLS.row * CELL, SQUARE_OF_CELLS.col * CELL
    assert starts == {(row, col), (row - 128, col), (row + 128, col), (row, col - 128), (row, col + 128)}


def farmland(file):
    """A land cover whose artificial surfaces and agricultural areas are anthropogenic."""
    return LandCover.from_file(file, anthropogenic=("1", "2"))


def write_cover(path, codes, dtype, nodata, crs=3035, driver="GTiff"):
    """A raster of 100 m around the corner, the left half of one class and the right half of another."""
    values = np.full((200, 200), codes[1], dtype)
    values[:, :100] = codes[0]
    profile = {"width": 200, "height": 200, "count": 1, "dtype": dtype, "nodata": nodata, "driver": driver}
    transform = from_origin(WEST - 5000, NORTH + 5000, 100, 100)
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
        file.write(values, 1)
    return str(path)


@pytest.mark.parametrize("encoding", ["level 3", "grid codes"])
def test_land_cover_states_the_class_in_both_encodings(tmp_path, encoding):
    """Arable land (211) to the left, conifers (312) to the right: chips count where 0.9 of them is arable."""
    wanted = (211, 312)
    if encoding == "grid codes":
        wanted = tuple(GRID_CODES[code] for code in wanted)
    file = write_cover(tmp_path / "corine.tif", wanted, "uint16" if max(wanted) > 255 else "uint8", 0)
    far = shapes(place(30_000, 30_000, 10, 10))
    found = LabelGrid(GRID, far, NONE, farmland(file)).candidates(SQUARE_OF_CELLS, 0.9)
    assert (found.label == ANTHROPOGENIC).all()
    assert (found.polygon_id < 0).all()
    right = (found.col + CHIP) * 10.0
    assert right.max() <= WEST + 5000 + 0.11 * 2560  # the border of the classes
    assert right.max() > WEST + 5000 - 1280
    assert len(found) > 10


def test_land_cover_without_classes_states_nothing(tmp_path):
    file = write_cover(tmp_path / "corine.tif", (211, 312), "uint16", 0)
    assert (
        len(
            LabelGrid(GRID, shapes(place(0, 0, 10, 10)), NONE, LandCover.from_file(file)).candidates(
                SQUARE_OF_CELLS, 0.9
            )
        )
        == 0
    )


def test_beginnings_of_codes_name_classes():
    assert codes_of(("1", "2")) == [code for code in CODES if code < 300]
    assert codes_of(("24", "312")) == [241, 242, 243, 244, 312]
    assert codes_of(("9", "", "2111")) == []
    assert cover_block_window(int(cover_block_id(np.array([-500_000]), np.array([480_000]))[0])) == Window(
        -500_000 // COVER_BLOCK * COVER_BLOCK, 480_128 // COVER_BLOCK * COVER_BLOCK, COVER_BLOCK, COVER_BLOCK
    )


def test_a_land_cover_that_is_none_is_refused(tmp_path):
    wrong = {
        "no CRS": write_cover(tmp_path / "bare.tif", (1, 2), "uint8", 0, crs=None),
        "no classes": write_cover(tmp_path / "float.tif", (1, 2), "float32", 0),
    }
    (tmp_path / "text.tif").write_text("no raster")
    (tmp_path / "cover.vrt").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>")
    wrong |= {"cannot be read": str(tmp_path / "text.tif"), "expected a GeoTIFF": str(tmp_path / "cover.vrt")}
    for word, file in wrong.items():
        with pytest.raises(DataError, match=word):
            check_cover(file)


def test_a_land_cover_in_another_projection_is_read(land_cover):
    """Farmland around villages, and around Lausanne: chips lie on it, and not in a lake or outside the raster."""
    file = str(land_cover)
    check_cover(file)
    with rasterio.open(file) as source:
        own = source.crs
        box = geopandas.GeoSeries([shapely.box(*source.bounds)], crs=own).to_crs(3035)
    labels = LabelGrid(GRID, shapes(box[0].centroid.buffer(1)), NONE, farmland(file))
    found = Candidates.concatenate([labels.candidates(square, 0.9) for square in labels.squares(box[0])])
    assert len(found) > 30
    boxes = geopandas.GeoSeries(found.boxes(GRID), crs=3035).to_crs(own)
    with rasterio.open(file) as source:
        anthropogenic = np.isin(corine_codes(source.read(1)), [code for code in CODES if code < 300])
        assert 0.1 < anthropogenic.mean() < 0.95
        for chip in boxes[::7]:  # oracle: the raster's own cells
            assert anthropogenic[geometry_mask([chip], source.shape, source.transform, invert=True)].mean() > 0.86

"""CORINE Land Cover: its 44 classes, and the two ways rasters number them.

The level-3 codes (111 to 523) are those of the nomenclature and of AnthroProtect's tiles (from Google Earth
Engine). The EEA's own rasters store the row of the legend instead (1 to 44). No number belongs to both, so
any raster with data tells which one it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spacex.errors import DataError

CLASSES: dict[int, str] = {
    111: "Continuous urban fabric",
    112: "Discontinuous urban fabric",
    121: "Industrial or commercial units",
    122: "Road and rail networks and associated land",
    123: "Port areas",
    124: "Airports",
    131: "Mineral extraction sites",
    132: "Dump sites",
    133: "Construction sites",
    141: "Green urban areas",
    142: "Sport and leisure facilities",
    211: "Non-irrigated arable land",
    212: "Permanently irrigated land",
    213: "Rice fields",
    221: "Vineyards",
    222: "Fruit trees and berry plantations",
    223: "Olive groves",
    231: "Pastures",
    241: "Annual crops associated with permanent crops",
    242: "Complex cultivation patterns",
    243: "Land principally occupied by agriculture, with significant areas of natural vegetation",
    244: "Agro-forestry areas",
    311: "Broad-leaved forest",
    312: "Coniferous forest",
    313: "Mixed forest",
    321: "Natural grasslands",
    322: "Moors and heathland",
    323: "Sclerophyllous vegetation",
    324: "Transitional woodland-shrub",
    331: "Beaches, dunes, sands",
    332: "Bare rocks",
    333: "Sparsely vegetated areas",
    334: "Burnt areas",
    335: "Glaciers and perpetual snow",
    411: "Inland marshes",
    412: "Peat bogs",
    421: "Salt marshes",
    422: "Salines",
    423: "Intertidal flats",
    511: "Water courses",
    512: "Water bodies",
    521: "Coastal lagoons",
    522: "Estuaries",
    523: "Sea and ocean",
}
"""Level-3 code to name, in the order of the legend (Bossard et al., EEA technical report 40, 2000)."""

CODES: tuple[int, ...] = tuple(CLASSES)
"""The level-3 codes; the EEA's grid code is the position in this tuple, counted from 1."""

GRID_CODES: dict[int, int] = {code: row for row, code in enumerate(CODES, start=1)}
"""Level-3 code to grid code 1..44."""

NO_DATA = (0, 48, 49, 50, 128, 255, -128, 990, 995, 999)
"""No data or unclassified: 48 to 50, 128, 255, -128 in grid codes by version, 990 to 999 in level-3 codes."""


def corine_codes(array: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Level-3 CORINE codes of a raster in either numbering.

    Takes any shape, and also floats with whole values and NaN. Gives 111..523 as uint16; 0 where there is no data.

    Raises:
        DataError: if values belong to neither numbering, or to both at once.
    """
    values = np.nan_to_num(np.asarray(array), nan=0)
    present = [value for value in np.unique(values).tolist() if value not in NO_DATA]
    strange = [value for value in present if value not in CLASSES and value not in range(1, 45)]
    if strange:
        raise DataError("these are not CORINE classes", got=strange[:8], expected="111..523 or 1..44")
    grid = [value for value in present if value <= 44]
    if grid and len(grid) < len(present):
        mixed = f"{grid[0]:g} and {max(present):g}"
        raise DataError("CORINE grid codes and level-3 codes in one raster", got=mixed, expected="one numbering")
    numbers = np.where(np.isin(values, NO_DATA), 0, values).astype(np.int32)
    # a grid code is the row of the legend
    return np.array((0, *CODES), dtype=np.uint16)[numbers] if grid else numbers.astype(np.uint16)

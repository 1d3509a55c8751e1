"""How strongly the lattice of chips shows in the lift, with the classifier's sensitivity divided out and without it.

    python tests/benchmarks/lattice.py
    python tests/benchmarks/lattice.py --checkpoint runs/gan --side 1024

Maps squares of the embedded country again and again, each time with the lattice of chips moved, so that every pixel is
seen at many places of a chip. A pixel's mean over all these maps is what the land gives; what a map has beside it,
averaged over pixels of the same place in the lattice, is the lattice. Printed is its standard deviation over its mean,
in cells of 4 pixels, of every square, and the part that the squares have in common: the root of the mean product of two
squares' lattices, 0 if it is not above 0. Only that part can a division by place take away; the rest is that of few
chips. The control blends the same chips with the sensitivity turned by half a turn.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch
from numpy.typing import NDArray

import spacex
from spacex.attribution.attributor import Attributor
from spacex.attribution.inference import choose_precision
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.grid import Window, chip_windows
from spacex.mapping.chips import Blend, extract_chips, sensitivity_field
from spacex.mapping.worker import SceneSource

CELL = 4
BOXES = ((23.99, 67.93, 24.03, 67.95), (24.25, 67.93, 24.29, 67.95), (24.12, 68.02, 24.16, 68.04))


def ground(checkpoint: Checkpoint, side: int, bbox: tuple[float, ...]) -> NDArray[np.float32]:
    """A square of the embedded country with a chip's halo: reflectance (bands, h, w) without gaps."""
    plan = spacex.plan(catalogue="demo", bbox=bbox, checkpoint=checkpoint, maps=("lift",), tile_size=side).plan
    read = SceneSource(plan.request, checkpoint.card.bands, plan.scenes)
    chip = checkpoint.card.chip_size
    window = plan.request.region.tiling.window(plan.todo[0].row, plan.todo[0].col).pad(chip)
    pixels = read._composites.read(window, 0).reflectance
    means = np.nanmean(pixels, axis=(1, 2), keepdims=True)
    return np.where(np.isfinite(pixels).all(axis=0), pixels, means).astype(np.float32)


Shifted = tuple[Window, dict[Window, NDArray[np.float32]]]
"""Where the square lies on the grid, and the lift of every chip that touches it."""


def moved_lifts(checkpoint: Checkpoint, pixels: NDArray[np.float32], step: int, shifts: int) -> list[Shifted]:
    """Lift of all chips of the lattice of `step` pixels, for each of some random shifts of the ground."""
    attributor = Attributor(checkpoint, ("lift",), precision=choose_precision("auto"))
    chip, drawn, maps = checkpoint.card.chip_size, np.random.default_rng(0), []
    side = pixels.shape[-1] - 2 * chip
    for row, col in drawn.integers(0, step, (shifts, 2)):
        area = Window(int(row), int(col), side, side)
        parts = extract_chips(pixels, area.pad(chip), chip_windows(area, step, chip), 0.0)
        lifts = {part.window: attributor.attribute(part.pixels[None])().maps["lift"][0] for part in parts}
        maps.append((area, lifts))
        print(f"shift {row}, {col}: {len(parts)} chips", flush=True)
    return maps


def lattice(maps: list[Shifted], step: int, stride: int, field: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """What maps of a square at some stride have beside their mean, by place in the lattice, relative to it."""
    blended = []
    for area, chips in maps:
        size = next(iter(chips)).height
        # every sub-lattice of the stride is a map of its own
        for start in itertools.product(range(0, stride, step), repeat=2):
            blend = Blend(area, 0, size, field=field)
            for window in sorted(chips):
                if (window.row - start[0]) % stride == 0 and (window.col - start[1]) % stride == 0:
                    blend.add(window, chips[window])
            places = (area.row - start[0] + np.arange(area.height)), (area.col - start[1] + np.arange(area.width))
            blended.append(([place % stride for place in places], blend.mean().astype(np.float64)))
    land = np.mean([values for _, values in blended], axis=0)
    got, expected = np.zeros((stride, stride)), np.zeros((stride, stride))
    for (rows, cols), values in blended:
        np.add.at(got, (rows[:, None], cols), values)
        np.add.at(expected, (rows[:, None], cols), land)
    by_cell = [values.reshape(stride // CELL, CELL, -1, CELL).sum(axis=(1, 3)) for values in (got, expected)]
    ratio = by_cell[0] / by_cell[1]
    return np.asarray(ratio / ratio.mean() - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="other than the weights that ship")
    parser.add_argument("--side", type=int, default=512, help="of the square, in pixels")
    parser.add_argument("--shifts", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoint = load_checkpoint(chosen.checkpoint)
    chip = checkpoint.card.chip_size
    step = chip // 4
    squares = [moved_lifts(checkpoint, ground(checkpoint, chosen.side, box), step, chosen.shifts) for box in BOXES]
    fields: dict[str, NDArray[np.float64] | None] = {"as it is": None}
    if checkpoint.sensitivity is not None:
        cells = checkpoint.sensitivity.numpy()
        fields["divided by the sensitivity"] = sensitivity_field(cells, chip)
        fields["by the sensitivity upside down (control)"] = sensitivity_field(cells[::-1, ::-1], chip)
    for stride, (name, field) in itertools.product((chip // 4, chip // 2, 3 * chip // 4), fields.items()):
        lattices = [lattice(maps, step, stride, field) for maps in squares]
        common = np.mean([(one * other).mean() for one, other in itertools.combinations(lattices, 2)])
        each = ", ".join(f"{100 * one.std():.1f} %" for one in lattices)
        print(f"stride {stride}, {name}: {each}; in common {100 * np.sqrt(max(common, 0)):.1f} %", flush=True)


if __name__ == "__main__":
    main()

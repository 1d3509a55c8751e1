"""How strongly the lattice of chips shows in the lift, with the classifier's sensitivity divided out and without it.

    python tests/benchmarks/lattice.py
    python tests/benchmarks/lattice.py --checkpoint runs/gan --side 1024

Maps one square of the embedded country again and again, each time with the lattice of chips moved, so that every pixel
is seen at many places of a chip. A pixel's mean over all these maps is what the land gives; what a map has beside it,
averaged over pixels of the same place in the lattice, is the lattice. Printed is its standard deviation over its mean,
in squares of 4 pixels. The control blends the same chips with the sensitivity turned by half a turn.
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
BOX = (23.99, 67.93, 24.03, 67.95)


def ground(checkpoint: Checkpoint, side: int) -> NDArray[np.float32]:
    """A square of the embedded country with a chip's halo: reflectance (bands, h, w) without gaps."""
    plan = spacex.plan(catalogue="demo", bbox=BOX, checkpoint=checkpoint, maps=("lift",), tile_size=side).plan
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


def lattice(maps: list[Shifted], step: int, stride: int, field: NDArray[np.float64] | None) -> float:
    """Standard deviation over mean of what maps at some stride have beside their mean, by place in the lattice."""
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
    return float(ratio.std() / ratio.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="other than the weights that ship")
    parser.add_argument("--side", type=int, default=512, help="of the square, in pixels")
    parser.add_argument("--shifts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoint = load_checkpoint(chosen.checkpoint)
    chip = checkpoint.card.chip_size
    step = chip // 4
    maps = moved_lifts(checkpoint, ground(checkpoint, chosen.side), step, chosen.shifts)
    fields: dict[str, NDArray[np.float64] | None] = {"as it is": None}
    if checkpoint.sensitivity is not None:
        cells = checkpoint.sensitivity.numpy()
        fields["divided by the sensitivity"] = sensitivity_field(cells, chip)
        fields["by the sensitivity upside down (control)"] = sensitivity_field(cells[::-1, ::-1], chip)
    for stride in (chip // 4, chip // 2, 3 * chip // 4):
        figures = {name: f"{100 * lattice(maps, step, stride, field):.1f} %" for name, field in fields.items()}
        print(f"stride {stride}: {figures}")


if __name__ == "__main__":
    main()

"""Mixed inputs of the generators: natural chips beside others and in mosaics with them, and what changes cost.

Everything is drawn for the global batch, so that two processes see what one would.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.training.distributed import Distributed
from spacex.training.presets import Preset

Pair = dict[str, Tensor]
"""By generator: `maximiser`, `minimiser`."""


def mixed_inputs(
    u: Tensor,
    others: Tensor,
    preset: Preset,
    score: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    distributed: Distributed,
) -> tuple[Pair, Pair]:
    """What each generator sees, and the factors of what it pays for a change there.

    Args:
        u: this process's natural chips, (n, bands, h, w) in the networks' units.
        others: as many of the other class.
        preset: with `inputs` = mixed.
        score: the explained classifier's scores (n,) of chips.
        generator: draws the mosaics of the global batch.
        distributed: the processes.

    Returns:
        Chips like `u`; and factors (n, 1, 1 or h, 1 or w).
    """
    natural = _natural_chips(u, distributed)
    inputs = {"maximiser": _mix(natural, u, others), "minimiser": u}
    costs = {
        "maximiser": torch.where(natural, preset.natural_cost, 1.0),
        "minimiser": torch.ones_like(u[:, :1, :1, :1]),
    }
    if preset.other_cost:
        natural = _natural_cells(u, preset.cells, generator, distributed)
        inputs["minimiser"] = _mix(natural, u, others)
        # by the classifier's score: a label would tell w₋ where to point, whatever the classifier has learnt
        scores = score(torch.cat([u, others]))[:, None, None, None]
        of_natural, of_others = (scores + (1 - scores) * preset.other_cost).chunk(2)
        costs["minimiser"] = torch.where(natural, of_natural, of_others)
    return inputs, costs


def _natural_chips(u: Tensor, distributed: Distributed) -> Tensor:
    """(n, 1, 1, 1) bool: every second chip of the global batch stays natural."""
    first = distributed.rank * len(u)
    places = torch.arange(first, first + len(u), device=u.device)
    return (places % 2 == 0)[:, None, None, None]


def _natural_cells(u: Tensor, most: int, generator: torch.Generator, distributed: Distributed) -> Tensor:
    """(n, 1, 1 or h, 1 or w) bool: about half of the cells of each chip stay natural, or every second chip.

    A chip has 1, 2, 4 ... up to `most` cells along a side, as many in the whole batch.
    """
    sides = 2 ** int(torch.randint(most.bit_length(), (1,), generator=generator))
    if sides == 1:
        return _natural_chips(u, distributed)
    cells = torch.rand(len(u) * distributed.size, 1, sides, sides, generator=generator)
    own = cells.chunk(distributed.size)[distributed.rank].to(u.device)
    return F.interpolate(own, u.shape[2:]) < 0.5


def _mix(natural: Tensor, u: Tensor, others: Tensor) -> Tensor:
    return torch.where(natural, u, others).contiguous(memory_format=torch.channels_last)

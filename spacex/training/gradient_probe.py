"""Measures how strongly each loss term pulls at each generator, without a further backward pass.

Every term reads its own alias of a generated chip. A hook on the alias sees the gradient that this term alone sends
back; autograd then adds up the aliases as it would have anyway. The norm is therefore that of
∂(weight · term)/∂(generated chip): what the generator receives from the term, before the Jacobian that all terms share
turns it into gradients of the parameters. One backward pass per term would cost as much as the step itself.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor


class GradientProbe:
    """Collects the gradient norms of one backward pass."""

    def __init__(self) -> None:
        self.squares: dict[str, Tensor] = {}

    def alias(self, picture: Tensor, name: str) -> Tensor:
        """An alias of a generator's output for one term, whose gradient is measured as `name`, ``term/generator``.

        The squares of several aliases of one name are added.
        """
        alias = picture.view_as(picture)
        if alias.requires_grad:
            alias.register_hook(partial(self._add, name))  # type: ignore[no-untyped-call]
        return alias

    def norms(self) -> dict[str, Tensor]:
        """``grad/<name>`` to the Euclidean norm over the batch, after the backward pass."""
        return {f"grad/{name}": square.sqrt() for name, square in self.squares.items()}

    def _add(self, name: str, gradient: Tensor) -> None:
        square = gradient.detach().float().square().sum()
        self.squares[name] = self.squares[name] + square if name in self.squares else square


def clip_gradients(module: torch.nn.Module, largest: float | None) -> Tensor:
    """Scale all gradients of a module down to a norm of `largest` (None: never); gives the norm before."""
    if largest is None:
        return torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    return torch.nn.utils.clip_grad_norm_(module.parameters(), largest)

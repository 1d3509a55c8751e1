"""How hard each loss term pulls at each generator, at no extra backward pass.

Every term reads its own alias of a generated picture. A hook on the alias sees the gradient that this
term alone sends back; autograd then adds the aliases up as it would have anyway. What is measured is
therefore the norm of ∂(weight · term)/∂(picture), the signal the generator receives from the term,
before the Jacobian that is common to all terms turns it into parameter gradients. One backward per term
would cost as much as the step itself.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor


class GradientProbe:
    """Collects the gradient norms of one backward pass."""

    def __init__(self) -> None:
        self.squares: dict[str, Tensor] = {}

    def probe(self, picture: Tensor, name: str) -> Tensor:
        """An alias of `picture` for one term; several aliases with one name are added (squares).

        Args:
            picture: a generator's output, or anything computed from it.
            name: ``term/generator``.
        """
        alias = picture.view_as(picture)
        if alias.requires_grad:
            alias.register_hook(partial(self._note, name))  # type: ignore[no-untyped-call]
        return alias

    def norms(self) -> dict[str, Tensor]:
        """``grad/<name>`` to the Euclidean norm over the batch, after the backward pass."""
        return {f"grad/{name}": square.sqrt() for name, square in self.squares.items()}

    def _note(self, name: str, gradient: Tensor) -> None:
        square = gradient.detach().float().square().sum()
        self.squares[name] = self.squares[name] + square if name in self.squares else square


def gradient_norm(module: torch.nn.Module) -> Tensor:
    """Euclidean norm of all gradients of a module's parameters."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradients(module: torch.nn.Module, largest: float | None) -> Tensor:
    """Scale all gradients of a module down to a norm of `largest`, if they exceed it; gives the norm before."""
    if largest is None:
        return gradient_norm(module)
    return torch.nn.utils.clip_grad_norm_(module.parameters(), largest)

"""The checkpoints that ship, and which of them is used where none is named."""

from __future__ import annotations

from pathlib import Path

SHIPPED = {
    "europe": Path(__file__).parent / "europe",
    "demo": Path(__file__).parents[1] / "synthetic" / "weights",
}
"""Folders by the name they are asked for: trained on real land, and on the embedded synthetic country."""


def default_checkpoint(source: str) -> str:
    """Name of the checkpoint for a catalogue or a data set: the embedded country (``demo``) has one of its own."""
    return "demo" if source == "demo" else "europe"

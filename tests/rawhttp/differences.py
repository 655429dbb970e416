"""What nginx and the router do differently, and why: filled from the two, checked against them."""

from __future__ import annotations

Kinds = tuple[str, ...]

DIFFERENCES: dict[str, tuple[Kinds, Kinds, str]] = {}

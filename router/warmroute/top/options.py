"""What `router top` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Values of the command line; `cli` explains them."""

    url: str = "http://127.0.0.1:30000"
    api_key: str | None = None
    once: bool = False
    json: Path | None = None
    interval_s: float = 1.0

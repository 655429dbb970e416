"""Folders of things fetched once, which several test processes may fetch at the same moment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def put_in_place(new: Path, place: Path) -> None:
    """Writes. A whole folder, or nothing where another process was faster; nobody ever sees half of it."""
    with suppress(OSError):  # which of its kinds depends on the file system
        new.rename(place)
    assert place.is_dir(), f"{new} did not become {place}"

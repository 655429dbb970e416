"""Notes of several runs without a line for each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from warmroute_simulator.report.model import Report

_NUMBER: Final = re.compile(r"[0-9][0-9.,]*( (ms|s|min|h|d|%)\b)?")


def of_several(reports: Iterable[Report]) -> list[str]:
    """Reads. Every kind of note once: where notes differ in numbers alone, the first one stands for all."""
    kinds: dict[str, dict[str, None]] = {}
    for report in reports:
        for note in report.notes:
            kinds.setdefault(_NUMBER.sub("#", note), {})[note] = None
    notes = []
    for of_a_kind in kinds.values():
        first, others = next(iter(of_a_kind)), len(of_a_kind) - 1
        notes.append(first + (f" (and {others} like it, of other runs)" if others else ""))
    return notes

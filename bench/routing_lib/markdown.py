"""Tables of a page, and how its cells, policies and numbers are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from routing_lib.results import CellAt, Made
from routing_lib.statistics import Interval
from warmroute_simulator.report import words

FLEETS: Final = {"4": "4 workers", "8": "8 workers", "32": "32 workers", "mixed": "4 fast and 4 slow"}
"""A level that is not among them is written as it is."""

_MADE: Final = """\
Made with

```
{command}
```

on {machine} ({versions}; {compiled}), commit {commit} of {date}, sources {sources}: {runs:,} runs, {cpu} of
CPU. The same command on the same sources gives the same figures on any machine.
"""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Reads. The first `texts` columns are texts, the others numbers, which end at the same place."""
    ruler = ["---" if column < texts else "---:" for column in range(len(headers))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (headers, ruler, *rows))


def place_name(fleet: str, kv_tokens: int) -> str:
    """Reads. "8 workers, 1M"."""
    return f"{FLEETS.get(fleet, fleet)}, {tokens(kv_tokens)}"


def cell_name(cell: CellAt) -> str:
    """Reads. A cell among those of its trace."""
    return f"{percent(cell.share)}, {place_name(cell.fleet, cell.kv_tokens)}"


def full_name(cell: CellAt) -> str:
    """Reads. A cell among all."""
    return f"{cell.trace}, {cell_name(cell)}"


def tokens(count: int) -> str:
    """Reads. 250000 → "250k", 3000000 → "3M"."""
    return f"{count / 1e6:g}M" if count >= 1_000_000 else f"{count / 1e3:g}k"


def made_with(made: Made) -> str:
    """Reads. The end of a page: where its figures come from."""
    return _MADE.format(
        command=made.command,
        machine=made.machine,
        versions=", ".join(f"{name} {version}" for name, version in made.versions.items()),
        compiled="compiled" if made.compiled else "not compiled",
        commit=made.commit[:12],
        date=made.commit_date,
        sources=made.sources,
        runs=made.runs,
        cpu=words.seconds(made.cpu_s),
    )


def code(name: str) -> str:
    """Reads. A policy's name."""
    return f"`{name}`"


def percent(share: float) -> str:
    """Reads. Without a fraction: 0.951 → "95 %"."""
    return f"{100 * share:.0f} %"


def ratio(value: float) -> str:
    """Reads. 0.873 → "0.87", 12.34 → "12.3"."""
    return f"{value:.2f}" if value < 10 else words.three_digits(value)


def ratio_interval(interval: Interval) -> str:
    """Reads. "0.87 (0.85–0.90)"."""
    return f"{ratio(interval.value)} ({ratio(interval.low)}–{ratio(interval.high)})"


def seconds(value: float) -> str:
    """Reads. Three digits, which is what seeds tell apart: 0.3719 → "372 ms", 4.239 → "4.24 s"."""
    text, unit = _seconds(value, value)
    return f"{text} {unit}"


def seconds_interval(interval: Interval) -> str:
    """Reads. "118 ms (115–121)"."""
    value, low, high = (_seconds(number, interval.value) for number in interval)
    return f"{value[0]} {value[1]} ({low[0]}–{high[0]})"


def _seconds(value: float, like: float) -> tuple[str, str]:
    """In the unit in which `like` is told."""
    return (words.three_digits(value), "s") if like >= 1 else (words.three_digits(1000 * value), "ms")

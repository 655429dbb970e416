"""What the demo shows: live progress on a terminal, a plain line now and then elsewhere, and the result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from warmroute.demo.tally import Figures, Tally

PLAIN_EVERY_S = 5.0
"""Between two plain lines of progress."""

_BARS = " ▁▂▃▄▅▆▇█"
FULL_LOAD = 16
"""Requests on a worker at which its bar is full."""


class Screen:
    """State: the tallies shown, the loads last seen, and when the last plain line was printed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._tallies: dict[str, Tally] = {}
        self._loads: Sequence[int] = ()
        self._live: Live | None = None
        self._printed_at = -PLAIN_EVERY_S
        if console.is_terminal:
            # Drawn only when told to: a thread that draws by itself would compete with what is measured.
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, policy: str, tally: Tally) -> None:
        """Writes. From here on this policy is the one at work."""
        self._tallies[policy] = tally
        self._loads = ()
        self._printed_at = monotonic()

    def progress(self, loads: Sequence[int], *, last: bool = False) -> None:
        """Writes. Draws anew, or prints a line if one is due."""
        self._loads = loads
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        elif last or monotonic() - self._printed_at >= PLAIN_EVERY_S:
            self._printed_at = monotonic()
            policy, tally = list(self._tallies.items())[-1]
            self.say(f"{policy:<12} {_line(tally)}")

    def _picture(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        table.add_column("policy")
        for name in ("requests", "hit rate", "TTFT p50", "errors"):
            table.add_column(name, justify="right")
        table.add_column("load of each worker")
        at_work = list(self._tallies)[-1]
        for policy, tally in self._tallies.items():
            figures = tally.figures()
            table.add_row(
                Text(policy, style="bold" if policy == at_work else ""),
                f"{tally.ended}/{tally.planned}",
                f"{figures.hit_rate:.1%}",
                _ms(figures.ttft_p50_s),
                str(figures.errors),
                bars(self._loads) if policy == at_work else Text("done", style="dim"),
            )
        return Group(table)


def bars(loads: Sequence[int]) -> Text:
    """One small bar per worker, with its number of requests."""
    text = Text()
    for load in loads:
        level = min(len(_BARS) - 1, -(-load * (len(_BARS) - 1) // FULL_LOAD))
        text.append(_BARS[level], style="red" if load >= FULL_LOAD else "green")
        text.append(f"{load:<4}", style="dim")
    return text


def result_table(results: Mapping[str, Figures]) -> Table:
    """The figures of each policy, and in the last line how the last compares with the first.

    Needs two policies or more.
    """
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("policy")
    for name in ("hit rate", "TTFT p50", "TTFT p99", "requests", "errors"):
        table.add_column(name, justify="right")
    for policy, figures in results.items():
        table.add_row(
            policy,
            f"{figures.hit_rate:.1%}",
            _ms(figures.ttft_p50_s),
            _ms(figures.ttft_p99_s),
            str(figures.requests),
            str(figures.errors),
        )
    first, *_, last = results.values()
    table.add_row(
        "ratio",
        _times(last.hit_rate, first.hit_rate),
        _times(last.ttft_p50_s, first.ttft_p50_s),
        _times(last.ttft_p99_s, first.ttft_p99_s),
        style="bold",
    )
    return table


def stdout_console() -> Console:
    """Plain and as wide as it needs where nobody looks at a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=110, force_terminal=False)


def _line(tally: Tally) -> str:
    figures = tally.figures()
    return (
        f"{tally.ended}/{tally.planned} requests   hit rate {figures.hit_rate:.1%}   "
        f"TTFT p50 {_ms(figures.ttft_p50_s)}   errors {figures.errors}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _times(value: float, base: float) -> str:
    return f"{value / base:.2f}×" if base else ""

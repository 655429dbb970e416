"""One picture: header, charts, workers, and as many panes as fit; the others are a tab away.

wide and tall                          80 × 24
header                                 header
charts                                 charts
workers        | prefixes              workers
decisions      | sessions              one of: decisions, prefixes, sessions, shadows
               | shadows
keys                                   keys
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from warmroute.top import panes
from warmroute.top.schema import Snapshot, Worker
from warmroute.top.shapes import percent, plain, rate, seconds, spark
from warmroute.top.state import PANES, State

WIDE = 150
"""Columns from which on panes stand beside each other."""

_ROOMY = 100  # columns from which on words are written out

_HEADER, _CHARTS, _KEYS = 2, 3, 1
_TITLE = 2  # a pane's rule and its table's head

KEYS = "q quit  p pause  ↑↓ select  d drain  u take back  tab pane  ? help"

_HELP = (
    ("q, Ctrl-C", "quit"),
    ("p", "pause: the picture stays; once more, and it goes on"),
    ("↑ ↓, k j", "select a worker"),
    ("d", "drain the selected worker: it keeps its requests and gets no new ones"),
    ("u", "take it back into service"),
    ("tab, shift-tab", "the next pane, where they do not fit all"),
    ("?", "this"),
)

_WORDS = """\
queue: predicted seconds of prefill that wait. KV cache: share of it that is believed to be occupied.
predicted, actual: share of the prompt that the worker was believed to hold, and that it said was cached.
best: what any worker was believed to hold.
balance: the most requests in flight at a worker over the mean of all; 1 is even."""


def picture(state: State, width: int, height: int) -> RenderableType:
    """Exactly as large as the terminal."""
    root = Layout()
    rows = height - _HEADER - _CHARTS - _KEYS
    middle = Layout()
    root.split_column(
        Layout(_header(state, width), size=_HEADER),
        Layout(_charts(state, width), size=_CHARTS),
        middle,
        Layout(_keys(state), size=_KEYS),
    )
    if state.helping:
        middle.update(_help())
    elif state.snapshot is None:
        middle.update(Text(""))
    elif width >= WIDE:
        left, right = Layout(ratio=3), Layout(ratio=2)
        middle.split_row(left, Layout(size=2), right)
        middle.children[1].update(Text(""))
        _fill_wide(state, state.snapshot, left, right, rows, width * 3 // 5)
    else:
        size = _workers_rows(state, rows)
        middle.split_column(
            Layout(_workers(state, size - _TITLE, width), size=size),
            Layout(_pane(state, state.snapshot, PANES[state.pane], rows, tabs=True)),
        )
    return root


def page(state: State, width: int) -> RenderableType:
    """Everything below each other, as long as it takes: for `--once`."""
    assert state.snapshot is not None
    return Group(
        _header(state, width),
        _charts(state, width),
        _workers(state, len(state.workers), width, mark=False),
        *(_pane(state, state.snapshot, name, 0) for name in PANES if name != "decisions"),
    )


def line(snapshot: Snapshot) -> str:
    """The state in one plain line."""
    totals = snapshot.totals
    able = sum(worker.healthy and not worker.draining for worker in snapshot.workers)
    return "  ".join(
        (
            f"{rate(totals.requests_per_s)} req/s",
            f"{rate(totals.errors_per_s)} err/s",
            f"in flight {totals.in_flight}",
            f"hit {percent(totals.actual_hit_rate)}",
            f"TTFT {seconds(totals.ttft_p50_s)} / {seconds(totals.ttft_p99_s)}",
            f"workers {able}/{len(snapshot.workers)}",
        )
    )


# --- header and charts ----------------------------------------------------------------------------


def _header(state: State, width: int) -> RenderableType:
    snapshot = state.snapshot
    if snapshot is None:
        first = Text(f"{state.url}: {'connecting' if state.trouble is None else _trouble(state)}")
        return Group(_cut(first, width))
    first = Text.assemble((f"warmroute {plain(snapshot.version)}", "bold"), f"  {plain(snapshot.policy)}")
    if state.paused:
        first.append("  PAUSED", "bold yellow")
    if state.trouble is not None:
        first.append(f"  {_trouble(state)}", "bold red")
    elif snapshot.stopping:
        first.append("  stopping", "bold red")
    first.append(f"  up {seconds(snapshot.uptime_s)}  {state.url}")
    if snapshot.models:
        first.append(f"  {plain(', '.join(snapshot.models))}", "dim")
    totals = snapshot.totals
    second = Text.assemble(
        (f"{rate(totals.requests_per_s)} req/s", "bold"),
        "  ",
        (f"{rate(totals.errors_per_s)} err/s", "bold red" if totals.errors_per_s else ""),
        f"  in flight {totals.in_flight}  connections {totals.connections}"
        f"  {rate(totals.prompt_tokens_per_s)} prompt tok/s",
    )
    if totals.prefill_saved_s_per_s is not None:
        second.append(f"  saves {seconds(totals.prefill_saved_s_per_s)} of prefill per s")
    return Group(_cut(first, width), _cut(second, width))


def _trouble(state: State) -> str:
    return plain(f"not reachable, trying again ({state.trouble})")


def _charts(state: State, width: int) -> RenderableType:
    if state.snapshot is None:
        return Text("")
    totals, history = state.snapshot.totals, state.snapshot.history
    hit = Text.assemble(
        ("hit rate  ", "bold"),
        percent(totals.actual_hit_rate),
        f"  {'predicted' if width >= _ROOMY else 'pred.'} {percent(totals.predicted_hit_rate)}",
        f"  best {percent(totals.reusable_rate)}",
    )
    ttft = Text.assemble(
        ("TTFT  ", "bold"), f"p50 {seconds(totals.ttft_p50_s)}, p99 {seconds(totals.ttft_p99_s)}"
    )
    half = (width - 3) // 2
    points = min(half, max(1, len(history.actual_hit_rate)))
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(width=half, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=half, no_wrap=True, overflow="ellipsis")
    grid.add_row(hit, ttft)
    grid.add_row(
        spark(history.actual_hit_rate, points, 1.0, "green"), spark(history.ttft_p50_s, points, style="cyan")
    )
    grid.add_row(
        spark(history.predicted_hit_rate, points, 1.0, "dim"), spark(history.ttft_p99_s, points, style="dim")
    )
    return grid


# --- workers and panes ----------------------------------------------------------------------------


def _workers_rows(state: State, rows: int) -> int:
    """All of them if that leaves half of the room for a pane."""
    return min(len(state.workers) + _TITLE, max(_TITLE + 1, rows // 2))


def _fill_wide(state: State, snapshot: Snapshot, left: Layout, right: Layout, rows: int, width: int) -> None:
    size = _workers_rows(state, rows)
    left.split_column(
        Layout(_workers(state, size - _TITLE, width), size=size),
        Layout(_pane(state, snapshot, "decisions", rows)),
    )
    shadows = min(len(snapshot.shadows) + _TITLE + 2, max(_TITLE + 1, rows // 4))
    right.split_column(
        Layout(_pane(state, snapshot, "prefixes", rows)),
        Layout(_pane(state, snapshot, "sessions", rows)),
        Layout(_pane(state, snapshot, "shadows", rows), size=shadows),
    )


def _workers(state: State, rows: int, width: int, *, mark: bool = True) -> RenderableType:
    """As many as fit, the selected one among them."""
    everyone: Sequence[Worker] = state.workers
    first = min(max(0, state.selected - rows + 1), max(0, len(everyone) - rows))
    able = sum(worker.healthy and not worker.draining for worker in everyone)
    title = f"workers  {able} of {len(everyone)} take requests"
    if rows < len(everyone):
        title += f"  ({first + 1} to {first + rows})"
    selected = everyone[state.selected].id if mark and everyone else None
    return Group(_rule(title), panes.workers(everyone[first : first + rows], everyone, selected, width))


def _pane(state: State, snapshot: Snapshot, name: str, rows: int, *, tabs: bool = False) -> RenderableType:
    if name == "decisions":
        newest = list(reversed(state.decisions.values()))[:rows]
        left_out = f"  ({state.skipped} not shown)" if state.skipped else ""
        table, about = panes.decisions(newest), f"latest decisions{left_out}"
    elif name == "prefixes":
        table, about = panes.prefixes(snapshot), "prefixes that saved most"
    elif name == "sessions":
        table, about = panes.sessions(snapshot), f"sessions  {_stayed(snapshot)}"
    else:
        table, about = panes.shadows(snapshot), "shadow policies"
    if not tabs:
        return Group(_rule(about), table)
    title = Text()
    for number, other in enumerate(PANES):
        title.append(f" {other} ", "bold reverse" if number == state.pane else "dim")
    return Group(_rule(title), table)


def _stayed(snapshot: Snapshot) -> str:
    sessions = snapshot.sessions
    turns = sessions.turns_stayed + sessions.turns_moved
    stayed = f", {percent(sessions.turns_stayed / turns)} of turns stayed" if turns else ""
    return f"{sessions.known} known{stayed}"


def _rule(title: str | Text) -> Rule:
    return Rule(Text(title) if isinstance(title, str) else title, align="left", style="dim")


# --- the last line --------------------------------------------------------------------------------


def _keys(state: State) -> Text:
    if state.question is not None:
        verb = "drain" if state.question.draining else "take back into service"
        return Text(
            f"{verb} {plain(state.question.worker)}?  y: yes, any other key: no", style="bold reverse"
        )
    if state.note is not None:
        return Text(plain(state.note), style="bold", no_wrap=True, overflow="ellipsis")
    return Text(KEYS, style="dim", no_wrap=True, overflow="ellipsis")


def _help() -> RenderableType:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for keys, meaning in _HELP:
        grid.add_row(Text(keys, style="bold"), Text(meaning))
    return Group(_rule("help  (any key: back)"), grid, Text(""), Text(_WORDS))


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text

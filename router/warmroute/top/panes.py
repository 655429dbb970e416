"""The tables: workers, the latest decisions, prefixes, sessions, shadow policies.

Every cell is a `Text`: words of clients are never markup, and what would move the cursor is shown as `?`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from warmroute.top.schema import Decision, Snapshot, Worker
from warmroute.top.shapes import NONE, bar, count, percent, plain, seconds, short_url

_STATUS = {"healthy": "green", "starting": "yellow", "probing": "yellow"}
_BAD = "bold red"

# A load or a queue at which a bar is full where no worker has more: bars of idle workers do not jump.
_FULL_LOAD = 8
_FULL_QUEUE_S = 1.0

# Of a column: names that clients make up do not push the numbers out, nor the numbers the names.
_NARROW_MAX = 22
_WIDE_MIN = 10

_ID_CHARACTERS = 12
"""Of a prefix: enough to tell a few dozen apart."""


def _table(*columns: str, right: Sequence[str] = (), wide: Sequence[str] = ()) -> Table:
    """Columns named in `wide` share what the others leave; the words of the others have an end."""
    table = Table(
        box=None, expand=True, padding=(0, 1), header_style="dim", pad_edge=False, collapse_padding=True
    )
    for name in columns:
        table.add_column(
            Text(name),
            justify="right" if name in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name in wide else None,
            min_width=_WIDE_MIN if name in wide else None,
            max_width=None if name in wide else _NARROW_MAX,
        )
    return table


def _text(value: str, style: str = "") -> Text:
    return Text(plain(value), style=style, no_wrap=True, overflow="ellipsis")


def _row(table: Table, *cells: str | Text, style: str = "") -> None:
    table.add_row(*(cell if isinstance(cell, Text) else _text(cell) for cell in cells), style=style)


def workers(
    shown: Sequence[Worker], all_workers: Sequence[Worker], selected: str | None, width: int
) -> Table:
    """Some of the workers; bars are relative to all of them."""
    size = 0 if width < 60 else 5 if width < 100 else 10 if width < 160 else 16
    table = _table(
        "",
        "worker",
        "status",
        "in flight",
        "queue",
        "KV cache",
        "failures",
        right=("failures",),
    )
    # As wide as the longest name; where that is too much, the names are cut and nothing else.
    table.expand = False
    name = table.columns[1]
    name.no_wrap, name.min_width, name.max_width = False, _WIDE_MIN, None
    load = max([_FULL_LOAD, *(worker.inflight_requests for worker in all_workers)])
    queue_s = max([_FULL_QUEUE_S, *(worker.queued_prefill_s for worker in all_workers)])
    for worker in shown:
        chosen = worker.id == selected
        _row(
            table,
            "▶" if chosen else " ",
            short_url(worker.id),
            _status(worker),
            _measured(bar(worker.inflight_requests / load, size), count(worker.inflight_requests), 4),
            _measured(
                bar(worker.queued_prefill_s / queue_s, size, "yellow"), seconds(worker.queued_prefill_s), 6
            ),
            _measured(bar(worker.kv_share or 0.0, size, "blue"), percent(worker.kv_share), 5),
            count(sum(worker.failures.values())),
            style="reverse" if chosen else "",
        )
    return table


def _status(worker: Worker) -> Text:
    if worker.draining:
        leaves = "" if worker.leaves_in_s is None else f" {seconds(worker.leaves_in_s)}"
        return _text(f"draining{leaves}", "yellow")
    return _text(worker.status, _STATUS.get(worker.status, _BAD))


def _measured(drawn: Text, value: str, width: int) -> Text:
    return Text.assemble(drawn, " " if drawn else "", value.rjust(width), no_wrap=True)


def decisions(newest_first: Sequence[Decision]) -> Table:
    """Why each went where it went, what was predicted to be cached, and what was."""
    table = _table(
        "time", "worker", "why", "prompt", "predicted", "actual", "TTFT", "end",
        right=("prompt", "predicted", "actual", "TTFT"), wide=("worker",),
    )  # fmt: skip
    for decision in newest_first:
        running = decision.outcome is None
        retried = f" (attempt {decision.attempt + 1})" if decision.attempt else ""
        _row(
            table,
            _text(time.strftime("%H:%M:%S", time.localtime(decision.at_s)), "dim"),
            short_url(decision.worker),
            decision.reason + retried,
            count(decision.prompt_tokens),
            _share(decision.predicted_hit_tokens, decision.prompt_tokens),
            "…" if running else _share(decision.cached_tokens, decision.prompt_tokens),
            "…" if running else seconds(decision.ttft_s),
            _end(decision),
        )
    return table


def _share(tokens: int | None, of: int) -> str:
    return NONE if tokens is None or not of else percent(tokens / of)


def _end(decision: Decision) -> Text:
    if decision.outcome is None:
        return _text("running", "dim")
    if decision.outcome == "ok":
        return _text(f"ok {seconds(decision.duration_s)}", "green")
    status = f" {decision.status}" if decision.status else ""
    return _text(f"{decision.outcome}{status}", "yellow" if decision.outcome.startswith("client") else _BAD)


def prefixes(snapshot: Snapshot) -> Table:
    """Those that saved most lately."""
    table = _table(
        "prefix",
        "model",
        "requests",
        "saved",
        "share",
        "seen",
        right=("requests", "saved", "share", "seen"),
        wide=("model",),
    )
    for prefix in snapshot.prefixes:
        _row(
            table,
            prefix.prefix[:_ID_CHARACTERS],
            prefix.model,
            count(prefix.requests),
            count(prefix.saved_tokens),
            percent(prefix.share),
            seconds(prefix.seen_ago_s),
        )
    return table


def sessions(snapshot: Snapshot) -> Table:
    """Those that were seen last."""
    table = _table(
        "session",
        "worker",
        "turns",
        "moves",
        "tokens",
        "seen",
        right=("turns", "moves", "tokens", "seen"),
        wide=("session", "worker"),
    )
    for session in snapshot.sessions.recent:
        _row(
            table,
            session.session,
            short_url(session.worker),
            count(session.turns),
            count(session.moves),
            count(session.footprint_tokens),
            seconds(session.seen_ago_s),
        )
    return table


def shadows(snapshot: Snapshot) -> Table:
    """What other policies would have done with the same requests."""
    table = _table(
        "policy", "decisions", "agreed", "would hit", "failures", "balance",
        right=("decisions", "agreed", "would hit", "failures", "balance"), wide=("policy",),
    )  # fmt: skip
    if snapshot.shadows:
        live = snapshot.live
        _row(
            table,
            f"{snapshot.policy} (live)",
            count(live.decisions),
            NONE,
            percent(live.predicted_hit_rate),
            NONE,
            _balance([worker.inflight_requests for worker in snapshot.workers]),
        )
    for shadow in snapshot.shadows:
        _row(
            table,
            shadow.policy,
            count(shadow.decisions),
            percent(shadow.agreed_share),
            percent(shadow.predicted_hit_rate),
            count(shadow.failures),
            _balance(list(shadow.inflight.values())),
        )
    return table


def _balance(loads: Sequence[int]) -> str:
    """The most over the mean: 1 is even, the number of workers is all on one."""
    return f"{max(loads) * len(loads) / sum(loads):.2f}" if any(loads) else NONE

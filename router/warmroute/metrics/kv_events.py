"""What is counted of engines' KV events, by worker; nothing of workers that are not listened to."""

from __future__ import annotations

from collections.abc import Iterator

from warmroute.kv_events.worker import STATES
from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot


def kv_event_families(snapshot: Snapshot) -> Iterator[Family]:
    """Reads."""
    state = _family(
        "state",
        "gauge",
        "1 at the state that holds. exact: its cache is known; partial: it holds what is known, and maybe "
        "more; approximate: it is predicted.",
        "state",
    )
    blocks = _family("blocks", "gauge", "Blocks that the worker is known to hold, by tier.", "tier")
    lag = _family(
        "lag_seconds",
        "gauge",
        "From the last batch's time by the engine's clock to its arrival by the router's; the clocks may "
        "differ.",
    )
    batches = _family("batches", "counter", "Batches of events that were applied.")
    events = _family(
        "events",
        "counter",
        "Events. ignored: about what is not looked up; skipped: of kinds that are not known.",
        "kind",
    )
    gaps = _family("gaps", "counter", "Times that batches were missing.")
    restarts = _family("restarts", "counter", "Times that the engine began to count anew.")
    replays = _family(
        "replays",
        "counter",
        "Times that old batches were asked for. filled: what was missing came, if anything was; short: the "
        "engine has it no more; unanswered: nothing came.",
        "result",
    )
    errors = _family("errors", "counter", "What was odd, by what it was: docs/exact-mode.md.", "reason")
    stalls = _family("stalls", "counter", "Times that events should have come and did not.")
    for row in snapshot.kv_events:
        labels = label_text(("worker",), (row.worker,))
        for one in STATES:
            state.add(f'{labels},state="{one}"', int(one == row.state))
        for tier, count in row.blocks:
            blocks.add(f'{labels},tier="{tier}"', count)
        lag.add(labels, row.lag_s)
        batches.add(labels, row.batches)
        gaps.add(labels, row.gaps)
        restarts.add(labels, row.restarts)
        stalls.add(labels, row.stalls)
        for family, name, counted in (
            (events, "kind", row.events),
            (replays, "result", row.replays),
            (errors, "reason", row.errors),
        ):
            for value, count in counted:
                family.add(f'{labels},{name}="{value}"', count)
    unmatched = Family(
        "router_kv_event_unmatched",
        "counter",
        "Messages on the line that workers share, with a topic of no worker.",
    )
    unmatched.add("", snapshot.kv_events_unmatched)
    yield from (state, blocks, lag, batches, events, gaps, restarts, replays, errors, stalls, unmatched)


def _family(name: str, kind: str, documentation: str, *labels: str) -> Family:
    return Family(f"router_kv_event_{name}", kind, documentation, ("worker", *labels))

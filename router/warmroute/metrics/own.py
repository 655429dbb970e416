"""What is measured and counted of the router itself: decisions, connections, memory, sessions, prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from warmroute.compiled import is_compiled
from warmroute.logs import dropped_lines
from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot
from warmroute.series import Histogram, Metrics


def own_families(snapshot: Snapshot, metrics: Metrics) -> Iterator[Family]:
    """Reads. Decisions, refusals, time, connections."""
    info = Family("router_info", "gauge", "Always 1.", ("version", "policy", "compiled"))
    facts = version("warmroute"), metrics.policy, str(is_compiled()).lower()
    info.add(label_text(info.labels, facts), 1)
    yield info
    decisions = Family(
        "router_decisions", "counter", "Decisions by the policy's reason.", ("policy", "reason")
    )
    for policy, reason, count in snapshot.decisions:
        decisions.add(label_text(decisions.labels, (policy, reason)), count)
    yield decisions
    yield _counter(
        "retries", "Requests given to another worker, by what had failed.", "kind", snapshot.retries
    )
    left = "Retries that may be made now; each request and each second adds to it."
    yield _one("gauge", "retry_budget", left, snapshot.retries_left)
    refused = "Failures that were not retried because the retry budget was spent."
    yield _one("counter", "retries_refused", refused, metrics.retries_refused)
    started = "Requests sent to a second worker as well, because their first byte was late."
    yield _one("counter", "hedges_started", started, metrics.hedges_started)
    ends = (
        "Second legs that are over. won: answered first; lost: the first leg did; rescued: went on when the "
        "first leg failed; failed: by their worker's fault; given_up: with their request."
    )
    yield _counter("hedges", ends, "result", snapshot.hedges)
    not_hedged = "Late requests that were not hedged: the budget was spent, or no other worker was there."
    yield _counter("hedges_refused", not_hedged, "reason", snapshot.hedges_refused)
    yield _counter(
        "refusals", "Requests answered without asking a worker, by error code.", "code", snapshot.refusals
    )
    faults = "Connections that ended before they could carry a request: no TLS handshake, no head of a proxy."
    yield _counter("connection_faults", faults, "fault", snapshot.connection_faults)
    yield _one(
        "counter",
        "requests_without_prefix",
        "Requests to endpoints with a prompt in which none was found: routed blindly.",
        metrics.without_prefix,
    )
    yield _histogram(
        "decision_seconds",
        "Parsing, identifying and routing a request; one request in 16 is timed.",
        metrics.decision_s,
    )
    yield _histogram("loop_lag_seconds", "How late the event loop ran a timer.", metrics.loop_lag_s)
    lost = "Log lines that came faster than they could be written."
    yield _one("counter", "log_lines_dropped", lost, dropped_lines())
    untaken = "Spans that did not reach the collector: it was away, or they came faster than it took them."
    yield _one("counter", "trace_spans_dropped", untaken, snapshot.spans_dropped)
    yield _one("gauge", "client_connections", "Open client connections.", snapshot.client_connections)
    yield _one("gauge", "inflight_requests", "Requests in progress in this router.", snapshot.exchanges)
    held = "Bytes of large request bodies that are being read or may have to be sent again."
    yield _one("gauge", "held_body_bytes", held, snapshot.held_bytes)
    passed_on = "Requests whose body was passed on while it came: forms with files, audio, images."
    yield _one("counter", "uploads", passed_on, metrics.uploads)
    yield _one("counter", "upload_bytes", "Bytes of such bodies.", metrics.upload_bytes)
    yield _one("gauge", "tunnels", "Open WebSockets; each is a request in progress too.", metrics.tunnels)


def memory_families(snapshot: Snapshot, metrics: Metrics) -> Iterator[Family]:
    """Reads. The index, what corrects it, sessions, the hottest prefixes."""
    statistics = snapshot.statistics
    index = statistics.index
    blocks = "Blocks that workers are believed to hold, all workers together."
    yield _one("gauge", "index_blocks", blocks, index.blocks)
    yield _one("gauge", "index_bytes", "Memory of the prefix index, as accounted.", index.bytes)
    yield _one("gauge", "index_max_bytes", "The most that it may take.", snapshot.index_max_bytes)
    evicted = "Blocks that the index forgot for room."
    yield _one("counter", "index_evicted_blocks", evicted, index.evicted_blocks_total)
    corrected = "Answers that corrected the belief about a worker's KV cache, by how."
    yield _counter("capacity_lessons", corrected, "lesson", snapshot.lessons)
    hottest = Family(
        "router_hot_prefix_saved_tokens",
        "gauge",
        "Prompt tokens that the hottest prefixes saved lately, halved every ten minutes; estimated from one "
        "request in four.",
        ("rank",),
    )
    for rank, tokens in enumerate(snapshot.hot_prefixes, start=1):
        hottest.add(f'rank="{rank}"', tokens)
    yield hottest
    yield _one("gauge", "sessions", "Sessions that are remembered.", statistics.sessions)
    turns = (("true", statistics.session_turns_stayed), ("false", statistics.session_turns_moved))
    yield _counter(
        "session_turns", "Turns of known sessions, by whether they stayed with their worker.", "stayed", turns
    )
    moved = (
        "Turns of known sessions that went to another worker than the turn before, by the decision's reason."
    )
    yield _counter("session_moves", moved, "reason", snapshot.session_moves)
    between = "Time from a turn of a session to its next, as they are routed."
    yield _histogram("session_return_seconds", between, metrics.session_return_s)
    kept = "Stored responses, conversations, files and batches whose workers are remembered."
    yield _one("gauge", "owners", kept, snapshot.owners)
    sought = "Searches over all workers for what one of them keeps, by what came of it."
    yield _counter("owner_searches", sought, "outcome", snapshot.owner_searches)
    length = "Prompt tokens of a session's turn: about what it occupies in a KV cache."
    yield _histogram("session_prompt_tokens", length, metrics.session_prompt_tokens)


def _one(kind: str, name: str, documentation: str, value: float) -> Family:
    family = Family(f"router_{name}", kind, documentation)
    family.add("", value)
    return family


def _counter(name: str, documentation: str, label: str, counts: Iterable[tuple[str, int]]) -> Family:
    family = Family(f"router_{name}", "counter", documentation, (label,))
    for value, count in counts:
        family.add(label_text((label,), (value,)), count)
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Family:
    family = Family(f"router_{name}", "histogram", documentation)
    family.add_histogram("", histogram)
    return family

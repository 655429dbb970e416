"""Measured requests from the journal of a live router.

Times are the router's own: what the network and the router take is in them, and a fit counts it as host time
of a request. A first token is only seen in streams. Hits are what the engines reported; where they reported
none, what the router believed.
"""

from __future__ import annotations

from pathlib import Path

from warmroute_policies.types import Outcome
from warmroute_simulator.fitting.measured import MeasuredRequest, Measurement
from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.journal import measured


def read_journal(path: Path) -> Measurement:
    """A run of one or several workers. Raises TraceError."""
    requests: list[MeasuredRequest] = []
    left_out = believed = 0
    for row in measured(path):
        if row.outcome is not Outcome.OK or not row.output_tokens or not row.e2e_s > 0:
            left_out += 1
            continue
        cached = row.cached_tokens
        if cached is None:
            believed += 1
            cached = row.predicted_hit_tokens
        cached = min(cached, row.prompt_tokens - 1)
        requests.append(
            MeasuredRequest(
                row.arrival_s,
                row.prompt_tokens,
                row.output_tokens,
                row.e2e_s,
                row.ttft_s,
                cached,
                str(row.worker),
            )
        )
    if not requests:
        raise TraceError(path.name, 0, None, "at least one request that was answered", "none")
    notes = [f"{left_out} requests without a counted answer are left out"] if left_out else []
    if believed:
        notes.append(f"for {believed} requests the engine told no hit: the router's belief is taken")
    return Measurement(path.name, requests, notes)

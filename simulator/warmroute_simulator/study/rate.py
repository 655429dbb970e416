"""Two numbers of a run that a sweep needs and no report has: what was offered, and what share was good."""

from __future__ import annotations

from warmroute_simulator.report.model import Report
from warmroute_simulator.traces.trace import Trace


def offered_per_s(trace: Trace, report: Report) -> float:
    """Reads. Requests per second that clients send as long as the fleet keeps up.

    Sessions that start at random: their rate times the requests of one. Sessions that wait for each other
    (lanes): the requests that came over the time that it took. Else the trace's own rate times the speed.
    """
    settings, requests = report.settings, len(trace)
    if "sessions_per_s" in settings:
        return float(settings["sessions_per_s"]) * requests / trace.session_count
    if "lanes" in settings:
        return report.requests / report.span_s if report.span_s else 0.0
    span_s = max(trace.arrivals_s, default=0.0) - min(trace.arrivals_s, default=0.0) + trace.quantum_s
    return requests / span_s * float(settings["speed"]) if span_s else 0.0


def attainment(report: Report) -> float:
    """Reads. Share of requests that ended well and kept both limits, of all that the trace has after the
    warm-up.

    A run has no end before its last request's: one that waits while the fleet is overloaded is measured
    when it ends, however late. Those that failed, that no worker could hold, or that never came because
    the request before them failed, missed their limits.
    """
    return report.goodput.share or 0.0

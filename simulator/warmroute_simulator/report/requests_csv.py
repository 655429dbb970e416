"""A row for each request, for a spreadsheet or another program; times in seconds to the microsecond.

An empty field is a moment that never came, or a request that no engine took up.
"""

from __future__ import annotations

import csv
from typing import Final, TextIO

from warmroute_simulator.report.latencies import e2e_s, tpot_s, ttft_s
from warmroute_simulator.simulation.records import Outcome, Records
from warmroute_simulator.traces.trace import NO_SESSION

COLUMNS: Final = (
    "row",
    "session",
    "arrived_s",
    "worker",
    "reason",
    "prompt_tokens",
    "output_tokens",
    "predicted",
    "hit",
    "evicted",
    "elsewhere",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "outcome",
    "attempts",
)


def write_requests(records: Records, file: TextIO) -> None:
    """Reads the records, writes the file, which was opened with `newline=""`."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    trace = records.trace
    ttfts, tpots, e2es = ttft_s(records), tpot_s(records), e2e_s(records)
    outcomes = [outcome.name.lower() for outcome in Outcome]
    for row, hit in enumerate(records.hit_tokens):
        worker, reason, session = records.worker[row], records.reason[row], trace.sessions[row]
        taken_up = hit >= 0
        writer.writerow(
            (
                row,
                "" if session == NO_SESSION else session,
                _time(records.arrived_s[row]),
                "" if worker < 0 else records.workers[worker],
                "" if reason < 0 else records.reasons[reason],
                trace.prompt_tokens(row),
                trace.output_tokens[row],
                "" if reason < 0 else records.predicted_tokens[row],
                hit if taken_up else "",
                records.evicted_tokens[row] if taken_up else "",
                records.elsewhere_tokens[row] if taken_up else "",
                _time(ttfts[row]),
                _time(tpots[row]),
                _time(e2es[row]),
                outcomes[records.outcome[row]],
                records.attempts[row],
            )
        )


def _time(value: float) -> str:
    return f"{value:.6f}" if value == value else ""

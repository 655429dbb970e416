"""`simulator bounds`: what no router can beat on a trace, before any policy was tried.

A run's own report has the bounds on hits beside the result, for the sequence that it left behind. Here the
sequence is that of a fleet on which nobody waits (`study.unloaded`). For open-loop traces that is the order
of arrival, and all bounds hold for every policy. For closed-loop traces it is one of many: the bounds on hits
and the floors tell what there is to win, and there are no arrivals that a pooled server could be given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from warmroute_simulator.bounds.floor import TtftFloor, floor_of, floors_s, misses_of
from warmroute_simulator.bounds.hits import HitBounds, bounds_of
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.prefill import PrefillTime
from warmroute_simulator.bounds.server import ServerBounds, server_bounds
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.commands.fleet import add_fleet_arguments, fleet_of
from warmroute_simulator.commands.inputs import add_trace_arguments, trace_of
from warmroute_simulator.commands.pace import add_pace_arguments, plan_of
from warmroute_simulator.report.model import Slo
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.load import at_load
from warmroute_simulator.study.unloaded import Unloaded, unloaded
from warmroute_simulator.traces.trace import Trace

if TYPE_CHECKING:
    from rich.console import Console

HELP: Final = "what no router can beat on a trace"

_SCHEMA: Final = 1
_CLOSED_LOOP: Final = (
    "this is the sequence of a fleet without queues; a closed-loop run has its own, with bounds of its own"
)


class BoundsReport(msgspec.Struct, frozen=True):
    """What `--json` writes."""

    schema: int
    trace: str
    workers: int
    seed: int
    requests: int
    prompt_tokens: int
    page_tokens: int
    pool_tokens: int
    """KV cache of all workers together, in whole pages."""
    bounds: HitBounds
    """Hit rates, under the same names as in the reports of runs."""
    ttft_floor_s: TtftFloor | None
    pooled_server: ServerBounds | None
    """None in closed loop, where arrivals depend on the policy."""
    speed: float
    """Open loop: recorded arrivals came this many times as fast."""
    skipped: int
    notes: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Writes. The command's options."""
    add_trace_arguments(parser)
    add_fleet_arguments(parser)
    add_pace_arguments(parser)
    add = parser.add_argument
    add(
        "--seed",
        type=int,
        default=0,
        help="of arrivals inside a tick of the trace's clock, of sessions' order",
    )
    add("--slo-ttft", type=float, default=Slo().ttft_s, metavar="S",
        help="goodput: time to first token at most")  # fmt: skip
    results = parser.add_argument_group("results").add_argument
    results("--json", type=Path, metavar="FILE", help="write the bounds there")
    results("--quiet", action="store_true", help="no table on the terminal")


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError, TraceError and ConfigError with messages for the user."""
    fleet = fleet_of(arguments)
    if not arguments.slo_ttft > 0:
        raise ValueError(f"--slo-ttft must be above 0, not {arguments.slo_ttft}")
    plan = plan_of(arguments)
    trace = trace_of(arguments)
    if arguments.load is not None:
        plan = at_load(plan, arguments.load, trace, fleet)
    sequence = unloaded(trace, plan, Random(arguments.seed), fleet[0].engine)
    report = report_of(trace, sequence, fleet, arguments.slo_ttft, speed=plan.speed, seed=arguments.seed)
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.encode(report))
    if not arguments.quiet:
        from warmroute_simulator.report.table import console_for

        show(report, console_for())
    return 0


def report_of(
    trace: Trace,
    sequence: Unloaded,
    fleet: Sequence[WorkerPlan],
    slo_ttft_s: float,
    *,
    speed: float,
    seed: int,
) -> BoundsReport:
    """Reads. All bounds on one sequence."""
    engines = [worker.engine for worker in fleet]
    page_tokens = min(engine.block_tokens for engine in engines)
    pool_tokens = sum(engine.capacity_blocks * engine.block_tokens for engine in engines)
    workers = [PrefillTime.of(engine) for engine in engines]
    pages = Pages(trace, page_tokens)
    touches = Touches(pages, sequence.order)
    misses = misses_of(pages, sequence.order)
    return BoundsReport(
        schema=_SCHEMA,
        trace=trace.name,
        workers=len(fleet),
        seed=seed,
        requests=len(sequence.order),
        prompt_tokens=touches.prompt_tokens,
        page_tokens=page_tokens,
        pool_tokens=pool_tokens,
        bounds=bounds_of(touches, pool_tokens),
        ttft_floor_s=floor_of(floors_s(misses, workers)),
        pooled_server=None
        if trace.closed_loop
        else server_bounds(misses, sequence.arrived_s, workers, slo_ttft_s),
        speed=speed,
        skipped=trace.skipped,
        notes=[*trace.notes, _CLOSED_LOOP] if trace.closed_loop else trace.notes,
    )


def show(report: BoundsReport, console: Console) -> None:
    """Writes a table for each kind of bound to the console."""
    from rich.table import Table
    from rich.text import Text

    from warmroute_simulator.report import words

    def section(*headers: str) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        table.add_column(headers[0], no_wrap=True, min_width=32)
        for header in headers[1:]:
            table.add_column(header, justify="right", no_wrap=True)
        return table

    workers = f"{report.workers} worker{'s' * (report.workers != 1)}"
    console.print(Text(f"{report.trace} · {workers} · seed {report.seed}", style="bold"))
    speed = f", {words.ratio(report.speed)} × as fast as recorded" if report.speed != 1 else ""
    console.print(
        f"{words.count(report.requests)} requests{speed}, {words.count(report.prompt_tokens)} prompt tokens, "
        f"KV cache of {words.count(report.pool_tokens)} tokens in pages of {report.page_tokens}\n"
    )
    hits = section("hit rate", "")
    hits.add_row("bound: one infinite cache", words.percent(report.bounds.single_infinite))
    hits.add_row("bound: pooled, Belady", words.percent(report.bounds.pooled_belady))
    hits.add_row("mark: one pooled LRU cache", words.percent(report.bounds.pooled_lru))
    console.print(hits)
    floor, server = report.ttft_floor_s, report.pooled_server
    if floor is not None:
        ttft = section("\ntime to first token", "\nmean", "\np50", "\np90", "\np99")
        values = (floor.mean, floor.p50, floor.p90, floor.p99)
        ttft.add_row("bound: alone, on an idle worker", *(words.seconds(value) for value in values))
        if server is not None:
            ttft.add_row("bound: one server for all", words.seconds(server.ttft_mean_s), "", "", "")
        console.print(ttft)
    if server is not None:
        goodput = section("\ngoodput", "")
        within = f"bound: TTFT within {words.seconds(server.slo_ttft_s)}"
        goodput.add_row(within, words.percent(server.goodput_share))
        console.print(goodput)
    for note in report.notes:
        console.print(Text(f"note: {note}", style="dim"))

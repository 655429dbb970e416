"""`simulator replay`: one policy, one trace, one report."""

from __future__ import annotations

import argparse

from warmroute_policies.spelling import parse_policy
from warmroute_simulator.commands.fleet import add_fleet_arguments
from warmroute_simulator.commands.inputs import add_trace_arguments, trace_of
from warmroute_simulator.commands.outputs import add_output_arguments, write_outputs
from warmroute_simulator.commands.running import add_run_arguments, setup_of
from warmroute_simulator.report.curves import slowest_rows
from warmroute_simulator.report.progress import Progress
from warmroute_simulator.study.cell import Cell, Run, Setup, run_cell
from warmroute_simulator.traces.trace import Trace

HELP = "play a trace against one policy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_trace_arguments(parser)
    parser.add_argument(
        "--policy", default="cache_aware", metavar="NAME[:param=value,…]", help="any policy of the router"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of arrivals, of sessions' order, of the policy's chance"
    )
    add_fleet_arguments(parser)
    add_run_arguments(parser)
    add_output_arguments(parser, rows=True)


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError, TraceError and ConfigError with messages for the user."""
    setup = setup_of(arguments)
    cell = Cell(parse_policy(arguments.policy), arguments.load, arguments.seed)
    trace = trace_of(arguments)
    played = play(trace, setup, cell)
    if arguments.html is not None and not played.report.partial:
        # Which requests will be slow is known at the end; the same run again tells why they went there.
        slowest = slowest_rows(played.records, played.report)
        explained = run_cell(trace, setup, cell, explain=frozenset(slowest))
        played = Run(played.report, played.records, explained.explanations)
    write_outputs(arguments, played, setup)
    return 1 if played.report.partial else 0


def play(trace: Trace, setup: Setup, cell: Cell) -> Run:
    """A run with a progress bar."""
    with Progress(len(trace), "requests") as progress:
        return run_cell(trace, setup, cell, progress=progress.advance)

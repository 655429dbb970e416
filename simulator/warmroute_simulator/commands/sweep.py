"""`simulator sweep`: how much load a fleet bears under each policy, within limits on TTFT and TPOT."""

from __future__ import annotations

import argparse
from typing import Final

from warmroute_simulator.commands.fleet import add_fleet_arguments
from warmroute_simulator.commands.inputs import add_trace_arguments
from warmroute_simulator.commands.running import add_run_arguments
from warmroute_simulator.commands.studies import (
    TraceArguments,
    add_file_arguments,
    add_policy_arguments,
    add_study_arguments,
    fails,
    policies_of,
    seeds_of,
    setup_with_load,
    shares_of,
    write_json,
    write_page,
)

HELP = "raise the load until past the knee: goodput under limits on TTFT and TPOT"

POLICIES: Final = ("cache_aware", "least_requests", "round_robin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_trace_arguments(parser)
    add_policy_arguments(parser, POLICIES)
    parser.add_argument("--attainment", default="0.95", metavar="SHARE,…",
        help="share of requests within both limits at the knee; several share their runs")  # fmt: skip
    add_study_arguments(parser, 3, "a load is judged by the median of several")
    add_fleet_arguments(parser)
    add_run_arguments(parser, load=False, bounds=False)
    add_file_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError, TraceError and ConfigError with messages for the user."""
    from warmroute_simulator.study.pool import Pool, RunFailed
    from warmroute_simulator.study.sweep import TYPICAL_LOADS, load_points, sweep

    policies, seeds = policies_of(arguments, POLICIES), seeds_of(arguments)
    targets = shares_of("--attainment", arguments.attainment)
    # A sweep asks for latencies, at dozens of loads; `compare` has the bounds on hits.
    setup = setup_with_load(arguments)
    try:
        with Pool(
            TraceArguments.of(arguments), arguments.processes, len(policies) * TYPICAL_LOADS * len(seeds)
        ) as pool:
            found, at_knees = sweep(
                pool, setup, policies, targets, seeds, with_curves=arguments.html is not None
            )
    except RunFailed as error:
        return fails(arguments, error, usage=error.usage)
    write_json(arguments.json, found)
    if arguments.html is not None:
        from warmroute_simulator.study.sweep_table import in_a_sentence

        write_page(
            arguments.html,
            at_knees,
            lead=in_a_sentence(found),
            sweep=load_points(found),
            load_name="load, share of the fleet's capacity",
        )
    if not arguments.quiet:
        from warmroute_simulator.report.table import console_for
        from warmroute_simulator.study.sweep_table import show_sweep

        show_sweep(found, console_for())
    return 1 if found.partial else 0

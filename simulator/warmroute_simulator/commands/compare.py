"""`simulator compare`: several policies side by side, at several loads, with several seeds."""

from __future__ import annotations

import argparse
from typing import Final

from warmroute_simulator.commands.fleet import add_fleet_arguments
from warmroute_simulator.commands.inputs import add_trace_arguments
from warmroute_simulator.commands.running import add_run_arguments, setup_of
from warmroute_simulator.commands.studies import (
    TraceArguments,
    add_file_arguments,
    add_policy_arguments,
    add_study_arguments,
    fails,
    numbers_of,
    policies_of,
    seeds_of,
    setup_with_load,
    write_json,
    write_page,
)

HELP = "several policies, loads and seeds, with confidence intervals"

POLICIES: Final = ("cache_aware", "session_sticky", "prefix_hash", "least_requests", "round_robin")
"""The default one, and what it has to be better than."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_trace_arguments(parser)
    add_policy_arguments(parser, POLICIES)
    pace = parser.add_argument_group("pace").add_mutually_exclusive_group()
    pace.add_argument(
        "--loads", metavar="SHARE,…", help="shares of the fleet's capacity to use, e.g. 0.5,0.8,1"
    )
    pace.add_argument(
        "--speed", type=float, default=1.0, metavar="X", help="recorded arrivals X times as fast"
    )
    add_study_arguments(parser, 5, "intervals come from several")
    add_fleet_arguments(parser)
    add_run_arguments(parser, load=False)
    add_file_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError, TraceError and ConfigError with messages for the user."""
    from warmroute_simulator.study.compare import compare, in_a_sentence, load_points
    from warmroute_simulator.study.pool import Pool, RunFailed

    policies, seeds = policies_of(arguments, POLICIES), seeds_of(arguments)
    loads: list[float | None] = [None]
    if arguments.loads is not None:
        loads = [*numbers_of("--loads", arguments.loads, float)]
    setup = setup_of(arguments) if arguments.loads is None else setup_with_load(arguments)
    runs = len(policies) * len(loads) * len(seeds)
    try:
        with Pool(TraceArguments.of(arguments), arguments.processes, runs) as pool:
            found, results = compare(
                pool, setup, policies, loads, seeds, with_curves=arguments.html is not None
            )
    except RunFailed as error:
        return fails(arguments, error, usage=error.usage)
    write_json(arguments.json, found)
    if arguments.html is not None:
        write_page(
            arguments.html,
            results,
            lead=in_a_sentence(found),
            sweep=load_points(found.cells),
            summaries=found.summary,
            differences=found.differences,
        )
    if not arguments.quiet:
        from rich.text import Text

        from warmroute_simulator.report.comparison_table import show_comparison
        from warmroute_simulator.report.table import console_for

        console = console_for()
        if found.partial:
            done = f"partial: interrupted when {len(found.cells)} of {runs} runs were done"
            console.print(Text(done, style="bold yellow"))
        show_comparison(found.summary, console, found.differences)
        for note in found.notes:
            console.print(Text(f"note: {note}", style="dim"))
    return 1 if found.partial else 0

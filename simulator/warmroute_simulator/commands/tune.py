"""`simulator tune`: a policy's parameters, and the size of the fleet, for the traffic of a trace."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from warmroute_policies.errors import ConfigError
from warmroute_simulator.commands.fleet import MAX_WORKERS, add_fleet_arguments
from warmroute_simulator.commands.inputs import add_trace_arguments
from warmroute_simulator.commands.running import add_run_arguments, setup_of
from warmroute_simulator.commands.studies import (
    TraceArguments,
    add_file_arguments,
    add_study_arguments,
    checked,
    fails,
    seeds_of,
    shares_of,
    write_json,
    write_page,
)
from warmroute_simulator.study.cell import Setup
from warmroute_simulator.study.objective import Objective

if TYPE_CHECKING:
    from warmroute_simulator.study.fleet_size import FleetSize
    from warmroute_simulator.study.pool import Pool
    from warmroute_simulator.study.space import Space
    from warmroute_simulator.study.task import Result
    from warmroute_simulator.study.tune import Tuning

HELP = "search a policy's parameters and the size of the fleet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_trace_arguments(parser)
    add = parser.add_argument_group("search").add_argument
    add("--policy", default="cache_aware", metavar="NAME[:param=value,…]",
        help="parameters that are given a value here keep it")  # fmt: skip
    add("--params", metavar="NAME=LOW..HIGH[:log],…",
        help="what to search, also NAME=one|another (default: all numbers of the policy, from an eighth of "
        "the default to eight times it)")  # fmt: skip
    add("--objective", type=Objective, choices=list(Objective), default=Objective.TTFT_MEAN,
        help="what to make better; goodput: requests within --slo-ttft and --slo-tpot")  # fmt: skip
    add(
        "--budget",
        type=int,
        default=40,
        metavar="RUNS",
        help="runs of the first half that the search may take",
    )
    add("--search-seed", type=int, default=0, metavar="N", help="of the search, and its runs' first seed")
    add("--fleet-sizes", metavar="LOW-HIGH",
        help="first find the smallest fleet that keeps the limits at the recorded pace")  # fmt: skip
    add("--attainment", default="0.95", metavar="SHARE",
        help="with --fleet-sizes: share of requests that must be within both limits")  # fmt: skip
    add("--out", type=Path, metavar="FILE.yaml", help="write a configuration for `router --config` there")
    add_study_arguments(parser, 5, "the check on the second half has several")
    add_fleet_arguments(parser)
    add_run_arguments(parser, bounds=False)
    add_file_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError, TraceError and ConfigError with messages for the user."""
    from warmroute_simulator.study.pool import Pool, RunFailed
    from warmroute_simulator.study.search import SEEDS

    seeds, sizes = seeds_of(arguments), _sizes(arguments)
    if arguments.out is not None and arguments.out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--out {arguments.out}: the router tells a file by its name: .yaml or .yml")
    space = _space(arguments, sizes is not None)
    setup_of(arguments)  # before anything runs: what is wrong with it is said now
    runs = arguments.budget + 2 * len(seeds) + (len(sizes).bit_length() * SEEDS if sizes else 0)
    try:
        with Pool(TraceArguments.of(arguments), arguments.processes, runs) as pool:
            tuning, setup, results = _tuned(pool, arguments, space, seeds, sizes)
    except RunFailed as error:
        return fails(arguments, error, usage=error.usage)
    large_enough = tuning.fleet is None or tuning.fleet.workers is not None
    write_json(arguments.json, tuning)
    if arguments.html is not None:
        write_page(arguments.html, results)
    if arguments.out is not None and large_enough and not tuning.partial:
        arguments.out.write_text(_config(tuning, setup), encoding="utf-8")
    if not arguments.quiet:
        from warmroute_simulator.report.table import console_for
        from warmroute_simulator.study.tune_table import show_tuning

        show_tuning(tuning, console_for())
    return 0 if large_enough and not tuning.partial else 1


def _tuned(
    pool: Pool, arguments: argparse.Namespace, space: Space, seeds: list[int], sizes: range | None
) -> tuple[Tuning, Setup, list[Result]]:
    from warmroute_simulator.study.fleet_size import fleet_size
    from warmroute_simulator.study.search import SEEDS
    from warmroute_simulator.study.tune import Order, only_sized, tune

    order = Order(
        space,
        arguments.objective,
        arguments.budget,
        arguments.search_seed,
        tuple(seeds),
        arguments.load,
        with_curves=arguments.html is not None,
    )
    fleet: FleetSize | None = None
    setup = _setup(arguments, arguments.workers)
    if sizes is not None:
        target = shares_of("--attainment", arguments.attainment)[0]
        first = arguments.search_seed
        fleet = fleet_size(
            pool,
            lambda workers: _setup(arguments, workers),
            space.policy,
            sizes,
            target,
            range(first, first + SEEDS),
        )
        if fleet.workers is not None:
            setup = _setup(arguments, fleet.workers)
        if fleet.workers is None or not space.dimensions:
            return only_sized(setup, order, fleet, pool.interrupted), setup, []
    tuning, results = tune(pool, setup, order, fleet)
    return tuning, setup, results


def _space(arguments: argparse.Namespace, fleet_alone_will_do: bool) -> Space:
    from warmroute_simulator.study.ranges import space_of
    from warmroute_simulator.study.space import Space

    policy = checked(arguments.policy)
    try:
        return space_of(policy, arguments.params)
    except ConfigError:
        if arguments.params is None and fleet_alone_will_do:
            return Space(policy, ())
        raise


def _setup(arguments: argparse.Namespace, workers: int | None) -> Setup:
    # Bounds on hits belong to a report; a search has no use for them.
    return setup_of(argparse.Namespace(**vars(arguments) | {"workers": workers}))


def _sizes(arguments: argparse.Namespace) -> range | None:
    text: str | None = arguments.fleet_sizes
    if text is None:
        return None
    low, dash, high = text.partition("-")
    if not (low.isdecimal() and (high.isdecimal() or not dash)):
        raise ValueError(f"--fleet-sizes: expected LOW-HIGH, as in 2-16, not {text!r}")
    sizes = range(int(low), int(high or low) + 1)
    if not sizes or sizes[0] < 1 or sizes[-1] > MAX_WORKERS:
        raise ValueError(f"--fleet-sizes: expected 1 ≤ LOW ≤ HIGH ≤ {MAX_WORKERS}, not {text!r}")
    if arguments.load is not None:
        raise ValueError("--fleet-sizes keeps the recorded pace (--speed); --load would grow with the fleet")
    if arguments.fleet:
        raise ValueError("--fleet-sizes is for workers that are all alike: --preset, not --fleet")
    return sizes


def _config(tuning: Tuning, setup: Setup) -> str:
    from warmroute_policies.spelling import parse_policy
    from warmroute_simulator.report import words
    from warmroute_simulator.study.config_file import config_text
    from warmroute_simulator.study.ranges import typed
    from warmroute_simulator.study.tune_table import told, verdict

    comments = [f"Written by: {shlex.join(['simulator', *sys.argv[1:]])}"]
    if tuning.trace is not None:
        pace = "" if tuning.load is None else f" at a load of {tuning.load:g}"
        comments.append(f"For the traffic of {tuning.trace}{pace}, {tuning.workers} workers.")
    if tuning.fleet is not None:
        comments.append(
            f"{tuning.fleet.workers} workers are the fewest of those tried that keep TTFT ≤ "
            f"{words.seconds(tuning.ttft_slo_s)} and TPOT ≤ {words.seconds(tuning.tpot_slo_s)} for "
            f"{100 * tuning.fleet.target:g} % of the requests."
        )
    if tuning.ranges:
        comments.append(
            f"Searched {', '.join(tuning.ranges)} with {tuning.runs} runs (budget {tuning.budget}) of the "
            f"trace's first half, for {tuning.objective.label}."
        )
    if tuning.check is not None:
        comments.append(f"{told(tuning, tuning.check)}.")
    comments.append(f"Hence: {verdict(tuning)}.")
    return config_text(typed(parse_policy(tuning.recommended)), setup.run.fleet, comments)

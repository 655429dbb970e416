"""Options of every command that simulates: how the trace is played, what happens, what is measured."""

from __future__ import annotations

import argparse

from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_simulator.commands.fleet import fleet_of
from warmroute_simulator.commands.pace import add_pace_arguments, plan_of
from warmroute_simulator.report.model import Slo
from warmroute_simulator.simulation.config import RunConfig, Spread
from warmroute_simulator.simulation.scenario import SCENARIOS, parse_happening, scenario
from warmroute_simulator.study.cell import Setup


def add_run_arguments(parser: argparse.ArgumentParser, *, load: bool = True, bounds: bool = True) -> None:
    """How the trace is played and what is measured. `load` False: the command has its own loads; `bounds`
    False: it needs no bounds on hit rates."""
    add_pace_arguments(parser, load=load)
    add = parser.add_argument_group("what happens meanwhile").add_argument
    scenarios = "; ".join(f"{name}: {what}" for name, (what, _) in SCENARIOS.items())
    add("--scenario", default="steady", metavar="NAME",
        help=scenarios.replace("%", "%%"))  # fmt: skip
    add("--at", action="append", default=[], metavar="TIME:KIND:WORKER[:NUMBER]",
        help="one thing that happens: 600:die:2, 660:start:2, 300:slow:0:2.5, 50%%:flush:1; "
        "may be repeated")  # fmt: skip
    add("--network-ms", type=float, default=0.0, metavar="MS", help="one way between router and workers")
    add(
        "--feedback-ms",
        type=float,
        default=0.0,
        metavar="MS",
        help="how late routers learn of tokens and ends",
    )
    add(
        "--routers",
        type=int,
        default=1,
        metavar="K",
        help="router replicas, each with what it carried itself",
    )
    add("--kv-events", action="store_true",
        help="workers tell routers what their caches hold, as with the router's --kv-events")  # fmt: skip
    add("--spread", choices=[spread.value for spread in Spread], default=Spread.RANDOM.value,
        help="how clients choose among replicas")  # fmt: skip
    measure = parser.add_argument_group("measuring")
    add = measure.add_argument
    add(
        "--slo-ttft",
        type=float,
        default=Slo().ttft_s,
        metavar="S",
        help="goodput: time to first token at most",
    )
    add(
        "--slo-tpot",
        type=float,
        default=Slo().tpot_s,
        metavar="S",
        help="goodput: time per output token at most",
    )
    add("--skip", type=float, default=0.0, metavar="S", help="leave out latencies of the first S seconds")
    if bounds:
        add("--no-bounds", action="store_true", help="do not compute the bounds on hit rate")
    else:
        parser.set_defaults(no_bounds=True)


def setup_of(arguments: argparse.Namespace) -> Setup:
    """What the options say. Raises ValueError with a message for the user."""
    fleet = fleet_of(arguments)
    happenings = scenario(arguments.scenario, len(fleet))
    for text in arguments.at:
        happenings += parse_happening(text, len(fleet))
    for name in ("slo_ttft", "slo_tpot"):
        if not getattr(arguments, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, not {getattr(arguments, name)}")
    if arguments.skip < 0:
        raise ValueError(f"--skip must not be negative, and is {arguments.skip}")
    run = RunConfig(
        fleet,
        PolicySpec(""),
        balancer=BalancerConfig(default_price=fleet[0].price),
        arrivals=plan_of(arguments),
        scenario=tuple(happenings),
        network_s=arguments.network_ms / 1000,
        feedback_s=arguments.feedback_ms / 1000,
        routers=arguments.routers,
        spread=Spread(arguments.spread),
        kv_events=arguments.kv_events,
    )
    return Setup(
        run,
        Slo(arguments.slo_ttft, arguments.slo_tpot),
        with_bounds=not arguments.no_bounds,
        skip_s=arguments.skip,
    )

"""Options that say how fast a trace is played; one place for every command that plays one."""

from __future__ import annotations

import argparse
from math import inf
from typing import Final

from warmroute_simulator.simulation.arrivals import ArrivalPlan, Starts

DEFAULT_LANES: Final = 64
DEFAULT_IDLE_CAP_S: Final = 60.0
"""What most replays of agents' sessions use: recorded pauses last up to a night."""


def add_pace_arguments(parser: argparse.ArgumentParser, *, load: bool = True) -> None:
    """`load` False: the command chooses loads itself."""
    group = parser.add_argument_group("playing the trace")
    add = group.add_argument
    if load:
        pace = group.add_mutually_exclusive_group()
        pace.add_argument("--load", type=float, metavar="SHARE",
            help="share of the fleet's capacity to use, e.g. 0.8")  # fmt: skip
        pace.add_argument("--speed", type=float, default=1.0, metavar="X",
            help="recorded arrivals X times as fast")  # fmt: skip
    add("--starts", choices=[starts.value for starts in Starts],
        help="closed loop: how sessions start (default: poisson with a rate, recorded where the trace tells, "
        "else lanes)")  # fmt: skip
    add("--lanes", type=int, metavar="N",
        help=f"closed loop: so many sessions are alive at a time (default: {DEFAULT_LANES})")  # fmt: skip
    add("--sessions-per-s", type=float, metavar="RATE",
        help="closed loop: sessions start as a Poisson process")  # fmt: skip
    add("--idle-cap", type=float, default=DEFAULT_IDLE_CAP_S, metavar="S",
        help="closed loop: longest think time; 0: as recorded")  # fmt: skip


def plan_of(arguments: argparse.Namespace) -> ArrivalPlan:
    """What the options say. Raises ValueError with a message for the user."""
    rate, lanes, load = arguments.sessions_per_s, arguments.lanes, getattr(arguments, "load", None)
    starts = None if arguments.starts is None else Starts(arguments.starts)
    if lanes is not None and rate is not None:
        raise ValueError("--lanes and --sessions-per-s are two ways to start sessions: give one")
    if load is not None and (
        lanes is not None or rate is not None or starts in (Starts.LANES, Starts.RECORDED)
    ):
        raise ValueError(
            "--load decides how often sessions start: no --lanes, --sessions-per-s or other --starts"
        )
    if starts is None and rate is not None:
        starts = Starts.POISSON
    elif starts is None and lanes is not None:
        starts = Starts.LANES
    if starts is Starts.POISSON and rate is None and load is None:
        raise ValueError("--starts poisson needs a rate: --sessions-per-s or --load")
    return ArrivalPlan(
        speed=getattr(arguments, "speed", 1.0),
        starts=starts,
        lanes=DEFAULT_LANES if lanes is None else lanes,
        sessions_per_s=1.0 if rate is None else rate,
        idle_cap_s=arguments.idle_cap or inf,
    )

"""Options of every command that simulates: the fleet, how the trace is played, what is measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_policies.parameters import suggestion
from warmroute_simulator.commands.inputs import GENERATE
from warmroute_simulator.commands.pace import add_pace_arguments, plan_of
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.report.model import Slo
from warmroute_simulator.simulation.config import RunConfig, Spread
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.scenario import SCENARIOS, parse_happening, scenario
from warmroute_simulator.study.cell import Setup
from warmroute_simulator.traces.formats import AUTO, detect
from warmroute_simulator.traces.journal import journal_header

JOURNAL = "journal"
"""The format's name in `traces.formats`."""
DEFAULT_WORKERS = 8
MAX_WORKERS = 1024
"""Far beyond what one router serves; the bound keeps a slip of the finger from filling the memory."""


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Which workers there are."""
    fleet = parser.add_argument_group("fleet")
    add = fleet.add_argument
    add("--workers", type=int, metavar="N",
        help=f"how many, all alike (default: {DEFAULT_WORKERS}; a journal brings its own fleet)")  # fmt: skip
    add("--preset", metavar="NAME",
        help=f"model and GPU, or a file that `simulator fit` wrote (default: {DEFAULT_PRESET}; a journal "
        "names its own)")  # fmt: skip
    add("--kv-tokens", type=int, metavar="N", help="KV cache of one worker (default: the preset's)")
    add("--engine", choices=("vllm", "sglang"), help="whose scheduler (default: the preset's)")
    add("--page-tokens", type=int, metavar="N", help="tokens of one KV block (default: the preset's)")
    add("--max-num-seqs", type=int, metavar="N", help="sequences that run at once")
    add("--max-num-batched-tokens", type=int, metavar="N", help="tokens that one step may compute")
    add("--step-overhead-ms", type=float, metavar="MS", help="host time added to every step")
    add("--request-overhead-ms", type=float, metavar="MS", help="host time added to every request")
    add("--fleet", action="append", default=[], metavar="SPEC",
        help="N×PRESET[:kv-tokens=M,weight=W], e.g. 4xllama-3.1-8b-h100:kv-tokens=441000; may be repeated "
        "for a mixed fleet, in place of --workers, --preset and --kv-tokens")  # fmt: skip


def add_run_arguments(parser: argparse.ArgumentParser, *, load: bool = True) -> None:
    """How the trace is played and what is measured. `load` False: the command has its own loads."""
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
    add("--no-bounds", action="store_true", help="do not compute the bounds on hit rate")


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
    )
    return Setup(
        run,
        Slo(arguments.slo_ttft, arguments.slo_tpot),
        with_bounds=not arguments.no_bounds,
        skip_s=arguments.skip,
    )


def fleet_of(arguments: argparse.Namespace) -> tuple[WorkerPlan, ...]:
    """The workers. Raises ValueError with a message for the user."""
    if arguments.workers is None and not arguments.fleet:
        live = _live_fleet(arguments)
        if live:
            return live
    if arguments.fleet:
        if arguments.workers is not None:
            raise ValueError("--fleet says how many workers there are: give it or --workers, not both")
        groups = [_group(text, arguments) for text in arguments.fleet]
    else:
        number = DEFAULT_WORKERS if arguments.workers is None else arguments.workers
        preset = arguments.preset or DEFAULT_PRESET
        groups = [(number, _engine(arguments, preset, arguments.kv_tokens), preset, 1.0)]
    count = sum(number for number, *_ in groups)
    if not 1 <= count <= MAX_WORKERS:
        raise ValueError(f"a fleet has 1 to {MAX_WORKERS} workers, not {count}")
    digits = len(str(count - 1))
    plans: list[WorkerPlan] = []
    for number, engine, preset, weight in groups:
        for _ in range(number):
            plans.append(WorkerPlan(f"w{len(plans):0{digits}}", engine, preset, weight))
    return tuple(plans)


def _live_fleet(arguments: argparse.Namespace) -> tuple[WorkerPlan, ...]:
    """The workers that a router's journal names, with the preset that was asked for or else with that which
    the router counted on; none for any other trace."""
    if arguments.trace.startswith(GENERATE) or arguments.format not in (AUTO, JOURNAL):
        return ()
    path = Path(arguments.trace)
    if arguments.format == AUTO and detect(path) != JOURNAL:
        return ()
    plans = []
    for spec in journal_header(path).workers:
        known = spec.worker_class if spec.worker_class in PRESETS else DEFAULT_PRESET
        preset = arguments.preset or known
        engine = _engine(arguments, preset, arguments.kv_tokens or spec.kv_capacity_tokens)
        plans.append(WorkerPlan(spec.worker_id, engine, preset, spec.weight))
    return tuple(plans)


def _group(text: str, arguments: argparse.Namespace) -> tuple[int, EngineConfig, str, float]:
    head, _, options = text.partition(":")
    count, _, preset = head.replace("×", "x").partition("x")
    if not (count.isdecimal() and preset):
        raise ValueError(
            f"--fleet {text!r}: expected N×PRESET[:kv-tokens=M,weight=W], as in 4xllama-3.1-8b-h100"
        )
    kv_tokens, weight = arguments.kv_tokens, 1.0
    for pair in options.split(",") if options else ():
        name, _, value = pair.partition("=")
        try:
            if name == "kv-tokens":
                kv_tokens = int(value)
            elif name == "weight":
                weight = float(value)
            else:
                raise ValueError(
                    f"--fleet {text!r}: no option `{name}`{suggestion(name, ('kv-tokens', 'weight'))}"
                ) from None
        except ValueError as error:
            if str(error).startswith("--fleet"):
                raise
            raise ValueError(f"--fleet {text!r}: {name} must be a number, not {value!r}") from None
    return int(count), _engine(arguments, preset, kv_tokens), preset, weight


def _engine(arguments: argparse.Namespace, preset: str, kv_tokens: int | None) -> EngineConfig:
    changes: dict[str, object] = {
        "kv_tokens": kv_tokens,
        "kind": arguments.engine,
        "block_tokens": arguments.page_tokens,
        "max_num_seqs": arguments.max_num_seqs,
        "step_tokens": arguments.max_num_batched_tokens,
        "step_overhead_s": _seconds(arguments.step_overhead_ms),
        "request_overhead_s": _seconds(arguments.request_overhead_ms),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return load_preset(preset).engine(**given)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000

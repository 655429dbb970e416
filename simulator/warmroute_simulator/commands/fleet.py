"""Options that say which workers there are; one place for every command that needs a fleet."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_policies.parameters import suggestion
from warmroute_simulator.commands.inputs import GENERATE
from warmroute_simulator.engine.config import DEPLOYMENTS
from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.traces.formats import AUTO, detect
from warmroute_simulator.traces.journal import journal_header

JOURNAL: Final = "journal"
"""The format's name in `traces.formats`."""
DEFAULT_WORKERS: Final = 8
MAX_WORKERS: Final = 1024
"""Far beyond what one router serves; the bound keeps a slip of the finger from filling the memory."""
_GROUP: Final = "N×PRESET[:kv-tokens=M,weight=W]"


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Which workers there are."""
    presets = ", ".join(f"{name} {found.kv_tokens // 1000}k" for name, found in DEPLOYMENTS.items())
    fleet = parser.add_argument_group("fleet", f"presets, and the tokens of one worker's KV cache: {presets}")
    add = fleet.add_argument
    add("--workers", type=int, metavar="N",
        help=f"how many, all alike (default: {DEFAULT_WORKERS}; a journal brings its own fleet)")  # fmt: skip
    add("--preset", metavar="NAME",
        help=f"model and GPU: kernel times without a host's overhead; or a file that `simulator fit` wrote "
        f"(default: {DEFAULT_PRESET}; a journal names its own)")  # fmt: skip
    add("--kv-tokens", type=int, metavar="N", help="KV cache of one worker (default: the preset's)")
    add("--max-model-len", type=int, metavar="N",
        help="refuse a prompt and answer longer than this (default: what the KV cache holds)")  # fmt: skip
    add("--engine", choices=("vllm", "sglang"), help="whose scheduler (default: the preset's)")
    add("--page-tokens", type=int, metavar="N", help="tokens of one KV block (default: the preset's)")
    add("--max-num-seqs", type=int, metavar="N", help="sequences that run at once")
    add("--max-num-batched-tokens", type=int, metavar="N", help="tokens that one step may compute")
    add("--step-overhead-ms", type=float, metavar="MS", help="host time added to every step")
    add("--request-overhead-ms", type=float, metavar="MS", help="host time added to every request")
    add("--fleet", action="append", default=[], metavar="SPEC",
        help=f"{_GROUP}, e.g. 4xllama-3.1-8b-h100:kv-tokens=441000; may be repeated for a mixed fleet, in "
        "place of --workers and --preset")  # fmt: skip


def fleet_of(arguments: argparse.Namespace) -> tuple[WorkerPlan, ...]:
    """The workers. Raises ValueError with a message for the user."""
    if arguments.max_model_len is not None and arguments.max_model_len < 2:
        raise ValueError(f"--max-model-len must be at least 2, not {arguments.max_model_len}")
    if arguments.workers is None and not arguments.fleet:
        live = _live_fleet(arguments)
        if live:
            return live
    if arguments.fleet:
        for option in ("workers", "preset"):
            if getattr(arguments, option) is not None:
                raise ValueError(f"--fleet says which workers there are: give it or --{option}, not both")
        groups = [_group(text, arguments) for text in arguments.fleet]
    else:
        number = DEFAULT_WORKERS if arguments.workers is None else arguments.workers
        groups = [(number, _plan(arguments, arguments.preset or DEFAULT_PRESET, arguments.kv_tokens))]
    count = sum(number for number, _ in groups)
    if not 1 <= count <= MAX_WORKERS:
        raise ValueError(f"a fleet has 1 to {MAX_WORKERS} workers, not {count}")
    digits = len(str(count - 1))
    plans: list[WorkerPlan] = []
    for number, plan in groups:
        for _ in range(number):
            plans.append(replace(plan, worker_id=f"w{len(plans):0{digits}}"))
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
        kv_tokens = arguments.kv_tokens or spec.kv_capacity_tokens
        plan = _plan(arguments, arguments.preset or known, kv_tokens, weight=spec.weight)
        plans.append(replace(plan, worker_id=spec.worker_id))
    return tuple(plans)


def _group(text: str, arguments: argparse.Namespace) -> tuple[int, WorkerPlan]:
    head, _, options = text.partition(":")
    count, _, preset = head.replace("×", "x").partition("x")
    if not (count.isdecimal() and preset):
        raise ValueError(f"--fleet {text!r}: expected {_GROUP}, as in 4xllama-3.1-8b-h100")
    kv_tokens, weight = arguments.kv_tokens, 1.0
    for pair in options.split(",") if options else ():
        name, _, value = pair.partition("=")
        if name not in ("kv-tokens", "weight"):
            known = suggestion(name, ("kv-tokens", "weight"))
            raise ValueError(f"--fleet {text!r}: no option `{name}`{known}")
        try:
            if name == "kv-tokens":
                kv_tokens = int(value)
            else:
                weight = float(value)
        except ValueError:
            raise ValueError(f"--fleet {text!r}: {name} must be a number, not {value!r}") from None
    return int(count), _plan(arguments, preset, kv_tokens, weight=weight)


def _plan(
    arguments: argparse.Namespace, name: str, kv_tokens: int | None, *, weight: float = 1.0
) -> WorkerPlan:
    """One worker, not yet named."""
    changes: dict[str, object] = {
        "kv_tokens": kv_tokens,
        "kind": arguments.engine,
        "block_tokens": arguments.page_tokens,
        "max_num_seqs": arguments.max_num_seqs,
        "step_tokens": arguments.max_num_batched_tokens,
        "step_overhead_s": _seconds(arguments.step_overhead_ms),
        "request_overhead_s": _seconds(arguments.request_overhead_ms),
    }
    given = {option: value for option, value in changes.items() if value is not None}
    preset = load_preset(name)
    return WorkerPlan("", preset.engine(**given), name, weight, arguments.max_model_len, preset.max_model_len)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000

"""`simulator serve`: engines without GPUs behind HTTP, in real time."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.serve.app import PortTakenError, ServeOptions, serve
from warmroute_simulator.serve.faults import FAULT_KINDS, parse_fault_flag
from warmroute_simulator.serve.worker import WorkerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--workers", type=int, default=4, metavar="N", help="how many engines; ports P, P+1, …")
    add("--port", type=int, default=9001, metavar="P", help="port of the first engine; 0: free ports")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--preset", default=DEFAULT_PRESET, metavar="NAME",
        help=f"model and GPU: {', '.join(sorted(PRESETS))}; or a file of `simulator fit`")  # fmt: skip
    add("--engine", choices=("vllm", "sglang"),
        help="whose scheduler and operator endpoints (default: the preset's)")  # fmt: skip
    add("--speed", type=float, default=1.0, metavar="X", help="X times as fast as the real hardware")
    add("--model", metavar="NAME", help="model name to answer to (default: the preset's)")
    add("--kv-tokens", type=int, metavar="N", help="KV cache capacity (default: the preset's)")
    add("--max-model-len", type=int, metavar="N", help="longest prompt plus answer (default: the preset's)")
    add("--block-tokens", type=int, metavar="N", help="tokens per KV block (default: the preset's)")
    add("--max-num-seqs", type=int, metavar="N", help="sequences that run at once (default: the preset's)")
    add("--max-num-batched-tokens", type=int, metavar="N",
        help="tokens that one step may compute (default: the preset's)")  # fmt: skip
    add("--step-overhead-ms", type=float, metavar="MS",
        help="host time added to every step (default: the preset's)")  # fmt: skip
    add("--request-overhead-ms", type=float, metavar="MS",
        help="host time added to every request (default: the preset's)")  # fmt: skip
    add("--api-key", action="append", default=[], metavar="KEY", help="required on /v1/; may be repeated")
    add("--seed", type=int, default=0, help="of the answers' words and lengths")
    add("--fault", action="append", default=[], metavar="WORKER:KIND[:COUNT]",
        help=f"break something at the start; KIND: {', '.join(FAULT_KINDS)}")  # fmt: skip
    add("--kv-events", type=int, nargs="?", const=0, metavar="PORT",
        help="publish what caches hold, as engines do: the first engine's events at PORT, its old ones at"
             " PORT + 1, the next engine's at PORT + 2, …; without PORT: at free ports")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write totals there at the end")


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError with a message for the user."""
    options = _options(arguments)
    try:
        serve(options)
    except (PortTakenError, OSError) as error:
        print(f"simulator serve: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: argparse.Namespace) -> ServeOptions:
    """Raises ValueError with a message for the user."""
    if not 1 <= arguments.workers <= 256:
        raise ValueError("--workers must be 1 to 256")
    if not 0 <= arguments.port <= 65_535 - (arguments.workers - 1 if arguments.port else 0):
        raise ValueError("--port must leave room for all workers below 65536")
    events_port = arguments.kv_events
    if events_port is not None:
        if importlib.util.find_spec("zmq") is None:
            raise ValueError("--kv-events needs ZeroMQ (zmq is missing): pip install 'warmroute[exact]'")
        if not 0 <= events_port <= 65_536 - (2 * arguments.workers if events_port else 0):
            raise ValueError("--kv-events must leave room for two ports of each worker below 65536")
    if arguments.speed <= 0:
        raise ValueError("--speed must be positive")
    if arguments.seed < 0:
        raise ValueError("--seed must not be negative")
    faults = tuple(parse_fault_flag(text) for text in arguments.fault)
    for fault in faults:
        if (fault.worker or 0) >= arguments.workers:
            raise ValueError(f"--fault names worker {fault.worker}, but there are {arguments.workers}")
    preset = load_preset(arguments.preset)
    changes: dict[str, object] = {
        "kind": arguments.engine,
        "kv_tokens": arguments.kv_tokens,
        "block_tokens": arguments.block_tokens,
        "max_num_seqs": arguments.max_num_seqs,
        "step_tokens": arguments.max_num_batched_tokens,
        "step_overhead_s": _seconds(arguments.step_overhead_ms),
        "request_overhead_s": _seconds(arguments.request_overhead_ms),
    }
    engine = preset.engine(**{name: value for name, value in changes.items() if value is not None})
    capacity = engine.capacity_blocks * engine.block_tokens
    max_model_len = arguments.max_model_len or min(preset.max_model_len, capacity)
    if not 2 <= max_model_len <= capacity:
        raise ValueError(f"--max-model-len must be 2 to {capacity}, the KV cache's capacity")
    worker = WorkerSettings(
        engine=engine,
        model=arguments.model or preset.model,
        max_model_len=max_model_len,
        speed=arguments.speed,
        seed=arguments.seed,
        api_keys=tuple(arguments.api_key),
    )
    return ServeOptions(
        worker,
        arguments.workers,
        arguments.host,
        arguments.port,
        faults,
        json_path=arguments.json,
        kv_events_port=events_port,
    )


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000

"""The real programs in front of the same engines: warmroute, its Rust peers, nginx, LiteLLM, Dynamo.

    make bench-ring                                            under two hours; Ctrl-C, then ARGS=--resume
    make bench-ring ARGS=--quick                               a look in ten minutes
    make bench-ring ARGS="--contestants 'warmroute,smg cache_aware' --workloads agents"
    .venv/bin/python bench/ring.py --render                    the pages again from docs/comparison*.json
    .venv/bin/python bench/ring.py --fleet vllm --engines URLS --model NAME --json docs/comparison-vllm.json

What is measured. Eight built-in engines (`simulator serve`, in real time) behind one program at a time, with
empty caches; four workloads, in each round the same bytes for everybody. Hits are the engines' own count,
times are the client's, CPU time and memory are those of all processes of the router. `ring_lib.workloads`
has what is asked, `ring_lib.contestants` how each is started, `ring_lib.verdicts` when one is better.

What comes of it: docs/comparison.json, and docs/comparison.md, which says how to read it. Of --quick, of a
part of the ring or of another fleet: the same in build/ring, or at --json (docs/comparison-vllm.json).

How to read what is printed. A contestant that cannot run is a line with the reason. "busy" tells whether the
harness was the limit: engines and generator share a core, so together they must stay well below 100 %, and
the lag, by which requests were sent late, small beside the TTFT. The router has a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from ring_lib.agenda import Agenda, play_all, versions
from ring_lib.contestants import QUICK, contestants
from ring_lib.installing import PINNED, Places
from ring_lib.measured import Stage
from ring_lib.page import page, terminal
from ring_lib.results import SCHEMA, About, Ring, Run, Store, decoded, encoded
from ring_lib.workloads import SIMULATED, VLLM, workloads
from routing_lib.provenance import commit, processor

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "docs/comparison.json"
PUBLISHED_VLLM = ROOT / "docs/comparison-vllm.json"

SECONDS, QUICK_SECONDS = 22.0, 12.0
ROUNDS, QUICK_ROUNDS = 3, 1


def main() -> int:
    options, parser = _options()
    if options.render:
        for results in (PUBLISHED, PUBLISHED_VLLM):
            write_page(decoded(results.read_bytes()), results)
        return 0
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench/ring.py needs two cores: one for the router, one for all else", file=sys.stderr)
        return 1
    everybody = contestants()
    names = _chosen(options.contestants, QUICK if options.quick else tuple(everybody))
    known = workloads(options.traces, QUICK_SECONDS if options.quick else options.seconds, options.fleet)
    played = _chosen(options.workloads, tuple(known))
    if unknown := (set(names) - set(everybody)) | (set(played) - set(known)):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*everybody, *known))}")
    if (options.fleet == VLLM) != bool(options.engines):
        parser.error("--fleet vllm needs --engines, the built-in fleet none")
    environments = dict(text.split("=", 1) for text in options.environment)
    if unknown := set(environments) - set(PINNED):
        parser.error(f"--environment: {', '.join(sorted(unknown))} is none of {', '.join(PINNED)}")
    _allow_many_sockets()
    os.sched_setaffinity(0, {cores[0]})
    stage = Stage(
        Places({name: Path(folder).resolve() for name, folder in environments.items()}, options.nginx),
        cores[1],
        cores[0],
        tuple(options.engines.split(",")) if options.engines else (),
        options.model,
        options.logs and options.logs.resolve(),
    )
    chosen = [everybody[name] for name in names]
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    whole = (
        options.fleet == SIMULATED and not options.quick and len(names) == len(everybody) and rounds >= ROUNDS
    )
    whole = whole and len(played) == len(known)
    mode = "published" if whole else "quick" if options.quick else "part"
    found = versions(stage, chosen)
    agenda = Agenda(chosen, {name: known[name] for name in played}, rounds, options.fleet, found)
    state = options.state or ROOT / f"build/ring/{mode}-{options.fleet}.jsonl"
    store = Store(state, resume=options.resume)
    try:
        runs = uvloop.run(_played(agenda, stage, store))
    except asyncio.CancelledError:
        print(f"interrupted; runs are in {state}, the same command with --resume goes on", file=sys.stderr)
        return 1
    ring = Ring(
        SCHEMA,
        mode,
        _command(options),
        commit(ROOT),
        datetime.now(UTC).strftime("%Y-%m-%d"),
        f"{processor()}, {len(cores)} cores",
        platform.python_version(),
        options.fleet,
        [About(one.name, one.mode, found[one.program]) for one in chosen],
        [About(known[name].name, known[name].about, reuse=known[name].reuse) for name in played],
        runs,
    )
    results = options.json or (PUBLISHED if whole else ROOT / f"build/ring/{mode}-{options.fleet}.json")
    results.write_bytes(encoded(ring))
    write_page(ring, results)
    print(f"\n{terminal(ring)}\n{results.with_suffix('.md')} has the rest")
    return 0


async def _played(agenda: Agenda, stage: Stage, store: Store) -> list[Run]:
    """All runs. Both signals end the processes of the run under way."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await play_all(agenda, stage, store, lambda text: print(text, flush=True))


def write_page(ring: Ring, results: Path) -> None:
    """Writes the page beside the results."""
    results.with_suffix(".md").write_text(page(ring), encoding="utf-8")


def _options() -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="five contestants, one short round")
    add("--render", action="store_true", help="write the page again, run nothing")
    add("--resume", action="store_true", help="go on where the last ring was stopped")
    add("--contestants", metavar="NAMES", help="comma-separated [all]")
    add("--workloads", metavar="NAMES", help="comma-separated [all]")
    add("--rounds", type=int, metavar="N", help=f"[{ROUNDS}; quick: {QUICK_ROUNDS}]")
    add("--seconds", type=float, default=SECONDS, metavar="S", help=f"of each play [{SECONDS:g}]")
    add("--environment", action="append", default=[], metavar="PROGRAM=FOLDER",
        help=f"a virtual environment that has {', '.join(PINNED)}; repeatable")  # fmt: skip
    add("--nginx", metavar="PATH", help="nginx, if it is not on PATH")
    add("--traces", type=Path, default=ROOT / "../shared/traces", metavar="FOLDER",
        help="recorded traces; a generator stands in for one that is not there")  # fmt: skip
    add("--fleet", choices=(SIMULATED, VLLM), default=SIMULATED, help="built-in engines, or those given")
    add("--engines", metavar="URLS", help="of --fleet vllm, comma-separated")
    add("--model", default="m", metavar="NAME", help="of --fleet vllm")
    add("--state", type=Path, metavar="FILE", help="runs that are done [build/ring/…jsonl]")
    add("--logs", type=Path, metavar="FOLDER", help="keep the logs of all processes there")
    add("--json", type=Path, metavar="FILE", help="results; the page is written beside it")
    return parser.parse_args(), parser


def _command(options: argparse.Namespace) -> str:
    """What decides about the figures, and not where this machine keeps things."""
    words = ["bench/ring.py", *(["--quick"] if options.quick else [])]
    for name, default in (("contestants", None), ("workloads", None), ("rounds", None), ("seconds", SECONDS),
                          ("fleet", SIMULATED)):  # fmt: skip
        value = getattr(options, name)
        if value != default:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _chosen(given: str | None, default: tuple[str, ...]) -> list[str]:
    return list(default) if given is None else [name.strip() for name in given.split(",")]


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())

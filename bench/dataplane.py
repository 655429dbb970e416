"""What a router costs between a client and an engine, beside nginx and the Rust routers.

    make bench-dataplane                        warmroute, nginx if installed, sglang-router
    make bench-dataplane ARGS="--quick"         about a minute
    make bench-dataplane ARGS="--peers nginx,sglang-router,smg,vllm-router --json FILE"

What is measured. The router has one core, the load generator and four fake engines share another. CPU time
is that of all the router's processes, user and system, over the answers that arrived whole:

    µs per request      16 connections in a closed loop, new prompts of the given size every time
    µs per SSE chunk    200 streams, each with a chunk every 10 ms
    added p50           one small request at a time; median through the router less median without it
    KB per idle stream  memory that open streams with a chunk a second add, shared pages counted once

warmroute runs as it would serve: `--policy cache_aware`, an API key to check, metrics on. Peers run
`cache_aware` where they have it, with their own defaults; nginx only moves bytes. A router whose answers
differ from the engine's own, for any size or in a stream, is not timed.

How to read it. Ratios first: a shared machine's absolute times drift by 10 to 20 % within minutes. A ratio
is ours over theirs within one round, so below 1 warmroute needs less; the median over the rounds stands
before their range, and differences below 10 % are noise. The load generator is Python and does not saturate
a fast router, so requests per second are not reported; an idle wait between two requests costs every router
alike, a few µs more than under saturation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import uvloop

from dataplane_lib.report import medians, ratios, tables
from dataplane_lib.rounds import Bench, Plan
from dataplane_lib.routers import PEERS, VERSIONS, CannotRun, Target, targets

WORKERS = 4
DEFAULT_PEERS = "nginx,sglang-router"
FULL = Plan(sizes_kb=(1, 16, 128, 512), rounds=5, seconds=2.0, idle_streams=2000)
QUICK = Plan(sizes_kb=(1, 128), rounds=2, seconds=1.0, idle_streams=500)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1 and 128 KB, two short rounds")
    parser.add_argument("--peers", default=DEFAULT_PEERS, metavar="NAMES",
        help=f"comma-separated: {', '.join(PEERS)}, or none [{DEFAULT_PEERS}]")  # fmt: skip
    parser.add_argument("--nginx", metavar="PATH", help="nginx, if it is not on PATH")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    peers = [name for name in options.peers.split(",") if name not in ("", "none")]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench/dataplane.py needs two cores: one for the router, one for the load", file=sys.stderr)
        return 1
    ready = available(targets(peers, options.nginx))
    allow_many_sockets()
    os.sched_setaffinity(0, {cores[0]})
    load_before = os.getloadavg()[0]
    if load_before > 0.5:
        print(
            f"warning: the machine is not idle (load {load_before:.1f}); trust the ratios' ranges",
            file=sys.stderr,
        )
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as folder, fake_workers() as workers:
        assert workers.stdout is not None
        ports = [int(word) for word in workers.stdout.readline().split()[1:]]
        bench = Bench(plan, ports, cores[1], Path(folder))
        try:
            rounds = uvloop.run(bench.run(ready, lambda text: print(text, file=sys.stderr, flush=True)))
        finally:
            workers.kill()
    print(tables(rounds))
    for name, note in (bench.notes | bench.refused).items():
        print(f"{name}: {note}")
    if options.json is not None:
        document = {
            "median": medians(rounds),
            "ratios": ratios(rounds),
            "rounds": rounds,
            "refused": bench.refused,
            "notes": bench.notes,
            "versions": {"warmroute": version("warmroute"), **{name: VERSIONS.get(name) for name in peers}},
            "machine": {"system": platform.platform(), "cores": len(cores), "load_before": load_before},
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if bench.refused else 0


def available(wanted: list[Target]) -> list[Target]:
    """Those that can be had here; the others are named."""
    found = []
    for target in wanted:
        try:
            target.prepare()
        except CannotRun as error:
            print(f"without {target.name}: {error}", file=sys.stderr)
        else:
            found.append(target)
    return found


def allow_many_sockets() -> None:
    """Thousands of streams, at both ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fake_workers() -> subprocess.Popen[str]:
    """Inherits the core of the load generator."""
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-m", "dataplane_lib.worker", str(WORKERS)]
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    sys.exit(main())

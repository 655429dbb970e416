"""Does the simulator say what a live router in front of live engines did?

    .venv/bin/python bench/live_parity.py [--seconds 90] [--json FILE]

A real router with `--journal` in front of four processes' worth of simulated engines (`simulator serve`,
Llama-3.1-8B on an H100, real speed, real sockets), and the demo's traffic: agents, chats, questions about
documents. Then:

    decisions   the journal is replayed through a fresh core: every decision must be the same
    hit rate    the journal, read as a trace and simulated, against what the engines reported live;
                bar: within 1 point
    TTFT        its mean, against what the router measured live; bar: within 10 %

How to read it. Live, a token passes through two event loops and two sockets on a machine that is shared, some
milliseconds in all, of which the simulation knows nothing unless `--network-ms` says so. Rounds differ by
seed; the figure is the median of the rounds, its range stands beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from statistics import median

import httpx
import uvloop

from warmroute.demo.client import Client
from warmroute.demo.play import play
from warmroute.demo.processes import HOST, Child, engine_urls, free_port, router_ready, start_engines
from warmroute.demo.tally import Tally
from warmroute.demo.traffic import sessions
from warmroute_policies.events import PolicySpec
from warmroute_policies.replay import replay
from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.study.cell import Cell, Setup, run_cell
from warmroute_simulator.traces.formats import read_trace
from warmroute_simulator.traces.journal import measured

ENGINES = 4
PRESET = "llama-3.1-8b-h100"
KV_TOKENS = 200_000
MODEL = "llama-3.1-8b"

BAR_HIT_POINTS = 1.0
BAR_TTFT = 0.10


@dataclass(frozen=True, slots=True)
class Beside:
    """One live run, and the same traffic simulated."""

    requests: int
    errors: int
    live_hit_rate: float
    simulated_hit_rate: float
    live_ttft_s: float
    simulated_ttft_s: float

    @property
    def hit_points(self) -> float:
        """Percentage points by which the simulation is off."""
        return 100 * (self.simulated_hit_rate - self.live_hit_rate)

    @property
    def ttft_error(self) -> float:
        """Share by which the simulation's mean is off."""
        return self.simulated_ttft_s / self.live_ttft_s - 1


@dataclass(frozen=True, slots=True)
class Parity(Beside):
    """And the decisions, made again by a fresh core."""

    decisions: int
    decisions_that_differ: int


async def record(journal: Path, policy: str, seconds: float, seed: int, logs: Path) -> int:
    """Plays the traffic live; how many requests failed. The router writes the journal."""
    with start_engines(ENGINES, 1.0, KV_TOKENS, seed, logs) as engines:
        backends = await engine_urls(engines, ENGINES)
        port = free_port()
        arguments = [
            *("warmroute", "serve", "--policy", policy, "--host", HOST, "--port", str(port)),
            *("--seed", str(seed), "--journal", str(journal), "--backend", *backends),
        ]
        with Child("router", arguments, logs / "router.log") as router:
            async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
                await router_ready(router, port, http)
            planned = sessions(seconds, seed)
            client, tally = Client(HOST, port, MODEL), Tally(sum(session.requests for session in planned))
            await play(planned, client, tally)
            client.close()
    return tally.errors


def compare(journal: Path, policy: str, errors: int, seed: int) -> Parity:
    """Reads the journal three ways: as decisions, as measurements, as a trace."""
    with journal.open("rb") as lines:
        verdicts = [then == now for then, now in replay(lines)]
    rows = [row for row in measured(journal) if row.cached_tokens is not None and not isnan(row.ttft_s)]
    engine = load_preset(PRESET).engine(kv_tokens=KV_TOKENS)
    fleet = tuple(WorkerPlan(f"w{number}", engine, PRESET) for number in range(ENGINES))
    setup = Setup(RunConfig(fleet, PolicySpec("")), with_bounds=False)
    report = run_cell(read_trace(journal), setup, Cell(PolicySpec(policy), seed=seed)).report
    assert report.hit_rate is not None
    assert report.ttft_s is not None
    return Parity(
        requests=len(rows),
        errors=errors,
        decisions=len(verdicts),
        decisions_that_differ=verdicts.count(False),
        live_hit_rate=sum(row.cached_tokens or 0 for row in rows) / sum(row.prompt_tokens for row in rows),
        simulated_hit_rate=report.hit_rate,
        live_ttft_s=sum(row.ttft_s for row in rows) / len(rows),
        simulated_ttft_s=report.ttft_s.mean,
    )


def measure(policy: str, seconds: float, seeds: Sequence[int]) -> list[Parity]:
    """Prints a line for each live run."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="warmroute-parity-") as name:
            journal = Path(name) / "journal.jsonl"
            errors = uvloop.run(record(journal, policy, seconds, seed, Path(name)))
            parity = compare(journal, policy, errors, seed)
        found.append(parity)
        print(
            f"  {policy} seed {seed}: {parity.requests} requests, {parity.errors} errors, "
            f"{parity.decisions_that_differ} of {parity.decisions} decisions differ; "
            f"hit rate live {parity.live_hit_rate:.1%} simulated {parity.simulated_hit_rate:.1%}; "
            f"mean TTFT live {1000 * parity.live_ttft_s:.1f} ms "
            f"simulated {1000 * parity.simulated_ttft_s:.1f} ms",
            flush=True,
        )
    return found


def report(rounds: Sequence[Parity]) -> list[dict[str, object]]:
    """Prints the verdicts; the figures."""
    differ = sum(parity.decisions_that_differ for parity in rounds)
    points = [parity.hit_points for parity in rounds]
    errors = [parity.ttft_error for parity in rounds]
    held = [differ == 0, abs(median(points)) <= BAR_HIT_POINTS, abs(median(errors)) <= BAR_TTFT]
    first, second, third = ("held" if ok else "MISSED" for ok in held)
    print(f"decisions that differ   {differ}   bar 0   {first}")
    print(
        f"hit rate off by         {median(points):+.2f} [{min(points):+.2f}, {max(points):+.2f}] points   "
        f"bar {BAR_HIT_POINTS:g}   {second}"
    )
    print(
        f"mean TTFT off by        {median(errors):+.1%} [{min(errors):+.1%}, {max(errors):+.1%}]   "
        f"bar {BAR_TTFT:.0%}   {third}"
    )
    return [asdict(parity) for parity in rounds]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="cache_aware")
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="how long sessions go on starting, roughly"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    figures = report(measure(options.policy, options.seconds, range(options.rounds)))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

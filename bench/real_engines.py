"""Does the simulator, fitted to real engines, say what they did?

    .venv/bin/python bench/real_engines.py [--requests 300] [--load 0.5] [--seed 0] [--json FILE]

Two vLLM engines on the CPU (what `make e2e` sets up) with a model whose prefill can be measured, and the same
seeded conversations for every policy, each on empty caches. They come at half the rate that the engines were
seen to take: machines differ, and near saturation small things decide who is first. The router writes a
journal of each run. From the first policy's journal `simulator fit` reads how fast the engines are; then
every policy's traffic is simulated with that, and stands beside what was measured live:

    hit rate    of all prompt tokens, as the engines reported it; bar: within 1 point
    TTFT        mean, as the router measured it; bar: within 15 %
    ranking     of the policies by mean TTFT; bar: the same, where they differ by more than 5 % live

How to read it. Engines, router and clients share the machine's cores, so what else runs there is in every
live figure: use a quiet one. With two cores there is nothing left beside the engines, and a request that
arrives waits for its process to be scheduled; a fit takes that for host time of the request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from e2e.asking import Message, assistant, prose, system, user
from e2e.engines.engine import BLOCK_TOKENS, MODEL_NAME, MOST_RUNNING, Engine, running
from e2e.engines.vllm import vllm
from live.processes import spawn_router
from live_parity import Beside
from warmroute_policies.events import PolicySpec
from warmroute_simulator.engine.presets import Preset, load_preset
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.study.cell import Cell, Setup, run_cell
from warmroute_simulator.traces.formats import read_trace
from warmroute_simulator.traces.journal import measured

ENGINES = 2
BLOCKS = 1024
# vLLM's default on the CPU.
STEP_TOKENS = 2048
# The first is what a user has who asks what another one would do: the fit is of its journal. It computes
# prompts of all lengths; cache_aware leaves little to compute, and less to tell coefficients by.
POLICIES = ("round_robin", "least_requests", "cache_aware")
SETUP = Path(__file__).parents[1] / "tests" / "e2e" / "engines" / "setup.sh"

# Conversations: what they share, how they grow, how fast they come.
SYSTEM_PROMPTS = 3
SYSTEM_BYTES = 5000
TURNS = 5
ANSWER_BYTES = 250
THINK_S = 6.0

# Requests asked of each engine at once to see what it can do: as many as it runs at a time.
BURST = MOST_RUNNING

BAR_HIT_POINTS = 1.0
BAR_TTFT = 0.15
BAR_RANK = 0.05


@dataclass(frozen=True, slots=True)
class Planned:
    """One request to come."""

    at_s: float
    messages: list[Message]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Compared(Beside):
    """One policy: as it went, and as it was simulated."""

    policy: str
    live_e2e_s: float
    simulated_e2e_s: float


def traffic(requests: int, per_s: float, seed: int) -> list[Planned]:
    """Conversations that start at random and go on after their users thought; always the same for a seed."""
    rng = random.Random(seed)
    planned: list[Planned] = []
    start_s, number = 0.0, 0
    while len(planned) < requests:
        start_s += rng.expovariate(per_s / TURNS)
        number += 1
        messages = [system(prose(f"system {rng.randrange(SYSTEM_PROMPTS)}", SYSTEM_BYTES))]
        at_s = start_s
        for turn in range(rng.randint(1, 2 * TURNS - 1)):
            messages.append(user(prose(f"{seed} {number} {turn}", rng.randint(300, 1200))))
            planned.append(Planned(at_s, list(messages), rng.randint(12, 48)))
            messages.append(assistant(prose(f"answer {seed} {number} {turn}", ANSWER_BYTES)))
            at_s += 2.0 + rng.expovariate(1 / THINK_S)
    planned.sort(key=lambda one: one.at_s)
    return planned[:requests]


async def play(url: str, planned: Sequence[Planned]) -> int:
    """Asks at the planned times; how many were not answered."""
    failed = 0
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False, limits=limits) as client:

        async def ask(one: Planned) -> None:
            nonlocal failed
            asked = {
                "model": MODEL_NAME, "messages": one.messages, "max_tokens": one.max_tokens, "temperature": 0,
                "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
            }  # fmt: skip
            answer = await client.post("/v1/chat/completions", json=asked)
            failed += not (answer.status_code == httpx.codes.OK and "[DONE]" in answer.text)

        started_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for one in planned:
                await asyncio.sleep(max(0.0, started_s + one.at_s - time.monotonic()))
                group.create_task(ask(one))
    return failed


def forget(engines: Sequence[Engine]) -> None:
    """Empties the engines' caches."""
    for engine in engines:
        httpx.post(f"{engine.url}/reset_prefix_cache", timeout=60, trust_env=False).raise_for_status()


def capacity_per_s(engines: Sequence[Engine]) -> float:
    """How many such requests the engines answer in a second, all of them busy, from empty caches."""
    forget(engines)
    at_once = [replace(one, at_s=0.0) for one in traffic(BURST * len(engines), 1.0, seed=-2)]

    async def burst() -> int:
        shares = [at_once[number :: len(engines)] for number in range(len(engines))]
        plays = (play(engine.url, share) for engine, share in zip(engines, shares, strict=True))
        return sum(await asyncio.gather(*plays))

    started_s = time.monotonic()
    failed = asyncio.run(burst())
    elapsed_s = time.monotonic() - started_s
    if failed:
        raise RuntimeError(f"{failed} of {len(at_once)} requests failed when the engines were asked at once")
    return len(at_once) / elapsed_s


def record(
    engines: Sequence[Engine], policy: str, planned: Sequence[Planned], folder: Path
) -> tuple[Path, int]:
    """One live run on empty caches: its journal, and how many requests failed."""
    forget(engines)
    journal = folder / f"{policy}.jsonl"
    backends = [word for engine in engines for word in ("--backend", engine.url)]
    router = spawn_router(
        folder / f"{policy}.log", *backends, "--policy", policy, "--seed", "0", "--journal", str(journal)
    )
    try:
        errors = asyncio.run(play(router.url, planned))
        router.terminate()
        router.wait(60)
    finally:
        router.kill()
    return journal, errors


def fitted(journal: Path, start: str, what: str) -> Preset:
    """What `simulator fit` makes of it; it prints how well it did."""
    out = journal.with_suffix(".preset.json")
    subprocess.run(
        [
            *(sys.executable, "-m", "warmroute_simulator", "fit", str(journal), "--out", str(out)),
            *("--start-preset", start, "--fit", what, "--model", MODEL_NAME),
            *("--kv-tokens", str(BLOCKS * BLOCK_TOKENS), "--block-tokens", str(BLOCK_TOKENS)),
            *("--max-num-seqs", str(MOST_RUNNING), "--max-num-batched-tokens", str(STEP_TOKENS)),
        ],
        check=True,
    )
    return load_preset(str(out))


def compare(journal: Path, policy: str, preset: Preset, errors: int) -> Compared:
    """Reads the journal as measurements and as a trace, and simulates the trace."""
    rows = [row for row in measured(journal) if row.cached_tokens is not None and not isnan(row.ttft_s)]
    fleet = tuple(WorkerPlan(f"w{number}", preset.engine(), preset.name) for number in range(ENGINES))
    setup = Setup(RunConfig(fleet, PolicySpec("")), with_bounds=False)
    report = run_cell(read_trace(journal), setup, Cell(PolicySpec(policy))).report
    assert report.hit_rate is not None
    assert report.ttft_s is not None
    assert report.e2e_s is not None
    return Compared(
        policy=policy,
        requests=len(rows),
        errors=errors,
        live_hit_rate=sum(row.cached_tokens or 0 for row in rows) / sum(row.prompt_tokens for row in rows),
        simulated_hit_rate=report.hit_rate,
        live_ttft_s=sum(row.ttft_s for row in rows) / len(rows),
        simulated_ttft_s=report.ttft_s.mean,
        live_e2e_s=sum(row.e2e_s for row in rows) / len(rows),
        simulated_e2e_s=report.e2e_s.mean,
    )


def same_ranking(found: Sequence[Compared]) -> bool:
    """Whether every two policies that differ live are in the same order simulated."""
    pairs = [(one, other) for one in found for other in found if one.live_ttft_s < other.live_ttft_s]
    apart = [(one, other) for one, other in pairs if other.live_ttft_s > (1 + BAR_RANK) * one.live_ttft_s]
    return all(one.simulated_ttft_s < other.simulated_ttft_s for one, other in apart)


def report(found: Sequence[Compared]) -> None:
    """Prints both side by side, and the verdicts."""
    print("\npolicy          requests errors   hit rate: live, simulated   mean TTFT: live, simulated")
    for one in found:
        verdicts = [abs(one.hit_points) <= BAR_HIT_POINTS, abs(one.ttft_error) <= BAR_TTFT]
        hits, ttft = ("held" if held else "MISSED" for held in verdicts)
        print(
            f"{one.policy:16}{one.requests:8}{one.errors:7}   "
            f"{one.live_hit_rate:6.1%} {one.simulated_hit_rate:6.1%} {one.hit_points:+5.2f} {hits:7} "
            f"{one.live_ttft_s:6.3f} s {one.simulated_ttft_s:6.3f} s {one.ttft_error:+6.1%} {ttft}"
        )
    print(f"ranking by mean TTFT: {'held' if same_ranking(found) else 'MISSED'}")


@contextmanager
def engines(folder: Path, model: str) -> Iterator[list[Engine]]:
    """Two vLLM engines with the model `small` or `tiny`, warmed up."""
    home = os.environ.get("WARMROUTE_E2E")
    if home is None:
        home = subprocess.run(
            [SETUP, sys.executable], check=True, capture_output=True, text=True
        ).stdout.strip()
    with running(lambda n: vllm(Path(home), folder, n, f"{model}-llama", BLOCKS), ENGINES) as started:
        for engine in started:
            asyncio.run(play(engine.url, traffic(8, 4.0, seed=-1)))
        yield started


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=300, help="of each policy's run")
    parser.add_argument("--load", type=float, default=0.5, help="share of what the engines can take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model", choices=("small", "tiny"), default="small", help="tiny: a try on a busy machine"
    )
    parser.add_argument("--start-preset", default="llama-3.1-8b-l40s", help="where the fit starts")
    # Attention costs a processor more, beside the rest, than the GPUs of the presets: two scales are too few.
    parser.add_argument("--fit", default="all", help="what it adjusts, as for `simulator fit`")
    parser.add_argument(
        "--journals",
        type=Path,
        help="keep them there, or compare again what an earlier run kept; then nothing is asked",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"load average {load:.1f} before the first run: what else runs here is in the live figures")
    with tempfile.TemporaryDirectory(prefix="warmroute-real-") as name:
        folder = options.journals or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        journals = {policy: (folder / f"{policy}.jsonl", 0) for policy in POLICIES}
        most_per_s: float | None = None
        if all(journal.exists() for journal, _ in journals.values()):
            print(f"the journals in {folder}: nothing is asked again")
        else:
            with engines(Path(name), options.model) as started:
                most_per_s = capacity_per_s(started)
                asked_per_s = options.load * most_per_s
                print(f"the engines answer {most_per_s:.2f} requests a second; asked for {asked_per_s:.2f}")
                planned = traffic(options.requests, asked_per_s, options.seed)
                journals = {policy: record(started, policy, planned, folder) for policy in POLICIES}
        preset = fitted(journals[POLICIES[0]][0], options.start_preset, options.fit)
        found = [compare(journal, policy, preset, errors) for policy, (journal, errors) in journals.items()]
    report(found)
    if options.json is not None:
        figures: dict[str, Any] = {
            "load_before": load,
            "capacity_per_s": most_per_s,
            "load": options.load,
            "seed": options.seed,
            "processors": os.cpu_count(),
            "policies": [asdict(one) for one in found],
            "same_ranking": same_ranking(found),
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

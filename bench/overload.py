"""Three times what the fleet can do: how much of its best is left, with limits and without?

    .venv/bin/python bench/overload.py [--rounds 5] [--seconds 20] [--over 3] [--json FILE] [--quick]

Emulated engines behind a real router. Clients ask at random moments at a fixed mean rate, whatever comes back
(open loop), each for one stream, every prompt new; none tries twice, and none waits longer than ten times the
objective. An answer is *good* when it is whole and its first token came within the objective.

Peak goodput is the best of rising rates, without limits. Then, in rounds whose order alternates, `--over`
times the rate of that peak: once without limits and once with; and the peak's own rate with limits, which
must not cost anything. Every play has a fresh router and fresh engines. Figures are medians over the rounds,
with the range. The exit code is 1 when goodput with limits is below 95 % of the peak's.

Read `first token p99` as what a client that was served waited. Resident memory is the router's, at the end of
a play. The engines, the router and the clients share a machine: on fewer than four idle cores the rates say
little about a router's own limits, and they need not; the engines are what is overloaded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from dataplane_lib.cost import memory_bytes
from live.processes import Router, spawn_engines, spawn_router
from warmroute.demo.client import Client, Failed

GOODPUT_MIN = 0.95

MB = 1 << 20
MODEL = "m"
WORKERS = 2
ENGINES = ("--preset", "llama-3.1-8b-h100", "--speed", "1", "--model", MODEL)
PROMPT_BYTES = 24 * 1024
"""About 6,000 tokens: a fifth of a second of prefill, so that some ten requests a second are all there is."""
ANSWER_TOKENS = 32
OBJECTIVE_S = 2.0

LIMITS = ("--max-inflight-per-worker", "8", "--queue-size", "100", "--queue-timeout-s", "1")
"""In flight: what the peak needs, and some. Waiting: what the objective leaves beside the engine's time."""

# The engines' queues need some seconds to fill; what is offered before that is not counted.
WARM_UP_S = 6.0


@dataclass
class Play:
    """State: what came of the requests that were offered after the warm-up."""

    rate: float
    seconds: float
    offered: int = 0
    good: int = 0
    late: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    ttft_s: list[float] = field(default_factory=list)
    router_bytes: int = 0

    @property
    def goodput(self) -> float:
        """Good answers per second."""
        return self.good / self.seconds

    @property
    def p99_s(self) -> float:
        """Of the first tokens that came."""
        ordered = sorted(self.ttft_s)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0

    @property
    def refused(self) -> float:
        """Share of what was offered."""
        return self.failed["429"] / max(1, self.offered)


def play(rate: float, seconds: float, flags: Sequence[str], seed: int, folder: Path) -> Play:
    """One load on fresh processes. `rate` in requests per second; `folder` takes the logs."""
    number = len(list(folder.glob("router-*")))
    engines = spawn_engines(folder / f"engines-{number}.log", WORKERS, *ENGINES)
    try:
        backends = [word for url in engines.urls for word in ("--backend", url)]
        router = spawn_router(folder / f"router-{number}.log", *backends, *flags)
        try:
            return asyncio.run(_offer(router, Play(rate, seconds), Random(seed)))
        finally:
            router.kill()
    finally:
        engines.kill()


async def _offer(router: Router, result: Play, chance: Random) -> Play:
    client = Client("127.0.0.1", router.port, MODEL)
    loop = asyncio.get_running_loop()
    began = due = loop.time()
    asked: set[asyncio.Task[None]] = set()
    while due < began + WARM_UP_S + result.seconds:
        await asyncio.sleep(max(0.0, due - loop.time()))
        counted = result if due > began + WARM_UP_S else Play(0.0, 0.0)
        task = loop.create_task(_ask(client, chance.randbytes(PROMPT_BYTES // 2).hex(), counted))
        asked.add(task)
        task.add_done_callback(asked.discard)
        due += chance.expovariate(result.rate)
    if asked:
        await asyncio.wait(asked)
    result.router_bytes = memory_bytes(router.pid)
    client.close()
    return result


async def _ask(client: Client, text: str, result: Play) -> None:
    result.offered += 1
    try:
        async with asyncio.timeout(10 * OBJECTIVE_S):
            answer = await client.chat([{"role": "user", "content": text}], "", ANSWER_TOKENS, "none")
    except TimeoutError:
        result.failed["gave up"] += 1
    except Failed as error:
        status = str(error).removeprefix("status ")[:3]
        result.failed[status if status.isdecimal() else str(error)[:40]] += 1
    else:
        result.ttft_s.append(answer.ttft_s)
        if answer.ttft_s <= OBJECTIVE_S:
            result.good += 1
        else:
            result.late += 1


def find_peak(seconds: float, folder: Path) -> Play:
    """The best goodput of rising rates; it ends where a rate is good for less than four fifths."""
    best, rate = Play(0.0, 1.0), 2.0
    while True:
        now = play(rate, seconds, (), 1, folder)
        print(f"  {rate:5.1f} requests/s offered, {now.goodput:5.1f} good", flush=True)
        if now.goodput > best.goodput:
            best = now
        if now.good < 0.8 * now.offered:
            return best
        rate *= 1.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="counted seconds of each play")
    parser.add_argument("--over", type=float, default=3.0, help="times the rate of the peak")
    parser.add_argument(
        "--rate", type=float, help="the peak's rate, if it is known: it is not looked for then"
    )
    parser.add_argument("--limits", nargs="+", default=list(LIMITS), help="flags of the router with limits")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round, shorter plays")
    arguments = parser.parse_args()
    rounds, seconds = (1, 10.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    limits = tuple(arguments.limits)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rate = arguments.rate
        if rate is None:
            print("looking for the peak")
            rate = find_peak(seconds, folder).rate
        cases: dict[str, tuple[float, tuple[str, ...]]] = {
            "peak, no limits": (rate, ()),
            "peak, limits": (rate, limits),
            f"{arguments.over:g}×, no limits": (rate * arguments.over, ()),
            f"{arguments.over:g}×, limits": (rate * arguments.over, limits),
        }
        plays: dict[str, list[Play]] = {case: [] for case in cases}
        for number in range(rounds):
            order = list(cases) if number % 2 == 0 else list(reversed(cases))
            for case in order:
                offered, flags = cases[case]
                plays[case].append(play(offered, seconds, flags, 100 + number, folder))
    return report(plays, rate, arguments.json)


def report(plays: dict[str, list[Play]], rate: float, path: Path | None) -> int:
    """Prints the table; 1 where goodput with limits is too low."""
    peaks = [one.goodput for one in next(iter(plays.values()))]
    print(
        f"\nrate at the peak {rate:.1f}/s; limits and objective ({OBJECTIVE_S:g} s) as in bench/overload.py"
    )
    print("| case | offered/s | good/s | of the peak | refused | first token p99 | router MB |")
    print("|---|---|---|---|---|---|---|")
    ratios: list[float] = []
    for case, ones in plays.items():
        ratios = [one.goodput / peak for one, peak in zip(ones, peaks, strict=True)]
        print(
            f"| {case} | {median(one.offered / one.seconds for one in ones):.1f} "
            f"| {median(one.goodput for one in ones):.1f} "
            f"| {median(ratios):.0%} [{min(ratios):.0%}–{max(ratios):.0%}] "
            f"| {median(one.refused for one in ones):.0%} "
            f"| {median(one.p99_s for one in ones):.2f} s "
            f"| {max(one.router_bytes for one in ones) / MB:.0f} |"
        )
        others = sum((one.failed for one in ones), Counter[str]())
        del others["429"]
        if others:
            print(f"|  | not answered: {dict(others)} | | | | | |")
    if path is not None:
        document = {case: [asdict(one) for one in ones] for case, ones in plays.items()}
        path.write_text(json.dumps({"rate": rate, "plays": document}, indent=1) + "\n")
    return 0 if median(ratios) >= GOODPUT_MIN else 1


if __name__ == "__main__":
    sys.exit(main())

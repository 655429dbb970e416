"""Breaks a fleet for minutes and accounts for every request.

    .venv/bin/python bench/chaos.py [--minutes 10] [--rate 300] [--seed N] [--json FILE]

What is played. Eight engines behind one router; plain requests, streams and sessions at a fixed rate,
whatever the answers take; one client in a hundred leaves early. Meanwhile, by a seed: engines are killed and
started again, stopped and continued, slowed, drained and taken back by the admin API, and the policy is
switched where the router can. Answers are a function of the request's nonce, so every byte is checked.

How to read it. The first figures must be 0: wrong bytes, requests left in the router's books, requests that
failed before their first byte though an able engine was there, requests without any answer, and failures that
no injected fault on their engine explains. The others say what the faults cost: streams that were cut because
their engine died under them, and requests whose engine said nothing until the router's time-out. Exit code 1
when a figure that must be 0 is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chaos_lib.client import Client
from chaos_lib.fleet import Fleet, fleet
from chaos_lib.injector import Injector
from chaos_lib.verdict import Verdict, judge

# The last seconds break nothing, so that what is left in the books is a leak and not a request.
_QUIET_S = 2.0

# How long requests that ended may stay in the books: a tick of the router, and a loaded machine.
_SETTLE_S = 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """Plays once and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="breaks a fleet and accounts for every request"
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        verdict, faults = play(Path(folder), options.minutes * 60, options.rate, options.seed)
    tell(verdict, faults)
    if options.json is not None:
        figures = {"seed": options.seed, "rate": options.rate, "minutes": options.minutes} | verdict.as_json()
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if any(verdict.faulty.values()) or faults else 0


def play(folder: Path, seconds: float, rate: float, seed: int) -> tuple[Verdict, list[str]]:
    """The verdict, and the faults in the router's log."""
    with fleet(folder) as broken:
        verdict = uvloop.run(_play(broken, seconds, rate, seed))
        return verdict, broken.router.faults()


async def _play(broken: Fleet, seconds: float, rate: float, seed: int) -> Verdict:
    switches = await broken.switches_policies()
    if not switches:
        print("this router's policy is chosen at its start: no switches are played")
    injector = Injector(broken, random.Random(f"{seed}/faults"), switches)
    client = Client(broken.router.port, random.Random(f"{seed}/requests"))
    await asyncio.gather(client.play(rate, seconds), injector.play(max(0.0, seconds - _QUIET_S)))
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    while leaked := await broken.leaked():
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.2)
    await broken.admin.aclose()
    return judge(client.asked, injector.faults, leaked)


def tell(verdict: Verdict, faults: list[str]) -> None:
    """Prints the figures."""
    for name, count in verdict.faulty.items():
        print(f"{count:8}  {name}")
    print(f"{len(faults):8}  faults in the router's log")
    print(f"{verdict.requests:8}  requests")
    print(f"{verdict.right:8}  answered, every byte as it should be")
    print(f"{verdict.left:8}  given up by their clients")
    for name, causes in (("cut behind the first byte", verdict.cut), ("timed out", verdict.timed_out)):
        for cause, count in sorted(causes.items()):
            print(
                f"{count:8}  {name}, by a {cause}" if cause != "nothing" else f"{count:8}  {name}, by nothing"
            )
    print(f"{verdict.error_rate:8.3%}  error rate")
    p50_ms, p99_ms = verdict.latency_s(0.5) * 1e3, verdict.latency_s(0.99) * 1e3
    print(f"{p50_ms:8.1f}  ms to a whole answer, median; {p99_ms:.0f} p99")
    print(
        f"          faults: {', '.join(f'{count} {kind}' for kind, count in sorted(verdict.faults.items()))}"
    )
    for line in [*verdict.examples, *faults[:40]]:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())

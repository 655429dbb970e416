"""What a scrape of /metrics takes with many workers, and whether requests notice it.

    .venv/bin/python bench/scrape.py [--workers 256] [--rounds 10] [--json FILE]

A router in front of fake engines that all have served requests, so that every series is there. In turns,
requests of one client at a steady pace with and without a scraper that asks ten times a second. How to read
it: the time of a scrape as its client sees it, and what requests of the two kinds of turns took: scrapes that
block the event loop would show in the upper end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import uvloop

from dataplane_lib.bodies import Requests
from dataplane_lib.check import wait_until_ready
from dataplane_lib.load import connect, latencies_s
from dataplane_lib.routers import Running, Target, targets
from dataplane_lib.stage import stage

GAP_S = 0.002
SCRAPE_EVERY_S = 0.1
_SCRAPE = b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n"

Figures = dict[str, float]


async def scrape(port: int, seconds: float, found: list[float], sizes: list[int]) -> None:
    """Scrapes for so long. Writes how long each took, and the page's bytes."""
    connection = await connect(port)
    end = perf_counter() + seconds
    while perf_counter() < end:
        began = perf_counter()
        page = await connection.ask(_SCRAPE)
        found.append(perf_counter() - began)
        sizes.append(len(page))
        await asyncio.sleep(SCRAPE_EVERY_S)
    connection.transport.abort()


async def measure(router: Running, workers: int, rounds: int, seconds: float) -> Figures:
    """All turns against one router."""
    await wait_until_ready(router)
    requests = Requests(1)
    warm = await connect(router.port)
    for _ in range(workers):
        await warm.ask(requests.next())
    scrapes: list[float] = []
    sizes: list[int] = []
    took: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for scraped in (False, True):
            scraping = asyncio.ensure_future(scrape(router.port, seconds if scraped else 0, scrapes, sizes))
            took[scraped] += await latencies_s(router.port, seconds, GAP_S, requests)
            await scraping
    figures = {
        "page_bytes": float(sizes[-1]),
        "scrape_ms p50": median(scrapes) * 1e3,
        "scrape_ms max": max(scrapes) * 1e3,
    }
    for scraped, name in ((False, "request_ms"), (True, "request_ms beside scrapes")):
        ordered = sorted(took[scraped])
        figures[f"{name} p50"] = median(ordered) * 1e3
        figures[f"{name} p99"] = ordered[int(len(ordered) * 0.99)] * 1e3
        figures[f"{name} p99.9"] = ordered[int(len(ordered) * 0.999)] * 1e3
        figures[f"{name} max"] = ordered[-1] * 1e3
    return figures


def round_robin(plain: Target) -> Target:
    """Every worker gets its share, so that all of its series are there."""

    def command(port: int, backends: Sequence[str], folder: Path) -> list[str]:
        words = plain.command(port, backends, folder)
        words[words.index("--policy") + 1] = "round_robin"
        return words

    return Target(plain.name, command)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn [3]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    [plain] = targets([], None)
    with (
        stage(options.workers) as at,
        Running(round_robin(plain), at.core, at.backends, at.folder) as router,
    ):
        figures = uvloop.run(measure(router, options.workers, options.rounds, options.seconds))
    for name, value in figures.items():
        print(f"{name:<36}{value:>12.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

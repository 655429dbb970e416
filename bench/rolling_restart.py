"""Rolling restarts under load: is any request refused, cut or answered with an error?

    .venv/bin/python bench/rolling_restart.py [--restarts 5] [--rate 200] [--streams 50] [--json FILE]

Four emulated engines, one port. Clients ask at a fixed rate, each on one of many kept connections or on a
new one, and as many streams as asked for are always open. Again and again a second router starts with
`--reuse-port` on the same port, and the first one gets SIGTERM. Every request must be answered 200 and every
stream must end with its end marker; a client here never tries twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from live.processes import Router, spawn_engines, spawn_router

# Of the requests without a stream, one in so many comes on a new connection, as from a new client.
_FRESH_EVERY = 5

# Streams of about this many tokens are open for some seconds each.
_STREAM_TOKENS = 400
_STREAM_SPEED = 5.0


@dataclass
class Tally:
    """State: what came of the requests."""

    requests: int = 0
    streams: int = 0
    restarts: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Requests and streams that were not answered, or not whole, by why."""
    routers: Counter[str] = field(default_factory=Counter)
    """Requests by the process that answered."""


def play(restarts: int, rate: float, streams: int, between_s: float, folder: Path) -> Tally:
    """Plays it all and returns what came of it. `rate` in requests per second; `folder` takes the logs."""
    return asyncio.run(_play(restarts, rate, streams, between_s, folder))


async def _play(restarts: int, rate: float, streams: int, between_s: float, folder: Path) -> Tally:
    tally = Tally()
    engines = await asyncio.to_thread(
        spawn_engines, folder / "engines.log", 4, "--speed", str(_STREAM_SPEED), "--model", "m"
    )
    routers: list[Router] = []

    async def start(port: str) -> Router:
        flags = [
            "--reuse-port",
            "--port",
            port,
            "--policy",
            "cache_aware",
            "--shutdown-grace-s",
            "60",
            "--no-model-discovery",
        ]
        for url in engines.urls:
            flags += ["--backend", url]
        log = folder / f"router-{len(routers)}.log"
        router = await asyncio.to_thread(spawn_router, log, *flags)
        routers.append(router)
        return router

    try:
        router = await start("0")
        load = asyncio.create_task(_load(router.url, rate, streams, tally))
        await asyncio.sleep(between_s)
        for _ in range(restarts):
            following = await start(str(router.port))
            router.terminate()
            await asyncio.sleep(between_s)
            async with asyncio.timeout(60):  # on a busy machine the new router's first answer takes its time
                while len(tally.routers) < len(routers):  # noqa: ASYNC110 -- the tally is plain numbers
                    await asyncio.sleep(0.05)
            assert await asyncio.to_thread(router.wait, 60) == 0, router.text()
            router = following
            tally.restarts += 1
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    finally:
        for process in (*routers, engines):
            process.kill()
    return tally


async def _load(url: str, rate: float, streams: int, tally: Tally) -> None:
    """Asks until it is cancelled."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60, trust_env=False) as client:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for number in range(streams):
                tasks.create_task(_stream_after_stream(client, number, tally))
            began, sent = loop.time(), 0
            while True:
                while sent < (loop.time() - began) * rate:
                    sent += 1
                    tasks.create_task(_ask(client, sent, tally))
                await asyncio.sleep(0.5 / rate)


async def _ask(client: httpx.AsyncClient, number: int, tally: Tally) -> None:
    text = f"conversation {number % 40} " * 100
    body = {"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": text}]}
    headers = {"connection": "close"} if number % _FRESH_EVERY == 0 else {}
    try:
        answer = await client.post("/v1/chat/completions", json=body, headers=headers)
    except httpx.HTTPError as error:
        tally.failed[type(error).__name__] += 1
        return
    tally.requests += 1
    tally.routers[answer.headers["x-request-id"][:16]] += 1
    if answer.status_code != 200 or not answer.json().get("choices"):
        tally.failed[f"status {answer.status_code}"] += 1


async def _stream_after_stream(client: httpx.AsyncClient, number: int, tally: Tally) -> None:
    body = {
        "model": "m",
        "stream": True,
        "max_tokens": _STREAM_TOKENS,
        "messages": [{"role": "user", "content": f"stream {number} " * 50}],
    }
    while True:
        text = ""
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for piece in answer.aiter_text():
                    text += piece
        except httpx.HTTPError as error:
            tally.failed[f"stream: {type(error).__name__}"] += 1
            continue
        tally.streams += 1
        if answer.status_code != 200 or "[DONE]" not in text:
            tally.failed["stream: not whole"] += 1


def main() -> int:
    """Plays, prints, and fails when anything did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--between-s", type=float, default=4.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = play(options.restarts, options.rate, options.streams, options.between_s, Path(folder))
    failed = sum(tally.failed.values())
    print(
        f"{tally.restarts} restarts: {tally.requests} requests and {tally.streams} streams answered by "
        f"{len(tally.routers)} routers, {failed} failed {dict(tally.failed) or ''}"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(vars(tally), indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

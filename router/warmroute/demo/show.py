"""The course of the demo: engines, then each policy on empty caches, the result, and the URL kept up."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import uvloop

from warmroute.demo.client import Client
from warmroute.demo.play import play
from warmroute.demo.processes import (
    HOST,
    Child,
    StartFailed,
    engine_urls,
    free_port,
    port_is_free,
    router_ready,
    start_engines,
    start_router,
)
from warmroute.demo.screen import Screen, result_table, stdout_console
from warmroute.demo.tally import Figures, Tally
from warmroute.demo.traffic import Session, sessions

if TYPE_CHECKING:
    from warmroute.cli import DemoOptions

OK = 0
FAILED = 1

ENGINES = 4
POLICIES = ("round_robin", "cache_aware")
"""The one to compare with first; the last is the one that stays up."""

KV_TOKENS = 200_000
"""Of each engine: about what an 8B model leaves on a 48 GB GPU. On an 80 GB GPU it leaves 441,000, but the
demo's traffic touches only a million tokens, where a day's touches many times that; with four caches of this
size room is scarce, as it is there."""

PROGRESS_S = 0.25
"""Between two looks at the engines' load, and two pictures."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_show(options: DemoOptions) -> int:
    """The exit code: 0 when every request was answered, else 1."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_stopped(options))


async def _until_stopped(options: DemoOptions) -> int:
    """A signal cancels the show; its processes are stopped on the way out."""
    loop = asyncio.get_running_loop()
    show = asyncio.create_task(_show(options, Screen(stdout_console())))
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, show.cancel)
    try:
        return await show
    except asyncio.CancelledError:
        print("router demo: interrupted")
        return FAILED


async def _show(options: DemoOptions, screen: Screen) -> int:
    port = options.port or free_port()
    if not port_is_free(port):
        screen.say(f"router demo: port {port} is in use; choose another one with --port")
        return FAILED
    if options.json is not None and not options.json.absolute().parent.is_dir():
        screen.say(f"router demo: --json {options.json}: there is no such folder")
        return FAILED
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warmroute-demo-")))
        try:
            return await _run(options, port, screen, logs, stack)
        except (StartFailed, OSError) as error:
            screen.say(f"router demo: {error}")
            return FAILED


async def _run(options: DemoOptions, port: int, screen: Screen, logs: Path, stack: ExitStack) -> int:
    traffic = sessions(options.duration_s, options.seed)
    engines = stack.enter_context(start_engines(ENGINES, options.speed, KV_TOKENS, options.seed, logs))
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
        backends = await engine_urls(engines, ENGINES)
        model = (await http.get(f"{backends[0]}/v1/models")).json()["data"][0]["id"]
        screen.say(
            f"{ENGINES} simulated engines of {model}, {KV_TOKENS:,} tokens of KV cache each, at "
            f"{options.speed:g}× real speed; {len(traffic)} sessions of agents, chats and document questions"
        )
        tallies: dict[str, Tally] = {}
        router: Child | None = None
        for policy in POLICIES:
            if router is not None:
                router.stop()
            await _empty_caches(backends, http)
            router = stack.enter_context(start_router(policy, port, backends, options.seed, logs))
            await router_ready(router, port, http)
            client = Client(HOST, port, model)
            tallies[policy] = await _measure(policy, traffic, client, backends, http, screen)
        results = {policy: tally.figures() for policy, tally in tallies.items()}
        screen.console.print()
        screen.console.print(result_table(results))
        for policy, tally in tallies.items():
            for why, times in tally.failures.most_common(3):
                screen.say(f"{policy}: {times}× {why}")
        if options.json is not None:
            options.json.write_text(json.dumps(_document(options, results, model), indent=2) + "\n")
        everything_answered = not any(figures.errors for figures in results.values())
        if not options.once:
            assert router is not None
            await _stay_up(router, port, model, screen)
    return OK if everything_answered else FAILED


async def _measure(
    policy: str,
    traffic: Sequence[Session],
    client: Client,
    backends: Sequence[str],
    http: httpx.AsyncClient,
    screen: Screen,
) -> Tally:
    """Plays the traffic through the router and shows how it goes."""
    tally = Tally(planned=sum(session.requests for session in traffic))
    screen.begin(policy, tally)
    playing = asyncio.create_task(play(traffic, client, tally))
    try:
        with screen:
            while not playing.done():
                screen.progress(await _loads(backends, http))
                await asyncio.wait((playing,), timeout=PROGRESS_S)
            screen.progress(await _loads(backends, http), last=True)
        await playing
    finally:
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing
        client.close()
    return tally


async def _loads(backends: Sequence[str], http: httpx.AsyncClient) -> list[int]:
    """Requests running or waiting on each engine; 0 for one that does not say."""

    async def load(url: str) -> int:
        try:
            return int((await http.get(f"{url}/load")).json()["server_load"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0

    return list(await asyncio.gather(*map(load, backends)))


async def _empty_caches(backends: Sequence[str], http: httpx.AsyncClient) -> None:
    """Every policy begins with empty caches."""
    for url in backends:
        (await http.post(f"{url}/reset_prefix_cache")).raise_for_status()


async def _stay_up(router: Child, port: int, model: str, screen: Screen) -> None:
    """Until a signal comes, or the router ends. Raises StartFailed in the second case."""
    url = f"http://{HOST}:{port}"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16})
    screen.say(
        f"\nThe router ({POLICIES[-1]}) stays up at {url} until Ctrl-C. Its other endpoints: {url}/docs. "
        "Try:\n\n"
        f"  curl -i {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'\n"
    )
    with suppress(asyncio.CancelledError):  # the way to end it
        await router.ended()
        raise StartFailed(router.failure("ended by itself"))


def _document(options: DemoOptions, results: dict[str, Figures], model: str) -> dict[str, object]:
    return {
        "policies": {
            policy: {
                "hit_rate": figures.hit_rate,
                "ttft_s": {"p50": figures.ttft_p50_s, "p99": figures.ttft_p99_s},
                "requests": figures.requests,
                "errors": figures.errors,
            }
            for policy, figures in results.items()
        },
        "engines": {"count": ENGINES, "model": model, "kv_tokens": KV_TOKENS, "speed": options.speed},
        "duration_s": options.duration_s,
        "seed": options.seed,
        "versions": {"warmroute": _version(), "python": platform.python_version()},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
    }


def _version() -> str:
    try:
        return version("warmroute")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"

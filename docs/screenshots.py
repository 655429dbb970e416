"""Pictures of the live page under traffic: `docs/ui/*.png`.

    .venv/bin/python docs/screenshots.py            four minutes; needs chromium on PATH

Six simulated engines, a router, and the demo's agents, chats and document questions play for a while; then
the page is drawn in light, in dark, and as a phone shows it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from playwright.async_api import Browser, async_playwright

from warmroute.demo.client import Client
from warmroute.demo.play import play
from warmroute.demo.processes import (
    HOST,
    Child,
    engine_urls,
    free_port,
    router_ready,
    start_engines,
)
from warmroute.demo.tally import Tally
from warmroute.demo.traffic import sessions

FOLDER = Path(__file__).parent / "ui"
ENGINES, KV_TOKENS, SEED = 6, 200_000, 1
# The engines run at twice the speed of real ones. The charts show five minutes; most of them are waited for,
# and the traffic lasts longer than that.
SPEED, TRAFFIC_S, WAIT_S = 2.0, 450.0, 240.0
SHADOWS = ("least_requests", "sglang_cache_aware")

# Name, width, height, dark.
PICTURES = (("light", 1360, 1400, False), ("dark", 1360, 1400, True), ("phone", 390, 1500, False))


async def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("docs/screenshots.py needs chromium on PATH", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warmroute-pictures-")))
        engines = stack.enter_context(start_engines(ENGINES, SPEED, KV_TOKENS, SEED, logs))
        async with httpx.AsyncClient(trust_env=False) as http, async_playwright() as playwright:
            backends = await engine_urls(engines, ENGINES)
            model = (await http.get(f"{backends[0]}/v1/models")).json()["data"][0]["id"]
            port = free_port()
            router = stack.enter_context(start(port, backends, logs))
            await router_ready(router, port, http)
            played = sessions(TRAFFIC_S, SEED)
            tally = Tally(sum(session.requests for session in played))
            traffic = asyncio.create_task(play(played, Client(HOST, port, model), tally))
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
            await draw(browser, f"http://{HOST}:{port}/ui")
            await browser.close()
            traffic.cancel()
            await asyncio.gather(traffic, return_exceptions=True)
    return 0


def start(port: int, backends: Sequence[str], logs: Path) -> Child:
    """A router with two shadow policies."""
    shadows = [word for name in SHADOWS for word in ("--shadow-policy", name)]
    listed = [word for url in backends for word in ("--backend", url)]
    arguments = ["warmroute", "serve", "--host", HOST, "--port", str(port), *shadows, *listed]
    return Child("router", arguments, logs / "router.log")


async def draw(browser: Browser, url: str) -> None:
    """Opens every page, waits for traffic to show, then draws them."""
    FOLDER.mkdir(exist_ok=True)
    pages = []
    for name, width, height, dark in PICTURES:
        page = await browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        await page.goto(url)
        pages.append((name, page))
    await asyncio.sleep(WAIT_S)
    for name, page in pages:
        await page.bring_to_front()
        await page.locator("#pause").click()
        await page.locator("#decisions summary").nth(3).click()
        await page.evaluate("window.scrollTo(0, 0)")
        await page.screenshot(path=FOLDER / f"{name}.png")
        print(FOLDER / f"{name}.png", (FOLDER / f"{name}.png").stat().st_size)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

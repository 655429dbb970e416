"""A real browser on the live page, and whatever it complains about."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from live.fake_worker import fake_workers
from live.front import Front
from live.fronts import front_before
from live.processes import Process, Router, spawn_router

# Quick checks, and prompts that may go to either worker.
FLAGS = ("--no-model-discovery", "--health-interval-s", "0.2", "--health-rise", "1", "--health-fall", "1",
         "--shadow-policy", "round_robin")  # fmt: skip
ADMIN_KEY = "root-key"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, headless; one for all tests."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        await browser.close()


@dataclass
class Tab:
    """A page of its own. State: what it complained about, and what it asked of others than the router."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    """Errors on the console, exceptions, and what the security policy refused."""
    elsewhere: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:")):
            self.elsewhere.append(request.url)


@pytest.fixture(scope="session")
def session_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A router in front of two scripted workers, for all tests that leave it as it was."""
    log = tmp_path_factory.mktemp("page") / "router.log"
    with fake_workers(2) as workers, front_before(workers, log, *FLAGS) as front:
        yield front


@pytest.fixture
def front(session_front: Front) -> Front:
    for worker in session_front.workers:
        worker.forget()
    return session_front


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router that shows its state to holders of a key."""
    log = tmp_path_factory.mktemp("locked") / "router.log"
    router = spawn_router(log, *FLAGS, "--admin-api-key", ADMIN_KEY)
    try:
        yield router
    finally:
        Process.kill(router)
    assert not router.faults(), router.text()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, front: Front) -> AsyncIterator[Tab]:
    """The live page, connected. Behind every test: no error, nothing refused, nothing asked of others."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    tab = Tab(await context.new_page(), front.router.url)
    tab.listen()
    await tab.page.goto(f"{tab.url}/ui")
    await tab.page.locator("#status[data-state=live]").wait_for()
    yield tab
    await context.close()
    assert tab.complaints == []
    assert tab.elsewhere == []

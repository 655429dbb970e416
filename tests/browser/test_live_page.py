"""The page at /ui in a real browser: what it shows, what it does, who can use it, and what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from live.fake_worker import USAGE, Call, FakeWorker, fake_workers
from live.front import CHAT, STREAM, Front
from live.processes import Process, Router, spawn_router

from .conftest import ADMIN_KEY, FLAGS, Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"width": 360, "height": 740}
EVIL = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>'


class Held:
    """A stream whose end waits for the test's word, and tells how much was cached."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def __call__(self, call: Call) -> None:
        call.stream()
        call.chunk(b"data: {}\n\n")
        call.hold(self.may_end)
        call.chunk(b"data: " + json.dumps({"usage": USAGE}).encode() + b"\n\n")
        call.chunk(b"data: [DONE]\n\n")
        call.end()


def row(page: Page, worker: FakeWorker) -> Locator:
    return page.locator(f'tr[data-worker="{worker.url}"]')


def ask_in_background(front: Front, body: object) -> threading.Thread:
    thread = threading.Thread(target=front.ask, args=(body,))
    thread.start()
    return thread


async def test_workers_and_rates_are_shown_under_traffic(tab: Tab, front: Front) -> None:
    held = Held()
    front.script(held)
    asking = ask_in_background(front, STREAM)
    busy = front.wait_calls(1)[0].worker
    try:
        for worker in front.workers:
            await expect(row(tab.page, worker)).to_contain_text("healthy")
        in_flight = row(tab.page, busy).locator('[data-label="In flight"]')
        await expect(in_flight).to_have_text("1")
    finally:
        held.may_end.set()
        asking.join()
    await expect(in_flight).to_have_text("0")
    await expect(tab.page.locator("#workers-count")).to_have_text("2 of 2 take requests")
    rate = tab.page.locator("#totals > div").first.locator("dd").first
    await expect(rate).not_to_have_text("0.0")
    await expect(tab.page.locator("#totals")).to_contain_text("40.0 %")  # what the workers report
    await expect(tab.page.locator("#policy")).to_have_text("cache_aware")


async def test_a_decision_appears_with_its_prices_and_then_its_actual_hit(tab: Tab, front: Front) -> None:
    held = Held()
    front.script(held)
    asking = ask_in_background(front, STREAM | {"model": "held-model"})
    worker = front.wait_calls(1)[0].worker
    try:
        decision = tab.page.locator("#decisions li", has_text="held-model").first
        await expect(decision).to_contain_text("under way")
        await expect(decision).to_contain_text("predicted 0 of")
        balance = tab.page.locator("#shadows tbody tr td:last-child")
        await expect(balance).to_have_text(["2.00", "2.00"])  # one request at one of two workers
        await decision.locator("summary").click()
        prices = decision.locator("table.prices tbody tr")
        await expect(prices).to_have_count(2)
        await expect(decision.locator("tr.chosen")).to_contain_text(worker.url.removeprefix("http://"))
        await expect(decision.locator("tr.chosen .parts")).to_contain_text("miss")
    finally:
        held.may_end.set()
        asking.join()
    await expect(balance).to_have_text(["–", "–"])
    await expect(decision).to_contain_text("actual 40 of 100 tokens")
    await expect(decision).to_contain_text("done")
    await expect(prices).to_have_count(2)


async def test_a_pause_holds_the_stream_until_it_goes_on(tab: Tab, front: Front) -> None:
    button = tab.page.get_by_role("button", name="Pause")
    await button.click()
    front.ask(CHAT | {"model": "while-paused"})
    await expect(tab.page.locator("#decisions-note")).to_contain_text("paused, 1 wait")
    await expect(tab.page.locator("#decisions")).not_to_contain_text("while-paused")
    await tab.page.get_by_role("button", name="Go on").click()
    await expect(tab.page.locator("#decisions")).to_contain_text("while-paused")


async def test_a_worker_is_drained_and_taken_back_by_click(tab: Tab, front: Front) -> None:
    worker = front.workers[0]
    await tab.page.get_by_role("button", name=f"Drain {worker.url}", exact=True).click()
    await expect(row(tab.page, worker).locator(".state")).to_have_text("draining")
    assert front.worker_state(worker)["draining"]
    await tab.page.get_by_role("button", name=f"Take back {worker.url}").click()
    await expect(row(tab.page, worker).locator(".state")).to_have_text("healthy")
    assert not front.worker_state(worker)["draining"]


async def test_a_worker_is_drained_by_keyboard_alone(tab: Tab, front: Front) -> None:
    worker = front.workers[1]
    await tab.page.keyboard.press("Tab")
    assert await focused(tab.page) == "Skip to the workers"
    await tab.page.keyboard.press("Enter")
    for _ in range(20):
        await tab.page.keyboard.press("Tab")
        if await focused(tab.page) == f"Drain {worker.url}":
            break
    outline = await tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is seen"
    await tab.page.keyboard.press("Space")
    await expect(row(tab.page, worker).locator(".state")).to_have_text("draining")
    assert await focused(tab.page) == f"Take back {worker.url}", "the focus stays"
    await tab.page.keyboard.press("Enter")
    await expect(row(tab.page, worker).locator(".state")).to_have_text("healthy")


async def focused(page: Page) -> str:
    """The accessible name of what has the focus, as far as attributes and text tell."""
    name: str = await page.evaluate(
        "document.activeElement.ariaLabel || document.activeElement.textContent.trim()"
    )
    return name


async def test_a_worker_is_added_and_removed_after_a_question(tab: Tab, front: Front) -> None:
    with fake_workers(1) as more:
        worker = more[0]
        await tab.page.get_by_label("URL").fill(worker.url)
        await tab.page.get_by_role("button", name="Add").click()
        await expect(row(tab.page, worker)).to_contain_text("healthy")
        await expect(tab.page.get_by_label("URL")).to_have_value("")
        remove = tab.page.get_by_role("button", name=f"Remove {worker.url}")
        await remove.click()
        await expect(tab.page.get_by_role("dialog")).to_contain_text("It has no requests in flight")
        assert await focused(tab.page) == "Keep it"
        await tab.page.keyboard.press("Escape")
        assert len(front.state()["workers"]) == 3, "a question that is not answered removes nothing"
        await remove.click()
        await tab.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await expect(row(tab.page, worker)).to_have_count(0)
        assert len(front.state()["workers"]) == 2


async def test_what_the_router_refuses_is_said_in_its_words(tab: Tab, front: Front) -> None:
    await tab.page.get_by_label("URL").fill("ftp://nowhere")
    await tab.page.get_by_role("button", name="Add").click()
    await expect(tab.page.locator("#add-message")).to_contain_text("`url`")
    await tab.page.get_by_label("URL").fill("banana")
    await tab.page.get_by_role("button", name="Add").click()
    await expect(tab.page.locator("#add-message")).to_contain_text("did you mean http://banana?")
    await tab.page.get_by_label("URL").fill(front.workers[0].url)
    await tab.page.get_by_role("button", name="Add").click()
    await expect(tab.page.locator("#add-message")).to_contain_text("there is a worker")
    await tab.page.get_by_role("button", name=f"Drain {front.workers[0].url}", exact=True).click()
    await expect(tab.page.locator("#add-message")).to_have_text("")
    await tab.page.get_by_role("button", name=f"Take back {front.workers[0].url}").click()
    await tab.page.get_by_label("Body").fill("{")
    await tab.page.get_by_role("button", name="Ask").click()
    await expect(tab.page.locator("#dry-error")).to_contain_text("the request body is not valid")
    tab.complaints[:] = [text for text in tab.complaints if "Failed to load resource" not in text]


async def test_a_dry_run_shows_the_price_of_every_worker(tab: Tab, front: Front) -> None:
    before = len(front.calls)
    await tab.page.get_by_label("Body").fill(json.dumps(CHAT))
    await tab.page.get_by_role("button", name="Ask").click()
    await expect(tab.page.locator("#dry-answer")).to_contain_text("Predicted hit")
    rows = tab.page.locator("#dry-result tbody tr")
    await expect(rows).to_have_count(2)
    for worker in front.workers:
        await expect(rows.filter(has_text=worker.url.removeprefix("http://"))).to_contain_text("ms")
    assert len(front.calls) == before, "nothing was sent"


async def test_a_dry_run_names_its_session_by_the_header_that_the_router_reads(
    browser: Browser, tmp_path: Path
) -> None:
    with fake_workers(1) as workers:
        flags = ("--backend", workers[0].url, "--session-header", "x-conversation")
        router = spawn_router(tmp_path / "router.log", *FLAGS, *flags)
        page = await browser.new_page()
        try:
            await page.goto(f"{router.url}/ui")
            await expect(page.locator("#status")).to_have_text("Live")
            await page.get_by_label("Session", exact=True).fill("ann")
            await page.get_by_role("button", name="Ask").click()
            await expect(page.locator("#dry-answer")).to_contain_text("session ann")
        finally:
            await page.close()
            router.kill()


async def test_sessions_whose_names_begin_alike_have_rows_of_their_own(tab: Tab, front: Front) -> None:
    for end in "ab":
        front.ask(CHAT | {"session_id": "alike" * 30 + end})
    await expect(tab.page.locator("#sessions tbody tr", has_text="alike" * 25)).to_have_count(2)


async def test_markup_in_names_is_text_and_does_not_run(tab: Tab, front: Front) -> None:
    front.ask(CHAT | {"model": EVIL, "session_id": EVIL})
    decision = tab.page.locator("#decisions li", has_text="onerror").first
    await expect(decision.locator(".model")).to_have_text(EVIL)
    await expect(decision.locator(".session")).to_contain_text(EVIL)
    await expect(tab.page.locator("#sessions tbody")).to_contain_text(EVIL)
    await tab.page.get_by_label("Body").fill(json.dumps(CHAT | {"model": EVIL, "session_id": EVIL}))
    await tab.page.get_by_role("button", name="Ask").click()
    await expect(tab.page.locator("#dry-answer")).to_contain_text(EVIL)
    assert await tab.page.locator("main img, main script").count() == 0
    assert await tab.page.evaluate("window.ran") is None


async def test_the_page_fits_a_phone_however_long_the_names(tab: Tab, front: Front) -> None:
    front.ask(CHAT | {"model": "m" * 250, "session_id": "s" * 200})
    await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    decision = tab.page.locator("#decisions summary", has_text="mmmm").first
    await decision.click()
    await tab.page.locator("#workers summary").first.click()
    for summary in await tab.page.locator("figcaption summary").all():
        await summary.click()
    await tab.page.get_by_label("Body").fill(json.dumps(CHAT))
    await tab.page.get_by_role("button", name="Ask").click()
    await expect(tab.page.locator("#dry-result tbody tr")).to_have_count(2)
    assert await tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert await tab.page.evaluate(_BEYOND) == []


_BEYOND = """
[...document.querySelectorAll("body *")]
  .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 0.5
    && !one.closest(".line3, .cut, .decisions summary, .unseen, option"))
  .map((one) => one.tagName + "." + one.className)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read_in_light_and_in_dark(tab: Tab, front: Front, scheme: str) -> None:
    front.ask(CHAT | {"session_id": "someone"})
    await tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await tab.page.locator("#decisions summary").first.click()
    await tab.page.get_by_role("button", name="Ask").click()
    await expect(tab.page.locator("#dry-result tbody tr")).to_have_count(2)
    background = await tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(background.split("(")[1].split(",")[0]) < 64) is (scheme == "dark")
    assert await tab.page.evaluate(_PALE) == []


# Texts whose contrast to what is behind them is below 4.5, as WCAG 2 asks for small text.
_PALE = """
(() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = rgb(color).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const pale = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility() || one.closest(".unseen, .skip, option")) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(one.closest("svg") ? style.fill : style.color), light(behind(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const text = one.textContent.slice(0, 30);
    if (contrast < 4.5) pale.push(`${one.tagName}.${one.className}: ${contrast.toFixed(2)} ${text}`);
  }
  return pale;
})()
"""


async def test_everything_has_a_name_a_heading_and_a_caption(tab: Tab) -> None:
    nameless = """
    [...document.querySelectorAll("button, input, select, textarea, table, section, svg[role=img], dialog")]
      .filter((one) => !(one.ariaLabel || one.labels?.length || one.caption || one.textContent.trim()
        || one.getAttribute("aria-labelledby")))
      .map((one) => one.outerHTML.slice(0, 80))
    """
    assert await tab.page.evaluate(nameless) == []
    headings = await tab.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => +h.tagName[1])")
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    for landmark in ("banner", "main", "contentinfo"):
        await expect(tab.page.get_by_role(landmark)).to_have_count(1)


async def test_nothing_moves_for_those_who_asked_for_that(tab: Tab) -> None:
    moves = "getComputedStyle(document.querySelector('.bar i')).transitionDuration"
    assert await tab.page.evaluate(moves) != "0s"
    await tab.page.emulate_media(reduced_motion="reduce")
    assert await tab.page.evaluate(moves) == "0s"


async def test_a_wrong_key_is_said_and_the_right_one_opens(browser: Browser, locked: Router) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{locked.url}/ui")
    field = page.get_by_label("Admin API key")
    await expect(field).to_be_focused()
    await expect(page.locator("#status")).to_have_text("A key is needed")
    await expect(page.locator("#content")).to_be_hidden()
    await field.fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.locator("#key-error")).to_contain_text("does not accept this key")
    await field.fill(ADMIN_KEY)
    await page.get_by_role("button", name="Open").click()
    await expect(page.locator("#status")).to_have_text("Live")
    await expect(page.locator("#workers-none")).to_be_visible()
    await page.reload()
    await expect(page.locator("#status")).to_have_text("Live")
    assert ADMIN_KEY not in await page.content()
    other = await context.new_page()
    await other.goto(f"{locked.url}/ui")
    await expect(other.locator("#status")).to_have_text("A key is needed")
    await page.get_by_role("button", name="Forget the key").click()
    await expect(page.locator("#status")).to_have_text("A key is needed")
    await context.close()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Router]:
    """A router that a test ends."""
    router = spawn_router(tmp_path / "first.log", *FLAGS)
    yield router
    Process.kill(router)


async def test_the_page_says_that_it_is_cut_off_and_comes_back_by_itself(
    browser: Browser, mortal: Router, tmp_path: Path
) -> None:
    page = await browser.new_page()
    await page.goto(f"{mortal.url}/ui")
    await expect(page.locator("#status")).to_have_text("Live")
    mortal.kill()
    await expect(page.locator("#status")).to_contain_text("Not connected: the router does not answer")
    again = spawn_router(tmp_path / "second.log", *FLAGS, "--port", str(mortal.port))
    try:
        await expect(page.locator("#status")).to_have_text("Live", timeout=20_000)
    finally:
        again.kill()
        await page.close()

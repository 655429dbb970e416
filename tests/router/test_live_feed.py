"""The feed behind the live page: what is in it, what bounds it, and who it goes to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from hatchling.builders.wheel import WheelBuilder

from live.fake_worker import USAGE, Call
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.polling import PATIENCE_S, eventually, eventually_async
from live.processes import StartRouter
from live.wire import Connection, request
from warmroute.app import _stop as stop
from warmroute.app import build
from warmroute.client import ClientConnection
from warmroute.config import Settings
from warmroute.config.backends import Backend
from warmroute.control.page import assets
from warmroute.gateway import Gateway
from warmroute.listen.doors import Doors
from warmroute.live.decisions import COSTS_MAX, Decided, Decisions, lowest, told_cost
from warmroute.live.feed import WATCHERS_MAX
from warmroute.live.history import STEP_S, STEPS, History
from warmroute.live.watchers import QUEUED_MAX, Watcher
from warmroute.series import Metrics, Series
from warmroute_policies.blocks import NO_BLOCKS
from warmroute_policies.types import CostShares, Outcome, RoutingRequest

StartFront = Callable[..., Front]
ROOT = Path(__file__).parents[2]


class Events:
    """A reader of /live/events. State: the connection, and what came ahead of what was asked for."""

    def __init__(self, url: str, **headers: str) -> None:
        self.connection = Connection(url)
        self.connection.send(request("GET", "/live/events", **headers))
        head = self.connection._until(b"\r\n\r\n").decode()
        assert head.startswith("HTTP/1.1 200 "), head
        assert "text/event-stream" in head
        assert "content-length" not in head
        self._ahead = b""
        self.ended = False

    def next(self) -> tuple[str, Any]:
        """The next event: its name and its data. Fails when the stream ends instead."""
        while b"\n\n" not in self._ahead:
            assert self._more(), "the stream has ended"
        event, _, self._ahead = self._ahead.partition(b"\n\n")
        name, data = event.split(b"\n")
        return name.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))

    def until(self, wanted: str) -> Any:
        """The data of the next event of that name."""
        while True:
            name, data = self.next()
            if name == wanted:
                return data

    def decision(self, model: str, *, ended: bool) -> dict[str, Any]:
        """The next one about a request of that model, at its beginning or at its end."""
        while True:
            for one in self.until("decisions")["decisions"]:
                if one["model"] == model and ("outcome" in one) is ended:
                    found: dict[str, Any] = one
                    return found

    def ends(self) -> bool:
        """Reads on until the stream has ended as it should, with its last chunk."""
        while self._more():
            pass
        return self.ended

    def close(self) -> None:
        self.connection.socket.close()

    def _more(self) -> bool:
        size = int(self.connection._until(b"\r\n"), 16)
        self._ahead += self.connection._exactly(size)
        self.connection._exactly(2)
        self.ended = not size
        return size > 0


@contextlib.contextmanager
def watching(front: Front) -> Iterator[Events]:
    """A reader for the block's time that has had its first snapshot."""
    events = Events(front.router.url)
    try:
        events.until("snapshot")
        yield events
    finally:
        events.close()


def snapshot(front: Front) -> dict[str, Any]:
    answer = httpx.get(f"{front.router.url}/live/snapshot", trust_env=False, timeout=20)
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


# --- the snapshot --------------------------------------------------------------------------------


def test_the_snapshot_tells_the_last_minute_and_the_workers(front: Front) -> None:
    for _ in range(3):
        front.ask(CHAT | {"session_id": "ann"})
    found = eventually(
        lambda: (s := snapshot(front))["totals"]["actual_hit_rate"] is not None and s, "it counts"
    )
    assert found
    totals = found["totals"]
    assert totals["requests_per_s"] > 0
    assert totals["errors_per_s"] == 0
    assert totals["actual_hit_rate"] == 0.4, "40 of 100 tokens, as the workers say"
    assert totals["ttft_p50_s"] is None, "no answer was streamed"
    assert [one["id"] for one in found["workers"]] == [worker.url for worker in front.workers]
    assert all(one["kv_share"] is None for one in found["workers"]), "nobody has told a capacity"
    assert found["policy"] == "least_requests"
    ann = next(one for one in found["sessions"]["recent"] if one["session"] == "ann")
    assert ann["turns"] >= 3
    assert ann["worker"] in [worker.url for worker in front.workers]
    assert found["history"]["step_s"] == STEP_S
    assert {len(points) for name, points in found["history"].items() if name != "step_s"} == {STEPS}
    assert (found["shadows"], found["discovery"]) == ([], None)


def test_a_snapshot_comes_every_second_and_is_the_same_for_all(front: Front) -> None:
    with watching(front) as one, watching(front) as other:
        seen = [one.until("snapshot") for _ in range(3)]
        at = [each["at_s"] for each in seen]
        assert at == sorted(set(at))
        assert other.until("snapshot") in seen


def test_prefixes_shadows_and_saved_prefill_are_told(start_front: StartFront) -> None:
    front = start_front("--shadow-policy", "round_robin")
    for _ in range(12):
        front.ask(CHAT)
    found = eventually(
        lambda: (s := snapshot(front))["totals"]["prefill_saved_s_per_s"] > 0 and s, "work was saved"
    )
    assert found
    prefix = found["prefixes"][0]
    assert len(prefix["prefix"]) == 16
    assert (prefix["parent"], prefix["model"], prefix["share"]) == (None, "m", 1.0)
    assert prefix["saved_tokens"] > 0
    [shadow] = found["shadows"]
    assert (shadow["policy"], shadow["decisions"], shadow["failures"]) == ("round_robin", 12, 0)
    assert shadow["agreed_share"] == 1.0, "there is one worker"
    assert found["live"]["decisions"] == 12
    assert found["live"]["predicted_hit_rate"] > 0
    assert shadow["inflight"] == {front.workers[0].url: 0}


def test_where_workers_are_found_is_told(start_front: StartFront, tmp_path: Path) -> None:
    listed = tmp_path / "workers.yaml"
    listed.write_text("backend: [http://127.0.0.1:9]")
    front = start_front("--discover-file", str(listed), count=0)
    found = eventually(lambda: (s := snapshot(front))["workers"] and s, "the worker is found")
    assert found
    assert (found["discovery"]["kind"], found["discovery"]["workers"]) == ("file", 1)
    assert str(listed) in found["discovery"]["target"]
    assert found["discovery"]["error"] is None
    assert found["workers"][0]["added_by"] == "file"
    listed.write_text("backend: 1")
    eventually(lambda: snapshot(front)["discovery"]["error"], "the fault is told")


def test_a_believed_cache_that_is_known_has_a_share(start_front: StartFront) -> None:
    front = start_front("--kv-capacity-tokens", "1000")
    assert snapshot(front)["workers"][0]["kv_share"] == 0
    front.ask(CHAT)
    shared = eventually(lambda: snapshot(front)["workers"][0]["kv_share"], "the cache fills")
    assert shared is not None
    assert 0 < shared <= 1


# --- history -------------------------------------------------------------------------------------


def counted(metrics: Metrics, worker: str = "w", model: str = "m") -> Series:
    return metrics.series.setdefault((model, worker), Series())


def finish(series: Series, *, ttft_s: float | None = None, outcome: Outcome = Outcome.OK) -> None:
    series.outcomes[outcome] += 1
    series.prompt_tokens += 100
    series.predicted_hit_tokens += 50
    series.actual_hit_tokens += 40
    series.reported += 1
    if ttft_s is not None:
        series.ttft_s.observe(ttft_s)


def test_the_last_minute_forgets_what_is_older_and_the_points_keep_five() -> None:
    metrics = Metrics("p")
    history = History(metrics)
    for _ in range(50):
        finish(counted(metrics), ttft_s=0.2)
    for _ in range(STEP_S):
        history.sample()
    assert history.minute().requests_per_s == 50 / STEP_S
    assert history.minute().predicted_hit_rate == 0.5
    assert history.points().requests_per_s == [*[None] * (STEPS - 1), 50 / STEP_S]
    for _ in range(60):
        history.sample()
    assert history.minute() == (0, 0, 0, None, None, None, None, None, 0)
    assert history.points().actual_hit_rate[-13] == 0.4
    assert history.points().actual_hit_rate[-12:] == [None] * 12
    for _ in range(STEP_S * STEPS):
        history.sample()
    assert set(history.points().actual_hit_rate) == {None}


def test_quantiles_lie_in_the_bucket_of_the_answers() -> None:
    metrics = Metrics("p")
    history = History(metrics)
    for _ in range(98):
        finish(counted(metrics), ttft_s=0.2)
    finish(counted(metrics), ttft_s=4.0)
    finish(counted(metrics), ttft_s=1e6)
    history.sample()
    minute = history.minute()
    assert minute.ttft_p50_s is not None
    assert 0.1 < minute.ttft_p50_s < 0.25
    assert minute.ttft_p99_s == 5.0
    finish(counted(metrics, "slow"), ttft_s=1e6)
    history.sample()
    assert history.minute().ttft_p99_s == 60.0, "beyond the last bound nothing is known"


def test_a_worker_that_leaves_takes_nothing_out_of_the_past() -> None:
    metrics = Metrics("p")
    history = History(metrics)
    for worker in "ab":
        finish(counted(metrics, worker), outcome=Outcome.TIMEOUT)
    history.sample()
    metrics.forget_worker("a")
    history.sample()
    finish(counted(metrics, "a"))
    history.sample()
    assert history.minute().requests_per_s == pytest.approx(3 / 3)
    assert history.minute().errors_per_s == pytest.approx(2 / 3, abs=1e-3)
    assert len(history._seen) == 2


def test_with_very_many_series_counts_come_late_and_none_is_lost() -> None:
    metrics = Metrics("p")
    history = History(metrics)
    for number in range(1000):
        finish(counted(metrics, f"w{number}"))
    history.sample()
    assert history.minute().requests_per_s < 1000
    for _ in range(9):
        history.sample()
    assert history.minute().requests_per_s == 1000 / 10


# --- decisions -----------------------------------------------------------------------------------


def test_a_decision_is_told_with_prices_before_its_booking_and_again_at_its_end(front: Front) -> None:
    may_end = threading.Event()

    def held(call: Call) -> None:
        call.stream()
        call.chunk(b"data: {}\n\n")
        call.hold(may_end)
        call.chunk(b"data: " + json.dumps({"usage": USAGE}).encode() + b"\n\n")
        call.end()

    front.script(held)
    with watching(front) as events, front.connect() as client:
        client.send(
            request("POST", CHAT_PATH, STREAM | {"model": "told"}, x_session_id="s", x_request_id="r-1")
        )
        begun = events.decision("told", ended=False)
        assert begun["worker"] in [worker.url for worker in front.workers]
        assert (begun["session"], begun["request_id"], begun["attempt"]) == ("s", "r-1", 0)
        assert [cost["worker"] for cost in begun["costs"]] == [worker.url for worker in front.workers]
        assert [cost["shares_s"]["inflight_requests"] for cost in begun["costs"]] == [0, 0]
        may_end.set()
        client.answer()
        ended = events.decision("told", ended=True)
    assert ended["number"] == begun["number"]
    assert (ended["outcome"], ended["status"], ended["cached_tokens"]) == ("ok", 200, 40)
    assert 0 < ended["ttft_s"] <= ended["duration_s"]
    assert ended["prompt_tokens"] == 100
    assert "costs" not in ended


def test_a_request_that_nobody_can_take_is_told_as_refused(start_front: StartFront) -> None:
    front = start_front()
    front.workers[0].healthy = False
    eventually(lambda: not front.worker_state(front.workers[0])["healthy"], "the worker is unhealthy")
    with watching(front) as events:
        assert front.ask(CHAT | {"model": "alone"}).status == 503
        told = events.decision("alone", ended=True)
    assert (told["worker"], told["reason"], told["outcome"]) == (None, "no_worker", "refused")
    assert told["costs"] == []


def test_of_many_requests_some_are_followed_and_all_are_counted(front: Front) -> None:
    count = 200
    with watching(front) as events, front.connect() as client:
        client.send(*[request("POST", CHAT_PATH, CHAT | {"model": "many"})] * count)
        for _ in range(count):
            client.answer()
        front.ask(CHAT | {"model": "many"})
        followed: set[int] = set()
        skipped = 0
        while len(followed) + skipped < count + 1:
            told = events.until("decisions")
            skipped += told["skipped"]
            followed |= {one["number"] for one in told["decisions"]}
            if len(followed) + skipped == count:  # the last one may be among those that were left out
                front.ask(CHAT | {"model": "many"})
                count += 1
    assert skipped > len(followed) > 0


def test_names_that_clients_make_up_are_cut(front: Front) -> None:
    with watching(front) as events:
        front.ask(CHAT | {"model": "x" * 250, "session_id": "y" * 250})
        told = events.until("decisions")["decisions"][0]
    assert told["model"] == "x" * 128
    assert len(told["session"] or "") <= 128


def test_of_very_many_prices_the_lowest_and_the_chosen_ones_are_told() -> None:
    costs = [CostShares(f"w{n}", n != 3, float(n), {"queue": float(n)}, 0) for n in range(256)]
    told = lowest(costs, "w200")
    assert [cost.worker for cost in told] == ["w0", "w1", "w2", "w4", "w5", "w6", "w7", "w200"]
    assert len(told) == COSTS_MAX
    assert told_cost(CostShares("w", False, float("inf"), {"a": float("nan")}, 0)).total_s is None


def test_of_a_request_on_its_way_no_more_prices_are_kept_than_are_told() -> None:
    backends = tuple(Backend(url=f"http://127.0.0.1:{port}") for port in range(1, 101))
    gateway = build(Settings(backend=backends, policy="least_requests"))
    told: list[Decided] = []
    decisions = Decisions(gateway.balancer, told.append)
    parsed = SimpleNamespace(model="m")
    for number in (1, 2, 3):
        exchange: Any = SimpleNamespace(number=number, request_id=b"r", parsed=parsed)
        asked = RoutingRequest(number, "m", NO_BLOCKS, None, None, None, 0, False)
        decisions.arrived(exchange, asked, 100.0 * number)
        first = gateway.balancer.route(asked, 100.0 * number)
        decisions.routed(exchange, first, 100.0 * number)
        decisions.routed(exchange, gateway.balancer.reroute(number, 100.0 * number), 100.0 * number)
    assert len(told) == 6
    assert all(one.costs is not msgspec.UNSET and len(one.costs) == COSTS_MAX for one in told)
    assert [len(followed.costs) for followed in decisions._followed.values()] == [COSTS_MAX] * 3


@pytest.mark.parametrize(("names", "told"), [(("x-mine", "x-other"), "x-mine"), ((), None)])
async def test_the_first_header_that_names_sessions_is_told(names: tuple[str, ...], told: str | None) -> None:
    gateway = build(Settings(session_header=names))
    assert json.loads(await gateway.live.snapshot())["session_header"] == told


# --- who gets it ---------------------------------------------------------------------------------


async def test_requests_are_looked_at_only_while_somebody_watches() -> None:
    gateway = build(Settings(backend=(Backend(url="http://127.0.0.1:1"),)))
    watching = [gateway.observers.watching]
    one, other = gateway.live.join(), gateway.live.join()
    watching.append(gateway.observers.watching)
    for leaves in (one, other, other):
        gateway.live.leave(leaves)
        watching.append(gateway.observers.watching)
    assert watching == [False, True, True, False, False]
    assert await gateway.live.snapshot() is await gateway.live.snapshot(), "made once for all who ask"


async def test_a_slow_reader_gets_the_newest_and_hears_how_much_it_missed() -> None:
    watcher = Watcher()
    for number in range(3):
        watcher.snapshot(b"%d" % number)
    for number in range(QUEUED_MAX + 5):
        watcher.decisions(2, b"[%d]" % number, skipped=1)
    taken = await watcher.take()
    assert taken is not None
    events = taken.decode().split("\n\n")[:-1]
    assert events[0] == "event: snapshot\ndata: 2"
    assert len(events) == 1 + QUEUED_MAX
    first = json.loads(events[1].partition("data: ")[2])
    assert first == {"skipped": QUEUED_MAX + 5 + 5 * 2, "decisions": [5]}
    assert json.loads(events[2].partition("data: ")[2])["skipped"] == 0
    watcher.end()
    assert await watcher.take() is None


def test_pages_beyond_the_limit_are_turned_away_and_a_closed_one_makes_room(front: Front) -> None:
    url = f"{front.router.url}/live/events"
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(watching(front)) for _ in range(WATCHERS_MAX)]
        refused = httpx.get(url, trust_env=False, timeout=20)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_watchers")
        assert "retry-after" in refused.headers
        pages.pop().close()
        eventually(lambda: not is_full(front), "a page that was closed makes room")
    eventually(lambda: not is_full(front), "all left")


def is_full(front: Front) -> bool:
    with httpx.stream("GET", f"{front.router.url}/live/events", trust_env=False, timeout=20) as answer:
        return answer.status_code == 503


def test_a_stop_ends_streams_at_once(start_front: StartFront) -> None:
    front = start_front("--shutdown-grace-s", "3600")
    with watching(front) as events:
        front.router.terminate()
        assert events.ends()
    assert front.router.wait() == 0


async def test_a_reader_that_does_not_read_holds_no_shutdown() -> None:
    settings = Settings(max_client_buffer_bytes=1000, shutdown_grace_s=3600)
    gateway = build(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientConnection(gateway), sock=listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Connection(url, receive_buffer_bytes=4096) as lazy:
        lazy.send(request("GET", "/live/events"))

        async def is_stuck() -> bool:
            gateway.live.tick()
            return any(client.paused for client in gateway.clients)

        await eventually_async(is_stuck, "the reader's buffers are full")
        async with asyncio.timeout(PATIENCE_S):
            server.close()
            await stop(gateway, Doors(gateway, None), None)
        await eventually_async(is_unwatched(gateway), "nobody watches")


def is_unwatched(gateway: Gateway) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not gateway.observers.watching

    return look


def test_state_needs_the_admin_key_and_the_page_none(start_router: StartRouter) -> None:
    url = start_router(flags=("--api-key", "client", "--admin-api-key", "root")).url
    with httpx.Client(base_url=url, trust_env=False) as client:
        for path in ("/live/snapshot", "/live/events"):
            for headers in ({}, {"authorization": "Bearer client"}):
                refused = client.get(path, headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get("/live/snapshot", headers={"authorization": "Bearer root"}).status_code == 200
        assert client.get("/ui").status_code == 200
        described = client.get("/openapi.json").json()["paths"]["/live/events"]["get"]["responses"]["200"]
        assert "text/event-stream" in described["content"]
    Events(url, authorization="Bearer root").close()


# --- the page's files ----------------------------------------------------------------------------


def test_the_page_may_run_nothing_but_its_own_files(front: Front) -> None:
    with httpx.Client(base_url=front.router.url, trust_env=False) as client:
        assert client.get("/").headers["location"] == "ui"
        assert client.get("/ui/").headers["location"] == "../ui"
        for path in ("/ui", *(f"/ui/{name}" for name in assets())):
            answer = client.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert client.head(path).status_code == 200
        assert client.get("/ui/none.js").status_code == 404
        for path in ("/ui/..%2f__init__.py", "/ui/%2e%2e/feed.py"):
            assert client.get(path).status_code == 400
    page = assets()["index.html"].decode()
    assert "style=" not in page
    assert "onclick" not in page
    assert page.count("<script") == 1


def test_every_file_of_the_page_is_in_the_wheel() -> None:
    included = {Path(file.distribution_path) for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"index.html", "main.js", "style.css"} <= set(assets())
    for name in assets():
        assert Path("warmroute/live/page") / name in included

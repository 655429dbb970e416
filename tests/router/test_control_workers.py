"""The fleet changes while the router runs, and no request notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from live.front import Front
from live.polling import eventually, eventually_async
from live.processes import Engines, Router, StartEngines, StartRouter

MODEL = "llama-3.1-8b"


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **more}


@pytest.fixture
def client(router: Router) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=router.url, timeout=20, trust_env=False) as client:
        yield client


def workers(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {worker["url"]: worker for worker in client.get("/workers").json()["workers"]}


def test_the_capacity_that_the_engine_tells_is_believed(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    vllm = start_engines(1, "--kv-tokens", "32768", "--block-tokens", "32")
    sglang = start_engines(1, "--engine", "sglang", "--kv-tokens", "65536", "--block-tokens", "1")
    router = start_router(*vllm.urls, *sglang.urls)
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        seen = workers(client)
        page = client.get("/metrics").text
    for url, engine, capacity, block in (
        (vllm.urls[0], "vllm", 32768, 32),
        (sglang.urls[0], "sglang", 65536, 1),
    ):
        worker = seen[url]
        assert worker["engine"] == engine
        assert worker["kv_capacity_tokens"] == capacity
        assert worker["kv_capacity_from"] == "engine"
        assert worker["block_tokens"] == block
        assert f'router_worker_believed_kv_capacity_tokens{{worker="{url}"}} {float(capacity)}' in page


def test_the_capacity_that_the_operator_gave_wins(engines: Engines, start_router: StartRouter) -> None:
    given, told = engines.urls
    router = start_router(f"{given},kv_capacity_tokens=5000", told, flags=("--kv-capacity-tokens", "7000"))
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        seen = workers(client)
    assert (seen[given]["kv_capacity_tokens"], seen[given]["kv_capacity_from"]) == (5000, "operator")
    assert seen[told]["kv_capacity_from"] == "engine", "the general figure is for engines that do not tell"


def test_a_worker_is_found_by_its_url_however_it_is_written(client: httpx.Client, engines: Engines) -> None:
    url = engines.urls[0]
    for spelled in (url, quote(url, safe=""), url.removeprefix("http://"), url.replace("//", "/")):
        answer = client.get(f"/workers/{spelled}")
        assert answer.status_code == 200, spelled
        assert answer.json()["url"] == url
    answer = client.get("/workers/10.0.0.9:1")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "worker_not_found"


def test_a_worker_that_is_added_is_asked_who_it_is_before_it_is_announced(
    client: httpx.Client, start_engines: StartEngines
) -> None:
    more = start_engines(1, "--model", "beta")
    answer = client.post("/workers", json={"url": more.urls[0] + "/", "weight": 2})
    assert answer.status_code == 201
    worker = answer.json()
    assert worker["status"] == "healthy"
    assert worker["models"] == ["beta"]
    assert worker["weight"] == 2
    assert client.get(answer.headers["location"]).json()["url"] == more.urls[0]
    served = client.post("/v1/chat/completions", json=chat("hello") | {"model": "beta"})
    assert served.headers["x-router-worker"] == more.urls[0]


def test_a_worker_that_does_not_answer_is_added_and_gets_no_requests(
    client: httpx.Client, start_engines: StartEngines
) -> None:
    gone = start_engines()
    gone.kill()
    answer = client.post("/workers", json={"url": gone.urls[0]})
    assert answer.status_code == 201
    worker = answer.json()
    assert worker["status"] == "unhealthy"
    assert worker["last_check"]["passed"] is False
    assert "refused" in worker["last_check"]["why"]
    for index in range(6):
        served = client.post("/v1/chat/completions", json=chat(f"{index} " * 300, max_tokens=2))
        assert served.status_code == 200
        assert served.headers["x-router-worker"] != gone.urls[0]


def test_a_host_that_no_resolver_takes_is_refused_and_the_router_lives(front: Front) -> None:
    """Such a name made the checks raise, and with its checks the router ended."""
    with httpx.Client(base_url=front.router.url, timeout=20, trust_env=False) as client:
        for host in ("a\0b", "a\x7fb", "☃", "a b", "a..b", "a" * 64, "[v1.a]"):
            answer = client.post("/workers", json={"url": f"http://{host}:1"})
            assert answer.status_code == 422, answer.text
            assert "expected a host's name" in answer.json()["error"]["message"]
        for host in ("xn--", "a" * 63, "no_such.name."):
            added = client.post("/workers", json={"url": f"http://{host}:1"}).json()
            assert added["status"] == "unhealthy", added
            assert added["last_check"]["why"], added
            assert client.post("/flush_cache").status_code == 206
            assert client.delete(f"/workers/{added['id']}").status_code == 200
        assert client.get("/readiness").status_code == 200


def test_what_cannot_be_a_worker_is_refused_in_words(client: httpx.Client, engines: Engines) -> None:
    def refused(status: int, body: dict[str, Any], *words: str) -> None:
        answer = client.post("/workers", json=body)
        assert answer.status_code == status, answer.text
        for word in words:
            assert word in answer.json()["error"]["message"]

    refused(409, {"url": engines.urls[0]}, "already")
    refused(422, {"url": "gpu1:8000"}, "did you mean http://gpu1:8000?")
    refused(422, {"url": "banana"}, "did you mean http://banana?")
    refused(422, {"url": "ftp://gpu1:8000"}, "https://host:port")
    refused(422, {"url": "http://gpu1:8000/v1"}, "no path")
    for host in ("256.1.1.1", "a\x01b", "m\u00fcnchen"):  # a question to these ended the router
        refused(422, {"url": f"http://{host}:80"}, "expected a host's name or address")
    for name in (".x", "a..b", "x" * 70, "*.x"):
        refused(422, {"url": "https://gpu1:8000", "tls_name": name}, "the name of a host")
    refused(422, {"url": "http://gpu1:8000", "weight": 0}, "`weight`", "greater than or equal to 0.001")
    refused(422, {"url": "http://gpu1:8000", "preset": "llama-3.1-8b-h10"}, "did you mean llama-3.1-8b-h100")
    refused(422, {"url": "http://gpu1:8000", "wait": 1}, "`wait`")
    refused(422, {}, "`url`")
    answer = client.post("/workers", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


def test_a_draining_worker_gets_nothing_new_until_it_is_taken_back(
    client: httpx.Client, engines: Engines
) -> None:
    drained, other = engines.urls
    answer = client.patch(f"/workers/{drained}", json={"draining": True})
    assert answer.json()["draining"] is True
    for index in range(8):
        served = client.post("/v1/chat/completions", json=chat(f"{index} " * 300, max_tokens=2))
        assert served.headers["x-router-worker"] == other
    assert client.get("/readiness").json()["healthy_workers"] == 1
    assert client.patch(f"/workers/{drained}", json={"draining": False}).json()["draining"] is False
    client.patch(f"/workers/{other}", json={"draining": True})
    assert client.post("/v1/chat/completions", json=chat("back")).headers["x-router-worker"] == drained


def test_a_weight_is_set_and_what_was_learned_stays(client: httpx.Client, engines: Engines) -> None:
    before = workers(client)[engines.urls[0]]
    after = client.patch(f"/workers/{engines.urls[0]}", json={"weight": 3.5}).json()
    assert after["weight"] == 3.5
    for name in ("models", "kv_capacity_tokens", "block_tokens", "engine", "healthy"):
        assert after[name] == before[name]
    assert client.patch(f"/workers/{engines.urls[0]}", json={"weight": -1}).status_code == 422


@asynccontextmanager
async def stream_on(http: httpx.AsyncClient, tokens: int) -> AsyncIterator[tuple[str, httpx.Response]]:
    """A stream whose head has come, and the worker that it is on."""
    body = chat("a long story", stream=True, max_tokens=tokens)
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        yield answer.headers["x-router-worker"], answer


async def test_a_worker_is_removed_when_its_last_stream_has_ended(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2, speed=5.0)
    router = start_router(*engines.urls)
    async with httpx.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as http:
        async with stream_on(http, tokens=1500) as (leaving, answer):
            removal = await http.delete(f"/workers/{leaving}")
            assert removal.status_code == 202
            assert removal.json()["status"] == "draining"
            assert removal.json()["inflight_requests"] == 1
            seen = (await http.get(f"/workers/{leaving}")).json()
            assert seen["draining"] is True
            assert 170 < seen["leaves_in_s"] <= 180
            other = await http.post("/v1/chat/completions", json=chat("hi", max_tokens=2))
            assert other.headers["x-router-worker"] != leaving
            text = (await answer.aread()).decode()
        assert text.rstrip().endswith("data: [DONE]"), "the stream was not cut"

        async def removed() -> bool:
            return (await http.get(f"/workers/{leaving}")).status_code == 404

        await eventually_async(removed, "the worker is gone")


async def test_a_deadline_ends_the_wait_and_not_the_stream(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2, speed=5.0)
    router = start_router(*engines.urls)
    async with httpx.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as http:
        async with stream_on(http, tokens=1500) as (leaving, answer):
            removal = await http.delete(f"/workers/{leaving}", params={"deadline_s": 0.2})
            assert removal.status_code == 202

            async def removed() -> bool:
                return (await http.get(f"/workers/{leaving}")).status_code == 404

            await eventually_async(removed, "the worker is gone")
            text = (await answer.aread()).decode()
        assert text.rstrip().endswith("data: [DONE]")


async def test_a_removal_can_be_called_off(start_engines: StartEngines, start_router: StartRouter) -> None:
    engines = start_engines(1, speed=5.0)
    router = start_router(*engines.urls)
    async with httpx.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as http:
        async with stream_on(http, tokens=1500) as (leaving, answer):
            assert (await http.delete(f"/workers/{leaving}")).status_code == 202
            back = (await http.patch(f"/workers/{leaving}", json={"draining": False})).json()
            assert back["draining"] is False
            assert back["leaves_in_s"] is None
            await answer.aread()
        served = await http.post("/v1/chat/completions", json=chat("hi", max_tokens=2))
        assert served.headers["x-router-worker"] == leaving


async def test_a_drain_that_takes_too_long_is_cut_short_by_a_second_delete(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2, speed=5.0)
    router = start_router(*engines.urls)
    async with httpx.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as http:
        async with stream_on(http, tokens=1500) as (leaving, answer):
            assert (await http.delete(f"/workers/{leaving}")).status_code == 202
            again = await http.delete(f"/workers/{leaving}", params={"drain": False})
            assert (again.status_code, again.json()["status"]) == (200, "removed")
            assert (await http.get(f"/workers/{leaving}")).status_code == 404
            assert (await http.post("/workers", json={"url": leaving})).json()["draining"] is False
            assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
        seen = (await http.get(f"/workers/{leaving}")).json()
        assert seen["inflight_requests"] == 0, "the former worker's request is not on the new one's books"


def test_an_idle_worker_is_removed_at_once(client: httpx.Client, engines: Engines) -> None:
    url = engines.urls[0]
    answer = client.delete(f"/workers/{quote(url, safe='')}")
    assert (answer.status_code, answer.json()["status"]) == (200, "removed")
    assert url not in workers(client)
    assert client.delete(f"/workers/{url}").status_code == 404
    assert f'worker="{url}"' not in client.get("/metrics").text
    assert client.post("/workers", json={"url": url}).status_code == 201, "it may come back"


async def test_the_fleet_changes_under_traffic_and_every_request_is_answered(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(4)
    first, second, third, fourth = engines.urls
    router = start_router(first, second, flags=("--policy", "least_requests"))
    answered: list[tuple[int, str]] = []
    done = asyncio.Event()

    async def user(http: httpx.AsyncClient, number: int) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            body = chat(f"user {number} turn {turn} " * 40, max_tokens=4, stream=turn % 2 == 0)
            answer = await http.post("/v1/chat/completions", json=body)
            answered.append((answer.status_code, answer.headers.get("x-router-worker", "")))

    async def served_by(url: str, since: int) -> None:
        async def seen() -> bool:
            return url in {worker for _, worker in answered[since:]}

        await eventually_async(seen, f"{url} serves")

    async with (
        httpx.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as http,
        asyncio.TaskGroup() as users,
    ):
        for number in range(6):
            users.create_task(user(http, number))
        for url in (third, fourth):
            since = len(answered)
            assert (await http.post("/workers", json={"url": url})).status_code == 201
            await served_by(url, since)
        for url in (first, second):
            assert (await http.delete(f"/workers/{url}")).status_code in (200, 202)

            async def removed(url: str = url) -> bool:
                return (await http.get(f"/workers/{url}")).status_code == 404

            await eventually_async(removed, "the worker is gone")
            since = len(answered)
            await served_by(third, since)
            assert url not in {worker for _, worker in answered[since:]}
        assert (await http.post("/workers", json={"url": first})).status_code == 201
        await served_by(first, len(answered))
        done.set()
    assert {status for status, _ in answered} == {200}
    assert len(answered) > 20


def test_a_request_hits_no_worker_when_all_drain(client: httpx.Client, engines: Engines) -> None:
    for url in engines.urls:
        client.patch(f"/workers/{url}", json={"draining": True})
    answer = client.post("/v1/chat/completions", json=chat("hi"))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_worker"
    assert client.get("/readiness").status_code == 503
    eventually(lambda: client.get("/v1/models").status_code == 503, "no model can be served")


def test_a_worker_with_a_name_that_nobody_can_spell_is_sick_and_the_router_serves_on(
    engines: Engines, start_router: StartRouter
) -> None:
    router = start_router(engines.urls[0], flags=("--health-interval-s", "0.05", "--health-fall", "1"))
    odd = engines.urls[1].replace("http://", "https://")
    with httpx.Client(base_url=router.url, timeout=20, trust_env=False) as client:
        refused = client.post("/workers", json={"url": odd, "tls_name": "|\x0c8"})
        assert refused.status_code == 422
        added = client.post("/workers", json={"url": odd, "tls_name": "gpu_1", "models": [MODEL]})
        assert added.status_code == 201
        eventually(lambda: workers(client)[odd]["status"] == "unhealthy", "the worker is sick")
        assert client.post("/v1/chat/completions", json=chat("hello")).status_code == 200

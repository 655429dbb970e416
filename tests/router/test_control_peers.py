"""What all engines are told at once, and other routers' names for what this one does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from live.fake_worker import Call, FakeWorker
from live.front import CHAT, CHAT_PATH, Front, at_word, status
from live.polling import eventually
from live.processes import StartEngines, StartRouter
from live.wire import request

LONG = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "once upon a time " * 300}]}


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.router.url, trust_env=False, timeout=30) as client:
        yield client


def lines(call_path: str, front: Front) -> list[Call]:
    return [call for call in front.calls if call.path == call_path]


# --- flush_cache ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_flush_empties_every_engine_by_its_own_name_for_it_and_the_index_knows(
    start_engines: StartEngines, start_router: StartRouter, method: str
) -> None:
    vllm, sglang = start_engines(1), start_engines(1, "--engine", "sglang")
    router = start_router(*vllm.urls, *sglang.urls, flags=("--policy", "round_robin"))
    with httpx.Client(base_url=router.url, trust_env=False, timeout=30) as client:
        for _ in range(2):
            client.post("/v1/chat/completions", json=LONG | {"max_tokens": 2}).raise_for_status()
        rows = client.post("/route", json=LONG).json()["costs"]
        assert all(row["predicted_hit_tokens"] > 0 for row in rows)
        answer = client.request(method, "/flush_cache")
        assert answer.status_code == 200, answer.text
        done = answer.json()
        assert done["status"] == "success"
        assert (done["workers_flushed"], done["total_http_workers"], done["total_workers"]) == (2, 2, 2)
        rows = client.post("/route", json=LONG).json()["costs"]
        assert all(row["predicted_hit_tokens"] == 0 for row in rows)
        after = client.post("/v1/chat/completions", json=LONG | {"max_tokens": 2}).json()
        details = after["usage"].get("prompt_tokens_details") or {}
        assert not details.get("cached_tokens"), "the engine has really forgotten"


def test_only_workers_that_say_so_are_believed_to_be_empty(front: Front, client: httpx.Client) -> None:
    good, bad = front.workers
    for other in (good, bad):
        client.patch(f"/workers/{other.url}", json={"draining": True})
        front.ask(CHAT | {"messages": LONG["messages"]})
        client.patch(f"/workers/{other.url}", json={"draining": False})

    def held() -> dict[str, int]:
        workers = client.get("/workers").json()["workers"]
        return {worker["url"]: worker["resident_blocks"] for worker in workers}

    assert min(held().values()) > 0
    bad.script = status(400, b"requests are running")
    answer = client.post("/flush_cache")
    assert answer.status_code == 206
    done = answer.json()
    assert done["status"] == "partial_success"
    assert done["successful"] == [good.url]
    assert done["failed"] == [{"worker": bad.url, "error": "answered 400: requests are running"}]
    eventually(lambda: held()[good.url] == 0, "what it held is forgotten")
    assert held()[bad.url] > 0
    front.script(status(500))
    answer = client.post("/flush_cache")
    assert (answer.status_code, answer.json()["status"]) == (502, "failure")


def test_the_other_name_is_tried_where_the_engine_is_not_known(front: Front, client: httpx.Client) -> None:
    def only_vllms(call: Call) -> None:
        call.answer(b"", 200 if call.path == "/reset_prefix_cache" else 404)

    front.script(only_vllms)
    assert client.post("/flush_cache").json()["workers_flushed"] == 2
    for worker in front.workers:
        assert [call.path for call in worker.calls] == ["/flush_cache", "/reset_prefix_cache"]


def test_a_flush_while_requests_run_leaves_their_books_right(front: Front, client: httpx.Client) -> None:
    go_on = threading.Event()

    def run(call: Call) -> None:
        if call.path == CHAT_PATH:
            call.hold(go_on)
        call.answer(b"{}")

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        front.wait_calls(1)
        assert client.post("/flush_cache").status_code == 200
        go_on.set()
        assert connection.answer().status == 200
    front.wait_idle()


def test_a_worker_that_does_not_answer_is_given_up(start_router: StartRouter) -> None:
    worker = FakeWorker()
    try:
        router = start_router(worker.url, flags=("--no-model-discovery", "--engine-call-timeout-s", "0.3"))
        worker.script = lambda call: call.wait_gone()
        answer = httpx.post(f"{router.url}/flush_cache", trust_env=False, timeout=20)
        assert answer.status_code == 502
        assert answer.json()["failed"][0]["error"] == "did not answer within 0.3 s"
        worker.script = lambda call: call.answer(b"x" * (5 << 20))
        answer = httpx.post(f"{router.url}/flush_cache", trust_env=False, timeout=20)
        assert answer.status_code == 502
    finally:
        worker.stop()


def test_profilers_are_told_with_the_options_that_came(front: Front, client: httpx.Client) -> None:
    assert (
        client.post("/start_profile", json={"num_steps": 5}).json()["message"] == "started on 2 of 2 workers"
    )
    assert {call.body for call in lines("/start_profile", front)} == {b'{"num_steps":5}'}
    assert client.post("/stop_profile").status_code == 200
    assert len(lines("/stop_profile", front)) == 2
    assert client.post("/start_profile", content=b"x" * (65 << 10)).status_code == 413


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_workers_redirect_reaches_the_client_unchanged_and_is_never_followed(
    front: Front, code: int
) -> None:
    aimed_at = front.workers[1]

    def elsewhere(call: Call) -> None:
        call.answer(b"over there", code, f"location: {aimed_at.url}/secret")

    front.script(elsewhere)
    answer = front.ask()
    assert answer.status == code
    assert answer.headers["location"] == f"{aimed_at.url}/secret"
    assert answer.body == b"over there"
    assert len(front.calls) == 1


def test_the_routers_own_questions_follow_no_redirect(start_router: StartRouter) -> None:
    worker, trap = FakeWorker(), FakeWorker()
    try:
        router = start_router(worker.url, flags=("--no-model-discovery",))
        elsewhere = f"location: {trap.url}/flush_cache"
        worker.script = lambda call: call.answer(b"", 307, elsewhere)
        assert httpx.post(f"{router.url}/flush_cache", trust_env=False).status_code == 502
        assert trap.accepted == 0
    finally:
        worker.stop()
        trap.stop()


# --- names ----------------------------------------------------------------------------------------


def test_loads_and_urls_are_told_as_others_tell_them(front: Front, client: httpx.Client) -> None:
    go_on = threading.Event()
    front.script(at_word(go_on))
    urls = [worker.url for worker in front.workers]
    assert client.get("/list_workers").json() == {"urls": urls}
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        [call] = front.wait_calls(1)
        loads = client.get("/get_loads").json()["workers"]
        assert loads == [{"worker": url, "load": int(url == call.worker.url)} for url in urls]
        go_on.set()
        assert connection.answer().status == 200


def test_workers_have_the_fields_that_other_routers_clients_read(front: Front, client: httpx.Client) -> None:
    listed = client.get("/workers").json()
    assert listed["stats"] == {"prefill_count": 0, "decode_count": 0, "regular_count": 2}
    for worker in listed["workers"]:
        assert worker["is_healthy"] is True
        assert (worker["worker_type"], worker["connection_mode"]) == ("regular", "HTTP")
        assert (worker["load"], worker["model_id"]) == (0, "unknown")


def test_workers_are_added_and_removed_by_the_older_names(front: Front, client: httpx.Client) -> None:
    with_one_more = FakeWorker()
    try:
        url = with_one_more.url
        answer = client.post("/add_worker", params={"url": url})
        assert (answer.status_code, answer.text) == (200, f"Successfully added worker: {url}")
        assert client.post("/add_worker", params={"url": url}).status_code == 409
        assert url in client.get("/list_workers").json()["urls"]
        answer = client.post("/remove_worker", params={"url": url})
        assert (answer.status_code, answer.text) == (200, f"Successfully removed worker: {url}")
        assert client.post("/remove_worker", params={"url": url}).status_code == 404
        assert client.post("/remove_worker", params={"url": "x"}).status_code == 422
        assert client.post("/add_worker").status_code == 422
        posted = client.post("/workers", json={"url": url, "model_id": "m", "worker_type": "regular"})
        assert posted.status_code == 201
        assert posted.json()["worker_id"] == url
        assert posted.json()["location"] == posted.headers["location"]
        assert posted.json()["models"] == ["m"]
        assert (
            client.post("/workers", json={"url": "http://x:1", "worker_type": "prefill"}).status_code == 422
        )
        assert client.delete(posted.json()["location"]).status_code == 200
    finally:
        with_one_more.stop()


def test_what_a_worker_says_of_itself_is_passed_on(front: Front, client: httpx.Client) -> None:
    assert client.get("/get_server_info").status_code == 404, "no engine here knows that"
    for worker in front.workers:
        worker.pages = {"/server_info": (200, b'{"a":1}'), "/get_model_info": (200, b'{"model_path":"m"}')}
    answer = client.get("/get_server_info")
    assert answer.json() == {"a": 1}, "by its newer name"
    assert answer.headers["x-router-worker"] == front.workers[0].url
    assert client.get("/server_info").json() == {"a": 1}
    assert client.get("/get_model_info").json() == {"model_path": "m"}
    front.workers[0].pages = {"/server_info": (500, b"oops")}
    assert client.get("/server_info").json() == {"a": 1}, "the next one is asked"
    front.workers[1].pages = {"/server_info": (500, b"oops")}
    failed = client.get("/server_info")
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "worker_failed")


def test_nobody_is_asked_where_nobody_is(start_router: StartRouter) -> None:
    router = start_router()
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        for path in ("/get_server_info", "/get_model_info", "/health_generate", "/engine_metrics"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_worker"), path
        assert client.get("/get_loads").json() == {"workers": []}
        flushed = client.post("/flush_cache")
        assert (flushed.status_code, flushed.json()["workers_flushed"]) == (200, 0)


def test_a_generating_health_check_asks_an_engine_or_its_health(start_router: StartRouter) -> None:
    worker = FakeWorker()
    try:
        router = start_router(worker.url, flags=("--no-model-discovery",))
        url = f"{router.url}/health_generate"
        worker.pages = {"/health_generate": (200, b"")}
        assert httpx.get(url, trust_env=False).status_code == 200
        worker.pages = {"/health_generate": (503, b"stuck")}

        def failed() -> Any:
            answer = httpx.get(url, trust_env=False)
            return answer if answer.status_code == 503 else None

        assert "stuck" in eventually(failed, "the shared answer is stale").json()["error"]["message"]
        worker.pages = {}
        eventually(lambda: httpx.get(url, trust_env=False).status_code == 200, "its health is asked for")
    finally:
        worker.stop()


def test_the_metrics_of_all_engines_are_one_page(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2)
    dead = start_engines(1)
    router = start_router(*engines.urls, *dead.urls)
    dead.kill()
    answer = httpx.get(f"{router.url}/engine_metrics", trust_env=False, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert any(name.startswith("vllm:") for name in names)
    for family in families:
        assert {sample.labels["worker"] for sample in family.samples} == set(engines.urls)

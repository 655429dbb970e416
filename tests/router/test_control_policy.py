"""The policy changes under load: no request is lost, and nothing that was learned is forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from live.front import CHAT, Front, at_word
from live.polling import eventually_async
from live.processes import Engines, StartEngines, StartRouter
from live.wire import request
from warmroute_policies.registry import available
from warmroute_policies.replay import replay

MODEL = "llama-3.1-8b"


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 3, **more}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


async def test_every_policy_takes_its_turn_under_load_and_every_request_is_answered(
    start_engines: StartEngines, start_router: StartRouter, tmp_path: Path
) -> None:
    """With a journal on, which then replays every decision of every policy."""
    engines = start_engines(3)
    journal = tmp_path / "journal"
    router = start_router(*engines.urls, flags=("--journal", str(journal), "--shadow-policy", "round_robin"))
    answered: list[tuple[int, str]] = []
    done = asyncio.Event()

    async def user(http: httpx.AsyncClient, number: int) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            body = chat(f"user {number} says {turn % 5} " * 60, stream=turn % 2 == 0)
            headers = {"x-session-id": f"s{number}"}
            answer = await http.post("/v1/chat/completions", json=body, headers=headers)
            answered.append((answer.status_code, answer.headers.get("x-router-reason", "")))

    async def answers(count: int) -> bool:
        return len(answered) >= count

    async with httpx.AsyncClient(base_url=router.url, timeout=60, trust_env=False) as http:
        async with asyncio.TaskGroup() as users:
            for number in range(6):
                users.create_task(user(http, number))
            for sticky in (False, True):
                for name in available():
                    if sticky and name == "session_sticky":
                        continue
                    body = {"policy": name, "session_sticky": sticky}
                    answer = await http.post("/policy", json=body)
                    assert answer.status_code == 200, answer.text
                    since = len(answered)
                    await eventually_async(partial(answers, since + 4), f"{name} decides")
            done.set()
        state = (await http.get("/debug/state")).json()
        page = (await http.get("/metrics")).text
    assert {status for status, _ in answered} == {200}
    assert state["memory"]["in_flight"] == 0
    assert all(worker["inflight_requests"] == 0 for worker in state["workers"])
    for name in available():
        assert f'policy="{name}"' in page
    assert "router_shadow_failures_total" in page
    assert 'router_shadow_failures_total{policy="round_robin"} 0' in page
    router.terminate()
    assert router.wait() == 0
    with journal.open("rb") as lines:
        verdicts = list(replay(lines))
    assert len(verdicts) == len(answered)
    assert all(then == now for then, now in verdicts)


def test_what_is_cached_where_is_still_known_when_a_policy_comes_back(
    engines: Engines, start_router: StartRouter
) -> None:
    router = start_router(*engines.urls)
    prompts = [f"conversation {number}: " + f"{number} once upon a time " * 300 for number in range(6)]
    with httpx.Client(base_url=router.url, timeout=60, trust_env=False) as client:

        def rounds() -> list[str]:
            answers = [client.post("/v1/chat/completions", json=chat(prompt)) for prompt in prompts]
            assert all(answer.status_code == 200 for answer in answers)
            return [answer.headers["x-router-worker"] for answer in answers]

        def hits() -> list[int]:
            rows = [client.post("/route", json=chat(prompt)).json() for prompt in prompts]
            assert {row["reason"] for row in rows} == {"warm"}
            return [row["predicted_hit_tokens"] for row in rows]

        homes, before = rounds(), hits()
        blocks = client.get("/debug/state").json()["memory"]["index"]["blocks"]
        changed = client.post("/policy", json={"policy": "least_requests"}).json()
        assert changed["previous"] == {"policy": "cache_aware", "params": {}, "session_sticky": False}
        assert client.post("/route", json=chat(prompts[0])).json()["policy"] == "least_requests"
        assert client.get("/debug/state").json()["memory"]["index"]["blocks"] == blocks
        back = client.post("/policy", json={"policy": "cache_aware"}).json()
        assert (back["changed"], back["previous"]["policy"]) == (True, "least_requests")
        assert hits() == before
        assert rounds() == homes, "every conversation goes where its prefix is"
        page = client.get("/metrics").text
    assert 'router_decisions_total{policy="cache_aware",reason="warm"} 6' in page


def test_a_request_on_its_way_ends_under_the_policy_that_came_after_it(front: Front) -> None:
    go_on = threading.Event()
    front.script(at_word(go_on))
    with front.connect() as connection, httpx.Client(base_url=front.router.url, trust_env=False) as client:
        connection.send(request("POST", "/v1/chat/completions", CHAT))
        front.wait_calls(1)
        for name in ("preble", "dynamo_kv", "round_robin", "least_requests"):
            assert client.post("/policy", json={"policy": name}).status_code == 200
        assert front.state()["memory"]["in_flight"] == 1
        go_on.set()
        assert connection.answer().status == 200


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.router.url, trust_env=False, timeout=20) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"policy": "cash_aware"}, 422, ["did you mean `cache_aware`"]),
        ({"policy": "cache_aware", "params": {"mis_price": 1}}, 422, ["did you mean `miss_price`"]),
        ({"policy": "cache_aware", "params": {"miss_price": -1}}, 422, ["miss_price"]),
        ({"policy": "cache_aware", "params": {"miss_price": "dear"}}, 422, ["must be a number"]),
        ({"policy": "random", "params": {"x": None}}, 422, ["params"]),
        ({"policy": "random", "params": [1]}, 422, ["params"]),
        ({"policy": "random", "seed": 1}, 422, ["seed"]),
        ({"policy": "session_sticky", "params": {"inner": "nothing"}}, 422, ["nothing"]),
        ({"policy": "subprocess:Popen", "params": {"args": "true"}}, 422, ["code that the configuration"]),
        ({"policy": "session_sticky", "params": {"inner": "os:system"}}, 422, ["code that"]),
        (
            {"policy": "session_sticky",
             "params": {"inner": "session_sticky", "inner.inner": "os:system"}},
            422, ["code that the configuration"],
        ),
        ({"policy": ""}, 422, ["policy"]),
        ({"policy": 7}, 422, ["policy"]),
        ([], 422, []),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_in_words_and_the_former_one_goes_on(
    client: httpx.Client, body: Any, status: int, words: list[str]
) -> None:
    before = client.get("/policy").json()
    answer = client.post("/policy", json=body)
    assert answer.status_code == status, answer.text
    for word in words:
        assert word in error_of(answer)["message"]
    assert client.get("/policy").json() == before


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b'{"policy": "random", "params": {"x": NaN}}',
     b'{"policy": "random", "params": {"x": 1e999}}',
     b'{"policy": "cache_aware", "params": {"miss_price": ' + b"9" * 400 + b"}}",
     b'{"policy": "\\ud800"}', b'{"\\ud800": 1}', b'{"policy": "random", "params": {"\\ud800": 1}}',
     b"[" * 100_000, b"\xff\xfe", b'{"policy": "' + b"x" * 10_000 + b'"}'],
    ids=range(11),
)  # fmt: skip
def test_no_body_whatsoever_breaks_the_router(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/policy", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert error_of(answer)["code"]


def test_what_is_left_out_stays_as_it_is(client: httpx.Client) -> None:
    client.post(
        "/policy", json={"policy": "cache_aware", "params": {"miss_price": 3}, "session_sticky": False}
    )
    now = client.post("/policy", json={"session_sticky": True}).json()
    assert (now["policy"], now["params"], now["session_sticky"]) == ("cache_aware", {"miss_price": 3}, True)
    again = client.post("/policy", json={}).json()
    assert again["changed"] is False, "the same again is not begun anew"
    other = client.post("/policy", json={"policy": "lmetric"}).json()
    assert (other["params"], other["session_sticky"]) == ({}, True), "parameters are the other policy's"
    shown = client.get("/policy").json()
    assert shown["policy"] == "lmetric"
    assert set(available()) <= set(shown["available"])
    assert client.get("/debug/state").json()["policy"] == "session_sticky"
    assert "warmroute" not in client.get("/policy").text
    client.post("/policy", json={"policy": "least_requests", "session_sticky": False})


def test_code_that_the_configuration_names_may_come_back_and_no_other(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    router = start_router(flags=("--policy", "live.broken_policy:Broken"))
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        assert client.post("/policy", json={"policy": "random"}).status_code == 200
        assert client.post("/policy", json={"policy": "live.broken_policy:Broken"}).status_code == 200
        assert client.post("/policy", json={"policy": "live.broken_policy:Other"}).status_code == 422

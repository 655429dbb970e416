"""Every endpoint of the engines: a request to it is routed by its model, and passed on as it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from live.fake_worker import Call, fake_workers, ok
from live.front import Front
from live.fronts import front_before
from live.wire import request
from warmroute.dialects.endpoints import ENDPOINTS, TUNNELS, Endpoint

StartFront = Callable[..., Front]

by_path = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.path for endpoint in ENDPOINTS])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The first worker serves `a`, the second one `b`."""
    log, models = tmp_path_factory.mktemp("surface") / "router.log", (",model=a", ",model=b")
    with fake_workers(2) as workers, front_before(workers, log, options=models) as front:
        yield front


@pytest.fixture
def two_models(shared: Front) -> Iterator[Front]:
    for worker in shared.workers:
        worker.forget()
    yield shared
    shared.wait_idle()


@by_path
def test_it_goes_to_a_worker_of_its_model_as_it_came(two_models: Front, endpoint: Endpoint) -> None:
    two_models.script(lambda call: call.answer(call.worker.url.encode() + call.body))
    for model, worker in zip("ab", two_models.workers, strict=True):
        body = json.dumps({"odd  spacing": [1, 2], "model": model, "input": "hello"}).encode()
        answer = two_models.ask(body, endpoint.path + "?x=1")
        assert (answer.status, answer.body) == (200, worker.url.encode() + body)
        assert (answer.headers["x-router-worker"], worker.calls[-1].path) == (
            worker.url,
            endpoint.path + "?x=1",
        )
    assert two_models.ask({"model": "c"}, endpoint.path).status == 404
    assert two_models.ask({}, endpoint.path).status == 200, "one that names no model may go to any worker"


LISTED = "/v1/batches"
"""The control plane answers its GET."""


@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS if endpoint.path != LISTED])
def test_it_takes_post_and_says_so(two_models: Front, path: str) -> None:
    with two_models.connect() as connection:
        for method in ("GET", "PUT", "DELETE"):
            answer = connection.ask(method, path)
            assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert not two_models.calls


@by_path
def test_it_is_described_where_people_look(two_models: Front, endpoint: Endpoint) -> None:
    told = httpx.get(f"{two_models.router.url}/openapi.json", trust_env=False).json()["info"]["description"]
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"`{endpoint.path}`" in told
    assert f"| `{endpoint.path}`" in page
    assert all(f"`{path}`" in told for path in TUNNELS)


@by_path
def test_a_prefix_is_known_where_the_table_says_so(two_models: Front, endpoint: Endpoint) -> None:
    prompt = "once upon a time " * 500
    body = {
        "model": "a", "messages": [{"role": "user", "content": prompt}], "prompt": prompt, "input": prompt,
        "text": prompt, "token_ids": list(range(3000)), "query": prompt, "documents": [prompt],
    }  # fmt: skip
    answer = httpx.post(
        f"{two_models.router.url}/route", params={"path": endpoint.path}, json=body, trust_env=False
    ).json()
    assert (answer["prompt_blocks"] > 0) is bool(endpoint.prefix)


def test_a_body_that_is_not_json_is_the_engines_business_where_no_prompt_is_looked_for(
    two_models: Front,
) -> None:
    two_models.script(lambda call: call.answer(call.body))
    for path in ("/tokenize", "/v1/anything"):
        assert two_models.ask(b"\0no json\xff", path).body == b"\0no json\xff"


def test_speech_comes_back_byte_for_byte(two_models: Front) -> None:
    """Even while the router stops, when heads are written anew: a body may look like a head."""
    sound = (
        bytes(range(256)) * 40 + b"\r\nconnection: close\r\nkeep-alive: x\r\n\r\n" + bytes(range(256)) * 40
    )
    two_models.script(lambda call: call.answer(sound))
    with two_models.connect() as connection:
        for more in ({}, {"connection": "close"}):
            answer = connection.ask("POST", "/v1/audio/speech", {"model": "a", "input": "x"}, **more)
            assert (answer.status, answer.body) == (200, sound)


def test_a_stopping_router_changes_heads_and_no_bodies(start_front: StartFront) -> None:
    front = start_front("--shutdown-idle-s", "20")
    sound = b"\r\nconnection: close\r\nkeep-alive: x\r\n"
    stopping: list[Call] = []

    def stops(call: Call) -> None:
        if not stopping:
            front.router.terminate()
            stopping.append(call)
            while "stopping" not in front.router.messages():
                call.wait_gone(0.02)
        call.answer(sound)

    front.script(stops)
    with front.connect() as connection:
        connection.send(request("POST", "/v1/audio/speech", {"model": "a"}))
        answer = connection.answer()
        assert (answer.headers["connection"], answer.body) == ("close", sound)


def test_counting_tokens_is_refused_in_the_shape_of_its_api(two_models: Front) -> None:
    answer = two_models.ask({"model": "c"}, "/v1/messages/count_tokens")
    assert answer.json()["error"]["type"] == "not_found_error"


def test_the_session_header_is_respected_everywhere(start_front: StartFront) -> None:
    front = start_front("--policy", "session_sticky", count=3)
    front.script(ok)
    for _ in range(6):
        assert front.ask({"input": "x"}, "/pooling", x_session_id="s").status == 200
    assert len({call.worker.url for call in front.calls}) == 1

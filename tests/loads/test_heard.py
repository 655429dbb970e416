"""What engines say unasked: in the heads of answers, and in messages of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zmq

from live.fake_worker import Call
from live.front import CHAT, CHAT_PATH, Front
from live.polling import eventually
from live.wire import request
from loads.engines import V1_LOADS, LoadedWorker

StartLoaded = Callable[..., list[LoadedWorker]]
StartAsker = Callable[..., Front]

LOAD = 'JSON {"named_metrics": {"kv_cache_usage_perc": 0.4, "num_requests_waiting": 2.0}}'


def reported(front: Front, worker: LoadedWorker) -> Any:
    return front.worker_state(worker)["reported"] or {}


# --- heads ------------------------------------------------------------------------------------------


def with_load(call: Call) -> None:
    """An answer that tells the load where the request asks for it, as vLLM's do."""
    fields = [f"endpoint-load-metrics: {LOAD}"] if "endpoint-load-metrics-format" in call.headers else []
    call.answer(b'{"a": "endpoint-load-metrics: in a body"}', 200, *fields)


def streamed_with_load(call: Call) -> None:
    call.stream(f"Endpoint-Load-Metrics: {LOAD}", "x-more: 1")
    call.chunk(b"data: 1\n\n")
    call.end()


@pytest.mark.parametrize("script", [with_load, streamed_with_load])
def test_load_in_an_answers_head_is_read_and_not_passed_on(
    start_loaded: StartLoaded, start_asker: StartAsker, script: Callable[[Call], None]
) -> None:
    (worker,) = start_loaded(1)
    worker.script = script
    front = start_asker([worker], "--load-poll", "off", "--load-orca")
    answer = front.ask()
    assert answer.status == 200
    assert "endpoint-load-metrics" not in answer.headers
    assert answer.body in (b'{"a": "endpoint-load-metrics: in a body"}', b"data: 1\n\n")
    assert worker.calls[0].headers["endpoint-load-metrics-format"] == "json"
    told = reported(front, worker)
    assert (told["kv_usage"], told["waiting_requests"], told["requests"]) == (0.4, 2, None)
    assert told["told_by"] == "answers"


def test_a_client_that_asks_itself_gets_what_it_asked_for(
    start_loaded: StartLoaded, start_asker: StartAsker
) -> None:
    (worker,) = start_loaded(1)
    worker.script = with_load
    front = start_asker([worker], "--load-poll", "off", "--load-orca")
    answer = front.ask(endpoint_load_metrics_format="text")
    assert answer.headers["endpoint-load-metrics"] == LOAD
    assert [call.headers["endpoint-load-metrics-format"] for call in worker.calls] == ["text"]
    assert not reported(front, worker)


def test_nobody_is_asked_for_load_in_heads_unless_the_setting_says_so(
    start_loaded: StartLoaded, start_asker: StartAsker
) -> None:
    (worker,) = start_loaded(1)
    worker.script = with_load
    front = start_asker([worker], "--load-poll", "off")
    assert front.ask().status == 200
    assert "endpoint-load-metrics-format" not in worker.calls[0].headers


@pytest.mark.parametrize("odd", ["JSON {", "TEXT " + "a=1," * 900, "\xff\x01", ""])
def test_an_odd_field_costs_nobody_an_answer(
    start_loaded: StartLoaded, start_asker: StartAsker, odd: str
) -> None:
    (worker,) = start_loaded(1)

    def run(call: Call) -> None:
        call.write(
            b"HTTP/1.1 200 OK\r\nendpoint-load-metrics: " + odd.encode("latin-1")
            + b"\r\nContent-Length: 2\r\nx-more: 1\r\n\r\nok"
        )  # fmt: skip

    worker.script = run
    front = start_asker([worker], "--load-poll", "off", "--load-orca")
    answer = front.ask()
    assert (answer.status, answer.body, answer.headers["x-more"]) == (200, b"ok", "1")
    assert "endpoint-load-metrics" not in answer.headers
    assert not reported(front, worker)


# --- messages ---------------------------------------------------------------------------------------


class Publisher:
    """A rank's socket. State: the socket, and how many messages were sent."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._sent = 0

    def say(self, *fields: object) -> None:
        self.raw(b"load", self._sent.to_bytes(8, "big"), msgspec.msgpack.encode(["LoadStat", *fields]))

    def raw(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)
        self._sent += 1

    def close(self) -> None:
        self._socket.close(linger=0)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with zmq.Context() as context:
        found = Publisher(context)
        yield found
        found.close()


def named(worker: LoadedWorker, port: int) -> None:
    """The worker says where its messages come from."""
    told = {"kv_events": {"load_endpoint_port_base": port, "load_topic": "load", "dp_size": 1}}
    worker.told["/server_info"] = lambda: (200, json.dumps(told).encode())


def test_messages_are_heard_and_who_sends_them_is_not_asked(
    start_loaded: StartLoaded, start_asker: StartAsker, publisher: Publisher
) -> None:
    fed, asked = start_loaded(2)
    named(fed, publisher.port)
    for worker in (fed, asked):
        worker.tells("/v1/loads")
    front = start_asker([fed, asked], "--load-feed")

    def heard() -> bool:
        for odd in (b"", b"\xc1", msgspec.msgpack.encode(["LoadStat", 1])):
            publisher.raw(b"load", b"0", odd)
        publisher.raw(b"load only")
        publisher.raw(b"another topic", b"0", b"0")
        publisher.say(5, 2, 4096, 8192, 0, 900)
        told = reported(front, fed)
        return bool(told.get("told_by") == "feed" and told["foreign_requests"] == 7)

    eventually(heard, "the messages are believed")
    told = reported(front, fed)
    assert (told["requests"], told["waiting_requests"], told["waiting_tokens"]) == (7, 2, 900)
    assert told["kv_usage"] == 0.5
    before, seen = fed.asked.get(V1_LOADS, 0), asked.asked.get(V1_LOADS, 0)

    def others_asked() -> bool:
        publisher.say(5, 2, 4096, 8192, 0, 900)
        return asked.asked.get(V1_LOADS, 0) >= seen + 5

    eventually(others_asked, "the other one is asked on")
    assert fed.asked.get(V1_LOADS, 0) <= before + 1, "one question may have been under way"


def test_an_engine_that_falls_silent_is_asked(
    start_loaded: StartLoaded, start_asker: StartAsker, publisher: Publisher
) -> None:
    (worker,) = start_loaded(1)
    named(worker, publisher.port)
    worker.tells("/v1/loads")
    front = start_asker([worker], "--load-feed")

    def heard() -> bool:
        publisher.say(5, 2, 4096, 8192, 0, 900)
        return bool(reported(front, worker).get("told_by") == "feed")

    eventually(heard, "the messages are heard")
    before = worker.asked.get(V1_LOADS, 0)
    eventually(lambda: worker.asked.get(V1_LOADS, 0) >= before + 5, "it is asked, now that it says nothing")
    assert reported(front, worker)["told_by"] == "/v1/loads"


def test_a_place_where_nobody_speaks_harms_nobody(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event
) -> None:
    silent, odd = start_loaded(2)
    named(silent, 9)
    odd.told["/server_info"] = lambda: (200, b"[" * 9000)
    front = start_asker([silent, odd], "--load-feed", "--load-poll", "off")
    eventually(lambda: "listening to the worker's load" in front.router.messages(), "it listens")
    for worker in (silent, odd):
        worker.hold(word)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        eventually(lambda: silent.held + odd.held == 1, "requests go on")
        word.set()
        assert connection.answer().status == 200
    front.router.terminate()
    assert front.router.wait() == 0

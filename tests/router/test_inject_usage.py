"""With `inject_usage` the router learns from streams whose clients did not ask for counts, and these clients
see what they would have seen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from live.fake_worker import USAGE, Call, Script, fake_workers
from live.front import CHAT_PATH, STREAM, Front, die_after, first
from live.fronts import FORGIVING, front_before
from live.polling import eventually
from live.processes import Engines, Router, StartEngines, StartRouter
from live.wire import Connection, request

ASKING = STREAM | {"stream_options": {"include_usage": True}}
ROLE = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
TOKENS = [b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % n for n in range(5)]
COUNTS = b'data: {"id":"c","choices":[],"usage":%b}\n\n' % json.dumps(USAGE).encode()
DONE = b"data: [DONE]\n\n"


def engine(call: Call) -> None:
    """Streams tokens, and counts where asked."""
    call.stream()
    for event in events(call):
        call.chunk(event)
    call.end()


def events(call: Call) -> list[bytes]:
    asked = (json.loads(call.body).get("stream_options") or {}).get("include_usage")
    return [ROLE, *TOKENS, *([COUNTS] if asked else []), DONE]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A router that asks for counts, in front of two workers; it forgives them everything."""
    log = tmp_path_factory.mktemp("asking") / "router.log"
    flags = (*FORGIVING, "--inject-usage", "--no-model-discovery")
    with fake_workers(2) as workers, front_before(workers, log, *flags) as front:
        yield front


@pytest.fixture
def front(asking: Front) -> Iterator[Front]:
    for worker in asking.workers:
        worker.forget()
    asking.script(engine)
    yield asking
    asking.wait_idle()


def test_the_worker_is_asked_for_counts_and_the_client_does_not_see_them(front: Front) -> None:
    cached = front.counted("router_actual_hit_tokens_total")
    answer = front.ask(STREAM)
    assert answer.body == b"".join([ROLE, *TOKENS, DONE])
    (call,) = front.calls
    assert json.loads(call.body) == ASKING
    assert int(call.headers["content-length"]) == len(call.body)
    front.wait_idle()
    assert front.counted("router_actual_hit_tokens_total") == cached + 40


def test_an_encoded_stream_is_not_read_and_nothing_of_it_waits(front: Front) -> None:
    seen = threading.Event()

    def encoded(call: Call) -> None:
        call.stream("content-encoding: gzip")
        call.chunk(b"\x1f\x8b half an event")
        call.hold(seen)
        call.chunk(COUNTS)
        call.end()

    front.script(encoded)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        connection._until(b" half an event")
        seen.set()
        assert COUNTS in connection._until(b"0\r\n\r\n")


def test_a_client_that_asks_gets_the_counts_and_its_body_goes_on_as_it_came(front: Front) -> None:
    body = json.dumps(ASKING, indent=3).encode()
    assert front.ask(body).body == b"".join([ROLE, *TOKENS, COUNTS, DONE])
    assert front.calls[0].body == body


@pytest.mark.parametrize("size", [1, 2, 7, 100, 10_000])
def test_however_the_stream_is_cut_the_client_sees_the_same(front: Front, size: int) -> None:
    def cut(call: Call) -> None:
        whole = b"".join(events(call))
        call.stream()
        for at in range(0, len(whole), size):
            call.chunk(whole[at : at + size])
        call.end()

    def crlf_until_close(call: Call) -> None:
        whole = b"".join(events(call)).replace(b"\n", b"\r\n")
        call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
        call.write(*(whole[at : at + size] for at in range(0, len(whole), size)))
        call.close()

    expected = b"".join([ROLE, *TOKENS, DONE])
    front.script(cut)
    assert front.ask(STREAM).body == expected
    front.script(crlf_until_close)
    assert front.ask(STREAM).body == expected.replace(b"\n", b"\r\n")


def test_an_old_client_gets_the_stream_without_chunks_and_counts(front: Front) -> None:
    payload = json.dumps(STREAM).encode()
    with front.connect() as connection:
        head = b"POST %b HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % (CHAT_PATH.encode(), len(payload))
        connection.send(head + payload)
        assert connection.answer().body == b"".join([ROLE, *TOKENS, DONE])


def test_a_token_is_not_held_back(front: Front) -> None:
    go_on = threading.Event()

    def slowly(call: Call) -> None:
        call.stream()
        call.chunk(ROLE)
        call.chunk(TOKENS[0][:60])
        call.hold(go_on)
        call.chunk(TOKENS[0][60:])
        call.chunk(COUNTS)
        call.end()

    front.script(slowly)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        seen = b""
        while TOKENS[0][:60] not in seen.replace(b"\r\n", b""):
            seen += connection.socket.recv(4096)
        go_on.set()
        while b"0\r\n\r\n" not in seen:
            seen += connection.socket.recv(4096)
        assert b"usage" not in seen


@pytest.mark.parametrize(
    "script",
    [
        lambda call: call.answer(b'{"error": {"message": "too long"}, "choices": [], "usage": {}}', 400),
        lambda call: call.answer(b'{"choices": [], "usage": {"prompt_tokens": 1}}'),
        lambda call: call.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(COUNTS),
            COUNTS,
        ),
    ],
    ids=["error", "plain", "stream with a length"],
)
def test_what_is_no_stream_goes_on_as_it_came(front: Front, script: Script) -> None:
    sent: list[bytes] = []

    def kept(call: Call) -> None:
        write = call.write

        def noted(*pieces: bytes) -> None:
            sent.extend(pieces)
            write(*pieces)

        call.write = noted  # type: ignore[method-assign]
        script(call)

    front.script(kept)
    answer = front.ask(STREAM)
    assert b"".join(sent).endswith(b"\r\n\r\n" + answer.body)


def test_a_stream_that_breaks_is_cut_and_not_ended(front: Front) -> None:
    def breaks(call: Call) -> None:
        call.stream()
        call.chunk(TOKENS[0])
        call.chunk(COUNTS[:30])
        call.close()

    front.script(breaks)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        seen = until_reset(connection)
    assert seen.startswith(b"HTTP/1.1 200")
    assert TOKENS[0] in seen
    assert b"0\r\n\r\n" not in seen


def until_reset(connection: Connection) -> bytes:
    """What came before the connection was cut; a regular end fails."""
    seen = b""
    try:
        while True:
            piece = connection.socket.recv(4096)
            assert piece, "the answer seems to be complete"
            seen += piece
    except ConnectionResetError:
        return seen


def test_another_worker_s_answer_is_filtered_after_one_that_was_no_stream(front: Front) -> None:
    def no_stream(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n")
        call.close()

    front.script(first(no_stream, engine))
    assert front.ask(STREAM).body == b"".join([ROLE, *TOKENS, DONE])
    front.script(first(die_after(0), engine))
    assert front.ask(STREAM).body == b"".join([ROLE, *TOKENS, DONE])
    assert len(front.calls) == 4


def test_other_endpoints_and_plain_answers_are_left_alone(front: Front) -> None:
    for path, body in ((CHAT_PATH, STREAM | {"stream": False}), ("/v1/messages", STREAM), ("/v1/x", STREAM)):
        front.workers[0].calls = front.workers[1].calls = []
        front.script(lambda call: call.answer(b"{}"))
        front.ask(body, path)
        assert json.loads(front.calls[0].body) == body


def test_connections_are_used_again_behind_a_filtered_stream(front: Front) -> None:
    with front.connect() as connection:
        for _ in range(5):
            assert connection.ask("POST", CHAT_PATH, STREAM).body == b"".join([ROLE, *TOKENS, DONE])
    assert max(call.number_on_connection for call in front.calls) >= 3


# --- with engines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--inject-usage",)], ids=["off", "on"])
def test_cached_tokens_are_learned_from_clients_that_do_not_ask_only_when_it_is_on(
    start_engines: StartEngines, start_router: StartRouter, flags: tuple[str, ...]
) -> None:
    engines = start_engines(1)
    router = start_router(*engines.urls, flags=flags)
    straight = stream_of(engines.urls[0])
    seen = [stream_of(router.url) for _ in range(3)]
    assert [shape(one) for one in seen] == [shape(straight)] * 3, "the client sees what engines say unasked"
    reported = eventually(lambda: finished(router), "all three have ended") and cached(router)
    assert (reported > 0) is bool(flags)
    assert (cached_by(engines) > 0) is True, "the engine had cached some in any case"


def stream_of(url: str) -> list[Any]:
    body = {
        "model": "simulated",
        "messages": [{"role": "user", "content": "the same words " * 400}],
        "stream": True,
        "max_tokens": 5,
    }
    models = httpx.get(f"{url}/v1/models", trust_env=False).json()
    body["model"] = models["data"][0]["id"]
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


def shape(stream: list[Any]) -> list[Any]:
    """A stream without what differs from request to request."""
    return [
        event if event == "[DONE]" else [sorted(event), len(event["choices"]), event.get("usage")]
        for event in stream
    ]


def page(router: Router) -> str:
    return httpx.get(f"{router.url}/metrics", trust_env=False).text


def value(text: str, name: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def finished(router: Router) -> bool:
    return value(page(router), "router_requests_total") == 3


def cached(router: Router) -> float:
    return value(page(router), "router_actual_hit_tokens_total")


def cached_by(engines: Engines) -> float:
    text = httpx.get(f"{engines.urls[0]}/metrics", trust_env=False).text
    return value(text, "vllm:prefix_cache_hits_total")

"""Methods that every path has, pages of other origins, and targets that are no plain path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from listen.conftest import QUICK
from live.fake_worker import Call, fake_workers
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.fronts import front_before
from live.polling import eventually
from live.wire import Answer, Connection, request

PAGE = "https://chat.example.com"


def spawn(folder: Path, *flags: str) -> Iterator[Front]:
    ours = (*QUICK, "--api-key", "secret")
    with fake_workers(1) as workers, front_before(workers, folder / "router.log", *ours, *flags) as front:
        yield front


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Nothing is said of other origins."""
    yield from spawn(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Pages of one origin may ask."""
    flags = ("--cors-origin", PAGE, "http://localhost:5173", "--max-body-bytes", "1MiB")
    yield from spawn(tmp_path_factory.mktemp("listed"), *flags)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Pages of all origins may ask."""
    yield from spawn(tmp_path_factory.mktemp("every"), "--cors-origin", "*")


def ask(front: Front, method: str, path: str, body: object = None, **headers: str) -> Answer:
    with front.connect() as connection:
        return connection.ask(method, path, body, authorization="Bearer secret", **headers)


def head(connection: Connection, path: str) -> dict[str, str]:
    """A HEAD's answer; a body would be taken for the next answer's beginning."""
    connection.send(request("HEAD", path, authorization="Bearer secret"))
    lines = connection._until(b"\r\n\r\n").decode().split("\r\n")
    fields = {name: value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return fields | {"status": lines[0].split(" ")[1]}


# --- HEAD and OPTIONS -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/health", "/liveness", "/readiness", "/v1/models", "/metrics", "/workers", "/ui", "/openapi.json",
     "/debug/state", "/live/snapshot", "/live/events", "/nonsense", CHAT_PATH],
)  # fmt: skip
def test_head_is_get_without_its_body_and_the_connection_goes_on(plain: Front, path: str) -> None:
    got = ask(plain, "GET", path) if path != "/live/events" else None
    with plain.connect() as connection:
        headed = head(connection, path)
        assert connection.ask("GET", "/health").json() == {"status": "ok"}
    if got is None:
        assert headed["status"] == "200"
        return
    assert int(headed["status"]) == got.status
    assert headed.get("content-type") == got.headers.get("content-type")
    changing = ("/metrics", "/debug/state", "/live/snapshot", "/workers", "/readiness")
    if "content-length" in got.headers and path not in changing:
        assert headed["content-length"] == str(len(got.body))


def test_a_stream_that_was_headed_is_watched_by_nobody(plain: Front) -> None:
    with plain.connect() as connection:
        for _ in range(40):  # more than may watch
            assert head(connection, "/live/events")["status"] == "200"


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        (CHAT_PATH, "POST, OPTIONS"),
        ("/generate", "POST, OPTIONS"),
        ("/v1/rerank", "POST, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/workers", "GET, HEAD, PATCH, POST, PUT, OPTIONS"),
        ("/workers/http://127.0.0.1:1", "DELETE, GET, HEAD, PATCH, OPTIONS"),
        ("*", "DELETE, GET, HEAD, PATCH, POST, PUT, OPTIONS"),
    ],
)
def test_options_tells_the_methods_and_asks_for_no_key(plain: Front, target: str, allowed: str) -> None:
    with plain.connect() as connection:
        answer = connection.ask("OPTIONS", target, origin=PAGE, access_control_request_method="POST")
        assert (answer.status, answer.headers["allow"], answer.body) == (204, allowed, b"")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert connection.ask("GET", "/health").status == 200


def test_options_of_a_path_that_nobody_knows_is_404(plain: Front) -> None:
    assert ask(plain, "OPTIONS", "/nonsense").status == 404


# --- other origins --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT_PATH, "/workers", "/v1/models"])
def test_a_browsers_question_is_answered_for_both_planes(listed: Front, path: str) -> None:
    with listed.connect() as connection:
        answer = connection.ask(
            "OPTIONS", path, origin=PAGE, access_control_request_method="POST",
            access_control_request_headers="authorization, content-type",
        )  # fmt: skip
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "OPTIONS" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"


def worker_with_own_mind(call: Call) -> None:
    own = ("Access-Control-Allow-Origin: *", "access-control-allow-credentials: true", "x-own: 1")
    call.answer(b'{"a": "access-control-allow-origin: x"}', 200, *own)


def test_answers_of_workers_name_the_origin_once_and_say_that_they_depend_on_it(listed: Front) -> None:
    listed.script(worker_with_own_mind)
    with listed.connect() as connection:
        for origin in (PAGE, "https://evil.example.com", "http://localhost:5173"):
            connection.send(request("POST", CHAT_PATH, CHAT, authorization="Bearer secret", origin=origin))
            raw = connection._until(b"\r\n\r\n").decode().lower()
            assert connection._exactly(39) == b'{"a": "access-control-allow-origin: x"}'
            told = [line for line in raw.split("\r\n") if line.startswith("access-control-allow-origin")]
            assert told == ([] if "evil" in origin else [f"access-control-allow-origin: {origin}"])
            assert raw.count("access-control-allow-credentials") == len(told)
            assert "\r\nvary: origin" in raw
            assert "\r\nx-own: 1" in raw
            assert ("x-router-worker" in raw.partition("access-control-expose-headers")[2]) == bool(told)


def test_streams_and_the_routers_own_errors_name_the_origin_too(listed: Front) -> None:
    def stream(call: Call) -> None:
        call.stream("access-control-allow-origin: *")
        call.chunk(b"data: 1\n\n")
        call.end()

    listed.script(stream)
    answer = ask(listed, "POST", CHAT_PATH, STREAM, origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.body == b"data: 1\n\n"
    for status, path, body, key in (
        (401, CHAT_PATH, CHAT, "wrong"),
        (400, CHAT_PATH, b"{", "secret"),
        (413, CHAT_PATH, b"x" * (2 << 20), "secret"),
        (405, "/health", CHAT, "secret"),
        (401, "/workers", CHAT, "wrong"),
        (404, "/nonsense", CHAT, "secret"),
    ):
        with listed.connect() as connection:
            refused = connection.ask("POST", path, body, authorization=f"Bearer {key}", origin=PAGE)
        assert refused.status == status
        assert refused.headers["access-control-allow-origin"] == PAGE, path


def test_every_origin_never_means_credentials(every: Front) -> None:
    every.script(worker_with_own_mind)
    for answer in (
        ask(every, "POST", CHAT_PATH, CHAT, origin=PAGE),
        ask(every, "GET", "/health", origin=PAGE),
        ask(every, "OPTIONS", CHAT_PATH, origin=PAGE, access_control_request_method="POST"),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


def test_a_stop_and_an_old_client_get_the_same_fields(every: Front) -> None:
    every.script(worker_with_own_mind)
    with every.connect() as connection:
        old = request("POST", CHAT_PATH, CHAT, authorization="Bearer secret", origin=PAGE)
        connection.send(old.replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = connection.answer()
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["connection"] == "close"
    assert answer.body == b'{"a": "access-control-allow-origin: x"}'


def test_without_the_setting_what_workers_say_of_origins_passes(plain: Front) -> None:
    plain.script(worker_with_own_mind)
    answer = ask(plain, "POST", CHAT_PATH, CHAT, origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/v1/../flush_cache", "/v1/..", "/v1/./x", "/v1/x/../../flush_cache", "/v1/%2e%2e/flush_cache",
     "/v1/%2E./flush_cache", "/v1/..%2fflush_cache", "/v1/x%5c..%5cflush_cache", "/v1//chat/completions",
     "/v1/..;/flush_cache", "/v1/\\..\\flush_cache", "/v1/x%00", "/v1/..?x=1"],
)  # fmt: skip
def test_a_path_that_two_readers_may_read_differently_reaches_no_worker(plain: Front, path: str) -> None:
    plain.workers[0].forget()
    with plain.connect() as connection:
        answer = connection.ask("POST", path, CHAT, authorization="Bearer secret")
    assert answer.status == 400, answer.body
    assert not plain.calls


@pytest.mark.parametrize(
    "path", ["//v1/chat/completions", "/V1/chat/completions", "/%761/chat/completions", "/v1", "/x/../v1/x",
             "/v1%2fchat/completions", "/health/../v1/chat/completions", "/v1/chat/completions/../../health"],
)  # fmt: skip
def test_what_only_looks_like_an_inference_path_needs_no_worker(plain: Front, path: str) -> None:
    plain.workers[0].forget()
    assert 400 <= ask(plain, "POST", path, CHAT).status < 500
    assert not plain.calls


@pytest.mark.parametrize(
    "path", ["/v1/a.b", "/v1/...", "/v1/..x", "/v1/x?y=../z//%2f", "/v1/x%20y", "/v1/a..b/c"]
)
def test_other_paths_pass_as_they_came(plain: Front, path: str) -> None:
    plain.workers[0].forget()
    assert ask(plain, "POST", path, CHAT).status == 200
    assert plain.calls[0].path == path


def test_a_target_with_scheme_and_host_is_its_path_and_needs_a_key_all_the_same(plain: Front) -> None:
    plain.workers[0].forget()
    with plain.connect() as connection:
        target = f"http://somewhere.else:1{CHAT_PATH}?x=1"
        assert connection.ask("POST", target, CHAT, authorization="Bearer secret").status == 200
        assert plain.calls[0].path == f"{CHAT_PATH}?x=1"
        assert connection.ask("POST", target, CHAT).status == 401
        assert connection.ask("POST", "http://x/v1/../y", CHAT, authorization="Bearer secret").status == 400
    assert len(plain.calls) == 1


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT gpu1:8000 HTTP/1.1", 400),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"POST v1/chat/completions HTTP/1.1", 400),
        (b"GET ftp://x/y HTTP/1.1", 400),
    ],
)
def test_no_other_form_of_target_is_taken(plain: Front, line: bytes, status: int) -> None:
    with plain.connect() as connection:
        connection.send(line + b"\r\nhost: x\r\n\r\n")
        assert connection.answer().status == status


def test_a_request_behind_a_refused_one_is_answered(plain: Front) -> None:
    """Refusing does not lose the place in what was pipelined."""
    done = threading.Event()

    def answer(call: Call) -> None:
        call.answer(b"{}")
        done.set()

    plain.script(answer)
    with plain.connect() as connection:
        key = {"authorization": "Bearer secret"}
        connection.send(
            request("POST", "/v1//x", CHAT, **key),
            request("HEAD", "/health"),
            request("POST", CHAT_PATH, CHAT, **key),
        )
        assert connection.answer().status == 400
        assert b" 200 " in connection._until(b"\r\n\r\n")
        assert connection.answer().body == b"{}"
    eventually(done.is_set, "the worker has answered")

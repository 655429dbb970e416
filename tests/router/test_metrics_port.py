"""The port that serves /metrics and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from live.front import Front
from live.polling import PATIENCE_S, eventually
from live.processes import spawn_router
from live.wire import Connection
from warmroute.metrics_port import _CONNECTIONS_MAX

StartFront = Callable[..., Front]


def metrics_url(front: Front) -> str:
    """As the router tells it when it is ready."""
    url: str = next(line["metrics_url"] for line in front.router.lines() if line["message"] == "router ready")
    return url


def is_closed(connection: Connection) -> bool:
    """Waits for a byte, or the end."""
    try:
        return connection.at_end()
    except ConnectionResetError:
        return True


def test_the_page_is_the_one_of_the_routers_port(start_front: StartFront) -> None:
    front = start_front("--metrics-port", "0", "--admin-api-key", "root", "--api-key", "ann")
    assert front.ask(authorization="Bearer ann").status == 200
    url = metrics_url(front)
    assert url.startswith("http://127.0.0.1:")
    assert not url.startswith(front.router.url)
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        for _ in range(2):
            answer = client.get(url)
            assert answer.status_code == 200
            found = {family.name: family for family in text_string_to_metric_families(answer.text)}
            samples = found["router_requests"].samples
            assert sum(it.value for it in samples if it.name == "router_requests_total") == 1
        accepts = {"accept": "application/openmetrics-text"}
        assert client.get(url, headers=accepts).text.endswith("# EOF\n")
    assert front.counted("router_requests_total") == 1, "the page is on the router's port as well"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/workers"), ("POST", "/v1/chat/completions"), ("GET", "/health"), ("GET", "/metrics/"),
     ("DELETE", "/workers/1"), ("GET", "/ui"), ("GET", "/debug/state")],
)  # fmt: skip
def test_nothing_else_is_there(start_front: StartFront, method: str, path: str) -> None:
    front = start_front("--metrics-port", "0")
    with Connection(metrics_url(front)) as connection:
        for _ in range(2):
            answer = connection.ask(method, path, {} if method == "POST" else None)
            assert answer.status == 404
            assert answer.json()["error"]["code"] == "not_found"
    assert front.calls == []


def test_without_the_setting_there_is_no_such_port(start_front: StartFront) -> None:
    (line,) = [line for line in start_front().router.lines() if line["message"] == "router ready"]
    assert "metrics_url" not in line


def test_a_head_that_does_not_come_is_not_waited_for_for_ever(start_front: StartFront) -> None:
    url = metrics_url(start_front("--metrics-port", "0", "--head-timeout-s", "0.3"))
    for begin in (
        b"",
        b"GET /metrics HTTP/1.1\r\nhost: r",
        b"GET /metrics HTTP/1.1\r\nhost: r\r\n\r\nGET /me",
    ):
        with Connection(url) as connection:
            connection.send(begin)
            if b"\r\n\r\n" in begin:
                assert connection.answer().status == 200
            assert is_closed(connection)


def test_more_connections_than_scrapers_need_are_closed(start_front: StartFront) -> None:
    url = metrics_url(start_front("--metrics-port", "0"))
    with ExitStack() as stack:
        held = [stack.enter_context(Connection(url)) for _ in range(_CONNECTIONS_MAX)]
        assert all(connection.ask("GET", "/metrics").status == 200 for connection in held[:2])

        def is_refused() -> bool:
            with Connection(url) as one:
                return is_closed(one)

        eventually(is_refused, "one more than allowed is closed")
    assert httpx.get(url, trust_env=False, timeout=PATIENCE_S).status_code == 200


def test_a_port_that_is_taken_ends_the_start_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: "):
            spawn_router(tmp_path / "router.log", "--metrics-port", port)


def test_the_port_is_closed_when_the_router_stops(start_front: StartFront) -> None:
    front = start_front("--metrics-port", "0", "--shutdown-idle-s", "0.1")
    url = metrics_url(front)
    with Connection(url) as scraper:
        assert scraper.ask("GET", "/metrics").status == 200
        front.router.terminate()
        assert front.router.wait() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)

"""How a router ends: gracefully when asked, with an error when something of its own broke."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from live.fake_worker import Call, fake_workers
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.polling import PATIENCE_S, eventually
from live.wire import request

StartFront = Callable[..., Front]

MIB = 1 << 20


class Slow:
    """A stream whose end waits for the test's word."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def __call__(self, call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(self.may_end)
        call.chunk(b"data: 2\n\n")
        call.end()


def refuses(front: Front) -> bool:
    try:
        socket.create_connection(("127.0.0.1", front.router.port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # its handshake was under way when the listener closed
    return False


def test_a_stop_lets_a_stream_finish_and_takes_no_new_connection(start_front: StartFront) -> None:
    front = start_front("--shutdown-idle-s", "0.3")
    slow = Slow()
    front.script(slow)
    with front.connect() as stream, front.connect() as idle, front.connect() as half:
        assert idle.ask("GET", "/readiness").status == 200
        half.send(b"GET /readiness HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
        stream.send(request("POST", CHAT_PATH, STREAM), request("POST", CHAT_PATH, CHAT))
        front.wait_calls(1)
        front.router.terminate()
        eventually(lambda: refuses(front), "new connections are refused")
        assert idle.at_end(), "idle connections are closed"
        half.send(b"x")
        ready = half.answer()
        assert (ready.status, ready.json()["reason"]) == (503, "the router is stopping")
        assert half.at_end()
        slow.may_end.set()
        assert stream.answer().body == b"data: 1\n\ndata: 2\n\n"
        behind = stream.answer()
        assert behind.headers["connection"] == "close", "the last one on this connection"
        assert stream.at_end()
    assert front.router.wait() == 0
    assert len(front.calls) == 2
    assert "stopping" in front.router.messages()


def test_a_request_whose_body_was_on_its_way_is_answered_and_then_closed(start_front: StartFront) -> None:
    front = start_front()
    whole = request("POST", CHAT_PATH, CHAT)
    with front.connect() as connection:
        connection.send(whole[:-10])
        eventually(lambda: front.state()["held_body_bytes"] > 0, "the body is being read")
        front.router.terminate()
        eventually(lambda: refuses(front), "new connections are refused")
        connection.send(whole[-10:])
        assert connection.answer().status == 200
        assert connection.at_end()
    assert front.router.wait() == 0


def test_a_plain_answer_during_the_stop_keeps_every_line_of_its_body(start_front: StartFront) -> None:
    front = start_front()
    body = b"1\r\nconnection: x\r\nkeep-alive: y\r\n\r\n2"
    may_answer = threading.Event()

    def run(call: Call) -> None:
        call.hold(may_answer)
        call.answer(body)

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        front.wait_calls(1)
        front.router.terminate()
        eventually(lambda: refuses(front), "new connections are refused")
        may_answer.set()
        answer = connection.answer()
        assert (answer.body, answer.headers["connection"]) == (body, "close")
    assert front.router.wait() == 0


def test_what_a_slow_client_has_not_read_yet_is_not_cut_by_the_stop(start_front: StartFront) -> None:
    front = start_front("--max-client-buffer-bytes", "64MiB")
    front.script(lambda call: call.answer(bytes(16 * MIB)))
    with front.connect(receive_buffer_bytes=4096) as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        front.wait_calls(1)
        front.wait_idle()  # all of it waits in the router
        front.router.terminate()
        eventually(lambda: refuses(front), "new connections are refused")
        assert len(connection.answer().body) == 16 * MIB
    assert front.router.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_takes_too_long_cuts_what_is_left(
    start_front: StartFront, number: signal.Signals
) -> None:
    front = start_front("--shutdown-grace-s", "0.5")
    front.script(Slow())
    with front.connect() as stream:
        stream.send(request("POST", CHAT_PATH, STREAM))
        stream._until(b"data: 1\n\n")
        front.router.process.send_signal(number)
        with pytest.raises((AssertionError, ConnectionResetError)):
            stream._until(b"data: 2\n\n")
    assert front.router.wait() == 0
    eventually(front.calls[0].gone.is_set, "the worker sees that it was given up")


_BROKEN = """
import asyncio, sys
import warmroute.app as app
from warmroute.config import Settings

async def broken(*_):
    await asyncio.sleep(0.2)
    raise RuntimeError("made for this test")

app.{name} = broken
sys.exit(app.run(Settings(port=0, backend=("{url}",), log_format="json", model_discovery=False)))
"""


@pytest.mark.parametrize("name", ["watch_workers", "_tick"])
def test_a_router_whose_own_task_died_says_so_and_exits_with_1(name: str) -> None:
    with fake_workers(1) as workers:
        done = subprocess.run(
            [sys.executable, "-c", _BROKEN.format(name=name, url=workers[0].url)],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert '"level":"critical"' in done.stderr
    assert "made for this test" in done.stderr

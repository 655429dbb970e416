"""WebSockets through the router: a handshake that is routed, then a tunnel."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from live.fake_worker import Call, FakeWorker, OnHead, fake_workers
from live.front import Front
from live.polling import PATIENCE_S, eventually
from live.processes import StartRouter
from live.wire import Connection, request

StartFront = Callable[..., Front]

KIB, MIB = 1 << 10, 1 << 20
PATH = "/v1/realtime?model=m"


class EchoWorker:
    """A real WebSocket server, which is healthy. State: the server, and the handshakes that it has seen."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.refuses: HTTPStatus | None = None
        self._server: Server = serve(
            self._echo,
            "127.0.0.1",
            0,
            process_request=self._answer,
            select_subprotocol=lambda _, offered: Subprotocol("realtime") if "realtime" in offered else None,
            max_size=None,
            compression=None,
        )
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE_S)

    def _answer(self, connection: ServerConnection, asked: Request) -> Response | None:
        if not asked.path.startswith("/v1/"):
            return connection.respond(HTTPStatus.OK if asked.path == "/health" else HTTPStatus.NOT_FOUND, "")
        self.seen.append(asked)
        return None if self.refuses is None else connection.respond(self.refuses, "not today")

    def _echo(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                if message == "bye":
                    connection.close(4000, "as you wish")
                    return
                connection.send(message)


@pytest.fixture
def workers() -> Iterator[list[EchoWorker]]:
    both = [EchoWorker(), EchoWorker()]
    yield both
    for worker in both:
        worker.close()


@pytest.fixture
def behind(start_router: StartRouter, workers: list[EchoWorker]) -> Front:
    """A router in front of both; the first serves `a`, the second one `b`, and both serve `m`."""
    backends = [f"{worker.url},model={own},model=m" for worker, own in zip(workers, "ab", strict=True)]
    return Front(start_router(*backends, flags=("--health-interval-s", "60")), [])


def open_one(front: Front, path: str = PATH, **options: Any) -> ClientConnection:
    url = f"{front.router.url.replace('http', 'ws', 1)}{path}"
    opened: ClientConnection = connect(url, max_size=None, compression=None, proxy=None, **options)
    return opened


# --- a real client and a real server --------------------------------------------------------------


def test_messages_go_both_ways_as_they_were_sent(behind: Front) -> None:
    with open_one(behind) as tunnel:
        for message in ("hello", b"\0\1\2", "x" * 5 * MIB, b"y" * 3 * MIB, ""):
            tunnel.send(message)
            assert tunnel.recv() == message
        assert tunnel.ping().wait(PATIENCE_S)
    behind.wait_idle()


def test_the_handshake_says_where_it_went_and_the_worker_gets_it_whole(
    behind: Front, workers: list[EchoWorker]
) -> None:
    more = {"x-session-id": "s", "authorization": "Bearer k", "x-request-id": "mine"}
    with open_one(behind, subprotocols=["realtime"], additional_headers=more) as tunnel:
        assert tunnel.subprotocol == "realtime"
        assert tunnel.response is not None
        headers = tunnel.response.headers
        chosen = next(worker for worker in workers if worker.seen)
        assert (headers["x-router-worker"], headers["x-request-id"]) == (chosen.url, "mine")
    (seen,) = chosen.seen
    assert seen.path == PATH
    assert (seen.headers["x-session-id"], seen.headers["authorization"]) == ("s", "Bearer k")
    assert seen.headers["host"] == chosen.url.removeprefix("http://")


def test_the_model_in_the_url_chooses_the_worker(behind: Front, workers: list[EchoWorker]) -> None:
    for model, worker in zip("ab", workers, strict=True):
        for _ in range(3):
            with open_one(behind, f"/v1/realtime?intent=x&model={model}"):
                pass
        assert len(worker.seen) == 3
    with pytest.raises(InvalidStatus) as refused:
        open_one(behind, "/v1/realtime?model=c")
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "model_not_found"


def test_a_tunnel_is_one_request_in_flight_from_its_beginning_to_its_end(behind: Front) -> None:
    with open_one(behind, "/v1/realtime?model=a") as tunnel:
        tunnel.send("hello")
        tunnel.recv()
        told = behind.state()
        assert (told["exchanges"]["total"], told["memory"]["in_flight"]) == (1, 1)
        assert behind.counted("router_tunnels") == 1
    behind.wait_idle()
    assert behind.counted("router_tunnels") == 0
    assert behind.counted("router_requests_total") == 1
    assert behind.counted("router_requests_total", model="a", outcome="ok") == 1
    assert behind.counted("router_worker_failures_total") == 0


def test_a_close_by_the_worker_reaches_the_client_with_its_reason(behind: Front) -> None:
    with open_one(behind) as tunnel:
        tunnel.send("bye")
        with pytest.raises(ConnectionClosed):
            tunnel.recv()
        assert (tunnel.close_code, tunnel.close_reason) == (4000, "as you wish")
    behind.wait_idle()
    assert behind.counted("router_worker_failures_total") == 0


def test_many_tunnels_do_not_mix(behind: Front) -> None:
    with contextlib.ExitStack() as stack:
        tunnels = [stack.enter_context(open_one(behind)) for _ in range(40)]
        for turn in range(3):
            for number, tunnel in enumerate(tunnels):
                tunnel.send(f"{number}/{turn}")
            for number, tunnel in enumerate(tunnels):
                assert tunnel.recv() == f"{number}/{turn}"
        assert behind.counted("router_tunnels") == 40
    behind.wait_idle()


def test_a_refusal_of_the_worker_is_passed_on(behind: Front, workers: list[EchoWorker]) -> None:
    for worker in workers:
        worker.refuses = HTTPStatus.FORBIDDEN
    with pytest.raises(InvalidStatus) as refused:
        open_one(behind)
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"not today\n") or (
        refused.value.response.body == b"not today"
    )
    behind.wait_idle()
    assert sum(len(worker.seen) for worker in workers) == 1, "nobody else is asked"


def test_a_worker_that_fails_the_handshake_is_replaced(behind: Front, workers: list[EchoWorker]) -> None:
    workers[0].refuses = HTTPStatus.SERVICE_UNAVAILABLE
    for _ in range(4):
        with open_one(behind) as tunnel:
            tunnel.send("hello")
            assert tunnel.recv() == "hello"
    assert len(workers[1].seen) == 4
    workers[1].refuses = HTTPStatus.SERVICE_UNAVAILABLE
    with pytest.raises(InvalidStatus) as refused:
        open_one(behind)
    assert refused.value.response.status_code == 503
    behind.wait_idle()


def test_a_worker_that_refuses_the_connection_is_replaced(behind: Front, workers: list[EchoWorker]) -> None:
    workers[0].close()
    for _ in range(4):
        with open_one(behind) as tunnel:
            tunnel.send("hello")
            assert tunnel.recv() == "hello"
    behind.wait_idle()


def test_a_key_is_asked_for_before_the_handshake_goes_anywhere(
    start_router: StartRouter, workers: list[EchoWorker]
) -> None:
    behind = Front(start_router(workers[0].url, flags=("--api-key", "secret", "--no-model-discovery")), [])
    refused_ones: list[dict[str, Any]] = [
        {},
        {"additional_headers": {"authorization": "Bearer other"}},
        {"subprotocols": ["realtime", "openai-insecure-api-key.other"]},
        {"subprotocols": ["realtime", "openai-insecure-api-key."]},
    ]
    for options in refused_ones:
        with pytest.raises(InvalidStatus) as refused:
            open_one(behind, **options)
        assert refused.value.response.status_code == 401
    assert not workers[0].seen
    for options in (
        {"additional_headers": {"authorization": "Bearer secret"}},
        {"subprotocols": ["realtime", "openai-insecure-api-key.secret"]},  # as browsers have to
    ):
        with open_one(behind, **options) as tunnel:
            tunnel.send("hello")
            assert tunnel.recv() == "hello"
    eventually(lambda: behind.counted("router_inflight_requests") == 0, "nothing is in flight")


def test_a_worker_that_is_removed_by_force_ends_its_tunnels(behind: Front, workers: list[EchoWorker]) -> None:
    with open_one(behind, "/v1/realtime?model=a") as ends, open_one(behind, "/v1/realtime?model=b") as stays:
        for tunnel in (ends, stays):
            tunnel.send("hello")
            assert tunnel.recv() == "hello"
        name = workers[0].url.removeprefix("http://")
        gone = httpx.delete(f"{behind.router.url}/workers/{name}?drain=false", trust_env=False)
        assert gone.status_code < 300, gone.text
        with pytest.raises(ConnectionClosed):
            ends.recv(PATIENCE_S)
        stays.send("still there")
        assert stays.recv() == "still there"
        assert behind.counted("router_tunnels") == 1
    behind.wait_idle()


def test_a_stopped_router_lets_tunnels_go_on_for_its_grace_and_no_longer(
    start_router: StartRouter, workers: list[EchoWorker]
) -> None:
    router = start_router(
        workers[0].url, flags=("--no-model-discovery", "--shutdown-grace-s", "5", "--shutdown-idle-s", "0.1")
    )
    with open_one(Front(router, [])) as tunnel:
        router.terminate()
        eventually(lambda: "stopping" in router.messages(), "the router stops")
        tunnel.send("hello")
        assert tunnel.recv() == "hello"
        with pytest.raises(ConnectionClosed):
            tunnel.recv(PATIENCE_S)
    assert router.wait() == 0


# --- bytes --------------------------------------------------------------------------------------


UPGRADE = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"


def handshake(path: str = PATH, **headers: str) -> bytes:
    return request("GET", path, **(UPGRADE | {"sec_websocket_key": "x"} | headers))


def on_head(front: Front, does: OnHead) -> None:
    for worker in front.workers:
        worker.on_head = does


def agree(connection: Connection) -> None:
    """Sends the handshake, and reads the answer."""
    connection.send(handshake())
    assert connection._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 Switching Protocols\r\n")


def to_the_end(connection: Connection) -> bytes:
    return connection._rest()


def test_each_side_may_end_what_it_says_and_still_listen(front: Front) -> None:
    def listens_to_the_end(call: Call, ahead: bytearray) -> None:
        call.write(SWITCHED)
        said = bytearray(ahead)
        while data := call.socket.recv(KIB):
            said += data
        call.write(b"you said " + said)
        call.close()

    def talks_and_listens(call: Call, ahead: bytearray) -> None:
        call.write(SWITCHED, b"all I have to say")
        call.socket.shutdown(socket.SHUT_WR)
        said = bytearray(ahead)
        while data := call.socket.recv(KIB):
            said += data
        heard.append(bytes(said))
        call.close()

    heard: list[bytes] = []
    on_head(front, listens_to_the_end)
    with front.connect() as connection:
        agree(connection)
        connection.send(b"this ")
        connection.send(b"and that")
        connection.socket.shutdown(socket.SHUT_WR)
        assert to_the_end(connection) == b"you said this and that"
    front.wait_idle()
    on_head(front, talks_and_listens)
    with front.connect() as connection:
        agree(connection)
        assert to_the_end(connection) == b"all I have to say"
        connection.send(b"and I")
        connection.send(b" say this")
    eventually(lambda: heard, "the worker has heard all")
    assert heard == [b"and I say this"]
    front.wait_idle()
    assert front.counted("router_worker_failures_total") == 0


def echoes(call: Call, ahead: bytearray) -> None:
    call.write(SWITCHED)
    data = bytes(ahead)
    while data := data or call.socket.recv(64 * KIB):
        call.write(data)
        data = b""
    call.close()


def test_what_was_sent_before_the_worker_agreed_is_not_lost(front: Front) -> None:
    may_agree = threading.Event()

    def agrees_late(call: Call, ahead: bytearray) -> None:
        assert not ahead, "nothing goes to a worker that may still refuse"
        may_agree.wait(20)
        call.write(b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCHED + b"hello ")
        echoes_on = call.read(200 * KIB, ahead)
        call.write(echoes_on)
        call.close()

    on_head(front, agrees_late)
    early = bytes(range(256)) * 800
    with front.connect() as connection:
        connection.send(handshake(), early[: 50 * KIB])
        front.wait_calls(1)
        sender = threading.Thread(target=connection.send, args=(early[50 * KIB :],))
        sender.start()
        may_agree.set()
        connection._until(b"\r\n\r\n")
        assert to_the_end(connection) == b"hello " + early
        sender.join()


def test_neither_side_is_read_faster_than_the_other_one_reads(front: Front) -> None:
    may_read = threading.Event()
    total = 64 * MIB

    def reads_late(call: Call, ahead: bytearray) -> None:
        call.write(SWITCHED)
        may_read.wait(60)
        for _ in range(total // MIB):
            call.read(MIB, ahead)
        call.write(b"done")
        sent = bytes(MIB)
        for _ in range(total // MIB):
            call.write(sent)
        call.close()

    def resident_bytes() -> int:
        with open(f"/proc/{front.router.pid}/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    on_head(front, reads_late)
    before = resident_bytes()
    with front.connect(receive_buffer_bytes=64 * KIB) as connection:
        agree(connection)
        progress = threading.Semaphore(0)

        def send_all() -> None:
            for _ in range(total // MIB):
                connection.send(bytes(MIB))
                progress.release()

        sender = threading.Thread(target=send_all)
        sender.start()
        eventually(lambda: not progress.acquire(timeout=0.5), "the client cannot send any more")
        assert sender.is_alive(), "all of it is in the router"
        assert resident_bytes() - before < 16 * MIB
        may_read.set()
        sender.join()
        assert connection._exactly(4) == b"done"

        def is_paused() -> bool:
            return any(exchange["client_paused"] for exchange in front.state()["exchanges"]["oldest"])

        eventually(is_paused, "the client's buffers are full")
        assert resident_bytes() - before < 16 * MIB
        assert len(to_the_end(connection)) == total
    front.wait_idle()


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_leaves_ends_the_workers_side(front: Front, how: str) -> None:
    on_head(front, echoes)
    with front.connect() as connection:
        agree(connection)
        connection.send(b"hello")
        assert connection._exactly(5) == b"hello"
        (call,) = front.calls
        if how == "resets":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: not call.keep or call.gone.is_set(), "the worker sees the end")
    front.wait_idle()
    assert front.counted("router_tunnels") == 0


def test_a_worker_that_dies_cuts_the_tunnel_and_is_blamed(front: Front) -> None:
    def dies(call: Call, ahead: bytearray) -> None:
        call.write(SWITCHED + b"hello")
        call.read(3, ahead)
        call.reset()

    on_head(front, dies)
    failures = front.counted("router_worker_failures_total", kind="broken")
    with front.connect() as connection:
        agree(connection)
        assert connection._exactly(5) == b"hello"
        connection.send(b"die")
        with pytest.raises(ConnectionResetError):
            to_the_end(connection)
    front.wait_idle()
    assert front.counted("router_worker_failures_total", kind="broken") == failures + 1
    assert len(front.calls) == 1, "a tunnel that was open is not repeated"


def test_a_client_may_leave_before_the_worker_has_agreed(front: Front) -> None:
    on_head(front, lambda call, _: call.wait_gone())
    with front.connect() as connection:
        connection.send(handshake())
        (call,) = front.wait_calls(1)
    eventually(call.gone.is_set, "the worker sees that it was given up")
    front.wait_idle()


def test_a_refused_handshake_leaves_a_connection_for_requests(front: Front) -> None:
    on_head(front, lambda call, _: call.answer(b'{"detail": "Not Found"}', 404))
    with front.connect() as connection:
        for _ in range(2):
            connection.send(handshake())
            answer = connection.answer()
            assert (answer.status, answer.json()) == (404, {"detail": "Not Found"})
        assert connection.ask("GET", "/liveness").status == 200


def test_only_websockets_under_v1_become_tunnels(front: Front) -> None:
    on_head(front, echoes)
    for asked in (
        request("GET", "/v1/realtime"),
        request("GET", "/realtime", **UPGRADE),
        request("GET", "/v1/realtime", connection="Upgrade", upgrade="h2c"),
        request("GET", "/v1/realtime", upgrade="websocket"),
        request("GET", "/v1/realtime", b"a body", **UPGRADE),
    ):
        with front.connect() as connection:
            connection.send(asked)
            assert connection.answer().status == 404
    assert not front.calls


def test_a_worker_that_agrees_to_nothing_asked_is_not_believed(front: Front) -> None:
    """A chat is no handshake."""
    front.script(lambda call: call.write(SWITCHED))
    assert front.ask().status == 502


def test_a_silent_tunnel_is_closed_and_one_that_speaks_is_not(start_front: StartFront) -> None:
    front = start_front("--tunnel-idle-timeout-s", "4", "--total-timeout-s", "1", "--idle-timeout-s", "1")
    on_head(front, echoes)
    with front.connect() as talks, front.connect() as listens, front.connect() as silent:
        for connection in (talks, listens, silent):
            agree(connection)
        ended = threading.Event()

        def talk() -> None:
            while not ended.wait(0.2):
                talks.send(b"x")
                talks._exactly(1)

        talker = threading.Thread(target=talk)
        talker.start()
        assert to_the_end(silent) == b""
        assert to_the_end(listens) == b""
        ended.set()
        talker.join()
        talks.send(b"still there")
        assert talks._exactly(11) == b"still there"
    front.wait_idle()
    assert front.counted("router_requests_total", outcome="timeout") == 2
    assert front.counted("router_worker_failures_total") == 0


def test_a_worker_that_reads_no_more_keeps_no_socket_of_a_silent_tunnel(start_front: StartFront) -> None:
    front = start_front("--tunnel-idle-timeout-s", "1", "--health-interval-s", "60")
    may_end = threading.Event()

    def reads_nothing(call: Call, ahead: bytearray) -> None:
        call.write(SWITCHED)
        may_end.wait(60)

    def sockets_to_workers() -> int:
        """Of the router, as the kernel has them."""
        port = f":{front.workers[0].port:04X}"
        with open(f"/proc/{front.router.pid}/net/tcp", encoding="ascii") as file:  # noqa: PTH123
            rows = [line.split() for line in file][1:]
        owned = set()
        for entry in Path(f"/proc/{front.router.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                owned.add(str(entry.readlink()))
        return sum(row[2].endswith(port) and f"socket:[{row[9]}]" in owned for row in rows)

    on_head(front, reads_nothing)
    with front.connect() as connection:
        agree(connection)
        connection.socket.settimeout(1)
        with pytest.raises((TimeoutError, ConnectionError)):
            connection.send(bytes(64 * MIB))
        assert sockets_to_workers() == 1
    eventually(lambda: sockets_to_workers() == 0, "its socket is closed")
    may_end.set()
    front.wait_idle()


def test_a_worker_without_a_word_fails_the_handshake_in_time(start_front: StartFront) -> None:
    front = start_front("--first-byte-timeout-s", "1")
    on_head(front, lambda call, _: call.wait_gone())
    with front.connect() as connection:
        connection.send(handshake())
        assert connection.answer().status == 504
    front.wait_idle()


def test_a_session_may_be_kept_on_its_worker(start_front: StartFront) -> None:
    with fake_workers(3) as workers:
        front = start_front("--backend", *[w.url for w in workers], "--policy", "session_sticky", count=0)
        front.workers.extend(workers)
        on_head(front, echoes)
        asked: list[FakeWorker] = []
        for _ in range(4):
            with front.connect() as connection:
                connection.send(handshake(x_session_id="s"))
                connection._until(b"\r\n\r\n")
            front.wait_idle()
            asked = [call.worker for call in front.calls]
        assert len(set(map(id, asked))) == 1

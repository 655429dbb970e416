"""What the machine does to a router: a full disk, a clock that jumps, a signal under load."""

from __future__ import annotations

import ast
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from live.fake_worker import Call
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.polling import eventually
from live.wire import request

StartFront = Callable[..., Front]

SOURCES = Path(__file__).parents[2]

# What reads the wall clock, and why it may: nobody waits for these.
WALL_CLOCK = {
    "router/warmroute/control/debug.py": "when the router started, for people",
    "router/warmroute/control/models.py": "the `created` of a list of models",
    "router/warmroute/discovery/feed.py": "when a source was heard last, for people",
    "router/warmroute/live/decisions.py": "when a decision was made, on the page",
    "router/warmroute/live/snapshot.py": "the time of a picture, on the page",
    "router/warmroute/kv_events/stream.py": "how late a batch is that carries an engine's own clock",
    "router/warmroute/logs.py": "the time of a line for people",
    "router/warmroute/state.py": "how old a state file is that another process wrote",
    "router/warmroute/tokens/templates.py": "chat templates that write today's date, as the engine does",
    "router/warmroute/top/panes.py": "the time of day on a screen",
    "router/warmroute/tracing/spans.py": "spans of several machines are laid side by side by it",
}


def wall_clocks(text: str) -> list[int]:
    """Lines of a source that ask what time it is outside."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("time", "time"), ("time", "time_ns"), ("time", "localtime"), ("time", "gmtime"),
            ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")})
        or (isinstance(node, ast.ImportFrom)
        and node.module == "time"
        and {name.name for name in node.names} & {"time", "time_ns", "localtime", "gmtime"})
    ]  # fmt: skip


def test_a_wall_clock_that_jumps_moves_no_time_out_because_nobody_reads_it() -> None:
    readers = {
        str(path.relative_to(SOURCES)): lines
        for folder in ("router/warmroute", "policies/warmroute_policies")
        for path in sorted((SOURCES / folder).rglob("*.py"))
        if (lines := wall_clocks(path.read_text(encoding="utf-8")))
    }
    assert readers.keys() == WALL_CLOCK.keys(), "use the monotonic clock, or say here why not"


@pytest.mark.parametrize(
    "text", ["import time\ntime.time()", "from time import time", "datetime.now(UTC)", "time.localtime()"]
)
def test_a_look_at_the_wall_clock_is_found(text: str) -> None:
    assert wall_clocks(text)
    assert not wall_clocks("import time\ntime.monotonic()\nfrom time import monotonic")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_ends_the_journal_and_nothing_else(start_front: StartFront) -> None:
    front = start_front("--journal", "/dev/full")
    assert front.ask().status == 200
    eventually(
        lambda: any("recording ends" in message for message in front.router.messages()),
        "the warning is logged",
    )
    assert all(front.ask().status == 200 for _ in range(20))
    front.wait_idle()
    front.router.terminate()
    assert front.router.wait() == 0, "it stops in good order"


def test_a_signal_under_load_loses_no_request_that_was_taken(start_front: StartFront) -> None:
    front = start_front("--shutdown-idle-s", "0.2")
    may_end = threading.Event()

    def run(call: Call) -> None:
        call.stream()
        call.chunk(call.body[-40:])
        call.hold(may_end)
        call.chunk(b"data: [DONE]\n\n")
        call.end()

    front.script(run)
    clients = [front.connect() for _ in range(60)]
    try:
        for number, client in enumerate(clients[:40]):
            client.send(request("POST", CHAT_PATH, STREAM | {"user": f"{number:040d}"}))
        front.wait_calls(40)
        front.router.terminate()
        eventually(lambda: _refuses(front), "new connections are refused")
        for number, client in enumerate(clients[40:], 40):  # connected, and silent until now
            client.send(request("POST", CHAT_PATH, STREAM | {"user": f"{number:040d}"}))
        may_end.set()
        for number, client in enumerate(clients):
            answer = client.answer()
            assert answer.status == 200
            assert answer.body == f'{number:038d}"}}'.encode() + b"data: [DONE]\n\n", "each gets its own"
            assert client.at_end()
    finally:
        for client in clients:
            client.socket.close()
    assert front.router.wait() == 0
    assert len(front.calls) == 60


def _refuses(front: Front) -> bool:
    try:
        socket.create_connection(("127.0.0.1", front.router.port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # its handshake was under way when the listener closed
    return False


def test_the_policy_is_switched_under_load(front: Front) -> None:
    with front.connect() as connection:
        described = connection.ask("GET", "/openapi.json").json()["paths"]
    if "/policy" not in described:
        pytest.skip("this router's policy is chosen at its start")
    stop = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        with front.connect() as connection:
            while not stop.is_set():
                statuses.append(connection.ask("POST", CHAT_PATH, CHAT).status)

    clients = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    with front.connect() as admin:
        for policy in ("round_robin", "cache_aware", "power_of_two", "random", "least_requests") * 2:
            assert admin.ask("POST", "/policy", {"policy": policy}).status == 200
            seen = len(statuses)
            eventually(lambda seen=seen: len(statuses) > seen + 20, "requests go on")  # type: ignore[misc]
    stop.set()
    for client in clients:
        client.join(20)
    assert set(statuses) == {200}
    front.wait_idle()

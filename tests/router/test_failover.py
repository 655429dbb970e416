"""Workers that fail: who answers instead, who is blamed, and what the client sees."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from live.fake_worker import Call, Script, fake_workers, ok
from live.front import CHAT, CHAT_PATH, STREAM, Front, die, die_after, first, in_turn, status
from live.polling import eventually
from live.processes import StartRouter
from live.wire import request

StartFront = Callable[..., Front]


def die_slowly(call: Call) -> None:
    """A crash in the middle of the work: long after an idle connection's end would have shown."""
    call.wait_gone(1.2)
    call.close()


def half_a_head(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    call.close()


def head_and_no_byte(call: Call) -> None:
    call.stream()
    call.close()


def nonsense(call: Call) -> None:
    call.write(b"+PONG\r\n\r\n")


def ambiguous(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")


def other_protocol(call: Call) -> None:
    call.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")


BEFORE_THE_FIRST_BYTE: dict[str, Script] = {
    "closes": die,
    "resets": lambda call: call.reset(),
    "closes late": die_slowly,
    "half a head": half_a_head,
    "head without a byte": head_and_no_byte,
    "nonsense": nonsense,
    "ambiguous": ambiguous,
    "other protocol": other_protocol,
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "504": status(504),
}


@pytest.mark.parametrize("how", BEFORE_THE_FIRST_BYTE)
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_another_worker_answers_when_one_fails_before_the_first_byte(
    front: Front, how: str, body: object
) -> None:
    front.ask()  # some connections are warm
    front.workers[0].calls.clear()
    front.workers[1].calls.clear()
    failures = front.counted("router_worker_failures_total")
    front.script(first(BEFORE_THE_FIRST_BYTE[how], ok))
    answer = front.ask(body)
    assert answer.status == 200
    assert answer.json()["worker"] == answer.headers["x-router-worker"]
    # A connection that was closed at once may have been closed while it was idle: the same worker is
    # asked once more, on a new one, and nobody is blamed.
    if how in ("closes", "resets") and len({call.worker.url for call in front.calls}) == 1:
        assert front.calls[-1].number_on_connection == 1
        assert front.counted("router_worker_failures_total") == failures
    else:
        assert [call.worker for call in front.calls].count(front.workers[0]) == 1
        assert front.counted("router_worker_failures_total") == failures + 1


def test_a_request_never_comes_back_to_a_worker_that_failed_it(start_front: StartFront) -> None:
    front = start_front("--retries", "10", "--eject-after-failures", "1000", count=3)
    front.script(half_a_head)
    for _ in range(4):
        answer = front.ask()
        assert answer.status == 502
        assert answer.json()["error"]["code"] == "worker_failed"
    assert [len(worker.calls) for worker in front.workers] == [4, 4, 4]
    front.wait_idle()


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (1, 2), (2, 3)])
def test_retries_have_a_limit(start_front: StartFront, retries: int, asked: int) -> None:
    front = start_front("--retries", str(retries), count=4)
    front.script(status(503))
    assert front.ask().status == 503
    assert len(front.calls) == asked
    front.wait_idle()


def test_retries_have_a_budget(start_front: StartFront) -> None:
    front = start_front(
        "--retry-budget-ratio",
        "0",
        "--retry-budget-min-per-s",
        "0.01",
        "--eject-after-failures",
        "1000",
        count=2,
    )
    front.script(status(500))
    for _ in range(10):
        assert front.ask().status == 500
    assert len(front.calls) == 11  # a single retry was saved up
    assert front.counted("router_retries_total", kind="status") == 1


def test_the_last_failure_is_passed_on_as_it_is_when_nobody_is_left(front: Front) -> None:
    front.script(status(503, b"overloaded"))
    with front.connect() as connection:
        for _ in range(3):
            answer = connection.ask("POST", CHAT_PATH, CHAT)
            assert (answer.status, answer.body) == (503, b"overloaded")
    assert len(front.calls) == 6


def test_a_failure_that_another_worker_would_share_is_passed_on_at_once(front: Front) -> None:
    front.script(status(501, b"no such thing"))
    answer = front.ask()
    assert (answer.status, answer.body, len(front.calls)) == (501, b"no such thing", 1)


@pytest.mark.parametrize("count", [1, 5])
def test_a_stream_that_breaks_is_cut_and_never_looks_complete(front: Front, count: int) -> None:
    front.script(die_after(count))
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        with pytest.raises((AssertionError, ConnectionResetError)):
            connection.answer()
    assert len(front.calls) == 1, "what the client has seen a part of is not asked for again"


@pytest.mark.parametrize("ends", [Call.close, Call.reset])
def test_a_plain_answer_that_breaks_is_cut(front: Front, ends: Script) -> None:
    def run(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 50)
        ends(call)

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        with pytest.raises((AssertionError, ConnectionResetError)):
            connection.answer()


def test_a_reset_is_not_the_end_of_an_answer_without_length(front: Front) -> None:
    written = threading.Event()

    def run(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\n\r\n", b"half of it")
        call.hold(written)
        call.reset()

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, CHAT))
        assert connection._until(b"half of it")
        written.set()
        with pytest.raises(ConnectionResetError):
            connection.socket.recv(1)


def test_chunks_that_break_off_into_nonsense_are_cut(front: Front) -> None:
    seen = threading.Event()

    def run(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(seen)
        call.write(b"zzz\r\n")
        call.wait_gone()

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        assert connection._until(b"data: 1\n\n")
        seen.set()
        with pytest.raises((AssertionError, ConnectionResetError)):
            connection._until(b"0\r\n\r\n")


def test_an_idle_connection_that_the_worker_closed_is_replaced_without_blame(start_front: StartFront) -> None:
    # A check that is cut as well would be a failed check, and rightly so.
    front = start_front("--retries", "0", "--eject-after-failures", "1", "--health-interval-s", "600")
    (worker,) = front.workers
    chance_met = 0
    with front.connect() as connection:
        for _ in range(30):
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
            before = worker.accepted
            worker.close_connections()
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
            chance_met += worker.accepted > before
    assert chance_met == 30
    assert front.counted("router_worker_failures_total") == 0
    assert front.counted("router_requests_total", outcome="ok") == 60


def test_a_worker_that_always_closes_is_not_taken_for_a_stale_connection_twice(
    start_front: StartFront,
) -> None:
    front = start_front("--retries", "0")
    assert front.ask().status == 200
    front.script(die)
    assert front.ask().status == 502
    assert 2 <= len(front.calls) <= 3
    assert front.counted("router_worker_failures_total", kind="broken") == 1


def test_a_worker_that_refuses_connections_is_blamed_and_another_one_answers(start_front: StartFront) -> None:
    flags = ("--health-fall", "1000", "--eject-after-failures", "1000", "--policy", "round_robin")
    front = start_front(*flags, count=2)
    front.workers[0].stop_listening()
    for _ in range(6):
        answer = front.ask()
        assert answer.headers["x-router-worker"] == front.workers[1].url
    assert front.counted("router_worker_failures_total", kind="connect") > 0
    front.workers[1].stop_listening()
    front.workers[1].close_connections()
    assert front.ask().status == 502
    front.wait_idle()


def test_a_worker_without_a_word_is_given_up_in_time_and_its_request_with_it(start_front: StartFront) -> None:
    front = start_front("--first-byte-timeout-s", "0.5")
    front.script(Call.wait_gone)
    began = time.monotonic()
    for body in (CHAT, STREAM):
        answer = front.ask(body)
        assert (answer.status, answer.json()["error"]["code"]) == (504, "worker_timeout")
    assert time.monotonic() - began >= 1
    eventually(
        lambda: all(call.gone.is_set() for call in front.calls), "the worker sees that it was given up"
    )
    assert front.counted("router_requests_total", outcome="timeout") == 2
    front.wait_idle()


def head_then_silence(call: Call) -> None:
    call.stream()
    call.wait_gone()


def test_a_head_alone_is_no_sign_of_life(start_front: StartFront) -> None:
    front = start_front("--first-byte-timeout-s", "0.5")
    front.script(head_then_silence)
    assert front.ask(STREAM).status == 504


@pytest.mark.parametrize(
    ("flags", "steady"), [(("--idle-timeout-s", "0.5"), False), (("--total-timeout-s", "1"), True)]
)
def test_a_stream_that_falls_silent_or_never_ends_is_cut(
    start_front: StartFront, flags: tuple[str, ...], *, steady: bool
) -> None:
    front = start_front(*flags)

    def run(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        while steady and not call.wait_gone(0.1):
            call.chunk(b"data: 1\n\n")
        call.wait_gone()

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM))
        with pytest.raises((AssertionError, ConnectionResetError)):
            connection.answer()
    eventually(lambda: front.calls[0].gone.is_set(), "the worker sees that it was given up")
    assert front.counted("router_requests_total", outcome="timeout") == 1
    front.wait_idle()


# --- ejection ---------------------------------------------------------------------------------------

_EJECT = ("--eject-after-failures", "3", "--eject-for-s", "1", "--retries", "0")

# For tests that need a worker whose probe is due, and do not look at it before.
_EJECT_BRIEFLY = ("--eject-after-failures", "3", "--eject-for-s", "0.1", "--retries", "0")


def test_a_worker_is_ejected_after_failures_in_a_row_and_one_probe_brings_it_back(
    start_front: StartFront,
) -> None:
    front = start_front(*_EJECT)
    (worker,) = front.workers
    front.script(in_turn([status(500), status(500), ok], status(500)))
    assert [front.ask().status for _ in range(6)] == [500, 500, 200, 500, 500, 500]
    assert front.worker_state(worker)["status"] == "ejected"
    refused = front.ask()
    assert (refused.status, refused.json()["error"]["code"]) == (503, "no_worker")
    assert int(refused.headers["retry-after"]) > 0
    assert len(worker.calls) == 6

    may_answer = threading.Event()

    def slow(call: Call) -> None:
        call.hold(may_answer)
        ok(call)

    front.script(slow)
    eventually(lambda: front.worker_state(worker)["status"] == "probing", "a probe is due")
    with front.connect() as probe:
        probe.send(request("POST", CHAT_PATH, CHAT))
        front.wait_calls(7)
        assert [front.ask().status for _ in range(5)] == [503] * 5, (
            "one request finds out, no other follows it"
        )
        may_answer.set()
        assert probe.answer().status == 200
    eventually(lambda: front.worker_state(worker)["status"] == "healthy", "the worker is trusted again")
    assert [front.ask().status for _ in range(5)] == [200] * 5
    assert len(worker.calls) == 12


def test_a_probe_that_fails_ejects_again(start_front: StartFront) -> None:
    front = start_front(*_EJECT)
    (worker,) = front.workers
    front.script(status(500))
    for _ in range(3):
        front.ask()
    eventually(lambda: front.worker_state(worker)["status"] == "probing", "a probe is due")
    assert front.ask().status == 500
    assert front.worker_state(worker)["status"] == "ejected"
    assert front.ask().status == 503


def test_a_probe_whose_client_leaves_is_followed_by_another_probe(start_front: StartFront) -> None:
    front = start_front(*_EJECT_BRIEFLY)
    (worker,) = front.workers
    front.script(status(500))
    for _ in range(3):
        front.ask()
    eventually(lambda: front.worker_state(worker)["status"] == "probing", "a probe is due")
    front.script(Call.wait_gone)
    with front.connect() as probe:
        probe.send(request("POST", CHAT_PATH, CHAT))
        front.wait_calls(4)
    front.wait_idle()
    front.script(ok)
    assert front.ask().status == 200
    assert front.worker_state(worker)["status"] == "healthy"


def test_a_success_of_an_older_request_clears_a_worker_for_good(start_front: StartFront) -> None:
    """While a probe is due: the next request is none any more, and nothing is left in suspense."""
    front = start_front(*_EJECT_BRIEFLY)
    (worker,) = front.workers
    may_answer = threading.Event()

    def slow(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(may_answer)
        call.end()

    front.script(slow)
    with front.connect() as old:
        old.send(request("POST", CHAT_PATH, STREAM))
        front.wait_calls(1)
        front.script(status(500))
        for _ in range(3):
            front.ask()
        eventually(lambda: front.worker_state(worker)["status"] == "probing", "a probe is due")
        may_answer.set()
        assert old.answer().status == 200
    front.script(ok)
    assert [front.ask().status for _ in range(5)] == [200] * 5
    assert front.worker_state(worker)["status"] == "healthy"


def test_an_older_request_that_ends_while_a_probe_runs_lets_no_second_one_go(
    start_front: StartFront,
) -> None:
    front = start_front(*_EJECT_BRIEFLY)
    (worker,) = front.workers
    never = threading.Event()
    front.script(lambda call: call.hold(never))
    with front.connect() as probe:
        with front.connect() as old:
            old.send(request("POST", CHAT_PATH, CHAT))
            front.wait_calls(1)
            front.script(status(500))
            for _ in range(3):
                front.ask()
            eventually(lambda: front.worker_state(worker)["status"] == "probing", "a probe is due")
            front.script(lambda call: call.hold(never))
            probe.send(request("POST", CHAT_PATH, CHAT))
            front.wait_calls(5)
        eventually(lambda: front.calls[0].gone.is_set(), "the old request's client has left")
        eventually(lambda: front.state()["exchanges"]["total"] == 1, "the probe alone is left")
        assert front.ask().status == 503
        assert len(worker.calls) == 5


def test_a_probe_with_a_long_answer_is_not_waited_for_to_its_end(start_front: StartFront) -> None:
    front = start_front(*_EJECT_BRIEFLY)
    (worker,) = front.workers
    front.script(status(500))
    for _ in range(3):
        front.ask()
    eventually(lambda: front.worker_state(worker)["status"] == "probing", "a probe is due")
    may_end = threading.Event()

    def long(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(may_end)
        call.end()

    front.script(long)
    with front.connect() as probe:
        probe.send(request("POST", CHAT_PATH, STREAM))
        front.wait_calls(4)
        eventually(lambda: front.worker_state(worker)["status"] == "healthy", "its stream is proof enough")
        front.script(ok)
        assert front.ask().status == 200
        may_end.set()
        assert probe.answer().status == 200


@pytest.mark.parametrize("while_it", ["is due", "is on its way"])
def test_a_worker_may_be_removed_while_a_probe(start_front: StartFront, while_it: str) -> None:
    front = start_front(*_EJECT_BRIEFLY, count=2)
    gone, other = front.workers
    gone.script = status(500)
    other.script = status(500)
    while min(len(gone.calls), len(other.calls)) < 3:
        front.ask()
    eventually(lambda: front.worker_state(gone)["status"] == "probing", "a probe is due")
    eventually(lambda: front.worker_state(other)["status"] == "probing", "and one of the other worker")
    never = threading.Event()
    front.script(lambda call: call.hold(never))
    with front.connect() as client, front.connect() as second:
        if while_it == "is on its way":
            client.send(request("POST", CHAT_PATH, CHAT))
            second.send(request("POST", CHAT_PATH, CHAT))
            eventually(lambda: front.state()["exchanges"]["total"] == 2, "both probes are on their way")
        with front.connect() as admin:
            path = f"/workers/{gone.url.removeprefix('http://')}?drain=false"
            assert admin.ask("DELETE", path).status == 200
    front.wait_idle()
    front.script(ok)
    eventually(lambda: front.ask().status == 200, "the other worker answers")
    assert [view["id"] for view in front.state()["workers"]] == [other.url]


def test_a_removed_worker_leaves_neither_series_nor_idle_connections(start_front: StartFront) -> None:
    front = start_front(count=2)
    gone, other = front.workers
    may_end = threading.Event()

    def slow(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(may_end)
        call.end()

    front.script(slow)
    with front.connect() as one, front.connect() as two:
        one.send(request("POST", CHAT_PATH, STREAM))
        two.send(
            request("POST", CHAT_PATH, STREAM | {"messages": [{"role": "user", "content": "bye " * 300}]})
        )
        front.wait_calls(2)
        assert len(gone.calls) == len(other.calls) == 1
        with front.connect() as admin:
            path = f"/workers/{gone.url.removeprefix('http://')}?drain=false"
            assert admin.ask("DELETE", path).status == 200
        may_end.set()
        assert one.answer().status == two.answer().status == 200, "answers on their way still arrive"
    front.wait_idle()
    eventually(lambda: gone.open_connections == 0, "no connection to the removed worker is kept")
    assert front.counted("router_requests_total", worker=gone.url) == 0
    assert front.counted("router_requests_total", outcome="ok") == 2
    assert front.counted("router_worker_failures_total", worker=gone.url) == 0


def test_a_policy_that_raises_costs_an_answer_and_not_the_connection(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    with fake_workers(1) as workers:
        flags = ("--no-model-discovery", "--policy", "live.broken_policy:Broken")
        front = Front(start_router(workers[0].url, flags=flags, tolerant=True), workers)
        with front.connect() as connection:
            for _ in range(2):
                answer = connection.ask("POST", CHAT_PATH, CHAT)
                assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
        assert front.state()["exchanges"]["total"] == 0
        assert "no such shelf" in "".join(str(line) for line in front.router.lines())


@pytest.mark.parametrize("how", [die, status(503)], ids=["dies", "says 503"])
def test_a_policy_that_fails_when_it_is_asked_again_costs_the_retry_and_not_the_answer(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch, how: Script
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    with fake_workers(2) as workers:
        flags = (
            "--policy",
            "live.broken_policy:Fickle",
            "--no-model-discovery",
            "--eject-after-failures",
            "9",
        )
        front = Front(start_router(*(one.url for one in workers), flags=flags, tolerant=True), workers)
        front.script(how)
        assert front.ask().status in (502, 503)
        assert len(front.calls) == 1
        front.wait_idle()

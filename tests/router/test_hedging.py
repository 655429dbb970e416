"""Streams that are sent to a second worker because their first byte is late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from live.fake_worker import Call, Script, fake_workers, ok
from live.front import CHAT, STREAM, Front, die, in_turn, status
from live.polling import eventually
from live.processes import StartRouter
from live.wire import request
from warmroute_policies.events import Hedged
from warmroute_policies.quantiles import LEAST
from warmroute_policies.replay import read, replay

StartFront = Callable[..., Front]

HEDGE = ("--hedge-after-p", "0.5", "--hedge-min-s", "0.2", "--hedge-budget-ratio", "1")
FORGIVING = ("--eject-after-failures", "1000")


def talks(call: Call) -> None:
    """A short stream that names its worker."""
    call.stream()
    call.chunk(f"data: {call.worker.url}\n\n".encode())
    call.end()


def never(call: Call) -> None:
    """Takes the request and says nothing until the router leaves."""
    call.wait_gone()


def only_a_head(call: Call) -> None:
    """As an engine whose prefill takes for ever: the head is there, the first token is not."""
    call.stream()
    call.wait_gone()


def dies(call: Call) -> None:
    """Closes the connection after some bytes: not one that was closed while it was idle."""
    call.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    call.close()


def held(event: threading.Event, then: Script) -> Script:
    def run(call: Call) -> None:
        call.hold(event)
        then(call)

    return run


def learned(front: Front) -> Front:
    """So many quick streams that late ones are known."""
    front.script(talks)
    with front.connect() as connection:
        for _ in range(LEAST):
            assert connection.ask("POST", "/v1/chat/completions", STREAM).status == 200
    for worker in front.workers:
        worker.calls.clear()
    return front


def hedges(front: Front, result: str) -> float:
    return front.counted("router_hedges_total", result=result)


@pytest.mark.parametrize("slow", [never, only_a_head], ids=["silent", "head"])
def test_the_worker_that_answers_first_is_heard_and_the_other_one_stops(
    start_front: StartFront, slow: Script
) -> None:
    front = learned(start_front(*HEDGE, count=2))
    front.script(in_turn([slow], talks))
    answer = front.ask(STREAM)
    late, quick = sorted(front.calls, key=lambda call: call.worker.url == answer.headers["x-router-worker"])
    assert late.worker is not quick.worker
    assert late.gone.wait(20), "the connection is closed, so the engine stops"
    assert answer.body == f"data: {quick.worker.url}\n\n".encode()
    assert answer.headers["x-router-worker"] == quick.worker.url
    assert late.headers["x-request-id"] == quick.headers["x-request-id"]
    assert late.body == quick.body
    assert (hedges(front, "won"), front.counted("router_hedges_started_total")) == (1, 1)
    assert front.counted("router_requests_total", outcome="ok") == LEAST + 1, "two legs are one request"
    assert front.counted("router_worker_failures_total") == 0, "to be slow is no failure"
    front.wait_idle()


def test_a_whole_answer_of_the_second_worker_is_passed_on(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, count=2))
    front.script(in_turn([never], ok))
    answer = front.ask(STREAM)
    assert answer.json()["worker"] == answer.headers["x-router-worker"]
    assert hedges(front, "won") == 1
    assert front.ask(STREAM).status == 200, "its connection carries the next request"
    front.wait_idle()


def test_the_first_worker_may_still_win(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, count=2))
    go = threading.Event()
    front.script(in_turn([held(go, talks)], never))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        first, second = front.wait_calls(2)
        go.set()
        answer = connection.answer()
    assert answer.headers["x-router-worker"] == answer.body[6:-2].decode()
    losers = [call for call in (first, second) if call.worker.url != answer.headers["x-router-worker"]]
    assert len(losers) == 1
    assert losers[0].gone.wait(20)
    assert hedges(front, "lost") == 1
    front.wait_idle()


def test_a_quick_answer_a_plain_one_and_one_that_is_kept_are_not_hedged(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, count=2))
    assert front.ask(STREAM).status == 200

    def late(call: Call) -> None:
        call.wait_gone(0.6)
        ok(call)

    front.script(late)
    assert front.ask(CHAT).status == 200
    assert front.ask({"model": "m", "input": "hello " * 200, "stream": True}, "/v1/responses").status == 200
    assert len(front.calls) == 3
    assert front.counted("router_hedges_started_total") == 0


def test_nothing_is_hedged_before_enough_is_known(start_front: StartFront) -> None:
    front = start_front(*HEDGE, count=2)

    def late(call: Call) -> None:
        call.wait_gone(0.6)
        talks(call)

    front.script(late)
    assert front.ask(STREAM).status == 200
    assert len(front.calls) == 1


@pytest.mark.parametrize("how", [dies, status(503)], ids=["dies", "503"])
@pytest.mark.parametrize("which", ["first", "second"])
def test_when_one_leg_fails_the_other_goes_on(start_front: StartFront, how: Script, which: str) -> None:
    front = learned(start_front(*HEDGE, *FORGIVING, count=3))
    fail, answer = threading.Event(), threading.Event()
    legs = [held(fail, how), held(answer, talks)]
    front.script(in_turn(legs if which == "first" else legs[::-1], never))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        front.wait_calls(2)
        fail.set()
        eventually(lambda: front.counted("router_worker_failures_total") == 1, "the failure is seen")
        answer.set()
        assert connection.answer().status == 200
    assert len(front.calls) == 2, "nobody else is asked while a leg is left"
    assert hedges(front, "rescued" if which == "first" else "failed") == 1
    front.wait_idle()


def test_when_both_legs_fail_a_third_worker_is_asked(
    start_front: StartFront,
) -> None:
    front = learned(start_front(*HEDGE, *FORGIVING, count=3))
    fail = threading.Event()
    front.script(in_turn([held(fail, dies), held(fail, dies)], talks))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        front.wait_calls(2)
        fail.set()
        assert connection.answer().status == 200
    assert len({call.worker.url for call in front.calls}) == 3
    front.wait_idle()


def test_when_nobody_is_left_the_client_gets_one_error(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, *FORGIVING, count=2))
    fail = threading.Event()
    front.script(held(fail, dies))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        front.wait_calls(2)
        fail.set()
        assert connection.answer().status == 502
    front.wait_idle()


def test_a_client_that_leaves_stops_both_workers(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, count=2))
    front.script(never)
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        calls = list(front.wait_calls(2))
    assert all(call.gone.wait(20) for call in calls)
    assert hedges(front, "given_up") == 1
    front.wait_idle()


def test_time_that_is_up_ends_both_legs(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, "--first-byte-timeout-s", "1", count=2))
    front.script(never)
    assert front.ask(STREAM).status == 504
    assert all(call.gone.wait(20) for call in front.wait_calls(2))
    front.wait_idle()


def test_a_winner_that_breaks_is_cut_and_gets_no_second_chance(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, *FORGIVING, count=3))

    def breaks(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.close()

    front.script(in_turn([never, breaks], talks))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        with pytest.raises((ConnectionError, AssertionError)):
            connection.answer()
    assert len(front.calls) == 2
    assert front.counted("router_worker_failures_total", kind="broken") == 1
    front.wait_idle()


def both_warm(front: Front) -> None:
    """A warm connection to each of two workers."""
    go = threading.Event()
    front.script(held(go, talks))
    with front.connect() as one, front.connect() as two:
        for connection in (one, two):
            connection.send(request("POST", "/v1/chat/completions", CHAT))
        front.wait_calls(2)
        go.set()
        assert [one.answer().status, two.answer().status] == [200, 200]
    assert [front.worker_state(worker)["idle_connections"] for worker in front.workers] == [1, 1]
    for worker in front.workers:
        worker.calls.clear()


def test_an_idle_connection_that_the_second_worker_had_closed_is_replaced_without_blame(
    start_front: StartFront,
) -> None:
    front = learned(start_front(*HEDGE, *FORGIVING, "--policy", "least_requests", count=2))
    both_warm(front)

    def closes_if_used(call: Call) -> None:
        if call.number_on_connection > 1:
            call.close()
        else:
            talks(call)

    front.script(in_turn([never], closes_if_used))
    assert front.ask(STREAM).status == 200
    assert len(front.calls) == 3, "the second worker was asked twice"
    assert front.counted("router_worker_failures_total") == 0
    front.wait_idle()


def test_the_first_leg_may_fail_while_the_second_ones_connection_is_replaced(start_front: StartFront) -> None:
    flags = ("--policy", "least_requests", "--connect-timeout-s", "20", "--health-interval-s", "60")
    front = learned(start_front(*HEDGE, *FORGIVING, *flags, count=2))
    both_warm(front)
    close, closed, fail = threading.Event(), threading.Event(), threading.Event()

    def closes(call: Call) -> None:
        call.hold(close)
        call.close()
        closed.set()

    front.script(in_turn([held(fail, dies), closes], talks))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        (call,) = front.wait_calls(1)
        front.wait_calls(2)
        (second,) = (worker for worker in front.workers if worker is not call.worker)
        with second.full():
            close.set()
            assert closed.wait(20)
            front.state()  # by its answer the router has seen the end, and connects anew
            fail.set()
            eventually(lambda: hedges(front, "rescued") == 1, "the second leg is the only one")
        assert connection.answer().body == f"data: {second.url}\n\n".encode()
    front.wait_idle()


def test_hedges_have_a_budget(start_front: StartFront) -> None:
    front = learned(
        start_front("--hedge-after-p", "0.5", "--hedge-min-s", "0.1", "--hedge-budget-ratio", "0", count=2)
    )
    front.script(never)
    connections = [front.connect() for _ in range(13)]
    for connection in connections:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
    eventually(
        lambda: front.counted("router_hedges_refused_total", reason="budget") == 3, "three are refused"
    )
    assert front.counted("router_hedges_started_total") == 10
    for connection in connections:
        connection.socket.close()
    front.wait_idle()


def test_with_one_worker_a_late_request_just_waits(start_front: StartFront) -> None:
    front = learned(start_front(*HEDGE, count=1))
    go = threading.Event()
    front.script(held(go, talks))
    with front.connect() as connection:
        connection.send(request("POST", "/v1/chat/completions", STREAM))
        eventually(lambda: front.counted("router_hedges_refused_total", reason="no_worker") == 1, "refused")
        go.set()
        assert connection.answer().status == 200


def test_a_probe_that_loses_is_followed_by_another_probe(start_front: StartFront) -> None:
    front = learned(
        start_front(*HEDGE, "--eject-after-failures", "1", "--eject-for-s", "0.3", "--policy", "round_robin",
                    "--session-sticky", count=2)
    )  # fmt: skip
    sick, well = front.workers
    sick.script = die

    def status_of_sick() -> str:
        front.ask()
        return str(front.worker_state(sick)["status"])

    eventually(lambda: status_of_sick() != "healthy", "it is ejected")
    sick.script, well.script = never, talks

    def probed() -> bool:
        front.ask(STREAM)
        return len(sick.calls) >= 3

    eventually(probed, "it is probed, loses, and is probed again")
    sick.script = talks
    eventually(lambda: status_of_sick() == "healthy", "it is well again")


def test_the_journal_of_hedged_requests_replays(start_router: StartRouter, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with fake_workers(2) as workers:
        urls = [worker.url for worker in workers]
        flags = ("--no-model-discovery", "--journal", str(path), *HEDGE)
        front = learned(Front(start_router(*urls, flags=flags), workers))
        for _ in range(3):
            front.script(in_turn([never], talks))
            assert front.ask(STREAM).status == 200
        front.wait_idle()
        front.router.terminate()
        assert front.router.wait() == 0
    with path.open("rb") as lines:
        assert sum(isinstance(event, Hedged) for _, event in read(lines)) == 3
    with path.open("rb") as lines:
        verdicts = list(replay(lines))
    assert len(verdicts) == LEAST + 6
    assert all(then == now for then, now in verdicts)

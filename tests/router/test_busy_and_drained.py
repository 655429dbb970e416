"""Requests that another worker takes over though nobody is to blame: a full queue, the end of a drain."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from live.fake_worker import Call, FakeWorker, Script, ok
from live.front import CHAT, CHAT_PATH, STREAM, Front, first, in_turn, status
from live.polling import eventually
from live.wire import Connection, request

StartFront = Callable[..., Front]


def full(call: Call) -> None:
    call.answer(b'{"error": {"message": "the queue is full"}}', 429, "retry-after: 7")


def comes_back(call: Call) -> None:
    call.answer(b"{}", 503, "Retry-After: 1")


@pytest.mark.parametrize(
    "refuses", [status(408), status(429), comes_back], ids=["408", "429", "503, and when"]
)
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_a_full_workers_request_goes_to_another_one_and_nobody_is_blamed(
    front: Front, refuses: Script, body: object
) -> None:
    failures, retries = front.counted("router_worker_failures_total"), front.counted("router_retries_total")
    front.script(first(refuses, ok))
    answer = front.ask(body)
    assert answer.status == 200
    assert len({call.worker.url for call in front.calls}) == 2
    assert front.counted("router_worker_failures_total") == failures
    assert front.counted("router_retries_total") == retries + 1


@pytest.mark.parametrize("code", [408, 429])
def test_a_worker_that_is_full_when_it_is_probed_is_probed_again(start_front: StartFront, code: int) -> None:
    flags = ("--eject-after-failures", "1", "--eject-for-s", "0.5", "--policy", "round_robin")
    front = start_front(*flags, count=2)
    sick = front.workers[1]

    def asked(count: int) -> bool:
        assert front.ask().status == 200
        return len(sick.calls) >= count

    sick.script = in_turn([status(503), status(code)], ok)
    eventually(lambda: asked(1), "it fails")
    eventually(lambda: asked(2), "it is probed, and full")
    eventually(lambda: asked(3), "it is probed again")
    assert front.worker_state(sick)["status"] == "healthy"


def test_a_fleet_that_says_503_and_when_to_come_back_is_busy_and_stays(start_front: StartFront) -> None:
    front = start_front("--eject-after-failures", "1", "--eject-for-s", "600", count=2)
    front.script(comes_back)
    assert front.ask().status == 503
    assert len(front.calls) == 2
    front.script(ok)
    assert front.ask().status == 200
    assert front.counted("router_worker_failures_total") == 0


def test_where_all_are_full_the_client_gets_the_workers_own_word(front: Front) -> None:
    front.script(full)
    answer = front.ask()
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["message"] == "the queue is full"
    assert len(front.calls) == 2, "each was asked once"
    assert [front.worker_state(worker)["status"] for worker in front.workers] == ["healthy"] * 2


@pytest.mark.parametrize("code", [400, 401, 404, 422])
def test_a_request_that_is_wrong_is_asked_once(front: Front, code: int) -> None:
    front.script(status(code))
    assert front.ask().status == code
    assert len(front.calls) == 1


def drain(front: Front, worker: FakeWorker, **body: object) -> int:
    with front.connect() as connection:
        path = "/workers/" + worker.url.removeprefix("http://")
        return connection.ask("PATCH", path, {"draining": True, **body}).status


def on_its_way(front: Front, connection: Connection, body: object) -> Call:
    connection.send(request("POST", CHAT_PATH, body))
    return front.wait_calls(1)[0]


def never(call: Call) -> None:
    call.wait_gone()


def streams_for_ever(call: Call) -> None:
    call.stream()
    call.chunk(b"data: 1\n\n")
    call.wait_gone()


def test_at_the_deadline_a_request_without_an_answer_goes_to_another_worker(start_front: StartFront) -> None:
    front = start_front(count=2)
    front.script(first(never, ok))
    with front.connect() as connection:
        call = on_its_way(front, connection, CHAT)
        assert drain(front, call.worker, deadline_s=0.3) == 200
        answer = connection.answer()
        assert answer.status == 200
        assert answer.headers["x-router-worker"] != call.worker.url
    assert call.gone.wait(20)
    view = front.worker_state(call.worker)
    assert (view["draining"], view["inflight_requests"]) == (True, 0), (
        "it stays in the list, for its operator"
    )
    assert front.counted("router_worker_failures_total") == 0


def test_at_the_deadline_an_answer_that_has_begun_is_cut_so_that_the_client_can_tell(
    start_front: StartFront,
) -> None:
    front = start_front(count=2)
    front.script(streams_for_ever)
    with front.connect() as connection:
        call = on_its_way(front, connection, STREAM)
        assert drain(front, call.worker, deadline_s=0.3) == 200
        with pytest.raises((ConnectionError, AssertionError)):
            connection.answer()
    assert call.gone.wait(20)
    front.wait_idle()


def test_with_nobody_else_the_client_is_told_to_come_back(start_front: StartFront) -> None:
    front = start_front(count=1)
    front.script(never)
    with front.connect() as connection:
        call = on_its_way(front, connection, CHAT)
        assert drain(front, call.worker, deadline_s=0.3) == 200
        answer = connection.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "worker_drained")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("how", ["back", "no_deadline"])
def test_a_worker_that_is_taken_back_or_has_no_deadline_keeps_its_requests(
    start_front: StartFront, how: str
) -> None:
    front = start_front(count=2)
    go = threading.Event()

    def waits(call: Call) -> None:
        call.hold(go)
        ok(call)

    script: Script = waits
    front.script(script)
    with front.connect() as connection, front.connect() as other:
        call = on_its_way(front, connection, CHAT)
        assert drain(front, call.worker, **({"deadline_s": 0.6} if how == "back" else {})) == 200
        path = "/workers/" + call.worker.url.removeprefix("http://")
        if how == "back":
            assert other.ask("PATCH", path, {"draining": False}).status == 200
        # A second drain of the other worker ends later than the first one would have.
        late = next(worker for worker in front.workers if worker is not call.worker)
        assert drain(front, late, deadline_s=0.8) == 200
        eventually(lambda: "worker cleared" in front.router.messages(), "the later deadline has passed")
        assert not call.gone.is_set()
        go.set()
        assert connection.answer().status == 200


@pytest.mark.parametrize(
    "body", [{"deadline_s": 5}, {"draining": False, "deadline_s": 5}, {"draining": True, "deadline_s": 0}]
)
def test_a_deadline_that_makes_no_sense_is_refused(front: Front, body: dict[str, object]) -> None:
    with front.connect() as connection:
        path = "/workers/" + front.workers[0].url.removeprefix("http://")
        answer = connection.ask("PATCH", path, body)
    assert answer.status in (400, 422)
    assert not front.worker_state(front.workers[0])["draining"]

"""Workers that answer and are worse than they should be: too many failures, or late beside the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from live.fake_worker import Call
from live.front import CHAT, CHAT_PATH, STREAM, Front, die, in_turn, status
from live.polling import eventually
from live.wire import request

StartFront = Callable[..., Front]

QUICK = (
    "--eject-after-failures", "1000", "--eject-min-requests", "8", "--eject-for-s", "0.5",
    "--retry-budget-min-per-s", "1000",
)  # fmt: skip


def talks(call: Call) -> None:
    call.stream()
    call.chunk(b"data: 1\n\n")
    call.end()


def talks_late(call: Call) -> None:
    call.wait_gone(0.2)
    talks(call)


def statuses(front: Front) -> list[str]:
    return [front.worker_state(worker)["status"] for worker in front.workers]


def ask_until(front: Front, condition: Callable[[], bool], what: str, body: object = None) -> None:
    def asked() -> bool:
        for _ in range(4):
            front.ask(body)
        return condition()

    eventually(asked, what)


def test_a_worker_that_fails_every_second_request_is_ejected_though_it_never_fails_twice_in_a_row(
    start_front: StartFront,
) -> None:
    front = start_front(*QUICK, "--eject-error-rate", "0.4", "--policy", "round_robin", count=3)
    sick = front.workers[1]
    count = [0]

    def every_second(call: Call) -> None:
        count[0] += 1
        (status(503) if count[0] % 2 else status(200, b"{}"))(call)

    sick.script = every_second
    ejected = ("router_worker_ejections_total", {"worker": sick.url, "reason": "errors"})
    ask_until(front, lambda: front.counted(ejected[0], **ejected[1]) >= 1, "it is ejected")
    assert front.counted("router_worker_ejections_total") == front.counted(ejected[0], **ejected[1])
    sick.script = status(200, b"{}")
    ask_until(front, lambda: statuses(front) == ["healthy"] * 3, "a probe brings it back")


def test_an_outlier_is_not_taken_back_for_what_was_on_its_way_to_it(start_front: StartFront) -> None:
    front = start_front(
        *QUICK, "--eject-error-rate", "0.4", "--policy", "round_robin", "--eject-for-s", "60", count=3
    )  # fmt: skip
    sick, ends = front.workers[1], threading.Event()

    def long(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(ends)
        call.end()

    front.script(long)
    with ExitStack() as stack:
        streams = [stack.enter_context(front.connect()) for _ in front.workers]
        for stream in streams:
            stream.send(request("POST", CHAT_PATH, STREAM))
        front.wait_calls(3)
        front.script(status(200, b"{}"))
        sick.script = in_turn([status(503), status(200, b"{}")] * 100, status(503))
        ask_until(front, lambda: statuses(front)[1] == "ejected", "it is ejected")
        ends.set()
        assert [stream.answer().status for stream in streams] == [200] * 3
    front.wait_idle()
    assert statuses(front) == ["healthy", "ejected", "healthy"]


def test_no_more_than_the_share_is_ejected_as_outliers(start_front: StartFront) -> None:
    front = start_front(
        *QUICK, "--eject-error-rate", "0.2", "--max-ejected-share", "0.5", "--eject-for-s", "60",
        "--policy", "round_robin", count=4,
    )  # fmt: skip
    for worker in front.workers:
        count = [0]

        def every_second(call: Call, count: list[int] = count) -> None:
            count[0] += 1
            (status(503) if count[0] % 2 else status(200, b"{}"))(call)

        worker.script = every_second
    ask_until(front, lambda: front.counted("router_worker_ejections_total") >= 2, "two are ejected")
    for _ in range(40):
        front.ask()
    assert sorted(statuses(front)) == ["ejected", "ejected", "healthy", "healthy"]


def test_a_worker_that_is_slow_beside_the_others_is_ejected(start_front: StartFront) -> None:
    front = start_front(*QUICK, "--eject-slow-factor", "4", "--policy", "round_robin", count=4)
    front.script(talks)
    slow = front.workers[2]
    slow.script = talks_late
    found = {"worker": slow.url, "reason": "slow"}
    ask_until(
        front, lambda: front.counted("router_worker_ejections_total", **found) >= 1, "it is ejected", STREAM
    )
    assert front.counted("router_worker_ejections_total") == front.counted(
        "router_worker_ejections_total", **found
    )


def test_a_worker_whose_hedges_always_win_is_ejected_as_slow(start_front: StartFront) -> None:
    front = start_front(
        *QUICK, "--eject-slow-factor", "4", "--policy", "round_robin", "--hedge-after-p", "0.5",
        "--hedge-min-s", "0.2", "--hedge-budget-ratio", "1", "--eject-for-s", "60", count=4,
    )  # fmt: skip
    front.script(talks)
    for _ in range(64):
        assert front.ask(STREAM).status == 200
    stalled = front.workers[0]
    stalled.script = lambda call: call.wait_gone()
    found = {"worker": stalled.url, "reason": "slow"}
    ask_until(
        front, lambda: front.counted("router_worker_ejections_total", **found) >= 1, "it is ejected", STREAM
    )
    assert front.counted("router_worker_failures_total") == 0


def test_a_fleet_that_is_slow_alike_keeps_all_of_its_workers(start_front: StartFront) -> None:
    front = start_front(*QUICK, "--eject-slow-factor", "4", "--policy", "round_robin", count=3)
    front.script(talks_late)
    with front.connect() as connection:
        for _ in range(30):
            assert connection.ask("POST", "/v1/chat/completions", STREAM).status == 200
    assert statuses(front) == ["healthy"] * 3


def test_what_is_switched_off_ejects_nobody(start_front: StartFront) -> None:
    front = start_front(*QUICK, "--eject-error-rate", "0", "--policy", "round_robin", count=2)
    front.workers[0].script = die
    for _ in range(40):
        assert front.ask(CHAT).status == 200
    assert statuses(front) == ["healthy", "healthy"]


def test_a_request_that_its_client_got_wrong_counts_for_the_worker(start_front: StartFront) -> None:
    front = start_front(*QUICK, "--eject-error-rate", "0.5", "--policy", "round_robin", count=2)
    sick = front.workers[0]
    sick.script = in_turn([status(400), status(400), status(503)] * 20, status(400))
    for _ in range(60):
        front.ask()
    assert front.counted("router_worker_failures_total", worker=sick.url) >= 8
    assert front.counted("router_worker_ejections_total") == 0

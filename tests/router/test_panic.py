"""A live router whose workers are called sick, and are asked all the same."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from live.front import Front, die
from live.polling import eventually

StartFront = Callable[..., Front]


def readiness(front: Front) -> int:
    return httpx.get(f"{front.router.url}/readiness", trust_env=False).status_code


def test_workers_whose_checks_all_fail_still_get_requests(start_front: StartFront) -> None:
    front = start_front("--panic-threshold", "0.5", count=3)
    assert front.counted("router_panicking_models") == 0
    for worker in front.workers:
        worker.healthy = False
    eventually(lambda: front.counted("router_worker_health") == 0, "all are called sick")
    assert [front.ask().status for _ in range(6)] == [200] * 6
    assert readiness(front) == 200, "a balancer in front sends requests here"
    assert front.counted("router_panicking_models") == 1
    warning = "too few workers are healthy, so their health is ignored"
    assert warning in front.router.messages()
    for worker in front.workers:
        worker.healthy = True
    eventually(lambda: front.counted("router_panicking_models") == 0, "the panic is over")
    eventually(lambda: "enough workers are healthy again" in front.router.messages(), "and the log says so")


def test_an_ejected_worker_that_answers_in_a_panic_is_trusted_at_once(start_front: StartFront) -> None:
    front = start_front(
        "--panic-threshold", "0.01", "--eject-after-failures", "1", "--eject-for-s", "3600", count=1
    )
    front.script(die)
    front.ask()
    front.ask()
    assert front.worker_state(front.workers[0])["status"] == "ejected"
    front.script(lambda call: call.answer(b"{}"))
    assert front.ask().status == 200
    assert front.worker_state(front.workers[0])["status"] == "healthy"


def test_without_a_threshold_the_client_is_told_that_there_is_no_worker(start_front: StartFront) -> None:
    front = start_front(count=1)
    front.workers[0].healthy = False
    eventually(lambda: front.counted("router_worker_health") == 0, "it is called sick")
    answer = front.ask()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "no_worker")
    assert readiness(front) == 503

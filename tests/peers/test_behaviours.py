"""What the peers' own suites expect of a router, where no other test of ours shows it.

docs/peers-behaviours.md says which expectation is shown by which test.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from live.fake_worker import Call, ok
from live.front import CHAT, CHAT_PATH, STREAM, Front, status
from live.polling import eventually
from live.wire import Answer, request

StartLike = Callable[..., Front]

COMPLETIONS = "/v1/completions"


def prompt(name: str, blocks: int = 8) -> dict[str, object]:
    """A completion whose prompt is some KiB of its own."""
    return {"model": "m", "prompt": f"{name} " * (blocks * 512 // (len(name) + 1)), "max_tokens": 1}


def worker_of(answer: Answer) -> str:
    assert answer.status == 200
    return answer.headers["x-router-worker"]


def no_usage(call: Call) -> None:
    """An engine that does not say what it had cached: nothing corrects what is believed."""
    call.answer(b'{"ok": true}')


def seen(front: Front, bodies: list[dict[str, object]], **headers: str) -> Counter[str]:
    """Who answered, one request after the other."""
    with front.connect() as connection:
        return Counter(worker_of(connection.ask("POST", COMPLETIONS, body, **headers)) for body in bodies)


# --- load balancing -------------------------------------------------------------------------------


def test_cache_aware_keeps_a_repeated_prompt_on_one_worker(start_like: StartLike) -> None:
    front = start_like("--policy cache_aware")
    front.script(no_usage)
    assert list(seen(front, [prompt("repeated")] * 12).values()) == [12]


def test_cache_aware_spreads_prompts_that_have_nothing_in_common(start_like: StartLike) -> None:
    front = start_like(
        "--policy cache_aware --cache-threshold 0.99 --balance-abs-threshold 0 --balance-rel-threshold 1.0",
        count=3,
    )
    front.script(no_usage)
    found = seen(front, [prompt(f"unlike-{number}") for number in range(30)])
    assert len(found) == 3
    assert min(found.values()) >= 5


def test_cache_aware_leaves_a_busy_worker_whatever_it_holds(start_like: StartLike) -> None:
    front = start_like("--policy cache_aware")
    shared = str(prompt("shared")["prompt"])
    seen(front, [prompt("shared")])
    may_end = threading.Event()

    def held(call: Call) -> None:
        call.hold(may_end)
        ok(call)

    front.script(held)
    connections = [front.connect() for _ in range(8)]
    try:
        for number, connection in enumerate(connections):
            tail = str(prompt(f"tail-{number}", blocks=64)["prompt"])
            connection.send(request("POST", COMPLETIONS, {"model": "m", "prompt": shared + tail}))
            front.wait_calls(number + 2)
        assert min(len(worker.calls) for worker in front.workers) >= 3, "both carry the load"
        may_end.set()
        assert all(connection.answer().status == 200 for connection in connections)
    finally:
        may_end.set()
        for connection in connections:
            connection.socket.close()


def test_power_of_two_takes_the_worker_with_less_to_do(start_like: StartLike) -> None:
    front = start_like("--policy power_of_two")
    busy, idle = front.workers
    may_end = threading.Event()

    def held(call: Call) -> None:
        call.hold(may_end)
        ok(call)

    busy.script = held
    waiting = []
    try:
        while not busy.calls:  # the first ones draw lots
            waiting.append(front.connect())
            waiting[-1].send(request("POST", CHAT_PATH, CHAT))
            front.wait_calls(len(waiting))
        idle.calls.clear()
        for _ in range(20):
            assert worker_of(front.ask()) == idle.url
        assert len(busy.calls) == 1
        may_end.set()
        assert all(connection.answer().status == 200 for connection in waiting)
    finally:
        may_end.set()
        for connection in waiting:
            connection.socket.close()


def test_random_reaches_every_worker(start_like: StartLike) -> None:
    front = start_like("--policy random", count=3)
    assert len(seen(front, [prompt("same")] * 60)) == 3


def test_round_robin_gives_each_worker_its_turn(start_like: StartLike) -> None:
    front = start_like("--policy round_robin", count=3)
    assert set(seen(front, [prompt("same")] * 12).values()) == {4}


# --- sessions -------------------------------------------------------------------------------------

SESSIONS: list[tuple[str, Callable[[str], tuple[dict[str, object], dict[str, str]]]]] = [
    ("x-session-id", lambda name: ({}, {"x-session-id": name})),
    ("x-smg-routing-key", lambda name: ({}, {"x-smg-routing-key": name})),
    ("session_id of the body", lambda name: ({"session_id": name}, {})),
    ("user of the body", lambda name: ({"user": name}, {})),
]


@pytest.mark.parametrize("how", [how for _, how in SESSIONS], ids=[name for name, _ in SESSIONS])
def test_consistent_hash_keeps_a_session_on_one_worker_and_spreads_sessions(
    start_like: StartLike, how: Callable[[str], tuple[dict[str, object], dict[str, str]]]
) -> None:
    front = start_like("--policy consistent_hash", count=3)
    homes = set[str]()
    for number in range(200):  # the ports decide who owns what, so sixteen sessions may miss a worker
        fields, headers = how(f"session-{number}")
        found = seen(front, [prompt(f"turn-{turn}") | fields for turn in range(4)], **headers)
        assert len(found) == 1
        homes |= set(found)
        if number >= 15 and len(homes) == 3:
            break
    assert len(homes) == 3


def test_manual_keeps_a_key_on_its_worker_and_moves_it_once_when_that_one_is_gone(
    start_like: StartLike,
) -> None:
    front = start_like("--policy manual --assignment-mode min_load --disable-retries", count=3)
    first = {key: seen(front, [prompt("a"), prompt("b")], x_smg_routing_key=key) for key in "abcdefgh"}
    assert all(len(found) == 1 for found in first.values())
    gone = next(worker for worker in front.workers if worker.url in first["a"])
    gone.healthy = False
    eventually(lambda: front.worker_state(gone)["status"] == "unhealthy", "it is ill")
    (second,) = seen(front, [prompt("c")] * 3, x_smg_routing_key="a")
    assert second != gone.url
    gone.healthy = True
    eventually(lambda: front.worker_state(gone)["status"] == "healthy", "it is well again")
    assert set(seen(front, [prompt("d")] * 3, x_smg_routing_key="a")) == {second}, "it does not bounce back"


# --- keys -----------------------------------------------------------------------------------------


def test_a_workers_own_keys_are_the_clients_business(start_like: StartLike) -> None:
    front = start_like(count=1)

    def guarded(call: Call) -> None:
        if call.headers.get("authorization") == "Bearer correct":
            ok(call)
        else:
            call.answer(b'{"error": "unauthorized"}', 401)

    front.script(guarded)
    assert [
        front.ask().status,
        front.ask(authorization="Bearer wrong").status,
        front.ask(authorization="Bearer correct").status,
    ] == [401, 401, 200]
    assert front.worker_state(front.workers[0])["status"] == "healthy", "a refusal is no failure"


# --- breaker and retries --------------------------------------------------------------------------

BREAKER = (
    "--policy round_robin --cb-failure-threshold 2 --cb-success-threshold 1 --cb-timeout-duration-secs 2 "
    "--cb-window-duration-secs 10"
)


def test_an_open_circuit_answers_503_and_a_probe_decides_what_follows(start_like: StartLike) -> None:
    front = start_like(f"{BREAKER} --disable-retries", count=1)
    front.script(status(500))
    assert [front.ask().status for _ in range(3)] == [500, 500, 503]
    assert len(front.calls) == 2
    eventually(lambda: front.ask().status == 500, "a probe is let through")
    assert front.ask().status == 503, "it failed, so the circuit is open again"
    front.script(ok)
    eventually(lambda: front.ask().status == 200, "a probe that succeeds closes it")
    assert front.ask().status == 200


def test_a_circuit_that_is_never_to_open_lets_every_request_through(start_like: StartLike) -> None:
    front = start_like("--disable-circuit-breaker --disable-retries", count=1)
    front.script(status(500))
    assert {front.ask().status for _ in range(20)} == {500}
    assert len(front.calls) == 20


def looked_at(front: Front) -> None:
    """Waits until the router has looked at its workers' failures, as it does once a second."""
    before = front.state()["uptime_s"]
    eventually(lambda: front.state()["uptime_s"] > before + 2.5, "they were looked at")


def test_a_disabled_circuit_is_not_opened_by_a_share_of_failures_either(start_like: StartLike) -> None:
    """The router's own second reason: half of at least twenty requests, looked at once a second."""
    front = start_like("--disable-circuit-breaker --disable-retries --policy round_robin", count=3)
    fails = front.workers[0]
    fails.script = status(500)
    for _ in range(2):  # what came before the first look is not known to be recent
        for _ in range(75):
            front.ask()
        looked_at(front)
    assert sorted(front.ask().status for _ in range(9)) == [200] * 6 + [500] * 3
    assert len(fails.calls) == 53


def test_an_open_circuit_is_one_workers_own(start_like: StartLike) -> None:
    front = start_like(f"{BREAKER} --cb-timeout-duration-secs 600 --disable-retries")
    fails, works = front.workers
    fails.script = status(500)
    answers = [front.ask().status for _ in range(12)]
    assert Counter(answers) == {500: 2, 200: 10}
    assert (len(fails.calls), len(works.calls)) == (2, 10)


def test_a_retry_hides_a_worker_that_always_fails(start_like: StartLike) -> None:
    front = start_like(f"{BREAKER} --retry-max-retries 3 --retry-initial-backoff-ms 10", count=3)
    front.workers[0].script = status(500)
    assert {front.ask().status for _ in range(9)} == {200}
    assert front.workers[0].calls


def test_without_retries_a_workers_failure_is_the_clients(start_like: StartLike) -> None:
    front = start_like("--disable-retries")
    front.script(status(500))
    assert front.ask().status == 500
    assert len(front.calls) == 1


def test_as_many_attempts_are_made_as_the_flag_counts(start_like: StartLike) -> None:
    front = start_like("--retry-max-retries 3 --cb-failure-threshold 1000", count=4)
    front.script(status(503))
    assert front.ask().status == 503
    assert len(front.calls) == 3


def test_workers_without_health_checks_get_requests_until_they_fail_them(start_like: StartLike) -> None:
    front = start_like(
        "--disable-health-check --disable-retries --cb-failure-threshold 2 --cb-timeout-duration-secs 600",
        count=1,
    )
    front.workers[0].healthy = False
    with_checks = start_like("--disable-retries", count=1)
    with_checks.workers[0].healthy = False
    eventually(lambda: with_checks.ask().status == 503, "where there are checks, one that fails counts")
    assert {front.ask().status for _ in range(5)} == {200}
    front.script(status(503))
    assert [front.ask().json()["error"].get("code") for _ in range(3)] == [None, None, "no_worker"]


# --- sizes ----------------------------------------------------------------------------------------


def test_a_payload_over_the_limit_is_413_and_one_at_the_limit_passes(start_like: StartLike) -> None:
    front = start_like("--max-payload-size 4096", count=1)
    assert front.ask(b" " * 4094 + b"{}").status == 200
    answer = front.ask(b" " * 4095 + b"{}")
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert len(front.calls) == 1


# --- headers --------------------------------------------------------------------------------------


def test_a_request_keeps_the_id_that_its_client_gave_by_any_of_the_usual_names(
    start_like: StartLike,
) -> None:
    front = start_like(count=1)
    for name in ("x_request_id", "x_correlation_id", "x_trace_id", "request_id"):
        assert front.ask(**{name: f"by-{name}"}).headers["x-request-id"] == f"by-{name}"
        assert front.calls[-1].headers["x-request-id"] == f"by-{name}"
    both = front.ask(x_correlation_id="second", x_request_id="first")
    assert both.headers["x-request-id"] == "first"
    assert front.calls[-1].headers["x-correlation-id"] == "second"
    made = [front.ask().headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert front.ask(x_request_id="x" * 500, x_trace_id="short").headers["x-request-id"] == "short"


def test_a_request_is_named_by_the_headers_that_the_operator_chose(start_like: StartLike) -> None:
    front = start_like("--request-id-headers custom-trace-id x-correlation-id", count=1)
    answer = front.ask(custom_trace_id="mine", x_request_id="not-this", x_correlation_id="nor-this")
    assert answer.headers["x-request-id"] == "mine"
    assert [value for name, value in front.calls[-1].fields if name == "x-request-id"] == ["mine"]
    assert front.ask(x_request_id="not-this").headers["x-request-id"] != "not-this"


def test_a_clients_headers_reach_the_worker_whatever_they_are(start_like: StartLike) -> None:
    front = start_like(count=1)
    with front.connect() as connection:
        body = b'{"prompt": "hi"}'
        head = (
            b"POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer k\r\nuser-agent: mine\r\nx-custom: a\r\nx-custom: b\r\naccept: x/1\r\n"
            b"accept: y/2\r\nanthropic-version: 2023-06-01\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n"
            b"te: trailers\r\nproxy-authorization: Basic x\r\ncontent-length: 16\r\n\r\n"
        )
        connection.send(head, body)
        assert connection.answer().status == 200
    (call,) = front.calls
    assert [value for name, value in call.fields if name == "x-custom"] == ["a", "b"]
    assert [value for name, value in call.fields if name == "accept"] == ["x/1", "y/2"]
    kept = {"authorization": "Bearer k", "user-agent": "mine", "anthropic-version": "2023-06-01"}
    assert kept.items() <= call.headers.items()
    assert not {"connection", "x-hop", "te", "proxy-authorization"} & call.headers.keys()


@pytest.mark.parametrize("stream", [False, True])
def test_a_workers_headers_reach_the_client_each_as_often_as_it_came(
    start_like: StartLike, stream: bool
) -> None:
    front = start_like(count=1)
    extra = ("x-worker-id: w7", "set-cookie: a=1", "set-cookie: b=2", "connection: x-hop", "x-hop: 1")

    def run(call: Call) -> None:
        if stream:
            call.stream(*extra)
            call.chunk(b"data: [DONE]\n\n")
            call.end()
        else:
            call.answer(b"{}", 200, *extra)

    front.script(run)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, STREAM if stream else CHAT))
        head = connection._until(b"\r\n\r\n").decode().lower().split("\r\n")
    assert "x-worker-id: w7" in head
    assert [line for line in head if line.startswith("set-cookie")] == ["set-cookie: a=1", "set-cookie: b=2"]
    assert not [line for line in head if line.startswith("x-hop")]

"""What was counted is what happened: one `finish` per `route`, metrics that add up, journals that replay."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from live.fake_worker import USAGE, Call, Gone, Script, ok
from live.front import CHAT_PATH, Front, first, status
from live.polling import eventually
from live.wire import Connection, request
from warmroute_policies.replay import replay
from warmroute_policies.types import Decision

StartFront = Callable[..., Front]


def message(chance: random.Random, **more: object) -> dict[str, object]:
    """A chat that shares its beginning with some others."""
    text = f"user {chance.randrange(8)} " * 150 + f"question {chance.random()}"
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


# Ways of a worker to treat one request.


def plain(call: Call) -> None:
    ok(call)


def stream(call: Call) -> None:
    call.stream()
    for number in range(5):
        call.chunk(b"data: %d\n\n" % number)
    call.chunk(b'data: {"choices": [], "usage": ' + json.dumps(USAGE).encode() + b"}\n\n")
    call.end()


def break_off(call: Call) -> None:
    call.stream()
    call.chunk(b"data: 1\n\n")
    call.close()


def large(call: Call) -> None:
    call.answer(bytes(3 << 20))


def slow_stream(call: Call) -> None:
    call.stream()
    for _ in range(10):
        if call.wait_gone(0.02):
            raise Gone
        call.chunk(b"data: 1\n\n")
    call.end()


def late(call: Call) -> None:
    if not call.wait_gone(0.3):
        call.close()


WAYS: list[tuple[Script, int]] = [
    (plain, 6), (stream, 6), (slow_stream, 4), (large, 2), (break_off, 2), (Call.close, 2), (Call.reset, 1),
    (status(500), 2), (status(501), 1), (status(400), 2), (late, 1),
    (lambda call: call.write(b"nonsense\r\n\r\n"), 1),
]  # fmt: skip


def one_client(front: Front, seed: int, until: float, hung: list[int]) -> None:
    """Asks, reads, leaves half-way, pipelines; whatever comes to its mind."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        try:
            with Connection(front.router.url, chance.choice((None, 4096))) as connection:
                for _ in range(chance.randrange(1, 5)):
                    count = chance.choice((1, 1, 1, 3))
                    asked = [
                        request("POST", CHAT_PATH, message(chance, stream=chance.random() < 0.5))
                        for _ in range(count)
                    ]
                    whole = b"".join(asked)
                    if chance.random() < 0.15:
                        connection.send(whole[: chance.randrange(len(whole))])
                        break
                    connection.send(whole)
                    if chance.random() < 0.2:
                        time.sleep(chance.random() * 0.05)
                        break
                    for _ in range(count):
                        connection.answer()
        except TimeoutError:
            hung.append(seed)
        except (OSError, AssertionError, ValueError):
            pass  # the router had to cut an answer


@pytest.mark.parametrize("policy", ["cache_aware", "round_robin"])
def test_every_request_that_was_routed_is_finished_once_whatever_dies_when(
    start_front: StartFront, policy: str
) -> None:
    """Clients leave anywhere, workers fail in every way, restart, are removed and added again."""
    seed = 7
    print(f"seed {seed}")
    chance = random.Random(seed)
    front = start_front(
        "--policy", policy, "--eject-after-failures", "5", "--eject-for-s", "0.3", "--retries", "2",
        "--retry-budget-min-per-s", "100", "--max-client-buffer-bytes", "64KiB", "--idle-timeout-s", "2",
        count=3,
    )  # fmt: skip
    lock = threading.Lock()

    def any_way(call: Call) -> None:
        with lock:
            way = chance.choices([way for way, _ in WAYS], [weight for _, weight in WAYS])[0]
        way(call)

    front.script(any_way)
    until = time.monotonic() + 2.5
    hung: list[int] = []
    clients = [
        threading.Thread(target=one_client, args=(front, seed * 1000 + n, until, hung), daemon=True)
        for n in range(8)
    ]
    for client in clients:
        client.start()
    with httpx.Client(base_url=front.router.url, trust_env=False, timeout=20) as admin:
        while time.monotonic() < until:
            victim = chance.choice(front.workers)
            kind = chance.randrange(3)
            if kind == 0:
                victim.close_connections()
            elif kind == 1:
                victim.stop_listening()
                victim.close_connections()
                time.sleep(0.1)
                victim.listen_again()
            elif victim is not front.workers[0]:
                admin.delete(f"/workers/{victim.url.removeprefix('http://')}", params={"drain": "false"})
                admin.post("/workers", json={"url": victim.url})
            time.sleep(0.05)
    for client in clients:
        client.join(30)
        assert not client.is_alive()
    assert not hung, "no request is left without an answer or an end"
    front.wait_idle()
    assert len(front.calls) > 100
    state = front.state()
    assert state["client_connections"] == 1, "only the asking connection is left"
    front.script(ok)
    eventually(lambda: front.ask().status == 200, "the router serves on")


def test_outcomes_and_tokens_are_counted_as_they_happened(start_front: StartFront) -> None:
    # Connections are cut below; a health check that is cut as well would be a failed check, and rightly so.
    front = start_front(
        "--retries", "0", "--eject-after-failures", "1000", "--first-byte-timeout-s", "1",
        "--health-interval-s", "600",
    )  # fmt: skip
    happened = Counter[str]()
    for script, outcome, times in (
        (ok, "ok", 5),
        (stream, "ok", 3),
        (status(400), "client_error", 4),
        (status(500), "worker_error", 2),
        (status(501), "worker_error", 1),
        (Call.reset, "worker_error", 1),
        (break_off, "worker_error", 2),
        (Call.wait_gone, "timeout", 1),
    ):
        for _ in range(times):
            # On a new connection: an idle one that is closed would be replaced without blame.
            front.workers[0].close_connections()
            front.script(script)
            with front.connect() as connection:
                connection.send(
                    request("POST", CHAT_PATH, message(random.Random(1), stream=script is stream))
                )
                try:
                    connection.answer()
                except (AssertionError, OSError):
                    assert script is break_off
        happened[outcome] += times
    front.script(Call.wait_gone)
    with front.connect() as connection:
        connection.send(request("POST", CHAT_PATH, message(random.Random(1))))
        eventually(lambda: front.state()["exchanges"]["total"] == 1, "it is on its way")
    happened["client_gone"] += 1
    assert front.ask(b"no json").status == 400
    front.wait_idle()
    url = front.workers[0].url
    for outcome, count in happened.items():
        counted = front.counted("router_requests_total", model="m", worker=url, outcome=outcome)
        assert counted == count, outcome
    assert front.counted("router_requests_total") == happened.total()
    assert front.counted("router_request_duration_seconds_count") == happened.total()
    assert front.counted("router_decisions_total") == happened.total()
    assert front.counted("router_refusals_total", code="invalid_json") == 1
    assert front.counted("router_usage_reports_total") == 8
    assert front.counted("router_actual_hit_tokens_total") == 8 * 40
    assert front.counted("router_completion_tokens_total") == 8 * 5
    assert front.counted("router_ttft_seconds_count") == 3
    assert front.counted("router_worker_failures_total") == 7
    assert front.counted("router_inflight_requests") == 0


def test_a_retried_request_is_counted_once_and_for_the_worker_that_answered(front: Front) -> None:
    before = front.counted("router_requests_total", outcome="ok"), front.counted("router_requests_total")
    retried = front.counted("router_retries_total")
    front.script(first(status(503), ok))
    answer = front.ask()
    front.wait_idle()
    assert front.counted("router_requests_total", outcome="ok") == before[0] + 1
    assert front.counted("router_requests_total") == before[1] + 1
    assert front.counted("router_retries_total") == retried + 1
    assert answer.headers["x-router-worker"] == front.calls[-1].worker.url


@pytest.mark.parametrize("policy", ["cache_aware", "power_of_two"])
def test_the_journal_of_a_live_router_replays_to_the_same_decisions(
    start_front: StartFront, tmp_path: Path, policy: str
) -> None:
    journal = tmp_path / "journal.jsonl"
    front = start_front(
        "--policy", policy, "--journal", str(journal), "--eject-after-failures", "3", "--eject-for-s", "0.2",
        count=3,
    )  # fmt: skip
    chance = random.Random(11)
    ways = [ok, ok, ok, stream, stream, status(500), status(400), Call.close, break_off]
    front.script(lambda call: chance.choice(ways)(call))
    for number in range(120):
        with front.connect() as connection:
            body = message(chance, stream=number % 2 == 0, user=f"user {number % 5}", priority=10**20)
            connection.send(request("POST", CHAT_PATH, body))
            try:
                connection.answer()
            except (AssertionError, OSError):
                continue
    front.wait_idle()
    front.router.terminate()
    assert front.router.wait() == 0
    with journal.open("rb") as lines:
        verdicts = list(replay(lines))
    assert sum(isinstance(recorded, Decision) for recorded, _ in verdicts) >= 100
    assert all(recorded == replayed for recorded, replayed in verdicts)
    text = journal.read_text()
    assert "question" not in text
    assert "user 1" not in text


def test_answers_that_correct_a_workers_believed_cache_are_counted(start_front: StartFront) -> None:
    front = start_front("--kv-capacity-tokens", "100000")
    usage = {"prompt_tokens": 2000, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}}
    front.script(lambda call: call.answer(json.dumps({"usage": usage}).encode()))
    body = message(random.Random(3)) | {"messages": [{"role": "user", "content": "hello " * 1500}]}
    for _ in range(5):
        assert front.ask(body).status == 200
    assert front.counted("router_capacity_lessons_total") > 0
    assert front.counted("router_capacity_lessons_total", lesson="nothing") == 0


def test_a_thousand_models_and_sessions_that_clients_made_up_leave_a_bounded_page(
    start_front: StartFront,
) -> None:
    front = start_front()

    def ask(numbers: range) -> list[str]:
        """Labels of every series, after these requests."""
        with front.connect() as connection:
            for number in numbers:
                names = {"model": f"made-up-{number}", "user": f"somebody-{number}"}
                connection.send(request("POST", CHAT_PATH, message(random.Random(number)) | names))
                assert connection.answer().status == 200
        front.wait_idle()
        page = httpx.get(f"{front.router.url}/metrics", trust_env=False).text
        return [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]

    some = ask(range(200))
    all_of_them = ask(range(200, 1000))
    assert sorted(all_of_them) == sorted(some), "once the bound is reached no series is new"
    models = {name for line in all_of_them for name in re.findall(r'[{,]model="([^"]*)"', line)}
    assert len(models) == 101
    assert "other" in models
    assert not any("somebody" in line for line in all_of_them), "a session is no label"
    assert front.counted("router_requests_total") == 1000, "what has no series of its own is counted too"
    assert front.counted("router_requests_total", model="other") == 900


def test_a_page_of_metrics_is_made_while_workers_and_models_come_and_go(start_front: StartFront) -> None:
    front = start_front(count=2)
    coming = front.workers[1].url
    done = threading.Event()

    def change() -> None:
        number = 0
        with httpx.Client(base_url=front.router.url, trust_env=False, timeout=20) as admin:
            while not done.is_set():
                number += 1
                admin.delete(f"/workers/{coming.removeprefix('http://')}", params={"drain": "false"})
                front.ask(message(random.Random(number)) | {"model": f"m{number}"})
                admin.post("/workers", json={"url": coming})

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    try:
        for _ in range(40):
            assert front.counted("router_worker_health") >= 1
    finally:
        done.set()
        changing.join(20)
    assert not changing.is_alive()

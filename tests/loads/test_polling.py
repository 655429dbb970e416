"""Routers see what others have sent to their workers, whatever an engine tells, and never harm it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from live.fake_worker import FakeWorker
from live.front import CHAT, CHAT_PATH, Front
from live.polling import eventually
from live.wire import Connection, request
from loads.engines import V1_LOADS, LoadedWorker
from warmroute_policies.replay import replay
from warmroute_policies.types import Decision

StartLoaded = Callable[..., list[LoadedWorker]]
StartAsker = Callable[..., Front]

TELLING = ["/v1/loads", "/load", "vllm", "sglang"]


@contextlib.contextmanager
def held(front: Front, count: int) -> Iterator[None]:
    """So many requests are at workers for the block's time; each is there before the next is sent."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            there = at_workers(front)
            connection = stack.enter_context(Connection(front.router.url))
            connection.send(request("POST", CHAT_PATH, CHAT))
            eventually(partial(more_at_workers, front, there), "the request is at a worker")
        yield


def at_workers(front: Front) -> int:
    return sum(worker.held for worker in front.workers if isinstance(worker, LoadedWorker))


def more_at_workers(front: Front, count: int) -> bool:
    return at_workers(front) > count


def asked_to(worker: LoadedWorker, path: str, count: int) -> bool:
    return worker.asked.get(path, 0) >= count


def foreign(front: Front) -> list[int]:
    """What the router thinks that others have on each worker."""
    states = [front.worker_state(worker)["reported"] for worker in front.workers]
    return [state["foreign_requests"] if state else -1 for state in states]


def loaded(start_loaded: StartLoaded, word: threading.Event, how: str, count: int = 2) -> list[LoadedWorker]:
    workers = start_loaded(count)
    for worker in workers:
        worker.hold(word)
        worker.tells(how)
    return workers


# --- two routers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", TELLING)
def test_each_of_two_routers_sees_what_the_other_has_in_flight(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event, how: str
) -> None:
    workers = loaded(start_loaded, word, how)
    one, other = start_asker(workers), start_asker(workers)
    with held(one, 4), held(other, 2):
        assert [worker.held for worker in workers] == [3, 3]
        eventually(lambda: foreign(one) == [1, 1], "one sees the other's two")
        eventually(lambda: foreign(other) == [2, 2], "the other sees four")
        assert [one.worker_state(worker)["inflight_requests"] for worker in workers] == [2, 2]
        assert one.counted("router_worker_foreign_requests") == 2
    eventually(lambda: foreign(one) == foreign(other) == [0, 0], "nobody has anything in flight")


def spread(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event, *flags: str
) -> list[int]:
    """Requests by worker: six of a client that knows but one of them, and six through a router for both."""
    workers = loaded(start_loaded, word, "/v1/loads")
    direct, router = start_asker(workers[:1]), start_asker(workers, *flags)
    with held(direct, 6):
        if not flags:
            eventually(lambda: foreign(router) == [6, 0], "the router sees them")
        with held(router, 6):
            return [worker.held for worker in workers]


def test_a_router_that_sees_others_requests_evens_them_out(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event
) -> None:
    assert spread(start_loaded, start_asker, word) == [6, 6]


def test_without_signals_it_evens_out_its_own_alone(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event
) -> None:
    assert spread(start_loaded, start_asker, word, "--load-poll", "off") == [9, 3]


def test_a_journal_with_reports_replays_to_the_same_decisions(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event, tmp_path: Path
) -> None:
    workers = loaded(start_loaded, word, "/v1/loads")
    journal = tmp_path / "journal.jsonl"
    direct, router = start_asker(workers[:1]), start_asker(workers, "--journal", str(journal))
    with held(direct, 3):
        eventually(lambda: foreign(router) == [3, 0], "the router sees them")
        with held(router, 5):
            pass
    router.wait_idle()
    router.router.terminate()
    assert router.router.wait() == 0
    lines = journal.read_bytes().splitlines(keepends=True)
    assert any(b'"e":"load"' in line for line in lines)
    verdicts = list(replay(lines))
    assert [then for then, _ in verdicts] == [now for _, now in verdicts]
    sent = [then.worker for then, _ in verdicts if isinstance(then, Decision)]
    assert sent[:3] == [workers[1].url] * 3
    assert sorted(sent[3:]) == sorted(worker.url for worker in workers)


# --- what is not told -------------------------------------------------------------------------------


def test_an_engine_that_tells_nothing_is_not_taken_as_idle(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event
) -> None:
    workers = loaded(start_loaded, word, "/v1/loads", 1) + start_loaded(1)
    silent = workers[1]
    silent.hold(word)
    router = start_asker(workers)
    text = "worker tells nothing of its load, so only the router's own requests count there"
    eventually(lambda: text in router.router.messages(), "the log says so")
    with held(router, 6):
        assert [worker.held for worker in workers] == [3, 3], "its own requests count"
    assert router.worker_state(silent)["reported"] is None
    asked = silent.questions()
    seen = workers[0].questions()
    eventually(lambda: workers[0].questions() >= seen + 5, "the other one is asked on")
    assert silent.questions() == asked, "it is left alone"
    assert router.router.messages().count(text) == 1


def test_a_load_that_is_always_zero_is_no_count(
    start_loaded: StartLoaded, start_asker: StartAsker, word: threading.Event
) -> None:
    workers = start_loaded(2)
    for worker in workers:
        worker.hold(word)
        worker.told["/load"] = lambda: (200, b'{"server_load": 0}')
    router = start_asker(workers)
    with held(router, 2):
        text = "worker tells nothing of its load, so only the router's own requests count there"
        eventually(lambda: router.router.messages().count(text) == 2, "nobody is believed")
    assert [router.worker_state(worker)["reported"] for worker in workers] == [None, None]


def test_what_engines_babble_is_survived(start_loaded: StartLoaded, start_asker: StartAsker) -> None:
    workers = start_loaded(5)
    answers: list[tuple[int, bytes]] = [
        (200, b"\xff\xfe\x00" * 100),
        (200, b"[" * 100_000),
        (200, b'{"loads": [{"num_running_reqs": 1e400}]}'),
        (500, b"{}"),
    ]
    for worker, answer in zip(workers, answers, strict=False):
        for path in (V1_LOADS, "/get_load", "/load", "/metrics"):
            worker.told[path] = partial(tuple[int, bytes], answer)
    for path in (V1_LOADS, "/metrics"):
        workers[4].told[path] = lambda: (200, b"vllm:num_requests_running 1\n" * 300_000)  # 8 MB
    router = start_asker(workers)
    for worker in workers:
        for path in (V1_LOADS, "/get_load", "/load", "/metrics"):
            eventually(partial(asked_to, worker, path, 1), "it was asked everywhere")
    eventually(lambda: router.counted("router_load_questions_total", end="odd") >= 9, "some was odd")
    eventually(lambda: router.counted("router_load_questions_total", end="failed") >= 5, "some was no answer")
    assert [router.ask().status for _ in range(5)] == [200] * 5
    assert foreign(router) == [-1] * 5


# --- how often --------------------------------------------------------------------------------------


def test_an_engine_that_answers_slowly_is_asked_less(
    start_loaded: StartLoaded, start_asker: StartAsker
) -> None:
    quick, slow = start_loaded(2)
    for worker in (quick, slow):
        worker.tells("/v1/loads")
    page, pause = slow.told[V1_LOADS], threading.Event()

    def late() -> tuple[int, bytes]:
        pause.wait(0.5)
        return page()

    slow.told[V1_LOADS] = late
    router = start_asker([quick, slow], "--load-poll-share", "0.2")
    eventually(lambda: quick.asked.get(V1_LOADS, 0) >= 12, "the quick one was asked often")
    assert 0 < slow.asked[V1_LOADS] * 2 < quick.asked[V1_LOADS]
    assert router.worker_state(slow)["reported"]["requests"] == 0


def test_one_question_at_a_time_and_none_to_a_worker_that_is_ill(
    start_loaded: StartLoaded, start_asker: StartAsker
) -> None:
    well, hangs, ill = start_loaded(3)
    word = threading.Event()
    well.tells("/v1/loads")

    def never() -> tuple[int, bytes]:
        word.wait(60)
        return 200, b"{}"

    hangs.told[V1_LOADS] = never
    ill.healthy = False
    ill.tells("/v1/loads")
    start_asker([well, hangs, ill], "--health-fall", "1", "--health-timeout-s", "60")
    eventually(lambda: well.asked.get(V1_LOADS, 0) >= 8, "the first one was asked often")
    try:
        assert hangs.asked[V1_LOADS] == 1
        assert V1_LOADS not in ill.asked
    finally:
        word.set()


def test_nobody_is_asked_where_it_is_off(start_loaded: StartLoaded, start_asker: StartAsker) -> None:
    (worker,) = start_loaded(1)
    worker.tells("/v1/loads")
    router = start_asker([worker], "--load-poll", "off")
    eventually(lambda: worker.asked.get("/health", 0) >= 5, "health is checked")
    assert V1_LOADS not in worker.asked
    assert router.worker_state(worker)["reported"] is None
    assert router.counted("router_load_questions_total") == 0


# --- pressure ---------------------------------------------------------------------------------------


def served(front: Front, count: int) -> set[str]:
    """Whom so many requests reach, one after the other: of two that are equally free each with all but
    certainty where there are sixteen."""
    return {front.ask().headers["x-router-worker"] for _ in range(count)}


def test_a_full_cache_gets_nothing_new_until_it_has_room(
    start_loaded: StartLoaded, start_asker: StartAsker
) -> None:
    full, free = start_loaded(2)
    for worker in (full, free):
        worker.tells("/v1/loads")
    router = start_asker([full, free], "--kv-pressure-gate", "0.95")

    def under_pressure(worker: FakeWorker) -> Any:
        reported = router.worker_state(worker)["reported"]
        return reported and reported["under_pressure"]

    assert served(router, 16) == {full.url, free.url}
    full.usage, full.waiting = 0.99, 2
    eventually(lambda: under_pressure(full), "the router knows")
    assert served(router, 8) == {free.url}
    assert router.counted("router_worker_under_pressure") == 1
    free.usage, free.waiting = 0.99, 2
    eventually(lambda: under_pressure(free), "the router knows")
    assert served(router, 16) == {full.url, free.url}, "never is nobody left"
    full.usage, full.waiting = 0.5, 0
    eventually(lambda: not under_pressure(full), "the router knows")
    assert served(router, 8) == {full.url}
    free.usage, free.waiting = 0.5, 0
    eventually(lambda: not under_pressure(free), "the router knows")
    assert served(router, 16) == {full.url, free.url}


def test_a_worker_that_is_taken_away_while_it_is_asked_is_nobodys_fault(
    start_loaded: StartLoaded, start_asker: StartAsker
) -> None:
    stays, goes = start_loaded(2)
    word = threading.Event()
    for worker in (stays, goes):
        worker.tells("/v1/loads")

    def at_word(page: Callable[[], tuple[int, bytes]] = goes.told[V1_LOADS]) -> tuple[int, bytes]:
        word.wait(20)
        return page()

    goes.told[V1_LOADS] = at_word
    router = start_asker([stays, goes])
    try:
        eventually(lambda: goes.asked.get(V1_LOADS), "it is being asked")
        with router.connect() as connection:
            answer = connection.ask("DELETE", f"/workers/{quote(goes.url, safe='')}")
            assert answer.status in (200, 202), answer.body
        eventually(lambda: len(router.state()["workers"]) == 1, "it is gone")
    finally:
        word.set()
    seen = stays.asked.get(V1_LOADS, 0)
    eventually(lambda: stays.asked.get(V1_LOADS, 0) >= seen + 5, "the router asks on")

"""A router that listens knows what its workers' caches hold: a real process, real sockets."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kv_events.recording import live_a_little
from live.fake_worker import FakeWorker, fake_workers
from live.front import Front
from live.kv_engine import KvEngine
from live.kv_publisher import KvPublisher, advertise, publishing
from live.polling import eventually
from live.processes import StartRouter, spawn_router

Known = dict[str, Any]

StartExact = Callable[..., Front]

_QUICK = ("--kv-events-replay-timeout-s", "0.5", "--kv-events-stall-s", "1")


@pytest.fixture
def workers() -> Iterator[list[FakeWorker]]:
    """Two of them."""
    with fake_workers(2) as both:
        yield both


@pytest.fixture
def start_exact(start_router: StartRouter, workers: list[FakeWorker]) -> StartExact:
    """A router that listens, in front of the first workers, with options behind each one's URL."""

    def start(*flags: str, options: tuple[str, ...] = ("",), mode: str = "auto") -> Front:
        served = workers[: len(options)]
        urls = [worker.url + option for worker, option in zip(served, options, strict=True)]
        listening = ("--no-model-discovery", "--kv-events", mode, *_QUICK)
        return Front(start_router(*urls, flags=(*listening, *flags)), served)

    return start


def known(front: Front, number: int = 0) -> Known:
    """What the router says that it knows of a worker's cache."""
    answer = httpx.get(f"{front.router.url}/workers", trust_env=False, timeout=20).json()
    url = front.workers[number].url
    found = next(worker["kv_events"] for worker in answer["workers"] if worker["id"] == url)
    assert isinstance(found, dict), answer
    return found


def knows_all(front: Front, engine: KvEngine, number: int = 0) -> bool:
    """Whether exactly what the engine holds is known."""
    found = known(front, number)
    return (found["state"], found["blocks"], found["fingerprint"]) == (
        "exact",
        engine.blocks(),
        engine.fingerprint(),
    )


def wait_known(front: Front, engine: KvEngine, number: int = 0) -> None:
    eventually(lambda: knows_all(front, engine, number), f"it knows all: {known(front, number)}")


def tokens(*numbers: int, size: int = 16) -> list[int]:
    """A block for each number."""
    return [number for number in numbers for _ in range(size)]


# --- exact ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "vllm bytes", "vllm arrays"])
def test_who_joins_late_knows_all_and_follows_what_happens(
    start_exact: StartExact, workers: list[FakeWorker], dialect: Any
) -> None:
    chance = random.Random(5)
    with publishing(KvEngine(dialect), topic="kv") as publisher:
        engine = publisher.engine
        for _ in range(40):
            publisher.run(lambda: live_a_little(engine, chance))
            publisher.publish()
        advertise(workers[0], publisher)
        front = start_exact()
        wait_known(front, engine)
        publisher.prompt(tokens(7, 8, 9), salt=None)
        publisher.run(lambda: engine.evict(2, chance))
        publisher.publish()
        wait_known(front, engine)
        publisher.run(engine.clear)
        publisher.publish()
        wait_known(front, engine)
        assert known(front)["last_batch"] == {"0": 42}
        assert publisher.questions[0] == 0


def test_an_engine_that_has_stored_nothing_yet_is_known_once_it_has(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        advertise(workers[0], publisher)
        front = start_exact()
        eventually(lambda: known(front)["why"] == "nothing was stored yet", "it was asked, and had nothing")
        publisher.prompt(tokens(1, 2))
        wait_known(front, publisher.engine)


def test_an_engine_that_restarts_is_forgotten_and_known_again(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        for number in range(10):
            publisher.prompt(tokens(1, 2, number))
        advertise(workers[0], publisher)
        front = start_exact()
        wait_known(front, publisher.engine)
        publisher.restart()
        eventually(lambda: not sum(known(front)["blocks"].values()), "what it held is forgotten")
        publisher.prompt(tokens(5, 6))
        wait_known(front, publisher.engine)
        assert front.counted("router_kv_event_restarts_total") == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_batches_that_are_lost_on_the_way_are_had_again(
    start_exact: StartExact, workers: list[FakeWorker], seed: int
) -> None:
    chance = random.Random(seed)
    with publishing(loss=0.01, seed=seed) as publisher:
        advertise(workers[0], publisher)
        front = start_exact()
        for _ in range(2):
            for _ in range(200):
                publisher.run(lambda: live_a_little(publisher.engine, chance))
                publisher.publish()
            publisher.prompt(tokens(seed, 1, 2, 3), again=True)
            front.ask()  # whatever was lost last is asked for behind its end
            wait_known(front, publisher.engine)
        assert publisher.lost, f"seed {seed}"
        assert front.counted("router_kv_event_gaps_total") <= publisher.lost


def test_a_last_batch_that_was_lost_is_asked_for_behind_the_request(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        publisher.prompt(tokens(1, 2))
        advertise(workers[0], publisher)
        front = start_exact("--kv-events-verify-s", "3600")
        front.script(lambda call: call.answer(b"{}"))  # nothing says that anything was stored
        wait_known(front, publisher.engine)
        publisher.prompt(tokens(3, 4), lost=True)
        assert not knows_all(front, publisher.engine)
        assert front.ask().status == 200
        wait_known(front, publisher.engine)


def test_data_parallel_ranks_have_a_cache_each(start_exact: StartExact, workers: list[FakeWorker]) -> None:
    with publishing(KvEngine(rank=0)) as first, publishing(KvEngine(rank=1)) as second:
        first.prompt(tokens(1, 2))
        second.prompt(tokens(1, 3))
        second.prompt(tokens(4))
        advertise(workers[0], first, second)
        front = start_exact()
        eventually(lambda: known(front)["last_batch"] == {"0": 0, "1": 1}, "both have told")
        found = known(front)
        total = int(first.engine.fingerprint(), 16) + int(second.engine.fingerprint(), 16)
        assert found["state"] == "exact"
        assert (found["blocks"]["gpu"], found["fingerprint"]) == (5, f"{total % (1 << 64):016x}")


# --- not exact --------------------------------------------------------------------------------------


def test_who_joins_late_without_replay_is_partial_until_the_cache_was_cleared(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing(replay=None) as publisher:
        publisher.prompt(tokens(1, 2))
        advertise(workers[0], publisher)
        front = start_exact()

        def partial() -> bool:
            publisher.prompt(tokens(3, 4), again=True)
            return bool(known(front)["state"] == "partial")

        eventually(partial, "something came")
        assert known(front)["why"] == "joined late"
        publisher.run(publisher.engine.clear)
        publisher.prompt(tokens(1, 2))
        wait_known(front, publisher.engine)


def test_a_stream_that_stalls_makes_the_worker_predicted_until_it_is_back(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        publisher.prompt(tokens(1, 2))
        advertise(workers[0], publisher)
        front = start_exact()
        wait_known(front, publisher.engine)
        publisher.silent.set()
        front.ask()  # of its 100 tokens 40 were cached
        eventually(lambda: known(front)["state"] == "approximate", "the stream has stalled")
        assert known(front)["why"].startswith("stalled")
        assert front.counted("router_kv_event_stalls_total") == 1
        assert front.counted("router_kv_event_state", state="approximate") == 1
        assert "KV events have stalled" in front.router.messages()
        publisher.silent.clear()
        publisher.prompt(tokens(3, 4))
        wait_known(front, publisher.engine)
        assert front.counted("router_kv_event_state", state="exact") == 1


def test_a_request_that_computed_less_than_two_blocks_is_no_reason_to_doubt(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}}
    with publishing() as publisher:
        publisher.prompt(tokens(1, 2))
        advertise(workers[0], publisher)
        front = start_exact()
        front.script(lambda call: call.answer(json.dumps({"usage": usage}).encode()))
        wait_known(front, publisher.engine)
        asked = len(publisher.questions)
        front.ask()
        eventually(lambda: len(publisher.questions) > asked, "it was verified")
        publisher.silent.set()
        front.ask()
        failed = "router_kv_event_replays_total"
        eventually(lambda: front.counted(failed, result="unanswered"), "it was verified in vain")
        assert knows_all(front, publisher.engine), "nothing says that anything is missing"


def test_more_blocks_than_may_be_kept_are_not_known_at_all(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        publisher.prompt(tokens(*range(20)))
        advertise(workers[0], publisher)
        front = start_exact("--kv-events-max-blocks", "25")
        wait_known(front, publisher.engine)
        publisher.prompt(tokens(*range(100, 110)))
        eventually(lambda: "max_blocks" in known(front)["why"], "it is given up")
        assert (known(front)["state"], known(front)["blocks"]["gpu"]) == ("approximate", 0)
        assert front.counted("router_kv_event_errors_total", reason="bound") == 1


def test_a_worker_with_too_many_blocks_is_not_heard_on_a_shared_line_either(
    start_exact: StartExact, workers: list[FakeWorker], tmp_path: Path
) -> None:
    address = f"ipc://{tmp_path}/events"
    with publishing(endpoint=address, connect=True) as publisher:
        advertise(workers[0], publisher)
        front = start_exact("--kv-events-max-blocks", "25", mode=f"bind:{address}")
        publisher.prompt(tokens(*range(40)))

        def given_up() -> bool:
            publisher.prompt(tokens(*range(40)), again=True)
            return "max_blocks" in str(known(front)["why"])

        eventually(given_up, "it is given up")
        before = front.counted("router_kv_event_batches_total")
        for number in range(20):
            publisher.prompt(tokens(number))
        httpx.get(f"{front.router.url}/health", trust_env=False)
        assert front.counted("router_kv_event_batches_total") == before
        assert front.counted("router_kv_event_errors_total", reason="bound") == 1


def test_what_is_no_event_is_logged_once_and_the_stream_goes_on(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing(KvEngine()) as publisher:
        publisher.prompt(tokens(1, 2))
        advertise(workers[0], publisher)
        front = start_exact()
        wait_known(front, publisher.engine)
        pub = publisher._pub
        for odd in ([b"x"], [b"", b"short", b"x"], [b"", b"\xff" * 8, b"\xc1" * 100], [b""] * 50):
            publisher.run(lambda odd=odd: pub.send_multipart(odd))  # type: ignore[misc] # bound now
        publisher.restart()
        publisher.prompt(tokens(3, 4))
        wait_known(front, publisher.engine)
        said = [line for line in front.router.lines() if line.get("reason") == "unreadable"]
        assert len(said) == 1, said


# --- where they publish -----------------------------------------------------------------------------


def test_engines_that_connect_to_the_router_are_told_apart_by_their_topics(
    start_exact: StartExact, workers: list[FakeWorker], tmp_path: Path
) -> None:
    address = f"ipc://{tmp_path}/events"
    with contextlib.ExitStack() as stack:
        both = []
        for worker in workers:
            topic = f"kv@{worker.url.removeprefix('http://')}@model"
            publisher = stack.enter_context(publishing(endpoint=address, connect=True, topic=topic))
            both.append(publisher)
            publisher.prompt(tokens(1))  # nobody is there yet: it is had by a replay
            advertise(worker, publisher)
        front = start_exact(options=("", ""), mode=f"bind:{address}")
        for number, publisher in enumerate(both):
            publisher.prompt(tokens(2, number))
        strange = stack.enter_context(publishing(endpoint=address, connect=True, topic="kv@nobody:1@m"))

        def unmatched() -> bool:
            strange.prompt(tokens(9), again=True)
            return front.counted("router_kv_event_unmatched_total") > 0

        eventually(unmatched, "a stranger is heard")
        for number, publisher in enumerate(both):

            def follows(number: int = number, publisher: KvPublisher = publisher) -> bool:
                front.ask()
                return knows_all(front, publisher.engine, number)

            eventually(follows, f"each knows its own: {known(front, number)}")


def test_an_operator_may_name_each_workers_endpoints(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as first, publishing() as second:
        options = tuple(f",kv_events={one.endpoint},kv_replay={one.replay}" for one in (first, second))
        first.prompt(tokens(1, 2))
        second.prompt(tokens(3))
        front = start_exact(options=options, mode="off")
        wait_known(front, first.engine, 0)
        wait_known(front, second.engine, 1)


def test_a_worker_that_leaves_is_listened_to_no_more(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        publisher.prompt(tokens(1, 2))
        advertise(workers[0], publisher)
        front = start_exact(options=("", ""))
        wait_known(front, publisher.engine)
        url = f"{front.router.url}/workers"
        httpx.delete(f"{url}/{workers[0].url}", params={"drain": False}, trust_env=False).raise_for_status()
        publisher.prompt(tokens(3))
        eventually(lambda: not front.counted("router_kv_event_state", worker=workers[0].url), "it is gone")
        httpx.post(url, json={"url": workers[0].url}, trust_env=False).raise_for_status()
        wait_known(front, publisher.engine)


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ({}, "does not say where it publishes"),
        ({"/kv_event_sources": {}}, "names no publisher"),
        (
            {"/kv_event_sources": {"0": {"enable_kv_cache_events": False, "publisher": "null"}}},
            "enable_kv_cache_events",
        ),
        (
            {"/kv_event_sources": {"0": {"publisher": "zmq", "endpoint": "tcp://127.0.0.1:1"}}},
            "nobody listens at tcp://127.0.0.1:1: the engine connects there itself",
        ),
        ({"/server_info": {"page_size": 16}}, "start SGLang with --kv-events-config"),
    ],
)
def test_why_nothing_is_known_is_said_with_what_to_do(
    start_exact: StartExact, workers: list[FakeWorker], pages: dict[str, object], why: str
) -> None:
    for path, page in pages.items():
        workers[0].pages[path] = 200, json.dumps(page).encode()
    front = start_exact()
    found = known(front)
    assert found["state"] == "approximate"
    assert why in found["why"]
    [line] = [
        line for line in front.router.lines() if line["message"] == "worker's cache is predicted, not known"
    ]
    assert (line["level"], line["worker"]) == ("info", workers[0].url)


def test_without_kv_events_nobody_is_asked_or_listened_to(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        publisher.prompt(tokens(1))
        advertise(workers[0], publisher)
        front = start_exact(mode="off")
        answer = httpx.get(f"{front.router.url}/workers", trust_env=False).json()
        assert answer["workers"][0]["kv_events"] is None
        assert front.ask().status == 200
        assert publisher.questions == []


def test_a_router_without_the_library_says_what_to_install(tmp_path: Path, workers: list[FakeWorker]) -> None:
    (tmp_path / "zmq.py").write_text("raise ImportError('not here')")
    flags = ("--backend", workers[0].url, "--kv-events", "auto")
    with pytest.raises(AssertionError, match=r"pip install 'warmroute\[exact\]'"):
        spawn_router(tmp_path / "router.log", *flags, env={"PYTHONPATH": str(tmp_path)})


def test_the_router_stops_in_order_while_it_listens(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    with publishing() as publisher:
        advertise(workers[0], publisher)
        front = start_exact()
        for number in range(50):
            publisher.prompt(tokens(number))
        front.router.terminate()
        for number in range(50):
            publisher.prompt(tokens(number, 1))
        assert front.router.wait() == 0


def test_a_prompt_goes_where_the_engines_say_that_it_is(
    start_exact: StartExact, workers: list[FakeWorker]
) -> None:
    """Nobody sent it through this router before, and nothing is believed of it."""
    prompt = [number % 97 for number in range(500)]
    with publishing() as first, publishing() as second:
        for worker, publisher in zip(workers, (first, second), strict=True):
            publisher.prompt([5] * 64)
            advertise(worker, publisher)
        second.prompt(prompt)
        front = start_exact(options=("", ""))
        wait_known(front, first.engine, 0)
        wait_known(front, second.engine, 1)
        short = {"model": "m", "prompt": [5] * 64}  # too short to be predicted by belief

        def looks_at_tokens() -> bool:
            answer = front.ask(short, "/v1/completions")
            return answer.headers["x-router-predicted-hit-tokens"] == "48"

        eventually(looks_at_tokens, "prompts are compared with what is known")
        asked = {"model": "m", "prompt": prompt, "max_tokens": 1}
        answer = front.ask(asked, "/v1/completions")
        assert answer.headers["x-router-worker"] == workers[1].url
        assert answer.headers["x-router-predicted-hit-tokens"] == "496"
        second.run(lambda: second.engine.evict(1000, random.Random(0)))
        second.publish()
        first.prompt(prompt[:320])
        wait_known(front, first.engine, 0)
        wait_known(front, second.engine, 1)
        answer = front.ask(asked | {"max_tokens": 2}, "/v1/completions")
        assert answer.headers["x-router-worker"] == workers[0].url
        assert answer.headers["x-router-predicted-hit-tokens"] == "320"

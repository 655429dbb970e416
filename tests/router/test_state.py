"""A router that begins where another one ended: what is kept, and what is not trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from live.fake_worker import FakeWorker, fake_workers
from live.front import CHAT, Front
from live.polling import eventually
from live.processes import StartRouter

Change = Callable[[bytes], bytes]

SECRET = "the launch code is 0000"
SESSION = "ada@example.org"


def chat(which: int) -> dict[str, Any]:
    return CHAT | {"messages": [{"role": "user", "content": f"{which} {SECRET} " * 400}]}


def route(front: Front, which: int) -> tuple[str, int]:
    answer = front.ask(chat(which), x_session_id=SESSION)
    assert answer.status == 200
    return answer.headers["x-router-worker"], int(answer.headers["x-router-predicted-hit-tokens"])


class Twice:
    """Two routers, one after the other, in front of the same workers, with one state file."""

    def __init__(self, start: StartRouter, workers: list[FakeWorker], path: Path) -> None:
        self.start, self.workers, self.path = start, workers, path

    def router(self, *flags: str) -> Front:
        urls = [worker.url for worker in self.workers]
        flags = ("--no-model-discovery", "--state-file", str(self.path), *flags)
        return Front(self.start(*urls, flags=flags), self.workers)

    def first(self) -> dict[int, str]:
        """What the first router did, and its end."""
        front = self.router()
        homes = {which: route(front, which)[0] for which in range(6)}
        front.router.terminate()
        assert front.router.wait() == 0
        return homes


@pytest.fixture
def twice(start_router: StartRouter, tmp_path: Path) -> Any:
    with fake_workers(3) as workers:
        yield Twice(start_router, workers, tmp_path / "state")


def message(front: Front, text: str) -> dict[str, Any]:
    return next(line for line in front.router.lines() if line["message"] == text)


def test_a_restarted_router_knows_who_holds_what(twice: Twice) -> None:
    homes = twice.first()
    assert len(set(homes.values())) > 1
    front = twice.router()
    told = message(front, "state restored")
    assert told["prompts"] == 6
    for which, home in homes.items():
        worker, hit = route(front, which)
        assert worker == home
        assert hit > 1_000
    assert front.state()["memory"]["sessions"] == 1


def test_the_file_holds_no_prompt_and_no_session_and_is_written_while_the_router_runs(twice: Twice) -> None:
    front = twice.router("--state-interval-s", "0.3")
    route(front, 1)
    before = eventually(lambda: twice.path.exists() and twice.path.stat().st_size, "it is written")
    route(front, 2)
    eventually(lambda: twice.path.stat().st_size > before, "and written again")
    front.router.kill()
    data = twice.path.read_bytes()
    for word in (SECRET, SESSION, "launch"):
        assert word.encode() not in data
    again = twice.router()
    assert route(again, 1)[1] > 1_000, "a router that was killed left its last snapshot"


def signed(data: bytes) -> bytes:
    return data[:-8] + xxh3_64_intdigest(data[:-8]).to_bytes(8, "little")


SPOILED: dict[str, tuple[Change, str]] = {
    "empty": (lambda data: b"", "no state"),
    "cut": (lambda data: data[: len(data) // 2], "checksum"),
    "one byte less": (lambda data: data[:-1], "checksum"),
    "a flipped bit": (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "checksum"),
    "something else": (lambda data: b"#!/bin/sh\n" * 50, "no state"),
    "frames that do not fit": (lambda data: signed(data[:8] + b"\xff\xff\xff\x7f" + data[12:]), "torn"),
    "another version": (
        # MessagePack: the head is a list of five whose first item is the version.
        lambda data: signed(data[:13] + b"\x63" + data[14:]),
        "another version",
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_file_that_is_not_to_be_trusted_is_ignored_with_one_line(twice: Twice, how: str) -> None:
    twice.first()
    spoil, why = SPOILED[how]
    twice.path.write_bytes(spoil(twice.path.read_bytes()))
    front = twice.router()
    assert why in message(front, "the state file is ignored")["why"]
    assert route(front, 1)[1] == 0
    front.router.terminate()
    assert front.router.wait() == 0
    assert twice.path.read_bytes().startswith(b"warmrte1"), "the next one is written over it"


def test_what_is_too_old_is_ignored(twice: Twice) -> None:
    twice.first()
    moved = eventually(lambda: time.time() - twice.path.stat().st_mtime > 0.6, "time passes")
    assert moved
    front = twice.router("--state-max-age-s", "0.5")
    assert "s old" in message(front, "the state file is ignored")["why"]
    assert route(front, 1)[1] == 0


def test_another_number_of_replicas_is_another_setting(twice: Twice) -> None:
    twice.first()
    front = twice.router("--replicas", "2")
    assert "other settings" in message(front, "the state file is ignored")["why"]


def test_a_worker_that_is_gone_is_left_out_and_the_others_are_restored(twice: Twice) -> None:
    homes = twice.first()
    gone = homes[0]
    left = [worker for worker in twice.workers if worker.url != gone]
    front = Twice(twice.start, left, twice.path).router()
    for which, home in homes.items():
        hit = route(front, which)[1]
        assert (hit > 1_000) is (home != gone)


def test_a_worker_that_is_another_process_than_before_begins_empty(twice: Twice) -> None:
    for worker in twice.workers:
        worker.metrics_page = b"process_start_time_seconds 1000.0\n"
    homes = twice.first()
    for worker in twice.workers:
        if worker.url == homes[0]:
            worker.metrics_page = b"process_start_time_seconds 2000.0\n"
    front = twice.router()
    for which, home in homes.items():
        hit = route(front, which)[1]
        assert (hit > 1_000) is (home != homes[0])


def test_a_worker_that_is_added_later_gets_what_was_kept_of_it(twice: Twice) -> None:
    homes = twice.first()
    late = next(worker for worker in twice.workers if worker.url == homes[0])
    others = [worker for worker in twice.workers if worker is not late]
    front = Twice(twice.start, others, twice.path).router()
    with front.connect() as connection:
        assert connection.ask("POST", "/workers", {"url": late.url}).status == 201
    eventually(lambda: "worker's state restored" in front.router.messages(), "it is restored")
    worker, hit = route(front, 0)
    assert worker == late.url
    assert hit > 1_000


def test_a_disk_that_fails_costs_a_warning_and_leaves_the_old_file(twice: Twice) -> None:
    twice.first()
    before = twice.path.read_bytes()
    front = twice.router("--state-interval-s", "0.2")
    (twice.path.parent / "state.new").unlink(missing_ok=True)
    (twice.path.parent / "state.new").mkdir()
    eventually(
        lambda: any("the state was not written" in text for text in front.router.messages()), "a warning"
    )
    assert front.ask().status == 200
    front.router.terminate()
    assert front.router.wait() == 0
    assert twice.path.read_bytes() != b""
    assert twice.path.read_bytes()[:8] == before[:8]


def test_a_journal_begins_with_an_empty_router(twice: Twice, tmp_path: Path) -> None:
    twice.first()
    front = twice.router("--journal", str(tmp_path / "journal"))
    assert any("not read while a journal" in text for text in front.router.messages())
    assert route(front, 1)[1] == 0


def test_without_a_file_nothing_is_said(twice: Twice) -> None:
    front = twice.router()
    assert not any("state" in text for text in front.router.messages())

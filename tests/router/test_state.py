"""A router that begins where another one ended: what is kept, and what is not trusted."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from live.fake_worker import Call, FakeWorker, fake_workers, ok
from live.front import CHAT, CHAT_PATH, Front
from live.polling import eventually
from live.processes import StartRouter
from live.wire import request
from warmroute.app import build
from warmroute.config import Settings
from warmroute.handover import _choose
from warmroute.state import StateFile, read_state
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.pseudonym import pseudonym

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
    front = twice.router("--state-interval-s", "0.2")
    before = twice.path.read_bytes()
    room = 1 << 16  # for the log
    resource.prlimit(front.router.pid, resource.RLIMIT_FSIZE, (room, room))
    large = CHAT | {"messages": [{"role": "user", "content": "more than fits " * (room * 5)}]}
    assert front.ask(large).status == 200
    eventually(lambda: warned(front, "the state was not written: File too large"), "a warning")
    assert twice.path.read_bytes()[:8] == before[:8]
    assert twice.path.stat().st_size < room
    assert front.ask().status == 200
    front.router.terminate()
    assert front.router.wait() == 0
    assert others(twice.path) == [], "what was begun is not left behind"


def warned(front: Front, text: str) -> bool:
    return any(text in message for message in front.router.messages())


def others(path: Path) -> list[Path]:
    return sorted(one for one in path.parent.glob(f"{path.name}*") if one != path)


def test_a_folder_that_is_not_there_is_told_at_the_start(twice: Twice, tmp_path: Path) -> None:
    twice.path = tmp_path / "nowhere" / "state"
    front = twice.router()
    assert "no such directory" in message(front, "the state will not be kept")["why"]
    assert front.ask().status == 200


def test_what_is_no_file_or_larger_than_any_state_is_not_read(twice: Twice, tmp_path: Path) -> None:
    """A pipe would never end, and a terabyte does not fit into memory."""
    os.mkfifo(twice.path)
    front = twice.router()
    assert "no regular file" in message(front, "the state file is ignored")["why"]
    twice.path = tmp_path / "large"
    with twice.path.open("wb") as file:
        file.truncate(1 << 40)
    front = twice.router()
    assert "index_max_bytes" in message(front, "the state file is ignored")["why"]


def test_what_a_killed_router_left_half_written_is_gone_and_what_is_being_written_stays(twice: Twice) -> None:
    old, young = (twice.path.with_name(f"state.{name}.new") for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"warmrte1")
    os.utime(old, (time.time() - 7200,) * 2)
    twice.router()
    assert others(twice.path) == [young]


def test_a_journal_and_a_state_do_not_go_together(tmp_path: Path) -> None:
    """A journal is replayed from an empty router."""
    words = ["--port", "0", "--journal", str(tmp_path / "journal"), "--state-file", str(tmp_path / "state")]
    done = subprocess.run(
        [sys.executable, "-m", "warmroute", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "leave out one of them" in done.stderr
    assert not (tmp_path / "journal").exists(), "nothing was begun"


def claims(front: Front) -> int:
    return front.router.messages().count("worker's state restored")


def test_sessions_and_answers_of_a_worker_that_comes_later_are_restored_too(
    start_router: StartRouter, tmp_path: Path
) -> None:
    """All workers of a discovery come later; and a session that stays silent outlives two restarts."""
    with fake_workers(3) as workers:
        path, listed = tmp_path / "state", tmp_path / "workers.json"
        urls = [worker.url for worker in workers]
        flags = ("--no-model-discovery", "--policy", "session_sticky", "--policy-param", "inner=random",
                 "--state-file", str(path), "--discover-file", str(listed),
                 "--discover-file-interval-s", "0.1")  # fmt: skip

        def router(restored: int = 3) -> Front:
            listed.write_text(json.dumps({"backend": []}))
            front = Front(start_router(flags=flags), workers)
            listed.write_text(json.dumps({"backend": urls}))
            eventually(lambda: sum(w["healthy"] for w in front.state()["workers"]) == 3, "all are there")
            eventually(lambda: claims(front) == restored, "what was kept is restored")
            return front

        def end(front: Front) -> None:
            front.router.terminate()
            assert front.router.wait() == 0

        front = router(restored=0)
        homes = {f"s{n}": front.ask(x_session_id=f"s{n}").headers["x-router-worker"] for n in range(12)}
        end(front)
        for _ in range(2):
            end(router())
        front = router()
        assert {name: front.ask(x_session_id=name).headers["x-router-worker"] for name in homes} == homes


def held(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_who_takes_over_a_port_begins_with_the_file_and_has_it_to_itself(
    start_router: StartRouter, tmp_path: Path
) -> None:
    """The old router drains for a while, and does not write its older view over the new one's."""
    with fake_workers(2) as workers, socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("127.0.0.1", 0))
        probe.listen()
        if not _choose(probe, 0):
            pytest.skip("this kernel lets nobody choose among listeners")
        path, go_on = tmp_path / "state", threading.Event()
        flags = ("--port", str(probe.getsockname()[1]), "--reuse-port", "--no-model-discovery",
                 "--state-file", str(path), "--state-interval-s", "0.2")  # fmt: skip
        urls = [worker.url for worker in workers]

        def slowly(call: Call) -> None:
            call.hold(go_on)
            ok(call)

        old = Front(start_router(*urls, flags=flags), workers)
        probe.close()
        first = old.ask(chat(1), x_session_id="kept")
        eventually(lambda: pseudonym("kept").encode() in held(path), "kept")
        old.script(slowly)
        with old.connect() as connection:
            connection.send(request("POST", CHAT_PATH, CHAT))
            eventually(lambda: len(old.calls) == 2, "a request is on its way in the old router")
            new = Front(start_router(*urls, flags=flags), workers)
            assert message(new, "state restored")["prompts"] >= 1
            old.router.terminate()
            old.script(ok)

            def taken() -> bool:
                answer = new.ask(chat(2), x_session_id="new")
                return answer.headers["x-request-id"][:16] != first.headers["x-request-id"][:16]

            eventually(taken, "new connections go to the new router")
            known = pseudonym("new").encode()
            written: list[int] = []

            def alone() -> bool:
                """Of so many writes in a row none is the old one's; it may take a second to give way."""
                at, data = path.stat().st_mtime_ns, path.read_bytes()
                if known not in data:
                    written.clear()
                elif at not in written:
                    written.append(at)
                return len(written) >= 12

            eventually(alone, "only the new one writes")
            assert old.router.process.poll() is None, "and the old one still drains"
            again = new.ask(chat(1), x_session_id="kept")
            assert again.headers["x-router-worker"] == first.headers["x-router-worker"]
            assert int(again.headers["x-router-predicted-hit-tokens"]) > 1_000
            go_on.set()
            assert connection.answer().status == 200
        assert old.router.wait() == 0
        assert known in path.read_bytes()


async def _first_of_two_leaves(tmp_path: Path) -> list[int]:
    """What became of the second one's part while the first one's was restored in slices."""
    settings = Settings(state_file=tmp_path / "state", backend=("http://a:1", "http://b:1"))
    gateway = build(settings)
    for url in settings.backend:
        for number in range(40):
            ids = bytes([number]) * 8 * 4
            blocks = PromptBlocks.from_ids(ids)
            slot = gateway.balancer.fleet.slot_of[url.url]
            gateway.balancer.index.insert(slot, blocks, gateway.balancer.index.match(blocks))
    StateFile(gateway, tmp_path / "state", None).write()
    gateway = build(settings)
    state = StateFile(gateway, tmp_path / "state", read_state(settings))
    for worker in gateway.workers.values():
        worker.contacted.set()
    task = asyncio.get_running_loop().create_task(state.run())
    index = gateway.balancer.index
    while not index.statistics().blocks:  # noqa: ASYNC110
        await asyncio.sleep(0)
    first = next(url for url in list(gateway.workers) if index.resident(gateway.balancer.fleet.slot_of[url]))
    second = next(url for url in gateway.workers if url != first)
    gateway.workers.remove(second)
    while index.resident(gateway.balancer.fleet.slot_of[first]) < 160 and not task.done():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert not task.done(), task
    task.cancel()
    return [index.resident(gateway.balancer.fleet.slot_of[first])]


def test_a_worker_that_leaves_while_another_one_is_restored_ends_nothing(tmp_path: Path) -> None:
    """The task's end would be the router's."""
    assert asyncio.run(_first_of_two_leaves(tmp_path)) == [160]


def test_the_last_word_is_not_overtaken_by_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop comes while a thread still waits for the disk with an older state."""
    gateway = build(Settings(state_file=tmp_path / "state", backend=("http://a:1",)))
    state = StateFile(gateway, tmp_path / "state", None)
    at_the_disk, go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(file: int) -> None:
        at_the_disk.set()
        assert go_on.wait(10)
        fsync(file)

    monkeypatch.setattr("warmroute.state.os.fsync", slow)
    older = threading.Thread(target=state._replace, args=([b"older"],))
    older.start()
    assert at_the_disk.wait(10)
    threading.Timer(0.2, go_on.set).start()
    state.write()
    older.join(10)
    state._replace([b"later, but of before"])
    saved = read_state(gateway.settings)
    assert saved is not None
    assert list(saved.head.workers) == ["http://a:1"]
    assert others(tmp_path / "state") == []


def test_without_a_file_nothing_is_said(twice: Twice) -> None:
    front = twice.router()
    assert not any("state" in text for text in front.router.messages())

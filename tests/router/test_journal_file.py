"""The journal on a disk that fills up, and of a router that is killed: whole lines, and they replay."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from live.front import CHAT, Front
from live.polling import eventually
from warmroute.journal import JournalFile
from warmroute_policies.events import Finished
from warmroute_policies.replay import read, replay

StartFront = Callable[..., Front]

# The router's own log is under the same limit, and stays far below it.
LIMIT_BYTES = 48 << 10


def test_a_full_disk_ends_the_recording_with_whole_lines_and_no_request(
    start_front: StartFront, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    front = start_front("--journal", str(path))
    resource.prlimit(front.router.pid, resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
    long = CHAT | {"messages": [{"role": "user", "content": "x" * 20_000}]}
    for _ in range(80):
        assert front.ask(long).status == 200
    eventually(
        lambda: any("journal failed, recording ends" in text for text in front.router.messages()), "a warning"
    )
    assert front.ask(long).status == 200, "routing goes on"
    data = path.read_bytes()
    assert data.endswith(b"\n"), "what the disk took of half a line is cut off"
    assert LIMIT_BYTES - 5_000 < len(data) < LIMIT_BYTES, "all whole lines that it took are there"
    told: list[int] = []
    with path.open("rb") as lines:
        verdicts = list(replay(lines, torn_line=told.append))
    assert len(verdicts) > 5
    assert all(then == now for then, now in verdicts)
    assert told == []


@pytest.mark.parametrize("room", [0, 1, 12, 13, 30])
def test_a_write_that_fails_half_way_leaves_the_lines_before_it(tmp_path: Path, room: int) -> None:
    path = tmp_path / "journal.jsonl"
    first, more = b'{"line": 1}\n', [b'{"a": 2, "b": 3}\n', b'{"c": 4}\n', b'{"d": 5, "e": "much longer"}\n']
    whole = [b"".join([first, *more[:count]]) for count in range(len(more) + 1)]
    with JournalFile(path, 1 << 20) as journal:
        journal.write(first)
        journal.flush()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + room, before[1]))
        try:
            for line in more:
                journal.write(line)
            journal.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        journal.write(b"{}\n")  # recording has ended
    kept = path.read_bytes()
    assert kept == max((lines for lines in whole if len(lines) <= len(first) + room), key=len)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_device_that_takes_nothing_costs_a_warning() -> None:
    with JournalFile(Path("/dev/full"), 1 << 20) as journal:
        journal.write(b"{}\n")
        journal.flush()
        journal.write(b"{}\n")


def test_the_journal_of_a_router_that_was_killed_replays(start_front: StartFront, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    front = start_front("--journal", str(path), count=2)
    for _ in range(20):
        front.ask()

    def ends() -> int:
        with path.open("rb") as lines:
            return sum(isinstance(event, Finished) for _, event in read(lines))

    eventually(lambda: path.stat().st_size and ends() == 20, "the kernel has the lines")
    front.ask()
    front.router.kill()
    with path.open("rb") as lines:
        verdicts = list(replay(lines))
    assert len(verdicts) >= 20
    assert all(then == now for then, now in verdicts)
    # The machine may die as well, within a line: any beginning of the file that has the header replays.
    with path.open("r+b") as file:
        os.ftruncate(file.fileno(), path.stat().st_size - 20)
    told: list[int] = []
    with path.open("rb") as lines:
        assert all(then == now for then, now in replay(lines, torn_line=told.append))
    assert len(told) == 1

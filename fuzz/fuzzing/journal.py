"""Damaged journals: the exact replay and the simulator's reader say what is wrong, or read what is left.

Oracle. `replay` raises JournalError or ConfigError and nothing else; `read_trace` raises TraceError.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

from fuzzing.mutation import mutate
from fuzzing.target import Finding
from live.fake_worker import Call, fake_workers
from live.front import CHAT, STREAM, Front, status
from live.processes import Process, spawn_router
from warmroute_policies.errors import ConfigError
from warmroute_policies.replay import JournalError, replay
from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import read_trace

REQUESTS = 40


class JournalTarget:
    """State: a whole journal, and a folder for damaged ones."""

    def __init__(self, folder: Path, whole: bytes) -> None:
        self._folder = folder
        self._lines = whole.splitlines(keepends=True)

    def once(self, chance: random.Random) -> int:
        """Reads one damaged journal in both ways. Raises Finding."""
        self.play(self._damaged(chance))
        return 1

    def play(self, data: bytes) -> None:
        """Reads these bytes in both ways. Raises Finding."""
        try:
            for _ in replay(io.BytesIO(data)):
                pass
        except (JournalError, ConfigError):
            pass
        except Exception as error:
            raise Finding(f"replay: {type(error).__name__}: {str(error)[:300]}", data) from error
        path = self._folder / "journal.jsonl"
        path.write_bytes(data)
        try:
            read_trace(path)
        except TraceError:
            pass
        except Exception as error:
            raise Finding(f"read_trace: {type(error).__name__}: {str(error)[:300]}", data) from error

    def settle(self) -> None:
        """Nothing is left behind."""

    def _damaged(self, chance: random.Random) -> bytes:
        lines = list(self._lines)
        match chance.randrange(5):
            case 0:  # a line is damaged
                at = chance.randrange(len(lines))
                lines[at] = mutate(chance, lines[at])
            case 1:  # lines are in another order
                at, to = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[at], lines[to] = lines[to], lines[at]
            case 2:  # lines are missing, or there twice
                at = chance.randrange(len(lines))
                lines[at : at + 1] = chance.choice(([], [lines[at]] * 2, [lines[at]] * 5))
            case 3:  # numbers are others
                at = chance.randrange(len(lines))
                lines[at] = _other_number(chance, lines[at])
            case _:  # the end is missing, or is another's beginning
                return mutate(chance, b"".join(lines[: chance.randrange(len(lines))]))
        return b"".join(lines)


def _other_number(chance: random.Random, line: bytes) -> bytes:
    places = [at for at, letter in enumerate(line) if letter in b"0123456789"]
    if not places:
        return line
    at = chance.choice(places)
    other = chance.choice(
        (b"-1", b"0", b"1e308", b"9" * 20, b"9" * 400, b"0.5", b"null", b"-0", b'"x"', b"[]")
    )
    return line[:at] + other + line[at + 1 :]


def _any_answer(call: Call) -> None:
    number = len(call.worker.calls)
    if number % 7 == 3:
        status(500)(call)
    elif number % 5 == 2:
        call.close()
    else:
        call.answer(b'{"usage": {"prompt_tokens": 400, "completion_tokens": 5, '
                    b'"prompt_tokens_details": {"cached_tokens": 128}}}')  # fmt: skip


def recorded(folder: Path) -> bytes:
    """The journal of a real router's short life."""
    path = folder / "recorded.jsonl"
    with fake_workers(2) as workers:
        listed = [word for worker in workers for word in ("--backend", worker.url)]
        router = spawn_router(folder / "router.log", *listed, "--no-model-discovery", "--journal", str(path))
        try:
            front = Front(router, workers)
            front.script(_any_answer)
            for number in range(REQUESTS):
                with contextlib.suppress(AssertionError, OSError):
                    front.ask((STREAM if number % 3 else CHAT) | {"user": f"u{number % 4}", "model": "m"})
            router.terminate()
            router.wait()
        finally:
            Process.kill(router)
    return path.read_bytes()


@contextlib.contextmanager
def journal_target(folder: Path) -> Iterator[JournalTarget]:
    """A journal that a router has just written, to be damaged."""
    yield JournalTarget(folder, recorded(folder))

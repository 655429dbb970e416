"""What a router believes of its workers' caches, on disk: the next router begins where this one ended.

    8 bytes "warmrte1", frames (4 bytes of length, then MessagePack), 4 zero bytes, 8 bytes XXH3 of all before

The first frame is a `Head`, the others are `warmroute_policies.state`. Rules kept: a file that is torn, of
another version, from other settings or too old is left with one line in the log, as if it were not there; the
file is replaced as a whole and only when it is on the disk, whoever else writes it; writing takes the event
loop for less than a millisecond at a time, and the disk's time is a thread's. A worker whose process is
another than then begins empty. There is no prompt text in it, and no session's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from glob import escape
from itertools import chain
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Final

import msgspec
from xxhash import xxh3_64, xxh3_64_intdigest

from warmroute.engines import has_restarted
from warmroute_policies.blocks import BLOCK_BYTES, PromptBlocks, salt_of
from warmroute_policies.keeping import (
    Restoring,
    restore_answers,
    restore_capacity,
    restore_facts,
    restore_prefixes,
    restore_sessions,
    snapshot,
)
from warmroute_policies.state import (
    VERSION,
    AnyFrame,
    Capacity,
    Conversations,
    Facts,
    Prefixes,
    Turns,
)
from warmroute_policies.types import WorkerId

if TYPE_CHECKING:
    from warmroute.config import Settings
    from warmroute.gateway import Gateway
    from warmroute.workers import Worker

log = logging.getLogger("warmroute")

_MAGIC: Final = b"warmrte1"

# The loop is given back after this much work on a snapshot ...
_SLICE_S: Final = 0.0005
# ... for this long: a fifth of its time while one is taken.
_PAUSE_S: Final = 0.002

# How soon a worker that joins gets what was kept of it.
_CLAIM_S: Final = 0.2

# Sessions or answered prompts that are restored in one slice: a tenth of a millisecond.
_ROWS: Final = 256

# Beside the index, whose blocks take less room in the file than in memory: answered prompts and sessions.
_OTHER_BYTES_MAX: Final = 64 << 20

# A file that is being written is younger, however slow the disk; an older one is a killed router's.
_LEFTOVER_S: Final = 3600.0


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Who wrote the file, and when."""

    version: int
    written_at: float
    """Seconds since 1970."""
    identity: int
    """Of a known prompt: block ids mean the same only if this is the same."""
    replicas: int
    workers: dict[WorkerId, float | None]
    """Start time of each worker's process, where it told."""


class Saved:
    """State: a file's frames, as far as they wait for their workers."""

    def __init__(self, head: Head, frames: list[AnyFrame]) -> None:
        self.head = head
        self.facts = next((frame for frame in frames if isinstance(frame, Facts)), None)
        self.answers: dict[WorkerId, list[tuple[int, WorkerId, int, int, int]]] = {}
        self.turns: dict[WorkerId, list[tuple[str, WorkerId, float, int, int, int]]] = {}
        self.restoring = Restoring()
        self.prefixes: dict[WorkerId, list[Prefixes]] = {}
        self.capacities = {frame.worker: frame for frame in frames if isinstance(frame, Capacity)}
        for frame in frames:
            if isinstance(frame, Prefixes):
                self.restoring.read(frame)
                self.prefixes.setdefault(frame.worker, []).append(frame)
            elif isinstance(frame, Conversations):
                for answer in frame.rows:
                    self.answers.setdefault(answer[1], []).append(answer)
            elif isinstance(frame, Turns):
                for turn in frame.rows:
                    self.turns.setdefault(turn[1], []).append(turn)
        self.waiting = set(head.workers)
        """Workers that were not met yet."""


def read_state(settings: Settings) -> Saved | None:
    """Reads. What an earlier router left; None, and a line in the log unless there is no file."""
    path = settings.state_file
    if path is None:
        return None
    try:
        return _read(path, settings)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    except (ValueError, msgspec.MsgspecError) as error:
        why = str(error)
    log.warning("the state file is ignored", extra={"path": str(path), "why": why})
    return None


def _read(path: Path, settings: Settings) -> Saved:
    """Raises OSError, ValueError and MsgspecError."""
    about, most = path.stat(), settings.index_max_bytes + _OTHER_BYTES_MAX
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no regular file")
    if about.st_size > most:
        raise ValueError(f"it has {about.st_size} bytes, more than the {most} that index_max_bytes allows")
    head, frames = _decode(path.read_bytes())
    if (head.version, head.identity, head.replicas) != (VERSION, _identity(), settings.replicas):
        raise ValueError("it is of another version or of other settings")
    age_s = time() - head.written_at
    if not -settings.state_max_age_s <= age_s <= settings.state_max_age_s:
        raise ValueError(f"it is {age_s:.0f} s old (state_max_age_s)")
    return Saved(head, frames)


def _decode(data: bytes) -> tuple[Head, list[AnyFrame]]:
    """Raises ValueError and MsgspecError."""
    if not data.startswith(_MAGIC):
        raise ValueError("it is no state of a router")
    if len(data) < len(_MAGIC) + 12 or xxh3_64_intdigest(data[:-8]) != int.from_bytes(data[-8:], "little"):
        raise ValueError("it is torn: its checksum is wrong")
    at, end, payloads = len(_MAGIC), len(data) - 12, []
    while at < end:
        size = int.from_bytes(data[at : at + 4], "little")
        payloads.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    if at != end or not payloads:
        raise ValueError("it is torn: its frames do not fit")
    head = msgspec.msgpack.decode(payloads[0], type=Head)
    if head.version != VERSION:
        return head, []
    decode = msgspec.msgpack.Decoder(AnyFrame).decode
    return head, [decode(payload) for payload in payloads[1:]]


def _identity() -> int:
    """The last id of a prompt that never changes."""
    blocks = PromptBlocks(bytes(range(256)) * (20 * BLOCK_BYTES // 256), salt_of("m", None, "s"))
    return blocks.id_at(blocks.count - 1)


# --- restoring ------------------------------------------------------------------------------------


class StateFile:
    """State: what an earlier router left and is not restored yet. Writes the file, too."""

    def __init__(self, gateway: Gateway, path: Path, saved: Saved | None) -> None:
        self._gateway = gateway
        self._path = path
        self._saved = saved
        self._writing = threading.Lock()
        self._over = False
        """The last word is written, or somebody else has it."""

    def begin(self) -> None:
        """Writes. Restores, at a start, what is known of the workers that are there."""
        self._look_around()
        saved = self._saved
        if saved is None:
            return
        began, balancer = monotonic(), self._gateway.balancer
        if saved.facts is not None:
            restore_facts(balancer, saved.facts)
        prompts = sum(sum(self._restore(worker)) for worker in self._present())
        log.info(
            "state restored",
            extra={
                "path": str(self._path),
                "age_s": round(time() - saved.head.written_at, 1),
                "prompts": prompts,
                "workers_to_come": len(saved.waiting),
                "took_s": round(monotonic() - began, 3),
            },
        )

    def _look_around(self) -> None:
        """Says now, and not in a minute, where the file cannot be written. What killed routers left goes."""
        folder = self._path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            why = "no such directory" if not folder.is_dir() else "it may not be written"
            log.warning(
                "the state will not be kept", extra={"path": str(self._path), "why": f"{folder}: {why}"}
            )
        for left in folder.glob(f"{escape(self._path.name)}.*.new"):
            with contextlib.suppress(OSError):
                if time() - left.stat().st_mtime > _LEFTOVER_S:
                    left.unlink()

    def _present(self) -> list[WorkerId]:
        """Reads. Workers that were waited for and have been asked who they are."""
        assert self._saved is not None
        workers = self._gateway.workers
        return [w for w in self._saved.waiting if w in workers and workers[w].contacted.is_set()]

    def _restore(self, worker_id: WorkerId) -> Iterator[int]:
        """Writes. One worker's part, in slices; how many prompts each held."""
        saved, balancer = self._saved, self._gateway.balancer
        assert saved is not None
        saved.waiting.discard(worker_id)
        yield from self._restore_cache(saved, worker_id, self._gateway.workers[worker_id])
        turns = saved.turns.pop(worker_id, [])
        for at in range(0, len(turns), _ROWS):
            restore_sessions(balancer, turns[at : at + _ROWS], monotonic())
            yield 0

    def _restore_cache(self, saved: Saved, worker_id: WorkerId, worker: Worker) -> Iterator[int]:
        """Writes. What the worker holds, unless its process is another one. It may leave between slices."""
        balancer, workers = self._gateway.balancer, self._gateway.workers
        frames, answers = saved.prefixes.pop(worker_id, []), saved.answers.pop(worker_id, [])
        before = saved.head.workers[worker_id]
        if has_restarted(before, worker.learned.started_at_s):
            log.info("worker restarted since the state was written", extra={"worker": worker_id})
            return
        if worker.learned.started_at_s is None:  # should it tell later, another time is a restart
            worker.learned = msgspec.structs.replace(worker.learned, started_at_s=before)
        if worker_id in saved.capacities:
            restore_capacity(balancer, saved.capacities[worker_id])
        for frame in frames:
            for prompts in restore_prefixes(balancer, saved.restoring, frame, monotonic()):
                yield prompts
                if workers.get(worker_id) is not worker:
                    return
        for at in range(0, len(answers), _ROWS):
            restore_answers(balancer, answers[at : at + _ROWS])
            yield 0
            if workers.get(worker_id) is not worker:
                return

    # --- while it runs ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Writes. Restores workers that join, and writes the file every `state_interval_s`."""
        settings = self._gateway.settings
        give_up_at = monotonic() + settings.state_max_age_s
        while True:
            write_at = monotonic() + settings.state_interval_s
            while monotonic() < write_at:
                if self._saved is not None:
                    await self._claim()
                    if not self._saved.waiting or monotonic() > give_up_at:
                        self._saved = None
                await asyncio.sleep(min(_CLAIM_S if self._saved else _CLAIM_S * 5, settings.state_interval_s))
            await self._write_in_slices()

    async def _claim(self) -> None:
        assert self._saved is not None
        for worker_id in self._present():
            if worker_id not in self._gateway.workers:
                continue  # it left while another one's part was restored
            prompts = 0
            for count in self._restore(worker_id):
                prompts += count
                await asyncio.sleep(_PAUSE_S)
            log.info("worker's state restored", extra={"worker": worker_id, "prompts": prompts})

    async def _write_in_slices(self) -> None:
        pieces, due = [], monotonic() + _SLICE_S
        for piece in self._pieces():
            pieces.append(piece)
            if monotonic() > due:
                await asyncio.sleep(_PAUSE_S)
                due = monotonic() + _SLICE_S
        await asyncio.to_thread(self._replace, pieces)

    def write(self) -> None:
        """Writes. The file, at the end: nobody waits any more. A thread that still writes what was true
        before is waited for."""
        if not self._over:
            self._replace(list(self._pieces()), last=True)

    def leave(self) -> None:
        """Writes. Another router has taken over: from now on the file is its own."""
        self._over = True

    def _pieces(self) -> Iterator[bytes]:
        gateway = self._gateway
        encode = msgspec.msgpack.Encoder().encode
        workers = {worker_id: worker.learned.started_at_s for worker_id, worker in gateway.workers.items()}
        head = Head(VERSION, time(), _identity(), gateway.settings.replicas, workers)
        yield _MAGIC
        for frame in chain([head], snapshot(gateway.balancer, monotonic())):
            data = encode(frame)
            yield len(data).to_bytes(4, "little") + data
        yield bytes(4)

    def _replace(self, pieces: list[bytes], *, last: bool = False) -> None:
        """The file as a whole, once it is on the disk; or a warning."""
        path = self._path
        digest = xxh3_64()
        with self._writing:
            if self._over:
                return
            self._over = last
            try:
                # Of its own name: two routers write while one hands over to the other.
                number, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)
            except OSError as error:
                self._complain(error)
                return
            beside = Path(name)
            try:
                with os.fdopen(number, "wb") as file:
                    for piece in pieces:
                        digest.update(piece)
                        file.write(piece)
                    file.write(digest.intdigest().to_bytes(8, "little"))
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    beside.unlink()
                self._complain(error)

    def _complain(self, error: OSError) -> None:
        log.warning("the state was not written: %s", error.strerror or error, extra={"path": str(self._path)})

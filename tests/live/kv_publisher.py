"""An engine's publisher of KV events: real sockets, in a thread of its own, that do what a test tells them.

As the engines' own publishers it sends batches on a PUB socket and answers questions for old ones on a ROUTER
socket. What an engine never does on purpose can be asked for: to lose batches, to fall silent.
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import zmq

from live.fake_worker import FakeWorker
from live.kv_engine import KvEngine
from live.polling import PATIENCE_S

_POLL_MS = 5
_END = b"\xff" * 8

T = TypeVar("T")


class KvPublisher:
    """State: the engine, its sockets, what was asked of it. All that touches them runs in its thread."""

    def __init__(
        self,
        engine: KvEngine,
        *,
        endpoint: str = "tcp://127.0.0.1:*",
        replay: str | None = "tcp://127.0.0.1:*",
        connect: bool = False,
        topic: str = "",
        loss: float = 0.0,
        seed: int = 0,
    ) -> None:
        """`loss`: the share of batches that are kept for replay and not sent, drawn with `seed`."""
        self.engine, self.topic = engine, topic
        self.loss, self._chance = loss, random.Random(seed)
        self.silent = threading.Event()
        """Nothing is sent or answered while it is set."""
        self.lost = 0
        self.questions: list[int] = []
        """From which numbers on old batches were asked for."""
        self._connect = connect
        self._bound = {"pub": endpoint, "replay": replay}
        self._context = zmq.Context()
        self._pub: zmq.Socket[bytes]
        self._router: zmq.Socket[bytes] | None
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Future[object]]] = queue.SimpleQueue()
        self._stopped = False
        self._open()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # --- what a test does -----------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        return self._bound["pub"] or ""

    @property
    def replay(self) -> str | None:
        return self._bound["replay"]

    def sources(self, rank: int = 0) -> dict[str, object]:
        """One entry of what vLLM answers at `/kv_event_sources`."""
        return {
            str(rank): {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": self.endpoint,
                "replay_endpoint": self.replay,
                "topic": self.topic,
            }
        }

    def publish(self, *, lost: bool = False) -> None:
        """What happened in the engine since the last batch, as one."""
        self.run(lambda: self._publish(lost))

    def prompt(self, tokens: list[int], *, lost: bool = False, **more: object) -> None:
        """Computes a prompt and publishes that."""
        self.run(lambda: self.engine.prompt(tokens, **more))  # type: ignore[arg-type] # its own options
        self.publish(lost=lost)

    def restart(self) -> None:
        """Another process, at the same addresses."""
        self.run(self._restart)

    def run(self, job: Callable[[], T]) -> T:
        """Something in the publisher's thread."""
        future: Future[T] = Future()
        self._jobs.put((job, future))  # type: ignore[arg-type] # invariant
        return future.result(PATIENCE_S)

    def stop(self) -> None:
        self._stopped = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._close()

    # --- its thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            with contextlib.suppress(queue.Empty):
                while True:
                    job, future = self._jobs.get_nowait()
                    try:
                        future.set_result(job())
                    except Exception as error:  # noqa: BLE001 -- it is the test's
                        future.set_exception(error)
            if self._router is None:
                self._pub.poll(_POLL_MS)
            elif self._router.poll(_POLL_MS) and not self.silent.is_set():
                self._answer(self._router)

    def _publish(self, lost: bool) -> None:
        seq, payload = self.engine.batch()
        if lost or self._chance.random() < self.loss:
            self.lost += 1
        elif not self.silent.is_set():
            self._pub.send_multipart([self.topic.encode(), seq.to_bytes(8, "big"), payload])

    def _answer(self, router: zmq.Socket[bytes]) -> None:
        client, empty, start = router.recv_multipart()
        assert empty == b""
        self.questions.append(int.from_bytes(start, "big"))
        topic = [] if self.engine.dialect.startswith("sglang") else [self.topic.encode()]
        for seq, payload in self.engine.kept:
            if seq >= self.questions[-1]:
                router.send_multipart([client, b"", *topic, seq.to_bytes(8, "big"), payload])
        router.send_multipart([client, b"", *([b""] if topic else []), _END, b""])

    def _restart(self) -> None:
        self._close()
        self.engine.restart()
        self._context = zmq.Context()
        self._open()

    def _open(self) -> None:
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.LINGER, 0)
        (self._pub.connect if self._connect else self._pub.bind)(self._bound["pub"] or "")
        if not self._connect:
            self._bound["pub"] = self._pub.getsockopt_string(zmq.LAST_ENDPOINT)
        self._router = None
        if self._bound["replay"] is not None:
            self._router = self._context.socket(zmq.ROUTER)
            self._router.setsockopt(zmq.LINGER, 0)
            self._router.bind(self._bound["replay"])
            self._bound["replay"] = self._router.getsockopt_string(zmq.LAST_ENDPOINT)

    def _close(self) -> None:
        self._pub.close(linger=0)
        if self._router is not None:
            self._router.close(linger=0)
        self._context.term()  # the addresses are free behind it


def advertise(worker: FakeWorker, *publishers: KvPublisher) -> None:
    """The worker says from now on where it publishes, as vLLM does: a rank for each."""
    sources: dict[str, object] = {}
    for rank, publisher in enumerate(publishers):
        sources |= publisher.sources(rank)
    worker.pages["/kv_event_sources"] = 200, json.dumps(sources).encode()


@contextlib.contextmanager
def publishing(engine: KvEngine | None = None, **options: object) -> Iterator[KvPublisher]:
    """A publisher for the block's time."""
    publisher = KvPublisher(engine or KvEngine(), **options)  # type: ignore[arg-type] # its own options
    try:
        yield publisher
    finally:
        publisher.stop()

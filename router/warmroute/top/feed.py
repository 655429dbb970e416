"""What the router tells, read by a thread of its own, so that keys are answered while the router is not.

A stream that ends or does not begin is begun again after a second. A key that the router does not accept is
told at once: to try it again would not help.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Final

import httpx
import msgspec

from warmroute.top.schema import Decisions, Snapshot

AGAIN_S: Final = 1.0
"""Between two attempts to reach the router."""

SILENCE_S: Final = 5.0
"""A router tells something every second; one that says nothing for so long is not reachable."""

EVENT_BYTES_MAX: Final = 16 << 20
"""A snapshot of a thousand workers is one megabyte."""


class NotReachable(Exception):
    """Nobody answers there, or it is no router; the message says what happened. May pass."""


class NotAllowed(Exception):
    """The router does not take this key. Does not pass."""


class Router:
    """State: a client with the key. It is open until the process ends: a thread may be reading from it."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = url.rstrip("/")
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        # The system's authorities, and those of SSL_CERT_FILE: the client library's own list knows no others.
        trusted = ssl.create_default_context() if self.url.startswith("https:") else False
        self._client = httpx.Client(
            base_url=self.url, headers=headers, timeout=SILENCE_S, trust_env=False, verify=trusted
        )

    def snapshot(self) -> bytes:
        """Reads. As JSON. Raises NotReachable and NotAllowed."""
        try:
            answer = self._client.get("/live/snapshot")
            self._check(answer)
        except httpx.HTTPError as error:
            raise NotReachable(_reason(error)) from None
        return answer.content

    def events(self) -> Iterator[Snapshot | Decisions]:
        """Reads. Until the router ends the stream. Raises NotReachable and NotAllowed."""
        try:
            with self._client.stream("GET", "/live/events") as answer:
                if answer.status_code != 200:
                    answer.read()
                self._check(answer)
                for kind, data in _events(answer.iter_bytes()):
                    if kind == b"snapshot":
                        yield decode(data)
                    elif kind == b"decisions":
                        yield _decode_decisions(data)
        except httpx.HTTPError as error:
            raise NotReachable(_reason(error)) from None

    def drain(self, worker: str, draining: bool) -> None:
        """Writes. A draining worker gets no new requests. Raises NotReachable and NotAllowed."""
        path = "/workers/" + worker.removeprefix("http://")
        try:
            self._check(self._client.patch(path, json={"draining": draining}))
        except httpx.HTTPError as error:
            raise NotReachable(_reason(error)) from None

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code in (401, 403):
            raise NotAllowed(
                f"{self.url} needs an admin key: --api-key KEY, or ROUTER_ADMIN_API_KEY in the environment"
            )
        if answer.status_code == 404 and answer.request.url.path.startswith("/live"):
            raise NotReachable("there is no /live: no warmroute, or an older one")
        if answer.status_code >= 400:
            raise NotReachable(_told(answer))


def decode(data: bytes) -> Snapshot:
    """Raises NotReachable for what is no snapshot."""
    try:
        return msgspec.json.decode(data, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotReachable(f"not the answer of a router: {error}") from None


def _decode_decisions(data: bytes) -> Decisions:
    try:
        return msgspec.json.decode(data, type=Decisions)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotReachable(f"not the answer of a router: {error}") from None


def _events(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of server-sent events that have one line of each, as routers write them."""
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n\n")
        if len(held) > EVENT_BYTES_MAX:
            raise NotReachable("an event that does not end")
        for event in whole:
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
            yield fields.get(b"event", b""), fields.get(b"data", b"")


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "nobody listens there"
    return str(error) or type(error).__name__


def _told(answer: httpx.Response) -> str:
    """The router's own words, else the status."""
    try:
        text = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        text = None
    return text if isinstance(text, str) else f"it answers {answer.status_code}"


Told = Snapshot | Decisions | NotReachable | NotAllowed


class Feed:
    """State: the thread, and whether it shall end."""

    def __init__(self, router: Router, tell: Callable[[Told], None]) -> None:
        """`tell` is called in the thread."""
        self._router, self._tell = router, tell
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Writes."""
        self._thread.start()

    def stop(self) -> None:
        """Writes. What the thread still waits for ends with the process."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                for told in self._router.events():
                    if self._ended.is_set():
                        return
                    self._tell(told)
                self._tell(NotReachable("it has stopped"))
            except NotReachable as error:
                self._tell(error)
            except NotAllowed as error:
                self._tell(error)
                return
            self._ended.wait(AGAIN_S)

"""One kind of object of the Kubernetes API, kept up to date: list it, watch it from there, list it again.

How a watch may end, and what follows:

- the server's own time-out, or the connection breaks: the watch is resumed at the last version seen, so that
  nothing is missed; half a line at the end is forgotten and comes again;
- 410 Gone, as a status or in the stream: the version is too old, everything is listed again;
- any other error, "too large resource version" among them: listed again too, after a growing pause;
- 401: the configuration is read anew, for the token may have been exchanged;
- silence: the server was told to end the watch after some minutes, and one that does not is given up. A
  watch that a proxy on the way has forgotten is noticed so.

Even a watch that looks well is not trusted for ever: every ten minutes all is listed. A list replaces what
was known as a whole and is compared by whoever gets it, so a new list alone changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

import aiohttp
import msgspec
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.config import ConfigException

from warmroute.discovery.backoff import Backoff
from warmroute.discovery.found import in_words
from warmroute.discovery.objects import Meta

log = logging.getLogger("warmroute.discovery")

# A page of pods is some 500 KB then, which takes a millisecond to read.
_PAGE_OBJECTS: Final = 50

# More is not a Service behind one router.
_OBJECTS_MAX: Final = 20_000

# A watch is ended by the server after a time in this range; chance keeps many routers from one moment.
_WATCH_S: Final = (120, 180)
# What the server may be late by.
_WATCH_SLACK_S: Final = 15.0

_RELIST_S: Final = 600.0

# One answer to a list.
_LIST_TIMEOUT_S: Final = 30.0
# Until a watch's head has come; events may take their time.
_CONNECT_TIMEOUT_S: Final = 10.0

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
# A watch that lived this long was a good one.
_SETTLED_S: Final = 5.0

# etcd's limit for an object is 1.5 MB.
_LINE_BYTES_MAX: Final = 4 << 20
_ERROR_BYTES_MAX: Final = 64 << 10


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class Stale(Exception):
    """What is known is too old to go on from, or nobody answers for it any more."""


class _HasMeta(Protocol):
    metadata: Meta


T = TypeVar("T", bound=_HasMeta)


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    next_page: str | None = msgspec.field(default=None, name="continue")


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Mark(msgspec.Struct):
    """A bookmark: no object, only how far the stream is."""

    metadata: _MarkMeta


class _MarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str


class _Status(msgspec.Struct):
    """What the API says of an error."""

    message: str = ""
    code: int = 0


class ListWatch(Generic[T]):
    """State: the objects by namespace and name, the version up to which they are true."""

    def __init__(
        self,
        selector: str,
        kind: type[T],
        connect: Callable[[], Awaitable[tuple[ApiClient, str]]],
        changed: Callable[[Mapping[str, T]], None],
        failed: Callable[[str], None],
    ) -> None:
        """`connect` gives a client and the path of the objects, and may raise ConfigException, OSError and
        ValueError. `changed` gets all objects whenever one has changed, `failed` why that is not known."""
        self._path = ""
        self._selector = selector
        self._kind = kind
        self._connect = connect
        self._changed = changed
        self._failed = failed
        self._objects: dict[str, T] = {}
        self._version = ""
        """Empty: list first."""
        self._relist_at = 0.0
        self._in_doubt = False
        """A failure was told since the last list or event."""

    async def run(self) -> None:
        """Writes. Goes on until it is cancelled."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        api: ApiClient | None = None
        try:
            while True:
                began = monotonic()
                try:
                    if api is None:
                        api, self._path = await self._connect()
                    if not self._version or began >= self._relist_at:
                        await self._list(api)
                    began = monotonic()
                    await self._watch(api)
                except Stale as error:
                    log.debug("listing again", extra={"why": str(error)})
                    self._version = ""
                except Refused as error:
                    self._fail(str(error))
                    self._version = ""
                    if error.status == 401 and api is not None:
                        await api.close()
                        api = None
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self._fail(f"GET {self._path}: {in_words(error)}")
                except (msgspec.MsgspecError, ConfigException, ValueError, KeyError) as error:
                    self._fail(in_words(error))
                    self._version = ""
                if monotonic() - began >= _SETTLED_S:
                    backoff.reset()
                await asyncio.sleep(backoff.next_s())
        finally:
            if api is not None:
                await api.close()

    async def _list(self, api: ApiClient) -> None:
        """Raises Refused, Stale when the list grew old while it was read, ClientError, MsgspecError."""
        found: dict[str, T] = {}
        query: list[tuple[str, str]] = [("labelSelector", self._selector), ("limit", str(_PAGE_OBJECTS))]
        page_query = query
        while True:
            answer = await self._get(api, page_query, _LIST_TIMEOUT_S)
            async with answer:
                body = await answer.read()
            page = msgspec.json.decode(body, type=_Page)
            for item in page.items:
                thing = msgspec.json.decode(item, type=self._kind)
                found[_key(thing.metadata)] = thing
            if len(found) > _OBJECTS_MAX:
                raise ValueError(f"GET {self._path} lists more than {_OBJECTS_MAX} objects")
            if not page.metadata.next_page:
                break
            page_query = [*query, ("continue", page.metadata.next_page)]
        self._objects = found
        self._version = page.metadata.resource_version
        self._relist_at = monotonic() + _RELIST_S
        self._tell()

    async def _watch(self, api: ApiClient) -> None:
        """Returns when the stream ended, however it did. Raises Stale, Refused, MsgspecError, and
        ClientError when there was no stream at all."""
        watch_s = random.randint(*_WATCH_S)
        query = [
            ("labelSelector", self._selector),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(watch_s)),
        ]
        answer = await self._get(
            api, query, aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
        )
        if self._in_doubt:
            self._tell()  # nothing was missed, and it may be long until something happens
        async with answer:
            try:
                async with asyncio.timeout(watch_s + _WATCH_SLACK_S):
                    async for line in _lines(answer):
                        self._take(line)
            except TimeoutError:
                raise Stale("the watch did not end when it should") from None
            except aiohttp.ClientError as error:
                log.debug("watch broke off", extra={"why": in_words(error)})

    def _take(self, line: bytes) -> None:
        """Writes. One event. Raises Stale, Refused and MsgspecError."""
        event = msgspec.json.decode(line, type=_Event)
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=_Mark).metadata.resource_version
            return
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == 410:
                raise Stale(status.message)
            raise Refused(status.code, f"watch {self._path}: {status.code} {status.message}")
        thing = msgspec.json.decode(event.object, type=self._kind)
        if event.type == "DELETED":
            self._objects.pop(_key(thing.metadata), None)
        else:
            self._objects[_key(thing.metadata)] = thing
        self._version = thing.metadata.resource_version
        self._tell()

    def _tell(self) -> None:
        self._in_doubt = False
        self._changed(self._objects)

    def _fail(self, why: str) -> None:
        self._in_doubt = True
        self._failed(why)

    async def _get(
        self, api: ApiClient, query: list[tuple[str, str]], patience: Any
    ) -> aiohttp.ClientResponse:
        """An answer with status 200. Raises Refused, Stale for 410, ClientError and TimeoutError."""
        async with asyncio.timeout(_LIST_TIMEOUT_S):  # until the head
            answer: aiohttp.ClientResponse = await api.call_api(
                self._path,
                "GET",
                query_params=query,
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=patience,
            )
        if answer.status == 200:
            return answer
        async with answer:
            body = await answer.content.read(_ERROR_BYTES_MAX)
        try:
            message = msgspec.json.decode(body, type=_Status).message
        except msgspec.MsgspecError:
            message = answer.reason or ""
        if answer.status == 410:
            raise Stale(message)
        hint = "; it takes the verbs list and watch" if answer.status == 403 else ""
        raise Refused(answer.status, f"GET {self._path}: {answer.status} {message}{hint}")


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines of a body; what stands behind the last one is half an event. Raises ValueError."""
    begun = b""
    async for piece in answer.content.iter_any():
        *whole, begun = (begun + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(begun) > _LINE_BYTES_MAX:
            raise ValueError(f"an event of more than {_LINE_BYTES_MAX} bytes")


def _key(meta: Meta) -> str:
    return f"{meta.namespace}/{meta.name}"

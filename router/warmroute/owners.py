"""What lives in the memory of one worker, and which one that is.

A stored response, a conversation, an uploaded file or a batch exists where it was created and nowhere else:
whoever asks for it later must be sent there. A thing is known by the URL path that GETs it.

    what a request is about     its URL names a thing (`kept_of`), or its body does (`ParsedRequest.kept`)
    who owns it                 read from the answer that created it (`IdTap`), or found by asking all workers
                                (`owner_search`)

Rules kept. Only the beginning of an answer is looked at. The memory is bounded; what was forgotten can be
found again. A worker that left the fleet is still remembered as an owner: that says why its things are gone.
"""

from __future__ import annotations

import re
from typing import Final, final

from warmroute.taps import Tap
from warmroute.wire.answers import AnswerHead
from warmroute.wire.replies import RouterError
from warmroute_policies.types import WorkerId

COLLECTIONS: Final = frozenset(("/v1/responses", "/v1/conversations", "/v1/batches", "/v1/files"))
"""POST to one of these creates a thing."""

_METHODS: Final = frozenset(("GET", "POST", "DELETE"))

_ID: Final = r"[A-Za-z0-9_.:~-]{1,256}"

_THING: Final = re.compile(rf"(/v1/(?:responses|conversations|batches|files)/{_ID})(?:/.*)?")

_WHOLE_ID: Final = re.compile(_ID)

# Engines begin a thing with its id; other fields that come first are short.
_BEGINNING_BYTES: Final = 4096

# Texts, and what JSON is built of. A text that is cut off is none, nor is anything within it.
_TOKEN: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"|[{}\[\]:,]', re.DOTALL)

_CHUNK_CUT: Final = re.compile(rb"\r\n[0-9a-fA-F]{1,16}\r\n")

_RETRY_AFTER_S: Final = 5


@final
class Kept:
    """What a request has to do with things that a worker keeps. Not to be written."""

    __slots__ = ("creates", "thing")

    def __init__(self, thing: str, creates: str) -> None:
        self.thing = thing
        """The thing that its URL names; empty: none."""
        self.creates = creates
        """The collection that its answer adds a thing to; empty: none."""


def kept_of(method: str, path: str) -> Kept | None:
    """None for a request that any worker may answer, whatever its body says."""
    if path in COLLECTIONS:
        return Kept("", path) if method == "POST" else None
    found = _THING.fullmatch(path)
    return None if found is None or method not in _METHODS else Kept(found[1], "")


def thing_at(collection: str, name: object) -> str:
    """The thing of that id; empty where it is no id that there could be."""
    if type(name) is not str or _WHOLE_ID.fullmatch(name) is None:
        return ""
    return f"{collection}/{name}"


@final
class Owners:
    """State: the worker of every thing that is remembered, the one that was used last at the end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._workers: dict[str, WorkerId] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def find(self, thing: str) -> WorkerId | None:
        """Writes. Its owner, if known; it is forgotten later than others now."""
        worker = self._workers.pop(thing, None)
        if worker is not None:
            self._workers[thing] = worker
        return worker

    def learn(self, thing: str, worker: WorkerId) -> None:
        """Writes. The worker has it."""
        workers = self._workers
        workers.pop(thing, None)
        workers[thing] = worker
        if len(workers) > self._most:
            del workers[next(iter(workers))]


@final
class IdTap(Tap):
    """Reads the id of what was created. State: the answer's beginning, until the id is found."""

    def __init__(self, owners: Owners, collection: str) -> None:
        self._owners = owners
        self._collection = collection
        self._worker: WorkerId = ""
        self._begun = b""
        self._looking = False

    def begin(self, head: AnswerHead, data: bytes, worker: WorkerId, *, http_10: bool) -> None:
        """Writes. Only what succeeded has created anything."""
        self._worker, self._begun, self._looking = worker, b"", head.status < 300

    def whole(self, head: AnswerHead, body: bytes, worker: WorkerId) -> None:
        """Writes."""
        if head.status < 300:
            self._worker = worker
            self._look(body[:_BEGINNING_BYTES])

    def take(self, data: bytes) -> bytes:
        """Writes. Looks until the id is there or must have been."""
        if self._looking:
            self._begun += data[: _BEGINNING_BYTES - len(self._begun)]
            if self._look(self._begun) or len(self._begun) >= _BEGINNING_BYTES:
                self._begun, self._looking = b"", False
        return data

    def _look(self, beginning: bytes) -> bool:
        thing = thing_at(self._collection, created_id(beginning))
        if thing:
            self._owners.learn(thing, self._worker)
        return bool(thing)


def created_id(beginning: bytes) -> str:
    """The `id` of the object that an answer begins with, or of the `response` in the first event of a
    stream; empty: it is not there, or not yet."""
    text = _CHUNK_CUT.sub(b"", beginning)
    depth, name, last, is_value, inside = 0, b"", b"", False, b""
    for token in _TOKEN.finditer(text, max(0, text.find(b"{"))):
        mark = token[0]
        if mark == b":":
            name, is_value = last, True
        elif mark == b",":
            is_value = False
        elif mark in (b"{", b"["):
            depth += 1
            if depth == 2:
                inside = name if is_value and mark == b"{" else b""
            is_value = False
        elif mark in (b"}", b"]"):
            depth -= 1
            is_value = False
            if not depth:
                break
        elif not is_value:
            last = token[1]
        elif name == b"id" and (depth == 1 or (depth == 2 and inside == b"response")):
            return str(token[1], "latin-1")
    return ""


def owner_left(thing: str, worker: WorkerId) -> RouterError:
    """The owner is no part of the fleet any more."""
    text = f"{thing} is gone: it was kept by {worker}, which has left the fleet"
    return RouterError(410, "owner_gone", text)


def owner_failed(worker: WorkerId, why: str) -> RouterError:
    """The owner is there and does not answer."""
    text = f"only {worker} has what this request is about, and it did not answer: {why}"
    return RouterError(503, "owner_unavailable", text, retry_after_s=_RETRY_AFTER_S)


def nobody_owns(thing: str, asked: int) -> RouterError:
    """Everybody was asked, and everybody said that it is not there."""
    return RouterError(404, "not_found", f"{thing} does not exist on any of the {asked} workers")


def owner_unknown(thing: str, silent: int, asked: int) -> RouterError:
    """It may be on a worker that does not answer."""
    text = f"it is not known who keeps {thing}: {silent} of {asked} workers did not say whether they do"
    return RouterError(503, "owner_unknown", text, retry_after_s=_RETRY_AFTER_S)

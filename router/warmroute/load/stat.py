"""SGLang's messages about its load, by ZeroMQ: their form, and where `/server_info` says they come from.

    ["LoadStat", running, waiting, tokens in use, tokens at most, dp rank, waiting uncached tokens, …]

An array in msgpack, behind two frames (topic, number). A scheduler sends one for each change, at least one a
second. Newer engines append fields: these are read from the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from warmroute.load.numbers import RANKS_MAX, both, count, share, total
from warmroute_policies.types import LoadReport

_TAG: Final = "LoadStat"

# The first six fields, the tag among them, were there from the beginning.
_LEAST_FIELDS: Final = 6
_WAITING_TOKENS: Final = 6

_PORT_MAX: Final = 65535


class Stat(msgspec.Struct, frozen=True):
    """One scheduler's load. None: not told."""

    running: int | None
    waiting: int | None
    waiting_tokens: int | None
    kv_usage: float | None


class FeedPlace(msgspec.Struct, frozen=True):
    """Where an engine's messages come from."""

    endpoints: tuple[str, ...]
    """One for each rank, in their order."""
    topic: bytes


def read_stat(payload: bytes) -> Stat:
    """One message. Raises ValueError where it is something else."""
    try:
        fields = msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"not msgpack: {error}") from error
    if not isinstance(fields, list) or len(fields) < _LEAST_FIELDS or fields[0] != _TAG:
        raise ValueError("no LoadStat")
    used, most = count(fields[3]), count(fields[4])
    return Stat(
        count(fields[1]),
        count(fields[2]),
        count(fields[_WAITING_TOKENS]) if len(fields) > _WAITING_TOKENS else None,
        share(used / most) if used is not None and most else None,
    )


def added_up(stats: Sequence[Stat | None]) -> LoadReport:
    """All ranks together; what one of them has not told is not told."""
    told = [Stat(None, None, None, None) if stat is None else stat for stat in stats]
    running, waiting = total(stat.running for stat in told), total(stat.waiting for stat in told)
    usages = [stat.kv_usage for stat in told if stat.kv_usage is not None]
    return LoadReport(
        both(running, waiting),
        waiting,
        total(stat.waiting_tokens for stat in told),
        sum(usages) / len(usages) if usages and len(usages) == len(told) else None,
    )


def read_feed_place(body: bytes, worker_url: str) -> FeedPlace | None:
    """From `/server_info`; None: the engine sends no messages. Raises ValueError for what is no object.

    The host is the worker's own: what an engine binds to is mostly a wildcard.
    """
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004  # a value from outside
    told = document.get("kv_events")
    if not isinstance(told, dict):
        return None
    port, ranks, topic = told.get("load_endpoint_port_base"), told.get("dp_size", 1), told.get("load_topic")
    if not isinstance(port, int) or not isinstance(ranks, int) or isinstance(port, bool):
        return None
    if not (0 < port <= _PORT_MAX and 0 < ranks <= RANKS_MAX and port + ranks - 1 <= _PORT_MAX):
        return None
    host = urlsplit(worker_url).hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return FeedPlace(
        tuple(f"tcp://{shown}:{port + rank}" for rank in range(ranks)),
        topic.encode() if isinstance(topic, str) else b"",
    )

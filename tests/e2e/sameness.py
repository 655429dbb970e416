"""What of an answer may differ when the same engine is asked the same twice, and what may not."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import httpx

# Names, times and speeds are new every time.
_VOLATILE: Final = re.compile(
    rb'"(id|request_id|item_id|created|created_at|completed_at|queue_time|e2e_latency|decode_throughput'
    rb'|first_token_latency|[a-z_]+_(?:time|ts|ms|per_second))":\s*("[^"]*"|[-0-9.e+]+|null)'
)
_VOLATILE_KEYS: Final = frozenset(
    (
        *("id", "request_id", "item_id", "created", "created_at", "completed_at", "sequence_number"),
        *("timings", "meta_info"),
    )
)
_HEADERS: Final = frozenset(("date", "content-length", "x-request-id", "keep-alive", "connection"))
"""Of these each hop has its own, or the engine a new one each time."""

# What a stream cuts into pieces as its engine gets round to it.
_SPOKEN: Final = frozenset(("content", "text", "delta", "arguments", "partial_json", "thinking"))


def lasting(document: bytes) -> bytes:
    """The document with all that is new every time replaced by 0; every other byte as it is."""
    return _VOLATILE.sub(rb'"\1":0', document)


def engine_headers(headers: httpx.Headers) -> dict[str, str]:
    """The headers that the engine wrote, without those of one message alone."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _HEADERS and not name.startswith("x-router-")
    }


def gist(stream: str) -> dict[str, Any]:
    """What a stream of events says, however its engine cut it: by place, text put together, other values in
    order without repetitions; the events' kinds likewise, and the stream's last line."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    lines = [line for line in stream.splitlines() if line]
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "data" and value != "[DONE]":
            for place, leaf in _leaves(json.loads(value), ""):
                found[place].append(leaf)
        else:
            found[name].append(value)
    told: dict[str, Any] = {"last line": lines[-1] if lines[-1] == "data: [DONE]" else None}
    for place, values in found.items():
        if place.rpartition("/")[2] in _SPOKEN and all(isinstance(value, str) for value in values):
            told[place] = "".join(values)
        else:
            told[place] = [
                value for value, before in zip(values, [object(), *values], strict=False) if value != before
            ]
    return told


def shape(document: Any) -> set[str]:
    """The places at which it has values."""
    return {place for place, _ in _leaves(document, "")}


def _leaves(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Values and where they are. Items of a list are told apart by their `index` alone."""
    if isinstance(node, dict):
        if isinstance(node.get("index"), int):
            place = f"{place}[{node['index']}]"
        for key, value in node.items():
            if key not in _VOLATILE_KEYS:
                yield from _leaves(value, f"{place}/{key}")
    elif isinstance(node, list):
        for item in node:
            yield from _leaves(item, place)
    elif node is not None:
        yield place, node

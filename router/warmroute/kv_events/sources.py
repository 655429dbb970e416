"""Where an engine publishes its events, as it says itself: `/kv_event_sources` of vLLM, the part `kv_events`
in `/server_info` of SGLang.

An engine listens at an address with a wildcard and at ipc://, and connects to any other; it does not say
which it did. Where that is not certain the address is probed. A wildcard means the worker's own host.

Rules kept. What an engine answers is input: it is an offer, or a reason why there is none. A reason says what
to do about it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from warmroute.config.endpoints import WILDCARDS, Endpoint, parse_endpoint, tcp_host

_VLLM_FLAG: Final = (
    '--kv-events-config \'{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557",'
    '"replay_endpoint":"tcp://*:5558"}\''
)
_SGLANG_FLAG: Final = (
    '--kv-events-config \'{"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558"}\''
)

# More data-parallel ranks behind one URL than any engine starts.
_RANKS_MAX: Final = 256

_TOPIC: Final = re.compile(r"kv@([^@]+)@")


class Offer(NamedTuple):
    """One rank's publisher."""

    rank: int | None
    """None: its batches say."""
    endpoint: Endpoint
    replay: str | None
    """Where old batches can be asked for; None: nowhere."""
    topic: str = ""
    probe: bool = False
    """It may be the engine that connects to the endpoint: is anybody listening there?"""


class Told(NamedTuple):
    """What one engine says of its events."""

    offers: tuple[Offer, ...] = ()
    why_not: str = ""
    """Where there are none."""
    said: bool = True
    """It is the engine that says so; else it did not answer, or an address was probed in vain."""


def worker_in(topic: str) -> str | None:
    """The `host:port` that a topic names: `kv@<host:port>@<model>`; None: it does not."""
    found = _TOPIC.match(topic)
    return None if found is None else found[1]


def read_event_sources(body: bytes, worker_url: str) -> Told | None:
    """vLLM's `/kv_event_sources`; None: it is something else."""
    document = _json(body)
    if not isinstance(document, dict) or not all(
        rank.isdecimal() and len(rank) < 5 and isinstance(source, dict) for rank, source in document.items()
    ):
        return None
    if not document or len(document) > _RANKS_MAX:
        return Told(why_not="it names no publisher") if not document else None
    offers = []
    for rank, source in document.items():
        endpoint, replay = source.get("endpoint"), source.get("replay_endpoint")
        if source.get("publisher") != "zmq" or source.get("enable_kv_cache_events") is False:
            return Told(why_not=f"its KV events are off: start vLLM with {_VLLM_FLAG}")
        if not isinstance(endpoint, str):
            return None
        found = _reach(endpoint, worker_url)
        if isinstance(found, str):
            return Told(why_not=found)
        topic = source.get("topic")
        offers.append(
            Offer(
                int(rank),
                found,
                _replay(replay, worker_url),
                topic if isinstance(topic, str) else "",
                probe=endpoint.startswith("tcp://") and "*" not in endpoint and "::" not in endpoint,
            )
        )
    return Told(tuple(offers))


def read_server_info(body: bytes, worker_url: str) -> Told | None:
    """The part `kv_events` of SGLang's `/server_info`; None: it is something else."""
    document = _json(body)
    if not isinstance(document, dict):
        return None
    told = document.get("kv_events")
    if not isinstance(told, dict):
        known = {"kv_events_config", "page_size", "max_total_num_tokens"} & document.keys()
        return Told(why_not=_not_advertised(document)) if known else None
    host, base, count = told.get("endpoint_host"), told.get("endpoint_port_base"), told.get("dp_size", 1)
    if told.get("publisher") != "zmq":
        return Told(why_not=f"its KV events are off: start SGLang with {_SGLANG_FLAG}")
    if not isinstance(host, str) or not isinstance(base, int) or not isinstance(count, int):
        return None
    if not 0 < count <= _RANKS_MAX:
        return None
    replay_base, topic = told.get("replay_endpoint_port_base"), told.get("topic")
    replay_host = tcp_host(str(_config(document).get("replay_endpoint"))) or host
    offers = []
    for rank in range(count):
        found = _reach(f"tcp://{host}:{base + rank}", worker_url)
        if isinstance(found, str):
            return Told(why_not=found)
        replay = f"tcp://{replay_host}:{replay_base + rank}" if isinstance(replay_base, int) else None
        offers.append(
            Offer(
                rank,
                found,
                _replay(replay, worker_url),
                topic if isinstance(topic, str) else "",
                probe=host not in WILDCARDS,
            )
        )
    return Told(tuple(offers))


def nobody_listens(offer: Offer) -> str:
    """What to tell the operator when an offer's endpoint was probed in vain."""
    address = offer.endpoint.address
    return (
        f"nobody listens at {address}: the engine connects there itself. Give it an endpoint with a wildcard "
        f"(tcp://*:5557), or let the router listen (--kv-events bind:{address})"
    )


def _reach(endpoint: str, worker_url: str) -> Endpoint | str:
    """How the router gets to where an engine publishes, or why it does not."""
    if endpoint.startswith("inproc://"):
        return f"it publishes within its own process ({endpoint}): give it a tcp:// or ipc:// endpoint"
    host = tcp_host(endpoint)
    if host in WILDCARDS:
        endpoint = _at_worker(endpoint, worker_url)
    elif host is not None and _is_loopback(host) and not _is_loopback(_worker_host(worker_url)):
        return f"it publishes on its own loopback ({endpoint}): give it an endpoint with a wildcard"
    try:
        found = parse_endpoint(endpoint)
    except ValueError as error:
        return f"where it publishes makes no sense: {error}"
    return Endpoint(found.address, bind=False)


def _replay(endpoint: object, worker_url: str) -> str | None:
    """An engine always listens for questions."""
    if not isinstance(endpoint, str):
        return None
    found = _reach(endpoint, worker_url)
    return None if isinstance(found, str) else found.address


def _at_worker(endpoint: str, worker_url: str) -> str:
    host = _worker_host(worker_url)
    port = endpoint.rpartition(":")[2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _worker_host(worker_url: str) -> str:
    return urlsplit(worker_url).hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _not_advertised(document: dict[str, Any]) -> str:
    """Why an SGLang that runs says nothing of its events."""
    endpoint = _config(document).get("endpoint")
    if isinstance(endpoint, str) and not endpoint.startswith("tcp://"):
        return f"SGLang tells of tcp:// endpoints alone: name it with kv_events={endpoint} of the backend"
    return f"its KV events are off: start SGLang with {_SGLANG_FLAG}"


def _config(document: dict[str, Any]) -> dict[str, Any]:
    """SGLang's own flag, as it stands among its settings."""
    given = document.get("kv_events_config")
    parsed = _json(given.encode()) if isinstance(given, str) else given
    return parsed if isinstance(parsed, dict) else {}


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

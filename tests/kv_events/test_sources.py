"""Where engines say that they publish, and where operators say so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from warmroute.config import Settings
from warmroute.config.backends import Backend
from warmroute.config.endpoints import Endpoint, parse_endpoint
from warmroute.kv_events.sources import (
    Offer,
    Told,
    nobody_listens,
    read_event_sources,
    read_server_info,
    worker_in,
)

URL = "http://gpu1:8000"


def vllm(url: str = URL, rank: str = "0", **source: Any) -> Told | None:
    entry = {"enable_kv_cache_events": True, "publisher": "zmq", "topic": "kv"} | source
    return read_event_sources(json.dumps({rank: entry}).encode(), url)


def sglang(url: str = URL, config: str | None = None, **told: Any) -> Told | None:
    events = {"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": 5557, "topic": "", "dp_size": 1}
    document: dict[str, Any] = {"kv_events": events | told, "page_size": 16}
    return read_server_info(json.dumps(document | {"kv_events_config": config}).encode(), url)


def offers(told: Told | None) -> tuple[Offer, ...]:
    assert told is not None
    assert not told.why_not
    return told.offers


def why_not(told: Told | None) -> str:
    assert told is not None
    assert not told.offers
    return told.why_not


# --- vLLM -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint", "expected", "probe"),
    [
        (URL, "tcp://*:5557", "tcp://gpu1:5557", False),
        ("http://[fd00::1]:8000", "tcp://*:5557", "tcp://[fd00::1]:5557", False),
        (URL, "tcp://[::]:5557", "tcp://gpu1:5557", False),
        (URL, "tcp://0.0.0.0:5557", "tcp://gpu1:5557", True),
        (URL, "tcp://10.0.0.5:41234", "tcp://10.0.0.5:41234", True),
        ("http://127.0.0.1:8000", "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5557", True),
        (URL, "ipc:///run/events", "ipc:///run/events", False),
    ],
)
def test_a_wildcard_is_the_workers_host_and_other_addresses_are_probed(
    url: str, endpoint: str, expected: str, probe: bool
) -> None:
    (offer,) = offers(vllm(url, endpoint=endpoint))
    assert offer == Offer(0, Endpoint(expected, bind=False), None, "kv", probe)


def test_each_rank_has_a_publisher_and_a_replay() -> None:
    sources = {
        str(rank): {
            "publisher": "zmq",
            "endpoint": f"tcp://*:{5557 + rank}",
            "replay_endpoint": f"tcp://*:{6557 + rank}",
        }
        for rank in range(3)
    }
    told = offers(read_event_sources(json.dumps(sources).encode(), URL))
    assert [(one.rank, one.endpoint.address, one.replay) for one in told] == [
        (rank, f"tcp://gpu1:{5557 + rank}", f"tcp://gpu1:{6557 + rank}") for rank in range(3)
    ]


def test_a_replay_at_another_hosts_loopback_is_none() -> None:
    (offer,) = offers(vllm(endpoint="tcp://*:1", replay_endpoint="tcp://127.0.0.1:2"))
    assert offer.replay is None, "at that address may be somebody else's engine"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"publisher": "null"}, "enable_kv_cache_events"),
        ({"enable_kv_cache_events": False}, "enable_kv_cache_events"),
        ({"endpoint": "inproc://cache"}, "within its own process"),
        ({"endpoint": "tcp://127.0.0.1:5557"}, "its own loopback"),
        ({"endpoint": "tcp://*:0"}, "port from 1 to 65535"),
        ({"endpoint": "pgm://x"}, "makes no sense"),
    ],
)
def test_vllm_says_why_there_is_nothing(source: dict[str, Any], why: str) -> None:
    assert why in why_not(vllm(**{"endpoint": "tcp://*:5557"} | source))


def test_a_render_only_server_names_no_publisher() -> None:
    assert "no publisher" in why_not(read_event_sources(b"{}", URL))


# --- SGLang -----------------------------------------------------------------------------------------


def test_sglang_tells_a_host_and_the_first_of_its_ports() -> None:
    told = offers(sglang(dp_size=2, replay_endpoint_port_base=6557, topic="t"))
    assert told == tuple(
        Offer(rank, Endpoint(f"tcp://gpu1:{5557 + rank}", bind=False), f"tcp://gpu1:{6557 + rank}", "t")
        for rank in range(2)
    )
    (concrete,) = offers(sglang("http://127.0.0.1:8201", endpoint_host="127.0.0.1"))
    assert concrete.probe, "with or without `bind`, which it does not tell"


def test_sglangs_replay_may_be_at_another_host_than_its_events() -> None:
    config = '{"replay_endpoint": "tcp://10.0.0.9:6557"}'
    (offer,) = offers(sglang(config=config, replay_endpoint_port_base=6557))
    assert offer.replay == "tcp://10.0.0.9:6557"


def test_sglang_says_why_there_is_nothing() -> None:
    assert "start SGLang" in why_not(sglang(publisher="null"))
    off = json.dumps({"page_size": 16, "kv_events": None}).encode()
    assert "start SGLang" in why_not(read_server_info(off, URL))
    ipc = json.dumps({"page_size": 16, "kv_events_config": '{"endpoint": "ipc:///run/x"}'}).encode()
    assert "kv_events=ipc:///run/x" in why_not(read_server_info(ipc, URL))


# --- anybody ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b"\xff", b'{"vllm_config": 1}', b"[" * 5000])
def test_what_is_something_else_is_nothing(body: bytes) -> None:
    assert read_event_sources(body, URL) is None
    assert read_server_info(body, URL) is None


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 70_000)
    | st.text(max_size=10)
    | st.sampled_from(["zmq", "null", "tcp://*:5557", "tcp://*:0", "ipc://x", "*", "0", "1", "tcp://:::5"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["0", "1", "publisher", "endpoint", "replay_endpoint", "topic", "kv_events", "endpoint_host",
             "endpoint_port_base", "replay_endpoint_port_base", "dp_size", "kv_events_config", "page_size"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=300)
@given(_JSON)
def test_whatever_an_engine_answers_is_an_offer_that_can_be_followed_or_none(document: Any) -> None:
    for read in (read_event_sources, read_server_info):
        told = read(json.dumps(document).encode(), URL)
        for offer in () if told is None else told.offers:
            assert parse_endpoint(offer.endpoint.address)
            assert offer.replay is None or parse_endpoint(offer.replay)


def test_nobody_who_listens_is_told_to_the_operator_with_both_ways_out() -> None:
    said = nobody_listens(Offer(0, Endpoint("tcp://10.0.0.5:5557", bind=False), None))
    assert "tcp://*:5557" in said
    assert "--kv-events bind:tcp://10.0.0.5:5557" in said


@pytest.mark.parametrize(
    ("topic", "worker"),
    [
        ("kv@gpu1:8000@llama", "gpu1:8000"),
        ("kv@[::1]:8000@a@b", "[::1]:8000"),
        ("kv-events", None),
        ("", None),
        ("kv@@x", None),
    ],
)
def test_a_topic_may_name_its_worker(topic: str, worker: str | None) -> None:
    assert worker_in(topic) == worker


# --- operators --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("tcp://*:5557", True),
        ("tcp://0.0.0.0:5557", True),
        ("tcp://[::]:5557", True),
        ("tcp://gpu1:5557", False),
        ("tcp://[fd00::1]:5557", False),
        ("ipc:///run/events", False),
        ("ipc://@abstract", False),
        ("bind:tcp://127.0.0.1:5557", True),
        ("bind:ipc:///run/events", True),
    ],
)
def test_the_router_listens_at_wildcards_and_where_it_is_told_to(text: str, bind: bool) -> None:
    assert parse_endpoint(text) == Endpoint(text.removeprefix("bind:"), bind)
    assert Settings(kv_events=text).kv_events == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "on",
        "tcp://gpu1",
        "tcp://gpu1:0",
        "tcp://gpu1:70000",
        "http://gpu1:1",
        "ipc://",
        "bind:",
        "tcp://a b:1",
    ],
)
def test_what_is_no_endpoint_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValidationError, match=r"expected .*(auto or off|port)"):
        Settings(kv_events=text)


def test_a_backend_may_have_endpoints_of_its_own_and_its_ranks_follow() -> None:
    text = f"{URL},kv_events=tcp://gpu1:6000,kv_replay=tcp://gpu1:6100"
    assert str(Backend.parse(text)) == text
    ranked = Settings(backend=(f"{text},ranks=2",)).backend
    assert [(one.url, one.kv_events, one.kv_replay) for one in ranked] == [
        (f"{URL}@0", "tcp://gpu1:6000", "tcp://gpu1:6100"),
        (f"{URL}@1", "tcp://gpu1:6001", "tcp://gpu1:6101"),
    ]
    with pytest.raises(ValidationError, match="port"):
        Settings(backend=(f"{URL},kv_events=tcp://gpu1:65535,ranks=2",))
    with pytest.raises(ValidationError, match="connect to"):
        Backend.parse(f"{URL},kv_replay=tcp://*:6100")

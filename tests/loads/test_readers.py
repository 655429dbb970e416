"""What engines tell of their load is read; what they do not tell, or babble, is never taken for zero."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warmroute.load.answers import read_get_load, read_server_load, read_v1_loads
from warmroute.load.gauges import read_gauges
from warmroute.load.numbers import COUNT_MAX
from warmroute.load.orca import read_orca
from warmroute.load.stat import FeedPlace, Stat, added_up, read_feed_place, read_stat
from warmroute_policies.types import LoadReport

SAMPLES = Path(__file__).parents[3] / "shared" / "engines" / "samples"

RANK: dict[str, Any] = {
    "dp_rank": 0,
    "num_running_reqs": 3,
    "num_waiting_reqs": 2,
    "num_waiting_uncached_tokens": 900,
    "num_used_tokens": 4096,
    "max_total_num_tokens": 8192,
    "token_usage": 0.5,
    "cache_hit_rate": 0.9984,
}

VLLM = (
    "# TYPE vllm:num_requests_running gauge\n"
    'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
    'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0\n'
    'vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0\n'
    'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25\n'
)


def loads(*ranks: object) -> bytes:
    return json.dumps({"version": "0.5.23", "loads": list(ranks)}).encode()


# --- recorded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vllm_metrics.txt.gz", "sglang_metrics.txt.gz"])
def test_the_pages_of_real_engines_are_read(name: str) -> None:
    if not (SAMPLES / name).exists():
        pytest.skip(f"no recorded page at {SAMPLES / name}")
    page = gzip.decompress((SAMPLES / name).read_bytes())
    assert read_gauges(page) == LoadReport(0, 0, None, 0.0), "it was idle when it was recorded"


# --- SGLang -----------------------------------------------------------------------------------------


def test_the_ranks_of_an_engine_add_up() -> None:
    second = RANK | {"dp_rank": 1, "num_running_reqs": 1, "token_usage": 1.0}
    assert read_v1_loads(loads(RANK)) == LoadReport(5, 2, 900, 0.5)
    assert read_v1_loads(loads(RANK, second)) == LoadReport(8, 4, 1800, 0.75)


@pytest.mark.parametrize("name", ["num_running_reqs", "num_waiting_reqs", "num_waiting_uncached_tokens"])
@pytest.mark.parametrize("value", [None, -1, "3", True, [], float("1e30")])
def test_what_one_rank_does_not_tell_is_not_told_by_the_others(name: str, value: object) -> None:
    report = read_v1_loads(loads(RANK, RANK | {name: value}))
    told = {
        "num_running_reqs": (None, 4, 1800),
        "num_waiting_reqs": (None, None, 1800),
        "num_waiting_uncached_tokens": (10, 4, None),
    }[name]
    assert (report.requests, report.waiting_requests, report.waiting_tokens) == told


def test_an_older_engine_tells_requests() -> None:
    array = [{"dp_rank": 0, "num_reqs": 4, "num_waiting_reqs": 1, "num_tokens": 5000, "ts_tic": 1.5}] * 2
    assert read_get_load(json.dumps(array).encode()) == LoadReport(8, 2)
    assert read_get_load(b'{"load": 7}') == LoadReport(7)


@pytest.mark.parametrize("read", [read_v1_loads, read_get_load, read_server_load])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"7", b'"7"', b"<html>", b"\xff", b"[" * 5000, b'{"loads": []}', b"[7]"],
)
def test_another_answer_is_refused(read: Any, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(body)


# --- vLLM and pages ---------------------------------------------------------------------------------


def test_a_server_load_is_a_count_of_requests() -> None:
    assert read_server_load(b'{"server_load": 6}') == LoadReport(6)
    for odd in (b'{"server_load": null}', b'{"server_load": -1}', b'{"server_load": "6"}', b'{"load": 6}'):
        with pytest.raises(ValueError, match="server_load"):
            read_server_load(odd)


def test_vllms_gauges_are_read_and_its_reasons_are_not_counted_again() -> None:
    assert read_gauges(VLLM.encode()) == LoadReport(5, 2, None, 0.25)


def test_data_parallel_engines_add_up_and_tensor_parallel_ranks_do_not() -> None:
    second = VLLM.replace('engine="0"', 'engine="1"').replace("0.25", "0.75")
    assert read_gauges((VLLM + second).encode()) == LoadReport(10, 4, None, 0.5)
    sglang = "".join(
        f'sglang:num_running_reqs{{dp_rank="{dp}",model_name="a,b",tp_rank="{tp}"}} 3.0\n'
        f'sglang:num_queue_reqs{{dp_rank="{dp}",tp_rank="{tp}"}} 1.0\n'
        for dp in "01"
        for tp in "0123"
    )
    assert read_gauges(sglang.encode()) == LoadReport(8, 2)


def test_llama_cpp_has_no_labels() -> None:
    page = b"# HELP x\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 1\nllamacpp:n_decode 9\n"
    assert read_gauges(page) == LoadReport(3, 1)


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "-1", "three", "1e12"])
def test_a_gauge_that_is_no_count_is_not_told(odd: str) -> None:
    page = VLLM.replace("} 3.0", "} " + odd)
    assert read_gauges(page.encode()) == LoadReport(None, 2, None, 0.25)
    second = VLLM.replace('engine="0"', 'engine="1"')
    assert read_gauges((page + second).encode()) == LoadReport(None, 4, None, 0.25)


@pytest.mark.parametrize(
    "page", ["", "# vllm:num_requests_running 3\n", "my_vllm:num_requests_running 3\n", "<p>"]
)
def test_a_page_of_something_else_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="none of the gauges"):
        read_gauges(page.encode())


# --- ORCA -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            b"TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=2.0",
            LoadReport(None, 2, None, 0.4),
        ),
        (
            b'JSON {"named_metrics": {"kv_cache_usage_perc": 0.4, "num_requests_waiting": 2.0}}',
            LoadReport(None, 2, None, 0.4),
        ),
        (b'json {"named_metrics": {"kv_cache_utilization": 1.0}}', LoadReport(kv_usage=1.0)),
        (b"text num_requests_waiting=3", LoadReport(waiting_requests=3)),
        (b"TEXT named_metrics.kv_cache_usage_perc=40", None),
        (b"TEXT cpu_utilization=0.4", None),
        (b"JSON {", None),
        (b"JSON [1]", None),
        (b"JSON " + b"[" * 5000, None),
        (b"BIN CgQI", None),
        (b"", None),
        (b"TEXT " + b"a=1," * 500 + b"num_requests_waiting=3", None),
    ],
)
def test_a_field_of_an_answers_head_is_read_in_both_forms(value: bytes, expected: LoadReport | None) -> None:
    assert read_orca(value) == expected


# --- messages ---------------------------------------------------------------------------------------


def message(*fields: object) -> bytes:
    return msgspec.msgpack.encode(["LoadStat", *fields])


def test_a_message_is_read_from_the_left() -> None:
    assert read_stat(message(3, 2, 4096, 8192, 0)) == Stat(3, 2, None, 0.5)
    assert read_stat(message(3, 2, 4096, 8192, None, 900, 5000, 16, 7, 8, "new")) == Stat(3, 2, 900, 0.5)
    assert read_stat(message(3, 2, 4096, 0, 0)).kv_usage is None, "the capacity is not known"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", message(3, 2), msgspec.msgpack.encode({"type": "LoadStat"}), msgspec.msgpack.encode(7),
     msgspec.msgpack.encode(["KVEventBatch", 1, 2, 3, 4, 5]), b"\x91" * 5000],
)  # fmt: skip
def test_another_message_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_stat(payload)


def test_ranks_that_have_not_told_leave_the_sum_untold() -> None:
    one = Stat(3, 2, 900, 0.5)
    assert added_up([one, one]) == LoadReport(10, 4, 1800, 0.5)
    assert added_up([one, None]) == LoadReport()
    assert added_up([one, Stat(1, 0, None, 0.75)]) == LoadReport(6, 2, None, 0.625)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"load_endpoint_port_base": 5600, "load_topic": "load", "dp_size": 2, "endpoint_host": "*"},
            FeedPlace(("tcp://gpu1:5600", "tcp://gpu1:5601"), b"load"),
        ),
        ({"load_endpoint_port_base": 5600}, FeedPlace(("tcp://gpu1:5600",), b"")),
        ({"endpoint_port_base": 5557, "dp_size": 1}, None),
        ({"load_endpoint_port_base": 65535, "dp_size": 2}, None),
        ({"load_endpoint_port_base": True}, None),
        ({"load_endpoint_port_base": 5600, "dp_size": 10**9}, None),
        (None, None),
    ],
)
def test_server_info_says_where_messages_come_from(told: object, expected: FeedPlace | None) -> None:
    body = json.dumps({"kv_events": told, "page_size": 16}).encode()
    assert read_feed_place(body, "http://gpu1:30000") == expected


def test_a_feed_is_looked_for_where_the_worker_is() -> None:
    body = json.dumps({"kv_events": {"load_endpoint_port_base": 5600}}).encode()
    assert read_feed_place(body, "http://[::1]:30000") == FeedPlace(("tcp://[::1]:5600",), b"")
    with pytest.raises(ValueError, match="object"):
        read_feed_place(b"[]", "http://gpu1:30000")


# --- anything ---------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PACKED = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from([*RANK, "load", "loads", "server_load", "num_reqs", "kv_events", "named_metrics"])
ODD = st.dictionaries(KEYS, ANY | st.lists(st.dictionaries(KEYS, ANY, max_size=5), max_size=3), max_size=4)
DOCUMENTS = ODD | st.lists(ODD, max_size=3) | ANY


def sane(report: LoadReport | None) -> None:
    if report is None:
        return
    for value in (report.requests, report.waiting_requests, report.waiting_tokens):
        assert value is None or 0 <= value <= COUNT_MAX
    assert report.kv_usage is None or 0.0 <= report.kv_usage <= 1.0


@given(DOCUMENTS)
@example({"loads": [{"num_running_reqs": 1e308, "num_waiting_reqs": 5}]})
def test_any_document_is_a_sane_report_or_refused(document: Any) -> None:
    body = json.dumps(document).encode()
    for read in (read_v1_loads, read_get_load, read_server_load):
        try:
            sane(read(body))
        except ValueError:
            continue
    sane(read_orca(b"JSON " + body))
    with contextlib.suppress(ValueError):
        read_feed_place(body, "http://gpu1:30000")


@given(st.binary(max_size=60) | st.builds(lambda fields: message(*fields), st.lists(PACKED, max_size=9)))
def test_any_message_is_sane_or_refused(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        sane(added_up([read_stat(payload)]))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (VLLM + text).encode()))
def test_any_bytes_are_a_sane_report_or_refused(body: bytes) -> None:
    for read in (read_v1_loads, read_get_load, read_server_load, read_gauges):
        try:
            sane(read(body))
        except ValueError:
            continue
    sane(read_orca(body))
    sane(read_orca(b"TEXT " + body))

"""Where workers may be added, whatever the spelling of the address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from live.fake_worker import fake_workers
from live.processes import Process, spawn_router
from live.resolver import can_be_made, make_resolver
from warmroute.config import Settings
from warmroute.config.allowed import address_of, refusal

METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    "host",
    [METADATA, "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "[::ffff:169.254.169.254]",
     "[fe80::1]", "[fe80::1%25eth0]", "169.254.0.1"],
)  # fmt: skip
def test_a_link_local_address_is_refused_however_it_is_written(host: str) -> None:
    assert refusal(f"http://{host}:80", ()) is not None
    assert refusal(f"http://{host}:80", ("169.254.0.0/16", "fe80::/10")) is None, "unless it is named"


@pytest.mark.parametrize("host", ["[fd00:ec2::254]", "[fd00:ec2:0:0::fe]", "100.100.100.200", "0x646464c8"])
def test_where_clouds_hand_out_credentials_elsewhere_is_no_place_either(host: str) -> None:
    is_one = host != "[fd00:ec2:0:0::fe]"
    assert (refusal(f"http://{host}:80", ()) is not None) is is_one
    assert refusal(f"http://{host}:80", ("fd00:ec2::/32", "100.100.100.200")) is None, "unless it is named"


@pytest.mark.parametrize("host", ["10.0.0.1", "gpu1", "[2001:db8::1]", "127.0.0.1", "169.253.0.1", "abc.def"])
def test_any_other_place_will_do_where_no_list_is_set(host: str) -> None:
    assert refusal(f"http://{host}:8000", ()) is None


@pytest.mark.parametrize(
    ("host", "patterns", "may"),
    [
        ("gpu1.llm.svc", ("*.llm.svc",), True),
        ("gpu1.llm.svc.", ("*.llm.svc",), True),
        ("llm.svc", ("*.llm.svc",), False),
        ("gpu1.llm.svc.evil.org", ("*.llm.svc",), False),
        ("gpu1", ("GPU?",), True),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8",), False),
        ("11.1.2.3", ("10.0.0.0/8", "11.1.2.3"), True),
        ("gpu1", ("10.0.0.0/8",), False),
        ("[2001:db8::7]", ("2001:db8::/32",), True),
        ("[2001:db9::7]", ("2001:db8::/32",), False),
        ("[::ffff:10.0.0.1]", ("10.0.0.0/8",), True),
        ("10.0.0.1", ("*",), True),
        ("10.0.0.1", ("*.0.0.x",), False),
    ],
)
def test_a_list_admits_what_it_names_and_nothing_else(
    host: str, patterns: tuple[str, ...], may: bool
) -> None:
    allowed = Settings(worker_allow=patterns).worker_allow
    why = refusal(f"http://{host}:8000", allowed)
    assert (why is None) is may
    assert may or (why is not None and patterns[0].lower() in why)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_a_network_admits_exactly_its_addresses(base: int, bits: int, other: int) -> None:
    network = IPv4Network((base, bits), strict=False)
    address = IPv4Address(other)
    assert (refusal(f"http://{address}:1", (str(network),)) is None) is (address in network)
    assert address_of(str(other)) == address, "as one number"


@pytest.mark.parametrize(
    "pattern", ["http://gpu1", "gpu1:8000", "10.0.0.0/33", "a/b", "http://10.0.0.1/8", "10.1.2.*"]
)
def test_what_no_host_can_be_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValidationError, match="expected a host's name"):
        Settings(worker_allow=(pattern,))


@pytest.mark.skipif(not can_be_made(), reason="there is no C compiler")
def test_a_name_that_leads_to_a_link_local_address_is_as_good_as_that_address(tmp_path: Path) -> None:
    resolver = make_resolver(tmp_path)
    with fake_workers(1) as [worker]:
        router = spawn_router(tmp_path / "router.log", "--health-timeout-s", "1", env=resolver.env)
        try:
            with httpx.Client(base_url=router.url, trust_env=False, timeout=20) as client:
                refused = client.post("/workers", json={"url": "http://metadata.test"})
                assert refused.status_code == 403
                assert refused.json()["error"]["code"] == "worker_not_allowed"
                listed = client.put("/workers", json={"workers": [{"url": "http://metadata.test"}]})
                assert listed.status_code == 403
                by_url = client.post("/add_worker", params={"url": "http://metadata.test"})
                assert by_url.status_code == 403
                other = {"url": f"http://engine.test:{worker.port}"}
                assert client.post("/workers", json=other).json()["status"] == "healthy"
        finally:
            Process.kill(router)

"""Where workers may be added, whatever the spelling of the address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

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

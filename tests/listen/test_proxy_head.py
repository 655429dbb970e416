"""The parser of the PROXY protocol's head: a head is read to its last byte, what is none is refused."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.wire.proxy_head import BadProxyHead, ProxyHead, plain_address, read_proxy_head

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

ports = st.integers(0, 65535)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)


def binary(command: int, family: int, rest: bytes, *, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + bytes((0x20 | command, family)) + size.to_bytes(2, "big") + rest


def address_block(client: str, proxy: str, port: int) -> bytes:
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    packed = socket.inet_pton(family, client) + socket.inet_pton(family, proxy)
    return packed + port.to_bytes(2, "big") + b"\x01\xbb"


heads = st.one_of(
    st.tuples(v4, v4, ports, ports).map(
        lambda it: (f"PROXY TCP4 {it[0]} {it[1]} {it[2]} {it[3]}\r\n".encode(), it[0])
    ),
    st.tuples(v6, v6, ports, ports).map(
        lambda it: (f"PROXY TCP6 {it[0]} {it[1]} {it[2]} {it[3]}\r\n".encode(), it[0])
    ),
    st.text("abc 123:.", max_size=80).map(
        lambda text: (b"PROXY UNKNOWN" + (b" " + text.encode() if text else b"") + b"\r\n", None)
    ),
    st.tuples(v4, v4, ports, st.binary(max_size=300)).map(
        lambda it: (binary(1, 0x11, address_block(it[0], it[1], it[2]) + it[3]), it[0])
    ),
    st.tuples(v6, v6, ports, st.binary(max_size=300)).map(
        lambda it: (binary(1, 0x21, address_block(it[0], it[1], it[2]) + it[3]), it[0])
    ),
    st.binary(max_size=300).map(lambda rest: (binary(0, 0x00, rest), None)),
    st.binary(min_size=216, max_size=300).map(lambda rest: (binary(1, 0x31, rest), None)),
)


def fed(stream: bytes, most: int) -> tuple[ProxyHead, int]:
    """As a socket is read: what the parser asks for, or less; with how many bytes it took."""
    data = b""
    while isinstance(found := read_proxy_head(data), int):
        assert found >= 1
        piece = stream[len(data) : len(data) + min(found, most)]
        if not piece:
            raise BadProxyHead("the stream ended")
        data += piece
    return found, len(data)


@given(heads, st.binary(max_size=64), st.integers(1, 5000))
def test_a_head_is_read_to_its_last_byte_however_it_comes(
    head: tuple[bytes, str | None], behind: bytes, most: int
) -> None:
    data, client = head
    found, taken = fed(data + behind, most)
    assert taken == len(data), "what follows may be a handshake"
    assert found.address == (None if client is None else plain_address(str(ipaddress.ip_address(client))))


@given(heads, st.integers(0, 200))
def test_a_head_that_is_cut_is_no_head(head: tuple[bytes, str | None], keep: int) -> None:
    data, _ = head
    with pytest.raises(BadProxyHead):
        fed(data[: min(keep, len(data) - 1)], 5000)


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(lambda rest: b"PROXY TCP4 " + rest),
                 st.binary(max_size=400).map(lambda rest: SIGNATURE + rest)))  # fmt: skip
def test_whatever_comes_is_a_head_or_refused_and_never_more_than_it_may_be(stream: bytes) -> None:
    try:
        _, taken = fed(stream, 5000)
    except BadProxyHead:
        return
    assert taken <= 16 + 4096


@given(heads, st.data())
def test_one_wrong_byte_is_refused_or_changes_only_what_it_stands_for(
    head: tuple[bytes, str | None], data: st.DataObject
) -> None:
    whole, _ = head
    place = data.draw(st.integers(0, min(len(whole), 13) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    changed = whole[:place] + bytes((other,)) + whole[place + 1 :]
    try:
        found, _ = fed(changed, 5000)
    except BadProxyHead:
        return
    # What may be changed to something that is one: TCP4 into TCP6 of mapped addresses never, a command,
    # UNKNOWN's own text, the first digits of an address.
    assert found.address is None or changed[:6] == whole[:6]


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWN" + b" " * 95 + b"\r\n",
        b"PROXY TCP6 " + b"f" * 200 + b"\r\n",
        binary(2, 0x11, address_block("1.2.3.4", "5.6.7.8", 1)),
        binary(1, 0x41, address_block("1.2.3.4", "5.6.7.8", 1)),
        binary(1, 0x13, address_block("1.2.3.4", "5.6.7.8", 1)),
        binary(1, 0x21, address_block("1.2.3.4", "5.6.7.8", 1)),
        binary(1, 0x11, b"\x01" * 11),
        binary(1, 0x11, b"\x01" * 4096, length=4097) + b"\x01",
        SIGNATURE + b"\x11\x11\x00\x0c" + b"\x01" * 12,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
    ],
)
def test_what_is_not_exactly_a_head_is_refused(line: bytes) -> None:
    with pytest.raises(BadProxyHead):
        fed(line, 5000)


def test_an_address_that_came_mapped_is_shown_as_itself() -> None:
    assert plain_address("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain_address("::ffff:0:10.0.0.1") == "::ffff:0:10.0.0.1"
    assert plain_address("10.0.0.1") == "10.0.0.1"
    assert plain_address("fe80::1%eth0") == "fe80::1%eth0"

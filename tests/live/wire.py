"""An HTTP/1.1 client that shows the connection: several requests in one write, reading only when told."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from live.polling import PATIENCE_S


@dataclass
class Answer:
    """One answer, its body without chunk framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """The bytes of a request; a body that is not bytes is sent as JSON."""
    payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: router"]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(payload)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


def socket_to(url: str, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A connected socket; a URL `unix:PATH` is a Unix socket's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    families = {"unix": socket.AF_UNIX}
    found = socket.socket(families.get(parts.scheme, socket.AF_INET6 if ":" in host else socket.AF_INET))
    found.settimeout(PATIENCE_S)
    if receive_buffer_bytes is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    try:
        found.connect(parts.path if parts.scheme == "unix" else (host, parts.port or 80))
    except OSError:
        found.close()
        raise
    return found


class Connection:
    """State: a socket, and bytes read ahead."""

    def __init__(
        self,
        url: str,
        receive_buffer_bytes: int | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        preface: bytes = b"",
    ) -> None:
        """`preface` is sent before the TLS handshake, which is for the name `localhost`. Over TLS an end
        without its announcement raises ssl.SSLEOFError."""
        self.socket = socket_to(url, receive_buffer_bytes)
        if preface:
            self.socket.sendall(preface)
        if tls is not None:  # which closes the socket when it fails
            self.socket = tls.wrap_socket(
                self.socket, server_hostname="localhost", suppress_ragged_eofs=False
            )
        self._ahead = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        """One write."""
        self.socket.sendall(b"".join(pieces))

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request and its answer."""
        self.send(request(method, path, body, **headers))
        return self.answer()

    def answer(self) -> Answer:
        """The next answer, whole."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        fields = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = b"" if status < 200 or status in (204, 304) else self._rest()
        return Answer(status, headers, body)

    def at_end(self) -> bool:
        """Whether the router has closed the connection; waits for it."""
        return not self._ahead and self.socket.recv(1) == b""

    def _chunks(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            size = int(self._until(b"\r\n").partition(b";")[0], 16)
            if size == 0:
                self._until(b"\r\n")
                return b"".join(pieces)
            pieces.append(self._exactly(size))
            assert self._exactly(2) == b"\r\n"

    def _until(self, end: bytes) -> bytes:
        while end not in self._ahead:
            self._more()
        found, _, self._ahead = self._ahead.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        pieces = [self._ahead]
        have = len(self._ahead)
        while have < size:
            self._ahead = b""
            self._more()
            pieces.append(self._ahead)
            have += len(self._ahead)
        whole = b"".join(pieces)
        self._ahead = whole[size:]
        return whole[:size]

    def _rest(self) -> bytes:
        pieces = [self._ahead]
        while piece := self.socket.recv(1 << 16):
            pieces.append(piece)
        self._ahead = b""
        return b"".join(pieces)

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, f"the connection ended inside an answer, after {self._ahead[-200:]!r}"
        self._ahead += data

"""A worker that does what a test tells it, byte by byte: a thread per connection, real sockets.

A script is a function of one `Call`. It runs for every inference request; health checks and discovery are
answered beside it. What arrives is kept, so that a test can say which worker saw what.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from live.polling import PATIENCE_S

_POLL_S = 0.02

# What GETs of clients ask for; the router asks for other things.
_THINGS = ("/v1/responses", "/v1/conversations", "/v1/batches", "/v1/files")


class Gone(Exception):
    """The other side closed the connection, or the worker was stopped."""


@dataclass
class Call:
    """One request as it arrived, and the means to answer it. State: how far the connection is."""

    worker: FakeWorker
    line: str
    fields: list[tuple[str, str]]
    """As they came, one for each line; names in lower case."""
    body: bytes
    socket: socket.socket
    number_on_connection: int
    keep: bool = True
    """Whether the connection takes another request afterwards."""
    gone: threading.Event = field(default_factory=threading.Event)
    """The router gave this request up."""

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.fields)

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    def write(self, *pieces: bytes) -> None:
        """Each piece is a write of its own."""
        for piece in pieces:
            try:
                self.socket.sendall(piece)
            except OSError as error:
                self.gone.set()
                raise Gone from error

    def answer(self, body: bytes, status: int = 200, *fields: str) -> None:
        """A plain answer with a length."""
        head = [
            f"HTTP/1.1 {status} X",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *fields,
        ]
        self.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def stream(self, *fields: str) -> None:
        """The head of a chunked answer."""
        head = ["HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", *fields]
        self.write("\r\n".join(head).encode() + b"\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.write(chunk(data))

    def end(self) -> None:
        self.write(b"0\r\n\r\n")

    def close(self) -> None:
        """Ends the connection in order."""
        self.keep = False
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Ends the connection as a crash of the machine would."""
        self.keep = False
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_gone(self, patience_s: float = PATIENCE_S) -> bool:
        """Until the router closes the connection. False: it did not."""
        waited = 0.0
        while waited < patience_s:
            if self.worker.stopped.is_set():
                raise Gone
            try:
                if select.select([self.socket], [], [], _POLL_S)[0] and not self.socket.recv(
                    1, socket.MSG_PEEK
                ):
                    self.gone.set()
                    return True
            except OSError:
                self.gone.set()
                return True
            waited += _POLL_S
        return False

    def hold(self, event: threading.Event) -> None:
        """Waits for a test's word. Raises Gone when the router leaves before."""
        while not event.is_set():
            if self.wait_gone(_POLL_S):
                raise Gone

    def read(self, size: int, ahead: bytearray) -> bytes:
        """So many bytes of a body that is not there yet; what came before them is in `ahead`. Raises
        Gone."""
        while len(ahead) < size:
            try:
                data = self.socket.recv(1 << 16)
            except OSError as error:
                self.gone.set()
                raise Gone from error
            if not data:
                self.gone.set()
                raise Gone
            ahead += data
        taken = bytes(ahead[:size])
        del ahead[:size]
        return taken

    def read_whole(self, ahead: bytearray) -> bytes:
        """The rest of the body, with a length or in chunks. Raises Gone."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.read(int(self.headers.get("content-length", "0")), ahead)
        pieces: list[bytes] = []
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += self.read(1, ahead)
            size = int(line, 16)
            pieces.append(self.read(size, ahead))
            assert self.read(2, ahead) == b"\r\n"
            if not size:
                return b"".join(pieces)


Script = Callable[[Call], object]
OnHead = Callable[[Call, bytearray], object]
"""A script that begins with a request's head, and reads the body itself; what has come of it is given."""


def chunk(data: bytes) -> bytes:
    """One chunk with its framing."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def ok(call: Call) -> None:
    """The default script: a small answer that names the worker."""
    call.answer(json.dumps({"worker": call.worker.url, "usage": USAGE}).encode())


USAGE = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 40}}


class FakeWorker:
    """State: the listening socket, the script, what has arrived, which connections are open."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = ok
        self.healthy = True
        self.eager = b""
        """Written as soon as a POST's head was read; its body never is."""
        self.on_head: OnHead | None = None
        """What happens to POSTs and WebSockets instead of the script."""
        self.calls: list[Call] = []
        self.accepted = 0
        self.stopped = threading.Event()
        self._may_accept = threading.Event()
        self._may_accept.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.host = host
        self.tls = tls
        """What connections from now on are wrapped in; their `wait_gone` does not work then."""
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=self._family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if tls is None else 'https'}://{shown}:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    # --- what a test does -----------------------------------------------------------------------

    def forget(self) -> None:
        """Behaves again, and remembers nothing."""
        self.script, self.healthy, self.eager, self.calls = ok, True, b"", []
        self.on_head = None

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def close_connections(self) -> None:
        """Every connection, idle or not, as a restart would."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def stop_listening(self) -> None:
        """Connections are refused from now on; those that are there go on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """For the block's time nothing is accepted and the queue is full: connecting takes for ever."""
        self._may_accept.clear()
        self._listener.listen(0)
        stuffing = []
        with contextlib.suppress(TimeoutError):
            while True:
                stuffing.append(socket.create_connection((self.host, self.port), timeout=0.5))
        try:
            yield
        finally:
            for one in stuffing:
                one.close()
            self._listener.listen(1024)
            self._may_accept.set()

    def listen_again(self) -> None:
        """On the same port."""
        self._listener = socket.create_server((self.host, self.port), family=self._family, backlog=1024)
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self._may_accept.set()
        self.stop_listening()
        self.close_connections()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    # --- the server -----------------------------------------------------------------------------

    def _accept(self) -> None:
        listener = self._listener
        while self._may_accept.wait():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
                self.accepted += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                with self._lock:
                    self._open.discard(connection)
                    connection = self.tls.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                    self._open.add(connection)
                connection.do_handshake()
            for number, (line, fields, body) in enumerate(self._requests(connection), 1):
                call = Call(self, line, fields, body, connection, number)
                if line.startswith("GET ") and not call.path.startswith(_THINGS):
                    self._tell(call)
                else:
                    self.calls.append(call)
                    with contextlib.suppress(Gone):
                        self.script(call)
                if not call.keep or call.gone.is_set() or self.stopped.is_set():
                    return
        except (OSError, ValueError, Gone):  # reset, or closed by a script
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _requests(self, connection: socket.socket) -> Iterator[tuple[str, list[tuple[str, str]], bytes]]:
        """Requests with a length, as the router writes them, until the connection ends."""
        ahead = b""
        while True:
            while b"\r\n\r\n" not in ahead:
                data = connection.recv(1 << 16)
                if not data:
                    return
                ahead += data
            head, _, rest = ahead.partition(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            parts = (text.partition(":") for text in lines)
            fields = [(name.lower(), value.strip()) for name, _, value in parts]
            if self.eager and line.startswith("POST "):
                call = Call(self, line, fields, b"", connection, 0)
                self.calls.append(call)
                call.write(self.eager)
                self._wait_dead(connection)
                return
            if self.on_head is not None and (line.startswith("POST ") or ("upgrade", "websocket") in fields):
                call = Call(self, line, fields, b"", connection, 0)
                self.calls.append(call)
                self.on_head(call, bytearray(rest))
                if call.keep and not call.gone.is_set():
                    ahead = b""
                    continue
                return
            length = int(dict(fields).get("content-length", "0"))
            pieces, have = [rest], len(rest)
            while have < length:
                data = connection.recv(1 << 20)
                if not data:
                    return
                pieces.append(data)
                have += len(data)
            whole = b"".join(pieces)
            ahead = whole[length:]
            yield line, fields, whole[:length]

    def _wait_dead(self, connection: socket.socket) -> None:
        """Until the router closes the connection, without reading what is in it."""
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        while not self.stopped.is_set() and not poll.poll(20):
            pass

    def _tell(self, call: Call) -> None:
        """Health and discovery."""
        known = {"/health": 200 if self.healthy else 503}
        call.answer(b"{}", known.get(call.path, 404), "connection: close")
        call.keep = False


@contextlib.contextmanager
def fake_workers(count: int) -> Iterator[list[FakeWorker]]:
    """Workers for the block's time."""
    workers = [FakeWorker() for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()

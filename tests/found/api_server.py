"""A stand-in for the Kubernetes API server: list and watch over real sockets, and all the ways they go wrong.

Objects have versions from one counter. A list answers with the version as of now, in pages when asked; a
watch streams what happened after the version that it names, or says 410 Gone when that has been compacted.
Selectors are applied here, as there: an object that stops matching is DELETED to whoever watches so.
"""

from __future__ import annotations

import contextlib
import copy
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]


class Request(NamedTuple):
    """What a client asked for."""

    path: str
    query: dict[str, str]
    token: str

    @property
    def watches(self) -> bool:
        return self.query.get("watch") == "true"


class Change(NamedTuple):
    """An object as it was and as it is; None: not there."""

    version: int
    before: Json | None
    after: Json | None


@dataclass
class ApiServer:
    """State: objects, what happened to them, how the server misbehaves, what was asked."""

    url: str = ""
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    """By the path of their list, and name."""
    history: list[tuple[str, Change]] = field(default_factory=list)
    version: int = 100
    compacted: int = 0
    """Versions before this one are too old to go on from."""
    token: str = "secret"
    refusal: tuple[int, str] | None = None
    """Answered to everything, with the reason."""
    watch_refusal: int = 0
    """Status of the answer to every watch, instead of a stream."""
    deaf: bool = False
    """Every connection is closed without an answer."""
    piecewise: bool = False
    """Every byte of a stream is a write of its own."""
    requests: list[Request] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    bookmarks: int = 0
    errors: int = 0
    breaks: int = 0
    stopped: bool = False

    # --- what a test does -----------------------------------------------------------------------

    def put(self, path: str, thing: Json) -> None:
        """Creates or replaces."""
        with self.changed:
            self.version += 1
            thing = copy.deepcopy(thing)
            thing["metadata"]["resourceVersion"] = str(self.version)
            key = path, thing["metadata"]["name"]
            self.history.append((path, Change(self.version, self.objects.get(key), thing)))
            self.objects[key] = thing
            self.changed.notify_all()

    def delete(self, path: str, name: str) -> None:
        with self.changed:
            self.version += 1
            before = self.objects.pop((path, name))
            self.history.append((path, Change(self.version, before, None)))
            self.changed.notify_all()

    def unrelated(self) -> None:
        """Something happened elsewhere in the cluster."""
        with self.changed:
            self.version += 1

    def compact(self) -> None:
        """Forgets how all came about: to go on from an older version is to ask for what is gone."""
        with self.changed:
            self.version += 1
            self.compacted = self.version

    def bookmark(self) -> None:
        """Tells every watch how far it is."""
        with self.changed:
            self.bookmarks += 1
            self.changed.notify_all()

    def say_gone(self) -> None:
        """410 in every stream that is open, and no way to go on from where it was."""
        self.compact()
        with self.changed:
            self.errors += 1
            self.changed.notify_all()

    def break_streams(self) -> None:
        """Every stream ends in the middle of a line."""
        with self.changed:
            self.breaks += 1
            self.changed.notify_all()

    @property
    def watches(self) -> list[Request]:
        return [request for request in self.requests if request.watches]

    @property
    def lists(self) -> list[Request]:
        return [request for request in self.requests if not request.watches]

    def kubeconfig(self, folder: Path, namespace: str = "llm") -> Path:
        """A file that leads here; the token stands in a file beside it."""
        (folder / "token").write_text(self.token, encoding="utf-8")
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "current-context": "here",
                    "contexts": [
                        {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
                    ],
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"tokenFile": str(folder / "token")}}],
                }
            ),
            encoding="utf-8",
        )
        return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ApiServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Says nothing."""

    def do_GET(self) -> None:
        api, parts = self.api, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        request = Request(parts.path, query, token)
        with api.changed:
            api.requests.append(request)
        if api.deaf:
            self.close_connection = True
        elif token != api.token:
            self._refuse(401, "Unauthorized")
        elif api.refusal is not None:
            self._refuse(*api.refusal)
        elif not request.watches:
            self._list(request)
        elif api.watch_refusal:
            self._refuse(api.watch_refusal, "no watch for you")
        else:
            with contextlib.suppress(OSError):
                self._watch(request)
            self.close_connection = True

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, _status(status, message))

    def _answer(self, status: int, document: Json) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _list(self, request: Request) -> None:
        with self.api.changed:
            items = [
                thing
                for (path, _), thing in sorted(self.api.objects.items(), key=lambda item: item[0])
                if path == request.path and _matches(thing, request)
            ]
            version = self.api.version
        begin = int(request.query.get("continue", "0"))
        limit = int(request.query.get("limit", "1000000"))
        meta = {"resourceVersion": str(version)}
        if begin + limit < len(items):
            meta["continue"] = str(begin + limit)
        self._answer(200, {"kind": "List", "metadata": meta, "items": items[begin : begin + limit]})

    def _watch(self, request: Request) -> None:
        api = self.api
        seen = int(request.query["resourceVersion"])
        with api.changed:
            gone = seen < api.compacted
            bookmarks, errors, breaks = api.bookmarks, api.errors, api.breaks
        if gone:
            self._refuse(410, "too old resource version")
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while True:
            with api.changed:
                new = [c for path, c in api.history if path == request.path and c.version > seen]
                while not (
                    new
                    or (api.bookmarks, api.errors, api.breaks) != (bookmarks, errors, breaks)
                    or api.stopped
                ):
                    api.changed.wait(1.0)
                    new = [c for path, c in api.history if path == request.path and c.version > seen]
                now = api.bookmarks, api.errors, api.breaks
                version = api.version
                if api.stopped:
                    return
            if now[2] != breaks and now[0] == bookmarks:
                self._break_off()
                return
            for change in new:
                seen = change.version
                event = _event(change, request)
                if event is not None:
                    self._line(event)
            if now[0] != bookmarks:
                bookmarks = now[0]
                meta = {"resourceVersion": str(version), "creationTimestamp": None}
                self._line({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": meta}})
                if now[2] != breaks:
                    self._break_off()
                    return
            if now[1] != errors:
                self._line({"type": "ERROR", "object": _status(410, "too old resource version")})
                self.wfile.write(b"0\r\n\r\n")
                return

    def _break_off(self) -> None:
        """In the middle of a line; what happened until now is told to the next watch."""
        self._chunk(b'{"type":"MODIFIED","object":{"metadata":{"name":"ha')

    def _line(self, event: Json) -> None:
        data = json.dumps(event).encode() + b"\n"
        if self.api.piecewise:
            for byte in data:
                self._chunk(bytes([byte]))
        else:
            self._chunk(data)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


def _status(code: int, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _matches(thing: Json, request: Request) -> bool:
    labels = thing["metadata"].get("labels") or {}
    wanted = request.query.get("labelSelector", "")
    pairs = (pair.partition("=") for pair in wanted.split(",") if pair)
    return all(labels.get(name) == value for name, _, value in pairs)


def _event(change: Change, request: Request) -> Json | None:
    """The change as a watch with this selector sees it."""
    was = change.before is not None and _matches(change.before, request)
    now = change.after is not None and _matches(change.after, request)
    if now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.after}
    if was:
        last = copy.deepcopy(change.after or change.before)
        assert last is not None
        last["metadata"]["resourceVersion"] = str(change.version)
        return {"type": "DELETED", "object": last}
    return None


@contextlib.contextmanager
def api_server(tls: ssl.SSLContext | None = None) -> Iterator[ApiServer]:
    """A server for the block's time."""
    api = ApiServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    api.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        with api.changed:
            api.stopped = True
            api.changed.notify_all()
        server.shutdown()
        server.server_close()
        thread.join(20)


# --- objects ------------------------------------------------------------------------------------

PODS = "/api/v1/namespaces/llm/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/llm/endpointslices"


def pod(
    name: str,
    address: str | None,
    *ports: int | tuple[str, int],
    is_ready: bool = True,
    leaving: bool = False,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> Json:
    """A pod as the API shows it, so far as matters, and some fields that do not."""
    meta: Json = {"name": name, "namespace": "llm", "uid": f"uid-{name}"}
    meta["labels"] = {"app": "vllm"} if labels is None else labels
    if annotations:
        meta["annotations"] = annotations
    if leaving:
        meta["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    listed = [
        {"containerPort": one, "protocol": "TCP"}
        if isinstance(one, int)
        else {"name": one[0], "containerPort": one[1], "protocol": "TCP"}
        for one in ports
    ]
    status: Json = {"phase": phase, "conditions": [{"type": "Initialized", "status": "True"}]}
    status["conditions"].append({"type": "Ready", "status": "True" if is_ready else "False"})
    if address is not None:
        status["podIP"] = address
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [{"name": "engine", "ports": listed}], "nodeName": "n1"},
        "status": status,
    }


def endpoint_slice(
    name: str,
    endpoints: list[Json],
    *ports: tuple[str, int],
    service: str = "vllm",
    family: str = "IPv4",
    labels: dict[str, str] | None = None,
) -> Json:
    """A part of a Service's endpoints."""
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "llm",
            "labels": {"kubernetes.io/service-name": service, **(labels or {})},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports],
    }


def endpoint(
    address: str, uid: str, *, is_ready: bool | None = True, serving: bool = True, leaving: bool = False
) -> Json:
    """One endpoint of a slice."""
    conditions = {"ready": is_ready, "serving": serving, "terminating": leaving}
    return {
        "addresses": [address],
        "conditions": conditions,
        "targetRef": {"kind": "Pod", "name": uid, "uid": uid},
    }

"""Sends one connection's raw bytes and says what came back, without ever waiting for nothing.

Behind the case's first answer goes a probe, a valid request that asks to close: what is answered before the
probe's answer belongs to the case, and where the connection had been closed the probe is not answered at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from dataclasses import dataclass

from live.fake_worker import Call
from live.polling import PATIENCE_S
from live.wire import Answer, Connection, request

PROBE_PATH = "/v1/completions"


@dataclass(frozen=True)
class Seen:
    """What a connection brought: the case's answers, and whether the connection could still be used."""

    answers: tuple[Answer, ...]
    stays: bool

    @property
    def statuses(self) -> tuple[int, ...]:
        return tuple(answer.status for answer in self.answers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The answers' classes, as in ("2xx", "4xx"); ("close",) where there was none."""
        return tuple(f"{status // 100}xx" for status in self.statuses) or ("close",)


def echo(call: Call) -> None:
    """A worker's script: the answer names the request's line and the hash of its body."""
    call.answer(json.dumps({"line": call.line, "body": fingerprint(call.body)}).encode())


def fingerprint(body: bytes) -> str:
    """What `echo` says of a body."""
    return hashlib.sha256(body).hexdigest()


def exchange(url: str, data: bytes, nonce: str) -> Seen:
    """Sends the bytes, then the probe, and reads to the end. The probe's body holds the nonce."""
    probe = request("POST", PROBE_PATH, {"model": "m", "prompt": nonce}, connection="close")
    probe_body = probe.partition(b"\r\n\r\n")[2]
    answers: list[Answer] = []
    with Connection(url) as connection:
        with contextlib.suppress(ConnectionError):  # refused before it was read to its end
            connection.send(data)
        try:
            answers.append(_final(connection))
            connection.send(probe)
            while True:
                answers.append(_final(connection))
        except (ConnectionError, AssertionError):
            pass  # it has ended
        except TimeoutError as error:
            raise AssertionError(f"neither an answer nor an end within {PATIENCE_S:g} s") from error
        finally:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
    stays = bool(answers) and _is_for(answers[-1], probe_body)
    return Seen(tuple(answers[:-1] if stays else answers), stays)


def _final(connection: Connection) -> Answer:
    """The next answer that is not an interim one. AssertionError at the connection's end."""
    while True:
        answer = connection.answer()
        if answer.status >= 200:
            return answer


def _is_for(answer: Answer, body: bytes) -> bool:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return bool(answer.json()["body"] == fingerprint(body))
    return False

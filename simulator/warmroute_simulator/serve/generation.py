"""One answer on its way: engine events become bytes on the client's connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmroute_simulator.engine import Finished
from warmroute_simulator.serve.dialects.base import Answer, End
from warmroute_simulator.serve.faults import FaultSpec
from warmroute_simulator.serve.http import Exchange

if TYPE_CHECKING:
    from warmroute_simulator.serve.worker import Worker


class Generation:
    """The sink of one request. State: how many words are out, the prompt's cached tokens.

    The last word waits for the end of the request, because its chunk carries the finish reason.
    """

    __slots__ = (
        "_answer", "_cached_tokens", "_die_after", "_exchange", "_prompt_tokens", "_request_id", "_sent",
        "_stream", "_words", "_worker",
    )  # fmt: skip

    def __init__(
        self,
        worker: Worker,
        exchange: Exchange,
        request_id: int,
        answer: Answer,
        words: list[bytes],
        prompt_tokens: int,
        stream: bool,
        die: FaultSpec | None,
    ) -> None:
        self._worker, self._exchange, self._request_id = worker, exchange, request_id
        self._answer, self._words, self._prompt_tokens = answer, words, prompt_tokens
        self._stream = stream
        self._die_after = die.after_chunks if die else None
        self._sent = 0
        self._cached_tokens = 0
        exchange.on_disconnect = self._client_gone
        if stream:
            exchange.start_stream()

    def on_first_token(self, cached_tokens: int, ttft_s: float) -> None:
        self._worker.ttft.observe(ttft_s)
        self._cached_tokens = cached_tokens
        if self._stream:
            self._send(1, self._answer.opening(self._prompt_tokens, cached_tokens))

    def on_tokens(self, count: int) -> None:
        self._send(count, b"")

    def on_finished(self, event: Finished) -> None:
        words = self._words
        text = b"".join(words).decode()
        end = End(event.reason, self._prompt_tokens, event.cached_tokens, len(words), text)
        self._worker.finished[event.reason] += 1
        if self._stream:
            if not self._dies(self._sent + 1):
                self._exchange.end(self._answer.closing(words[-1], end))
            return
        body = self._answer.whole(end)
        if self._die_after is not None:
            self._exchange.respond_partly(body, len(body) // 2)
        else:
            self._exchange.respond(200, body)

    def _send(self, count: int, opening: bytes) -> None:
        last = len(self._words) - 1
        answer, exchange = self._answer, self._exchange
        until = min(self._sent + count, last)
        if until == self._sent and opening:
            exchange.write(opening)
        for index in range(self._sent, until):
            if self._dies(index):
                return
            exchange.write(opening + answer.token(self._words[index]))
            opening = b""
        self._sent = until
        self._dies(until)

    def _dies(self, sent: int) -> bool:
        """The fault `die_midstream`: abort once that many tokens are out."""
        if self._die_after is None or sent < self._die_after:
            return False
        self._worker.driver.abort(self._request_id)
        self._exchange.abort(after_flush=True)
        return True

    def _client_gone(self) -> None:
        self._worker.driver.abort(self._request_id)

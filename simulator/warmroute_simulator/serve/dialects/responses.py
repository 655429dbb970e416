"""POST /v1/responses, streamed and not. Stateless: the whole conversation is in `input`."""

from __future__ import annotations

import msgspec

from warmroute_simulator.serve.dialects.base import BadRequest, Call, End, Meta, Positive, decode, sse
from warmroute_simulator.serve.dialects.template import Message, Part, render


class Item(msgspec.Struct, frozen=True, gc=False):
    """One input item: a message, a function call or its output."""

    type: str = "message"
    role: str = ""
    content: str | list[Part] | None = None
    name: str = ""
    arguments: str = ""
    output: msgspec.Raw = msgspec.Raw()

    def message(self) -> Message:
        if self.type == "message":
            return Message(self.role or "user", self.content)
        return Message(self.type, self.name + self.arguments + bytes(self.output).decode())


class ResponsesBody(msgspec.Struct, frozen=True):
    input: str | list[Item]
    model: str | None = None
    instructions: str | None = None
    tools: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None
    max_output_tokens: Positive | None = None
    previous_response_id: str | None = None
    cache_salt: str | None = None


_DECODER = msgspec.json.Decoder(ResponsesBody)


def parse(body: bytes | bytearray) -> Call:
    """Raises BadRequest."""
    asked = decode(body, _DECODER)
    if asked.previous_response_id is not None:
        raise BadRequest("responses are not stored: send the whole conversation", "previous_response_id")
    messages = [Message("system", asked.instructions)] if asked.instructions else []
    if isinstance(asked.input, str):
        messages.append(Message("user", asked.input))
    else:
        messages += [item.message() for item in asked.input]
    if not messages:
        raise BadRequest("input must not be empty", "input")
    return Call(
        answer=ResponsesAnswer,
        id_prefix="resp_",
        tokens=render(asked.tools, messages),
        model=asked.model,
        max_tokens=asked.max_output_tokens,
        stream=bool(asked.stream),
        salt=asked.cache_salt or "",
    )


class ResponsesAnswer:
    """A stream is a fixed order of typed events, each with a sequence number. The last one is
    `response.completed` for an answer cut by its limit too, as in vLLM; the status inside tells."""

    def __init__(self, call: Call, meta: Meta) -> None:
        self._meta = meta
        self._item_id = "msg_" + meta.answer_id.removeprefix("resp_")
        self._sequence = 0

    def whole(self, end: End) -> bytes:
        return msgspec.json.encode(self._response(end))

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        return (
            self._event("response.created", response=self._response(None))
            + self._event("response.in_progress", response=self._response(None))
            + self._event("response.output_item.added", output_index=0, item=self._item(None))
            + self._event("response.content_part.added", **self._place, part=self._part(""))
        )

    def token(self, word: bytes) -> bytes:
        return self._event("response.output_text.delta", **self._place, delta=word.decode(), logprobs=[])

    def closing(self, last_word: bytes, end: End) -> bytes:
        return (
            self.token(last_word)
            + self._event("response.output_text.done", **self._place, text=end.text, logprobs=[])
            + self._event("response.content_part.done", **self._place, part=self._part(end.text))
            + self._event("response.output_item.done", output_index=0, item=self._item(end))
            + self._event("response.completed", response=self._response(end))
        )

    @property
    def _place(self) -> dict[str, object]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: object) -> bytes:
        number, self._sequence = self._sequence, self._sequence + 1
        return sse({"type": kind, "sequence_number": number} | fields, kind)

    def _part(self, text: str) -> dict[str, object]:
        return {"type": "output_text", "text": text, "annotations": []}

    def _item(self, end: End | None) -> dict[str, object]:
        content = [] if end is None else [self._part(end.text)]
        status = _status(end)
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(self, end: End | None) -> dict[str, object]:
        response: dict[str, object] = {
            "id": self._meta.answer_id,
            "object": "response",
            "created_at": self._meta.created,
            "status": _status(end),
            "model": self._meta.model,
            "output": [] if end is None else [self._item(end)],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }
        if end is not None:
            if end.reason == "length":
                response["incomplete_details"] = {"reason": "max_output_tokens"}
            response["usage"] = {
                "input_tokens": end.prompt_tokens,
                "input_tokens_details": {"cached_tokens": end.cached_tokens},
                "output_tokens": end.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": end.prompt_tokens + end.output_tokens,
            }
        return response


def _status(end: End | None) -> str:
    if end is None:
        return "in_progress"
    return "incomplete" if end.reason == "length" else "completed"

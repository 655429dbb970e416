"""The official client of OpenAI."""

from __future__ import annotations

from typing import Any

import openai

from e2e.callers.checks import CHOSEN, MESSAGES, OUTAGE_RETRIES, SYSTEM, TOO_LONG, TOOL, Calls, main

MODEL = "tiny"
CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0}


def client(url: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=retries, timeout=120)


def plain(answer: Any) -> Any:
    """A chat's answer without what is new each time."""
    return [
        choice.message.model_dump(exclude={"tool_calls": {"__all__": {"id"}}}) for choice in answer.choices
    ]


def chat(url: str) -> Any:
    answer = client(url).chat.completions.create(**CHAT)
    return plain(answer), answer.usage.model_dump()


def stream(url: str) -> Any:
    chunks = list(
        client(url).chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    )
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return said, chunks[-1].usage.model_dump()


def tools(url: str) -> Any:
    return plain(
        client(url).chat.completions.create(
            **CHAT | {"tools": [TOOL], "tool_choice": CHOSEN, "max_tokens": 48}
        )
    )


def logprobs(url: str) -> Any:
    answer = client(url).chat.completions.create(**CHAT | {"logprobs": True, "top_logprobs": 2})
    return [choice.logprobs.model_dump() for choice in answer.choices]


def parsed(url: str) -> Any:
    """An answer by a schema, which is cut off here: the client raises."""
    schema = {"name": "place", "schema": TOOL["function"]["parameters"]}  # type: ignore[index]
    asked = CHAT | {"response_format": {"type": "json_schema", "json_schema": schema}}
    return client(url).chat.completions.parse(**asked).choices[0].message.content


def completion(url: str) -> Any:
    asked: dict[str, Any] = {
        "model": MODEL,
        "prompt": list(range(300, 400)),
        "max_tokens": 4,
        "temperature": 0,
    }
    return client(url).completions.create(**asked).choices[0].text


def response(url: str) -> Any:
    asked: dict[str, Any] = {"model": MODEL, "input": SYSTEM, "max_output_tokens": 4, "temperature": 0}
    plain = client(url).responses.create(**asked).output_text
    events = list(client(url).responses.create(**asked, stream=True))
    return plain, [event.type for event in events if event.type != "response.output_text.delta"]


def models(url: str) -> Any:
    return [model.id for model in client(url).models.list()]


def too_long(url: str) -> Any:
    return client(url).chat.completions.create(**CHAT | {"messages": TOO_LONG})


def unknown_model(url: str) -> Any:
    return client(url).chat.completions.create(**CHAT | {"model": "nobody's"})


def outage(url: str) -> Any:
    return client(url, OUTAGE_RETRIES).chat.completions.create(**CHAT).choices[0].message.content


if __name__ == "__main__":
    checks = (chat, stream, tools, logprobs, parsed, completion, response, models, too_long)
    main(Calls({check.__name__: check for check in checks}, (unknown_model, "NotFoundError"), outage))

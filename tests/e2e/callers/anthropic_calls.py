"""The official client of Anthropic."""

from __future__ import annotations

from typing import Any

import anthropic

from e2e.callers.checks import MESSAGES, OUTAGE_RETRIES, SYSTEM, TOO_LONG, TOOL, Calls, main

MODEL = "tiny"
ASKED: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "system": SYSTEM}
# Of the engines' own: the client has no argument for it.
GREEDY: dict[str, Any] = {"extra_body": {"temperature": 0}}


def client(url: str, retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="any", max_retries=retries, timeout=120)


def message(url: str) -> Any:
    answer = client(url).messages.create(**ASKED, **GREEDY)
    return [part.model_dump() for part in answer.content], answer.stop_reason, answer.usage.model_dump()


def stream(url: str) -> Any:
    with client(url).messages.stream(**ASKED, **GREEDY) as events:
        said = "".join(events.text_stream)
        final = events.get_final_message()
    return said, final.stop_reason, final.usage.output_tokens


def tools(url: str) -> Any:
    tool = {"name": "weather", "description": "of a city", "input_schema": TOOL["function"]["parameters"]}  # type: ignore[index]
    asked = ASKED | {"tools": [tool], "tool_choice": {"type": "tool", "name": "weather"}, "max_tokens": 48}
    return [
        part.model_dump(exclude={"id"}) for part in client(url).messages.create(**asked, **GREEDY).content
    ]


def count(url: str) -> Any:
    return client(url).messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens  # type: ignore[arg-type]


def too_long(url: str) -> Any:
    return client(url).messages.create(**ASKED | {"messages": TOO_LONG})


def unknown_model(url: str) -> Any:
    return client(url).messages.create(**ASKED | {"model": "nobody's"})


def outage(url: str) -> Any:
    return client(url, OUTAGE_RETRIES).messages.create(**ASKED).content[0].text


if __name__ == "__main__":
    checks = (message, stream, tools, count, too_long)
    main(Calls({check.__name__: check for check in checks}, (unknown_model, "NotFoundError"), outage))

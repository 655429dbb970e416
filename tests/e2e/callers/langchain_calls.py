"""LangChain's model for OpenAI's API."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_openai import ChatOpenAI

from e2e.callers.checks import MESSAGES, OUTAGE_RETRIES, TOO_LONG, TOOL, Calls, main

MODEL = "tiny"
TEXT = MESSAGES[0]["content"]
# One for all: the client keeps its connections, and these their loop.
LOOP = asyncio.Runner()


def model(url: str, retries: int = 0, name: str = MODEL) -> ChatOpenAI:
    return ChatOpenAI(
        model=name,
        base_url=f"{url}/v1",
        api_key="any",
        max_retries=retries,
        timeout=120,
        temperature=0,
        max_tokens=8,
        stream_usage=True,
    )


def plain(message: Any) -> Any:
    calls = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    broken = [call["args"] for call in message.invalid_tool_calls]
    return message.content, calls, broken, message.usage_metadata


def invoke(url: str) -> Any:
    return plain(model(url).invoke(TEXT))


def stream(url: str) -> Any:
    whole: Any = None
    for chunk in model(url).stream(TEXT):
        whole = chunk if whole is None else whole + chunk
    return plain(whole)


def several(url: str) -> Any:
    return [plain(message)[0] for message in model(url).batch([TEXT, TEXT[:400]])]


def not_blocking(url: str) -> Any:
    return plain(LOOP.run(model(url).ainvoke(TEXT)))


def tools(url: str) -> Any:
    return plain(model(url).bind_tools([TOOL], tool_choice="weather").invoke(TEXT, max_tokens=48))


def too_long(url: str) -> Any:
    return plain(model(url).invoke(TOO_LONG[0]["content"]))


def unknown_model(url: str) -> Any:
    return plain(model(url, name="nobody's").invoke(TEXT))


def outage(url: str) -> Any:
    return model(url, OUTAGE_RETRIES).invoke(TEXT).content


if __name__ == "__main__":
    checks = (invoke, stream, several, not_blocking, tools, too_long)
    main(
        Calls(
            {check.__name__: check for check in checks}, (unknown_model, "OpenAIModelNotFoundError"), outage
        )
    )

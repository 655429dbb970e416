"""LiteLLM as a client, as it calls OpenAI's API, and vLLM."""

from __future__ import annotations

from typing import Any

import litellm

from e2e.callers.checks import CHOSEN, MESSAGES, OUTAGE_RETRIES, TOO_LONG, TOOL, Calls, main

MODEL = "tiny"
CHAT: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0}


def ask(url: str, provider: str = "openai", model: str = MODEL, **more: Any) -> Any:
    asked = CHAT | {"num_retries": 0, **more}
    return litellm.completion(
        f"{provider}/{model}", api_base=f"{url}/v1", api_key="any", timeout=120, **asked
    )


def plain(answer: Any) -> Any:
    message = answer.choices[0].message
    calls = [call.function.model_dump() for call in message.tool_calls or ()]
    return message.content, calls, answer.choices[0].finish_reason


def chat(url: str) -> Any:
    answer = ask(url)
    return plain(answer), answer.usage.model_dump()


def chat_as_vllm(url: str) -> Any:
    return plain(ask(url, "hosted_vllm"))


def stream(url: str) -> Any:
    chunks = list(ask(url, stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    return plain(whole), whole.usage.completion_tokens


def tools(url: str) -> Any:
    return plain(ask(url, tools=[TOOL], tool_choice=CHOSEN, max_tokens=48))


def completion(url: str) -> Any:
    return (
        litellm.text_completion(
            model=f"text-completion-openai/{MODEL}",
            prompt=MESSAGES[0]["content"],
            api_base=f"{url}/v1",
            api_key="any",
            max_tokens=4,
            temperature=0,
        )
        .choices[0]
        .text
    )


def too_long(url: str) -> Any:
    return ask(url, messages=TOO_LONG)


def unknown_model(url: str) -> Any:
    return ask(url, model="nobody's")


def outage(url: str) -> Any:
    return plain(ask(url, num_retries=OUTAGE_RETRIES))[0]


if __name__ == "__main__":
    checks = (chat, chat_as_vllm, stream, tools, completion, too_long)
    main(Calls({check.__name__: check for check in checks}, (unknown_model, "NotFoundError"), outage))

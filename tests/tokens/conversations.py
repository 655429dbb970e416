"""Conversations as clients send them: a table of what matters, and any number of made up ones."""

from __future__ import annotations

import json
import random
from typing import Any

Body = dict[str, Any]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Reads a file — übers Netz, too; “quoted” & <tagged>",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "lines": {"type": "number", "default": 1e3}},
                "required": ["path"],
            },
        },
    },
    {
        "function": {"parameters": {"b": 1, "a": [True, None, 0.1]}, "name": "run", "strict": True},
        "type": "function",
    },
    {"type": "function", "function": {"name": "bare"}},
]


def call(name: str, arguments: str, number: int = 0) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        "id": f"call{number:05d}",
    }


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def tool(content: Any, number: int = 0, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": f"call{number:05d}", **more}


SYSTEM = {"role": "system", "content": "You are a careful assistant.\n"}

TABLE: dict[str, Body] = {
    "a question": {"messages": [user("hello")]},
    "a system prompt": {"messages": [SYSTEM, user("hello  ")]},
    "letters of many scripts": {
        "messages": [user("naïve 日本語 🚀 \u00a0 e\u0301 \x00 <|im_end|> </think> [INST]")]
    },
    "two turns": {"messages": [SYSTEM, user("a"), said("b\n\n"), user("c")]},
    "parts": {"messages": [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])]},
    "a part with more in it": {
        "messages": [user([{"text": "a", "type": "text", "cache_control": {"type": "ephemeral"}}])]
    },
    "no content": {"messages": [user("a"), said(None), user("b")]},
    "content is missing": {"messages": [user("a"), {"role": "assistant"}, user("b")]},
    "an empty text": {"messages": [user("")]},
    "a call and its result": {
        "messages": [
            SYSTEM,
            user("look"),
            said(None, tool_calls=[call("read_file", '{"path": "ä/b", "lines": 1e3, "x": [1, 2.50]}')]),
            tool("it says\n```\nhello\n```"),
        ],
        "tools": TOOLS,
    },
    "two calls at once": {
        "messages": [
            user("look"),
            said("I look.", tool_calls=[call("run", "{}", 1), call("run", '{"b": 1, "a": 2}', 2)]),
            tool("one", 1),
            tool([{"type": "text", "text": "two"}, {"type": "text", "text": "three"}], 2),
        ],
        "tools": TOOLS[:1],
    },
    "arguments that are none": {
        "messages": [
            user("look"),
            said("", tool_calls=[call("run", "not json")]),
            tool("x"),
            said("", tool_calls=[call("run", "[1]")]),
            tool("y"),
            said("", tool_calls=[call("run", "")]),
            tool("z"),
        ]
    },
    "no calls after all": {"messages": [user("a"), said("b", tool_calls=[]), user("c")]},
    "reasoning": {
        "messages": [
            user("a"),
            said("b", reasoning_content="because"),
            user("c"),
            said(None, reasoning="hm", tool_calls=[call("run", "{}")]),
            tool("d"),
        ]
    },
    "reasoning in the text": {"messages": [user("a"), said("<think>\nhm\n</think>\n\nb"), user("c")]},
    "names": {"messages": [user("a", name="bob"), said("b", name="eve"), user("c")]},
    "fields that nobody knows": {
        "messages": [user("a", weird=1), said("b", refusal=None, audio=None), user("c")]
    },
    "a developer": {"messages": [{"role": "developer", "content": "be brief"}, user("a")]},
    "a developer late": {
        "messages": [SYSTEM, user("a"), {"role": "developer", "content": "be brief"}, user("b")]
    },
    "the last word is the assistant's": {"messages": [user("a"), said("b")]},
    "no generation prompt": {"messages": [user("a")], "add_generation_prompt": False},
    "going on": {
        "messages": [user("a"), said("It is ")],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "special tokens": {"messages": [user("a")], "add_special_tokens": True},
    "documents": {"messages": [user("a")], "documents": [{"title": "t", "text": "ü"}]},
    "values for the template": {
        "messages": [user("a")],
        "chat_template_kwargs": {"enable_thinking": False, "tools_in_user_message": False, "nobody": 1},
    },
    "a value that is null": {"messages": [user("a")], "chat_template_kwargs": {"enable_thinking": None}},
    "no reasoning": {"messages": [user("a")], "reasoning_effort": "none"},
    "some reasoning": {"messages": [user("a")], "reasoning_effort": "low"},
    "tools not in the user's message": {
        "messages": [SYSTEM, user("a")],
        "tools": TOOLS,
        "chat_template_kwargs": {"tools_in_user_message": False},
    },
    "tools that must not be used": {"messages": [user("a")], "tools": TOOLS, "tool_choice": "none"},
    "a tool that must be used": {
        "messages": [user("a")],
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "run"}},
    },
    "another role": {"messages": [user("a"), {"role": "critic", "content": "no", "tool_call_id": "x"}]},
    "a billing header": {
        "messages": [
            {"role": "system", "content": "x-anthropic-billing-header: cch=1;\nYou help."},
            user("a"),
        ]
    },
    "system in the middle": {"messages": [user("a"), said("b"), SYSTEM, user("c")]},
}

_WORDS = (
    "the", "router", "{", "}", "\n", "\n\n", "  ", "def f(x):", "日本", "🚀", "don't", "<|im_end|>", "1234",
    "</x>", "\t", "ok.", "\r\n", "naïve", "<tool_call>", "\\n", '"', "a/b",
)  # fmt: skip


def text(chance: random.Random, words: int) -> str:
    return "".join(chance.choice(_WORDS) + chance.choice((" ", " ", "", "\n")) for _ in range(words))


def made_up(chance: random.Random, turns: int, words: int = 40) -> list[list[dict[str, Any]]]:
    """The turns of an agent's conversation: each list is what a turn adds to the messages."""
    added: list[list[dict[str, Any]]] = []
    opening: list[dict[str, Any]] = []
    if chance.random() < 0.8:
        opening.append({"role": "system", "content": text(chance, words)})
    opening.append(user(text(chance, words)))
    added.append(opening)
    number = 0
    for _ in range(turns):
        thoughts = {"reasoning_content": text(chance, 5)} if chance.random() < 0.3 else {}
        if chance.random() < 0.6:
            calls = []
            for _ in range(1 if chance.random() < 0.7 else 2):
                number += 1
                arguments = json.dumps({"path": text(chance, 3), "n": chance.random()})
                calls.append(call("read_file", arguments, number))
            content = None if chance.random() < 0.5 else text(chance, words // 2)
            results = [
                tool(text(chance, chance.randrange(1, words)), int(one["id"].removeprefix("call")))
                for one in calls
            ]
            added.append([said(content, tool_calls=calls, **thoughts), *results])
        else:
            added.append(
                [said(text(chance, words), **thoughts), user(text(chance, chance.randrange(1, words)))]
            )
    return added

"""What vLLM 0.32 makes of a chat before the template gets it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from warmroute.tokens.asked import Chat, Message, Untold, Why
from warmroute.tokens.rules import Rules, listed, own_values, text_of

if TYPE_CHECKING:
    from warmroute.tokens.templates import Template

# Fields of a content part that vLLM takes out; it hands any other one on to the template.
_PART_FIELDS: Final = frozenset(
    (
        "audio_embeds", "audio_url", "closed", "data", "file", "image_embeds", "image_pil", "image_url",
        "input_audio", "name", "prompt_cache_breakpoint", "refusal", "text", "thinking", "type", "uuid",
        "video_embeds", "video_url",
    )
)  # fmt: skip

# Where a text part has its text, by its type.
_TEXT_PARTS: Final = {
    "text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking",
}  # fmt: skip

# What Claude Code puts before its system prompt, anew in every request, and vLLM takes out.
_BILLING: Final = "x-anthropic-billing-header"

# Arguments of `apply_chat_template` that it hands on whatever the template reads.
_ALWAYS: Final = ("documents",)


def _messages(messages: list[Message], template: Template) -> list[Message]:
    parts = template.goes_through_parts
    given = [_message(message, parts=parts) for message in messages]
    if not template.knows_developers and any(message["role"] == "developer" for message in given):
        return _systems_first(given)
    return given


def _message(message: Any, *, parts: bool) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str):
        raise Untold(Why.ODD)
    content = message.get("content")
    if isinstance(content, str):
        if role == "system" and content.startswith(_BILLING):
            content = content.partition("\n")[2]
            said: Any = [] if not content and parts else content
            if parts and content:
                said = [{"type": "text", "text": content}]
        else:
            said = [{"type": "text", "text": content}] if parts else content
    elif content is None:
        said = [] if parts else ""
    elif isinstance(content, list):
        said = [one for part in content if (one := _part(part, role)) is not None]
        if role == "tool":
            said = "\n".join(one["text"] for one in said)
        elif not parts:
            said = "\n".join([one["text"] for one in said])
    else:
        raise Untold(Why.ODD)
    if role == "tool" and parts and isinstance(said, list):
        said = "\n".join(one["text"] for one in said)
    given: Message = {"role": role, "content": said}
    if role == "assistant":
        calls = message.get("tool_calls")
        if calls:
            given["tool_calls"] = [_call(call) for call in listed(calls)]
        reasoning = message.get("reasoning")
        if reasoning is None:
            reasoning = message.get("reasoning_content")
        if reasoning is not None:
            given["reasoning"] = given["reasoning_content"] = text_of(reasoning)
    elif role == "tool" and "tool_call_id" in message:
        given["tool_call_id"] = message["tool_call_id"]
    if isinstance(message.get("name"), str):
        given["name"] = message["name"]
    if isinstance(message.get("task"), str):
        given["task"] = message["task"]
    if role == "developer":
        given["tools"] = message.get("tools")
        if given["tools"] is not None:
            raise Untold(Why.OPTION)
    return given


def _part(part: Any, role: str) -> dict[str, Any] | None:
    """A part of a content as the template gets it; None: it says nothing."""
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, dict) or "uuid" in part:
        raise Untold(Why.ODD)
    key = _TEXT_PARTS.get(part.get("type") or "")
    if key is None:
        raise Untold(Why.MEDIA)
    text = part.get(key)
    if text is None and key in ("text", "refusal"):
        return None
    text = text_of(text)
    if role == "system" and text.startswith(_BILLING) and part["type"] == "text":
        text = text.partition("\n")[2]
        if not text:
            return None
    given = {"type": "text", "text": text}
    if len(part) > 2:
        given.update({name: value for name, value in part.items() if name not in _PART_FIELDS})
    return given


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if (
        not isinstance(function, dict)
        or call.get("type") != "function"
        or not isinstance(call.get("id"), str)
        or not isinstance(function.get("arguments"), str)
        or not isinstance(function.get("name"), str)
    ):
        raise Untold(Why.ODD)
    given_function = {"arguments": _arguments(function["arguments"]), "name": function["name"]}
    if len(function) > 2:
        given_function.update({name: value for name, value in function.items() if name not in given_function})
    given = {"id": call["id"], "function": given_function, "type": "function"}
    if len(call) > 3:
        given.update({name: value for name, value in call.items() if name not in given})
    return given


def _arguments(text: str) -> dict[str, Any]:
    """What a call was given: a conversation goes on where that is no JSON, or none of an object."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _systems_first(messages: list[Message]) -> list[Message]:
    """Developers become systems, and all systems one at the beginning."""
    systems: list[str] = []
    others: list[Message] = []
    moved = False
    for place, message in enumerate(messages):
        if message["role"] not in ("system", "developer"):
            others.append(message)
            continue
        moved = moved or place > 0
        content = message["content"]
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content)
        if content:
            systems.append(content)
    if not moved:
        first = {name: value for name, value in messages[0].items() if name != "tools"}
        return [{**first, "role": "system"}, *messages[1:]]
    return [{"role": "system", "content": "\n\n".join(systems)}, *others]


def _values(chat: Chat, tools: list[Any] | None, template: Template) -> dict[str, Any]:
    own = own_values(chat)
    effort = chat.reasoning_effort
    if effort is not None:
        own.setdefault("enable_thinking", effort != "none")
        own["reasoning_effort"] = effort
    if chat.documents is not None:
        own["documents"] = chat.documents
    values = {
        name: value
        for name, value in own.items()
        if (name in template.variables or name in _ALWAYS) and value is not None and value != "auto"
    }
    values["tools"] = None if tools is None else [_tool(tool) for tool in tools]
    values.setdefault("documents", None)
    values["add_generation_prompt"] = chat.add_generation_prompt
    return values


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise Untold(Why.ODD)
    deferred = tool.get("defer_loading")
    given_function = {
        "name": text_of(function.get("name")),
        "description": function.get("description"),
        "parameters": function.get("parameters"),
    }
    if function.get("strict") is not None:
        given_function["strict"] = function["strict"]
    if function.get("defer_loading", deferred) is not None:
        given_function["defer_loading"] = function.get("defer_loading", deferred)
    given = {"type": "function", "function": given_function}
    return given if deferred is None else {**given, "defer_loading": deferred}


VLLM: Final = Rules(
    "vllm", _messages, _values, flattens_tools=False, shows_unused_tools=True, wraps_chats=True
)

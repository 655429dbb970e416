"""What SGLang 0.5.23 makes of a chat before the template gets it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from warmroute.tokens.asked import Chat, Message, Untold, Why
from warmroute.tokens.rules import Rules, listed, own_values, text_of

if TYPE_CHECKING:
    from warmroute.tokens.templates import Template

_ROLES: Final = frozenset(("system", "assistant", "tool", "function", "developer", "latest_reminder", "root"))


def _messages(messages: list[Message], template: Template) -> list[Message]:
    parts = template.names_parts
    given = [_message(message, parts=parts) for message in messages]
    last = given[-1] if given else {}
    if last.get("role") == "assistant" and isinstance(last.get("content"), str):
        given[-1] = {"role": "user", "content": last["content"]}
    return given


def _message(message: Any, *, parts: bool) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str):
        raise Untold(Why.ODD)
    if role != "user":
        role = role.lower()
        if role not in _ROLES:
            raise Untold(Why.ODD)
    content = message.get("content")
    if isinstance(content, list):
        texts = [_part(part, role) for part in content]
        if role == "tool" or not parts:
            said: Any = " ".join([text for text in texts if text is not None])
        else:
            said = [{"type": "text", "text": text} for text in texts if text is not None]
    elif content is None and role != "user":
        said = ""
    else:
        said = text_of(content)
    given: Message = {"role": role, "content": said}
    if role == "user":
        return given
    for name in ("tool_call_id", "name", "phase", "reasoning_content"):
        if message.get(name) is not None:
            given[name] = text_of(message[name])
    if message.get("tool_calls") is not None:
        given["tool_calls"] = [_call(call, role) for call in listed(message["tool_calls"])]
    if message.get("tools") is not None or message.get("prefix") is not None:
        raise Untold(Why.OPTION)
    return given


def _part(part: Any, role: str) -> str | None:
    """The text of a part; None: one that only templates of some models are shown."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return text_of(part.get("text"))
    if kind in ("thinking", "reasoning") and role == "assistant":
        return None
    raise Untold(Why.MEDIA)


def _call(call: Any, role: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise Untold(Why.ODD)
    arguments = function.get("arguments")
    if role == "assistant" and isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise Untold(Why.ODD)
    return {
        "id": call.get("id"),
        "index": call.get("index"),
        "type": "function",
        "function": {"name": function.get("name"), "arguments": arguments},
    }


def _values(chat: Chat, tools: list[Any] | None, _template: Template) -> dict[str, Any]:
    if chat.reasoning is not None or chat.thinking is not None or chat.task is not None:
        raise Untold(Why.OPTION)
    if chat.continue_final_message:
        raise Untold(Why.OPTION)
    own = own_values(chat)
    effort = chat.reasoning_effort
    if effort is not None:
        own.setdefault("thinking", effort != "none")
        own.setdefault("enable_thinking", effort != "none")
        own.setdefault("reasoning_effort", effort)
    choice = chat.tool_choice
    shown: list[dict[str, Any]] | None = None
    if tools and choice != "none":
        shown = [_tool(tool) for tool in tools]
        if isinstance(choice, dict):
            wanted = choice.get("function")
            name = wanted.get("name") if isinstance(wanted, dict) else None
            shown = [tool for tool in shown if tool["function"].get("name") == name] or None
    return {"documents": None, **own, "tools": shown, "add_generation_prompt": True}


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Untold(Why.ODD)
    deferred = tool.get("defer_loading")
    known = ("description", "name", "parameters", "strict", "defer_loading")
    given_function = {name: value for name, value in function.items() if name in known}
    if given_function.get("defer_loading") is None:
        given_function.pop("defer_loading", None)
        if deferred is not None:
            given_function["defer_loading"] = deferred
    if given_function.get("strict") is None:
        given_function.pop("strict", None)
    given_function.setdefault("description", None)
    given_function.setdefault("parameters", None)
    return {
        "type": text_of(tool.get("type", "function")),
        "function": given_function,
        "defer_loading": deferred,
    }


SGLANG: Final = Rules(
    "sglang", _messages, _values, flattens_tools=True, shows_unused_tools=False, wraps_chats=False
)

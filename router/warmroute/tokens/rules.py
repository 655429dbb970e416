"""What an engine makes of a chat before the template gets it. vLLM 0.32 and SGLang 0.5.23 differ.

Both read messages into types of their own first: fields that they do not know are gone after that, and the
others have an order, which shows where a template writes a whole object. What an engine would refuse is
`Untold`: it answers 400, whoever gets the request.

Rules kept: the messages that are given may be changed here; nothing else is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from warmroute.tokens.asked import Chat, Message, Untold, Why

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

# Arguments of `apply_chat_template` itself: whoever names them in `chat_template_kwargs` wants something
# else.
_NOT_FOR_TEMPLATES: Final = frozenset(
    (
        "conversation", "messages", "tools", "chat_template", "tokenize", "padding", "truncation",
        "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs",
    )
)  # fmt: skip

# Arguments of `apply_chat_template` that vLLM hands on whatever the template reads.
_ALWAYS: Final = ("documents",)

_SGLANG_ROLES: Final = frozenset(
    ("system", "assistant", "tool", "function", "developer", "latest_reminder", "root")
)


class Rules:
    """How one engine does it. Not to be written."""

    def __init__(
        self,
        name: str,
        messages: Callable[[list[Message], Template], list[Message]],
        values: Callable[[Chat, list[Any] | None, Template], dict[str, Any]],
        *,
        flattens_tools: bool,
        shows_unused_tools: bool,
        wraps_chats: bool,
    ) -> None:
        self.name = name
        """As the engine is called in `engines.KvCache`."""
        self.messages = messages
        """Messages as the template gets them. Raises Untold."""
        self.values = values
        """All else that the template gets. Raises Untold."""
        self.flattens_tools = flattens_tools
        """It tries again with the bare functions where a template fails."""
        self.shows_unused_tools = shows_unused_tools
        """The prompt has the tools in it though `tool_choice` is "none"."""
        self.wraps_chats = wraps_chats
        """A chat may ask for special tokens around what its template wrote."""


def _of_vllm(messages: list[Message], template: Template) -> list[Message]:
    parts = template.goes_through_parts
    given = [_vllm_message(message, parts=parts) for message in messages]
    if not template.knows_developers and any(message["role"] == "developer" for message in given):
        return _systems_first(given)
    return given


def _vllm_message(message: Any, *, parts: bool) -> Message:
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
        said = [one for part in content if (one := _vllm_part(part, role)) is not None]
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
            given["tool_calls"] = [_vllm_call(call) for call in _listed(calls)]
        reasoning = message.get("reasoning")
        if reasoning is None:
            reasoning = message.get("reasoning_content")
        if reasoning is not None:
            given["reasoning"] = given["reasoning_content"] = _text(reasoning)
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


def _vllm_part(part: Any, role: str) -> dict[str, Any] | None:
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
    text = _text(text)
    if role == "system" and text.startswith(_BILLING) and part["type"] == "text":
        text = text.partition("\n")[2]
        if not text:
            return None
    given = {"type": "text", "text": text}
    if len(part) > 2:
        given.update({name: value for name, value in part.items() if name not in _PART_FIELDS})
    return given


def _vllm_call(call: Any) -> dict[str, Any]:
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


def _vllm_values(chat: Chat, tools: list[Any] | None, template: Template) -> dict[str, Any]:
    own = _own_values(chat)
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
    values["tools"] = None if tools is None else [_vllm_tool(tool) for tool in tools]
    values.setdefault("documents", None)
    values["add_generation_prompt"] = chat.add_generation_prompt
    return values


def _vllm_tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise Untold(Why.ODD)
    deferred = tool.get("defer_loading")
    given_function = {
        "name": _text(function.get("name")),
        "description": function.get("description"),
        "parameters": function.get("parameters"),
    }
    if function.get("strict") is not None:
        given_function["strict"] = function["strict"]
    if function.get("defer_loading", deferred) is not None:
        given_function["defer_loading"] = function.get("defer_loading", deferred)
    given = {"type": "function", "function": given_function}
    return given if deferred is None else {**given, "defer_loading": deferred}


def _of_sglang(messages: list[Message], template: Template) -> list[Message]:
    parts = template.names_parts
    given = [_sglang_message(message, parts=parts) for message in messages]
    last = given[-1] if given else {}
    if last.get("role") == "assistant" and isinstance(last.get("content"), str):
        given[-1] = {"role": "user", "content": last["content"]}
    return given


def _sglang_message(message: Any, *, parts: bool) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str):
        raise Untold(Why.ODD)
    if role != "user":
        role = role.lower()
        if role not in _SGLANG_ROLES:
            raise Untold(Why.ODD)
    content = message.get("content")
    if isinstance(content, list):
        texts = [_sglang_part(part, role) for part in content]
        if role == "tool" or not parts:
            said: Any = " ".join([text for text in texts if text is not None])
        else:
            said = [{"type": "text", "text": text} for text in texts if text is not None]
    elif content is None and role != "user":
        said = ""
    else:
        said = _text(content)
    given: Message = {"role": role, "content": said}
    if role == "user":
        return given
    for name in ("tool_call_id", "name", "phase", "reasoning_content"):
        if message.get(name) is not None:
            given[name] = _text(message[name])
    if message.get("tool_calls") is not None:
        given["tool_calls"] = [_sglang_call(call, role) for call in _listed(message["tool_calls"])]
    if message.get("tools") is not None or message.get("prefix") is not None:
        raise Untold(Why.OPTION)
    return given


def _sglang_part(part: Any, role: str) -> str | None:
    """The text of a part; None: one that only templates of some models are shown."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return _text(part.get("text"))
    if kind in ("thinking", "reasoning") and role == "assistant":
        return None
    raise Untold(Why.MEDIA)


def _sglang_call(call: Any, role: str) -> dict[str, Any]:
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


def _sglang_values(chat: Chat, tools: list[Any] | None, _template: Template) -> dict[str, Any]:
    if chat.reasoning is not None or chat.thinking is not None or chat.task is not None:
        raise Untold(Why.OPTION)
    if chat.continue_final_message:
        raise Untold(Why.OPTION)
    own = _own_values(chat)
    effort = chat.reasoning_effort
    if effort is not None:
        own.setdefault("thinking", effort != "none")
        own.setdefault("enable_thinking", effort != "none")
        own.setdefault("reasoning_effort", effort)
    choice = chat.tool_choice
    shown: list[dict[str, Any]] | None = None
    if tools and choice != "none":
        shown = [_sglang_tool(tool) for tool in tools]
        if isinstance(choice, dict):
            wanted = choice.get("function")
            name = wanted.get("name") if isinstance(wanted, dict) else None
            shown = [tool for tool in shown if tool["function"].get("name") == name] or None
    return {"documents": None, **own, "tools": shown, "add_generation_prompt": True}


def _sglang_tool(tool: Any) -> dict[str, Any]:
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
        "type": _text(tool.get("type", "function")),
        "function": given_function,
        "defer_loading": deferred,
    }


VLLM: Final = Rules(
    "vllm", _of_vllm, _vllm_values, flattens_tools=False, shows_unused_tools=True, wraps_chats=True
)
SGLANG: Final = Rules(
    "sglang", _of_sglang, _sglang_values, flattens_tools=True, shows_unused_tools=False, wraps_chats=False
)
BY_ENGINE: Final[Mapping[str, Rules]] = {rules.name: rules for rules in (VLLM, SGLANG)}


def _own_values(chat: Chat) -> dict[str, Any]:
    """What the client gives to the template itself. Raises Untold."""
    own = dict(chat.chat_template_kwargs or {})
    if not _NOT_FOR_TEMPLATES.isdisjoint(own):
        raise Untold(Why.OPTION)
    for name in ("add_generation_prompt", "continue_final_message"):
        own.pop(name, None)  # the body's own fields of these names are what counts
    return own


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Untold(Why.ODD)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise Untold(Why.ODD)

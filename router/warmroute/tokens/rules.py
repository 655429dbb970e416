"""What an engine makes of a chat before the template gets it: what vLLM's rules and SGLang's have in common.

Both engines read messages into types of their own first: fields that they do not know are gone after that,
and the others have an order, which shows where a template writes a whole object. What an engine would refuse
is `Untold`: it answers 400, whoever gets the request.

Rules kept, there: the messages that are given may be changed; nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from warmroute.tokens.asked import Chat, Message, Untold, Why

if TYPE_CHECKING:
    from warmroute.tokens.templates import Template

# Arguments of `apply_chat_template` itself: whoever names them in `chat_template_kwargs` wants something
# else.
_NOT_FOR_TEMPLATES: Final = frozenset(
    (
        "conversation", "messages", "tools", "chat_template", "tokenize", "padding", "truncation",
        "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs",
    )
)  # fmt: skip


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


def own_values(chat: Chat) -> dict[str, Any]:
    """What the client gives to the template itself. Raises Untold."""
    own = dict(chat.chat_template_kwargs or {})
    if not _NOT_FOR_TEMPLATES.isdisjoint(own):
        raise Untold(Why.OPTION)
    for name in ("add_generation_prompt", "continue_final_message"):
        own.pop(name, None)  # the body's own fields of these names are what counts
    return own


def text_of(value: Any) -> str:
    """What has to be a text. Raises Untold."""
    if isinstance(value, str):
        return value
    raise Untold(Why.ODD)


def listed(value: Any) -> list[Any]:
    """What has to be a list. Raises Untold."""
    if isinstance(value, list):
        return value
    raise Untold(Why.ODD)

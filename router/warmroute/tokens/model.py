"""One model's prompts as token blocks: whole, or from where an earlier turn ended.

A conversation's next turn repeats all that was said. Going on from the former prompt's end (`Place`), only
the new messages are read, rendered behind stand-ins for the others (`standins`), and tokenized. That is
right for templates that write messages one after the other, as nearly all do, and where a new message changes
what was written before (a template that drops the reasoning of earlier questions, say), it is seen by the
stand-ins and the prompt is done as a whole. What may still be wrong is found by checks: samples are done
both ways (`tokens.service`), and engines tell how many tokens a prompt had.

Rules kept: nothing here is about one request or changes with requests, except for what is remembered of
renderings; several threads may be here at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import sleep
from typing import Any, Final

from warmroute.tokens.asked import Chat, Message, Text, Untold, Why, read_tools
from warmroute.tokens.memory import Place
from warmroute.tokens.rules import Rules
from warmroute.tokens.standins import (
    MARK,
    Shape,
    blanks_of,
    can_mark,
    has_mark,
    marked,
    own_fields,
    shape_of,
    shortened,
    standins,
)
from warmroute.tokens.templates import NotRendered, Template, Templates
from warmroute.tokens.told import End, Split, Told, grown, told_of
from warmroute.tokens.turns import Turns
from warmroute.tokens.vocabulary import PIECE_CHARS, Vocabulary

# Text behind the last cut that is worth to be tokenized again with the next turn: half a millisecond's.
_TEXT_CHARS_MAX: Final = PIECE_CHARS

# Blanks at the end of a message that are kept.
_BLANKS_MAX: Final = 256

# A tool that stands in for those of a request.
_ANY_TOOL: Final[list[Any]] = [
    {
        "type": "function",
        "function": {"name": "x", "description": "x", "parameters": {"type": "object", "properties": {}}},
    }
]


class TokenModel:
    """State: renderings of stand-ins, whether turns go on from each other. `template` None: it has none, and
    no chats."""

    def __init__(self, vocabulary: Vocabulary, templates: Templates | None) -> None:
        self.vocabulary = vocabulary
        self.templates = templates
        self.goes_on = vocabulary.cuts
        """Whether turns go on from each other. Never again once one was done wrongly."""
        self.checked = 0
        """Turns that were done again as a whole and had been right, since something was learned."""
        self._learns = False
        """Somebody is at it, or was told to be."""
        self._turns = Turns()

    # --- texts ------------------------------------------------------------------------------------------

    def text(self, text: Text, sizes: Sequence[int], root: int, *, slowly: bool) -> Told:
        """Reads. A prompt that is text. `slowly`: in a thread, letting others run in between. Raises
        Untold."""
        ids = self._ids(text.text, slowly=slowly)
        if text.special:
            if not self.vocabulary.can_wrap:
                raise Untold(Why.OPTION)
            ids = self.vocabulary.wrapped(ids)
        return told_of(ids, sizes, root, slowly=slowly)

    def _ids(self, text: str, *, slowly: bool) -> bytes:
        try:
            if not slowly:
                return self.vocabulary.ids(text)
            return b"".join(_breathing(self.vocabulary.in_pieces(text)))
        except UnicodeEncodeError:
            raise Untold(Why.ODD) from None

    # --- chats ------------------------------------------------------------------------------------------

    def options(self, chat: Chat, rules: Rules) -> tuple[object, ...]:
        """Reads. What a chat's prompt depends on beside its messages and tools. Raises Untold."""
        with_tools = _has_tools(chat, rules)
        return (rules.name, with_tools, chat.options_hash(), self._template(with_tools).clock())

    def whole(
        self, chat: Chat, messages: list[Message], rules: Rules, sizes: Sequence[int], root: int, *,
        slowly: bool, cut: int = 0,
    ) -> Told:  # fmt: skip
        """Reads. A chat's tokens from its beginning. `cut`: where its material's last message ends; 0: no
        turn is to go on from here. Raises Untold."""
        chat.check()
        with_tools = _has_tools(chat, rules)
        template = self._template(with_tools)
        given = rules.messages(messages, template)
        if not given:
            raise Untold(Why.ODD)
        values = rules.values(chat, read_tools(chat.tools) if with_tools else None, template)
        if chat.continue_final_message:
            if chat.add_generation_prompt:
                raise Untold(Why.ODD)
            text = _unfinished(given, values, template)
        else:
            text = _rendered(given, values, template, rules)
        if MARK in text:
            raise Untold(Why.ODD)
        wraps = chat.add_special_tokens and rules.wraps_chats
        if cut and self.goes_on and not (chat.continue_final_message or wraps or _is_answer(messages[-1])):
            end = self._end(given, text, values, template, rules)
            if end is not None:
                split = self._split(text, end.at, slowly=slowly)
                if len(split.between) <= _TEXT_CHARS_MAX:
                    options = self.options(chat, rules)  # anew: it may have become another day just now
                    begin = Place(0, options, (), "", (), 0, b"", "", dict.fromkeys(sizes, b""))
                    return grown(begin, split, cut, end, sizes, root, slowly=slowly)
        ids = self._ids(text, slowly=slowly)
        if wraps:
            ids = self.vocabulary.wrapped(ids)
        return told_of(ids, sizes, root, slowly=slowly)

    def onwards(
        self, place: Place, chat: Chat, messages: list[Message], rules: Rules, sizes: Sequence[int], root:
        int, cut: int, *, slowly: bool,
    ) -> Told | None:  # fmt: skip
        """Reads. A chat's tokens, given the place that it goes on from and the messages since. None: it has
        to be done as a whole. Raises Untold."""
        if not self.goes_on or not all(size in place.runs for size in sizes):
            return None
        chat.check()
        if (
            chat.continue_final_message
            or (chat.add_special_tokens and rules.wraps_chats)
            or isinstance(chat.tool_choice, dict)
        ):
            return None
        with_tools = _has_tools(chat, rules)
        template = self._template(with_tools)
        given = rules.messages(messages, template)
        if len(given) != len(messages) or any(map(has_mark, given)):
            return None
        shapes = _shapes(given, template)
        if shapes is None:
            return None
        turn = self._turns.of(place, given, shapes, template, answered=_is_answer(messages[-1]))
        written = turn.fill_in(place, given)
        if written is None:
            values = rules.values(chat, _ANY_TOOL if with_tools else None, template)
            written = self._turns.render(turn, place, given, shapes, values, template)
            if written is None:
                return None
        added, end = written
        added = place.text + added
        if not self.vocabulary.begins_cut(added, 0) and not self.vocabulary.begins_line(place.text):
            return None
        goes_on = end >= 0
        end = end + len(place.text) if goes_on else len(added)
        blanks = blanks_of(given[-1]) if goes_on else ""
        own, kept = own_fields(given[-1], shapes[-1]), turn.kept
        split = self._split(added, end, slowly=slowly)
        goes_on = goes_on and len(split.between) <= _TEXT_CHARS_MAX and len(blanks) <= _BLANKS_MAX
        ended = End(end, kept, blanks, own) if goes_on and kept is not None and own is not None else None
        return grown(place, split, cut, ended, sizes, root, slowly=slowly)

    def asks_to_learn(self) -> bool:
        """Writes. Whether turns were seen that `learn` would make cheaper. Whoever is told so calls it, and
        nobody else is told until it is done."""
        if self._learns or not self._turns.lessons:
            return False
        self._learns = True
        return True

    def learn(self) -> None:
        """Writes. Some milliseconds, for one thread at a time. What is new is checked as at first."""
        self.checked = 0
        try:
            self._turns.learn()
        finally:
            self._learns = False

    def _template(self, with_tools: bool) -> Template:
        template = None if self.templates is None else self.templates.choose(with_tools=with_tools)
        if template is None:
            raise Untold(Why.TEMPLATE)
        return template

    def _split(self, text: str, at: int, *, slowly: bool) -> Split:
        """The ids of a text, in two parts where it can be cut at `at` or before."""
        cut = at
        if not self.vocabulary.begins_cut(text, at):
            cut = max(0, self.vocabulary.cut_before(text, at))
        return Split(self._ids(text[:cut], slowly=slowly), self._ids(text[cut:], slowly=slowly), text[cut:at])

    def _end(
        self, given: list[Message], text: str, values: dict[str, Any], template: Template, rules: Rules
    ) -> End | None:
        """Where in the rendered text its last message ends, if a next turn can go on from there."""
        shapes = _shapes(given, template)
        kept = None if shapes is None else shortened(shapes)
        if shapes is None or kept is None or not can_mark(kept[-1], template.cues):
            return None
        blanks, own = blanks_of(given[-1]), own_fields(given[-1], kept[-1])
        if len(blanks) > _BLANKS_MAX or own is None:
            return None
        try:
            with_mark = template.render([*given[:-1], marked(given[-1])], values)
            at = with_mark.find(MARK)
            if at < 0 or with_mark[:at] + with_mark[at + len(MARK) :] != text:
                return None
            if not self._is_local(given, shapes, text, values, template):
                return None
        except NotRendered:
            return None
        return End(at, kept, blanks, own)

    def _is_local(
        self,
        given: list[Message],
        shapes: tuple[Shape, ...],
        text: str,
        values: dict[str, Any],
        template: Template,
    ) -> bool:
        """Whether the last message would have been written right had it come as a turn of its own."""
        if len(given) < 2:
            return True
        earlier = shortened(shapes[:-1])
        if earlier is None or not can_mark(earlier[-1], template.cues):
            return True  # nobody would have gone on from there
        like = dict(values)
        if values.get("tools") is not None:
            like["tools"] = _ANY_TOOL
        blanks = blanks_of(given[-2])
        added = template.render([*standins(earlier, blanks), given[-1]], like)
        for letters, stood_for in own_fields(given[-2], earlier[-1]) or ():
            added = added.replace(letters, stood_for)
        return MARK in added and text.endswith(added[added.index(MARK) + len(MARK) :])


def _is_answer(message: Message) -> bool:
    """Whether it is the assistant's: engines and templates treat one that comes last otherwise than one that
    others follow."""
    return bool(message.get("role") == "assistant")


def _shapes(messages: list[Message], template: Template) -> tuple[Shape, ...] | None:
    """What may stand in for the messages; None: nothing may."""
    shapes: list[Shape] = []
    for message in messages:
        shape = shape_of(message, template.cues)
        # Developers' messages may be moved to the beginning.
        if shape is None or shape.role == "developer":
            return None
        shapes.append(shape)
    return tuple(shapes)


def _has_tools(chat: Chat, rules: Rules) -> bool:
    if bytes(memoryview(chat.tools)[:4]) in (b"", b"null"):
        return False
    return rules.shows_unused_tools or chat.tool_choice != "none"


def _rendered(messages: list[Message], values: dict[str, Any], template: Template, rules: Rules) -> str:
    """Raises Untold."""
    try:
        return template.render(messages, values)
    except NotRendered:
        if not (rules.flattens_tools and values.get("tools")):
            raise Untold(Why.TEMPLATE) from None
    values["tools"] = [tool["function"] for tool in values["tools"]]
    try:
        return template.render(messages, values)
    except NotRendered:
        raise Untold(Why.TEMPLATE) from None


def _unfinished(messages: list[Message], values: dict[str, Any], template: Template) -> str:
    """The text up to where the last message's content ends, for the model to go on with it. Raises Untold."""
    content = messages[-1]["content"]
    if "content" not in template.source or not content:
        raise Untold(Why.ODD)
    tag = "CONTINUE_FINAL_MESSAGE_TAG "  # what transformers puts there: trimmed or not, as its blank tells
    tagged: Any
    if isinstance(content, str):
        said, tagged = content, content + tag
    else:
        said = content[-1]["text"]
        tagged = [*content[:-1], {**content[-1], "text": said + tag}]
    try:
        text = template.render([*messages[:-1], {**messages[-1], "content": tagged}], values)
    except NotRendered:
        raise Untold(Why.TEMPLATE) from None
    if said.strip() not in text or tag.strip() not in text:
        raise Untold(Why.TEMPLATE)
    at = text.rindex(tag.strip())
    return text[:at] if text[at : at + len(tag)] == tag else text[:at].rstrip()


def _breathing(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """The pieces, with a moment for others between two."""
    for piece in pieces:
        yield piece
        sleep(0)

"""Learns what a template writes around the texts of a turn (`forms`), by having it write made-up ones.

Twice with texts that nobody has, once and again with blanks around them; all four must come out with the
same pieces between the texts. That a template writes a text as it is whatever stands in it cannot be seen in
what it writes, so the made-up texts notice who looks into them: a template that does is not learned, unless
it looks for what shapes tell apart (`Template.cues`) and the text has not. A text that went through a macro
notices nothing any more; what is learned is checked as all turns are (`tokens.service`).

Rules kept: what is not certain is not learned; None is always right.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, SupportsIndex

from warmroute.tokens.asked import Message
from warmroute.tokens.forms import ARGUMENTS, CALL_ID, CALLS, ID, NAME, Form, Slot, Written, read, slots_of
from warmroute.tokens.standins import MARK, Shape, shape_of

# In every text, between two secrets: what templates and JSON may write otherwise than it is.
_WITHIN: Final = ' "quoted" \\n \n\n\t{[<&é日>]} it\'s/1.50 '

# Before and behind each text, of different lengths, so that they can be told apart; of several kinds, so that
# who takes away some and not all is seen.
_BLANKS: Final = (("", ""), ("", ""), ("\n \n", "\n\n \n"), (" \r\t\u00a0\n ", "\t \n\r\u00a0\n\t "))

# An id of fewer letters cannot be told from others by what is written of it.
_ID_CHARS_MIN: Final = 8


class _Noticed:
    """State: whether somebody looked into a text."""

    def __init__(self) -> None:
        self.looked = False


class _Text(str):
    """A text that notices who looks into it, but for what may be known of all texts in its place: that they
    are not empty, and have none of the cues."""

    __slots__ = ("cues", "noticed")
    noticed: _Noticed
    cues: tuple[str, ...]

    def __bool__(self) -> bool:
        return len(str(self)) > 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) and other:
            self.noticed.looked = True
        return str(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, part: object) -> bool:
        return not self._is_cue(part) and str(part) in str(self)

    def __add__(self, other: str) -> str:
        return _like(self, str.__add__(self, other))

    def __radd__(self, other: str) -> str:
        return _like(self, str.__add__(other, str(self)))

    def strip(self, chars: str | None = None, /) -> str:
        return _like(self, str(self).strip(chars))

    def lstrip(self, chars: str | None = None, /) -> str:
        return _like(self, str(self).lstrip(chars))

    def rstrip(self, chars: str | None = None, /) -> str:
        return _like(self, str(self).rstrip(chars))

    def startswith(self, prefix: Any, *bounds: Any) -> bool:
        return not self._is_cue(prefix, *bounds) and str(self).startswith(prefix, *bounds)

    def endswith(self, suffix: Any, *bounds: Any) -> bool:
        return not self._is_cue(suffix, *bounds) and str(self).endswith(suffix, *bounds)

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return [self] if self._is_cue(sep) else str(self).split(sep, maxsplit)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        return self if self._is_cue(old) else str(self).replace(old, new, count)

    def _is_cue(self, part: object, *bounds: object) -> bool:
        """Whether it is known not to be there; else somebody looked."""
        known = part in self.cues and not bounds
        self.noticed.looked |= not known
        return known


def _noticing(name: str) -> Callable[..., Any]:
    usual = getattr(str, name)

    def looks(self: _Text, *given: Any, **named: Any) -> Any:
        self.noticed.looked = True
        return usual(str(self), *given, **named)

    return looks


# All else that a text can do tells something of it.
_HARMLESS: Final = frozenset(
    ("__class__", "__delattr__", "__dir__", "__doc__", "__format__", "__getattribute__", "__getnewargs__",
     "__getstate__", "__init__", "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__repr__",
     "__setattr__", "__sizeof__", "__str__", "__subclasshook__", "maketrans")
)  # fmt: skip
for _name in set(dir(str)) - _HARMLESS - set(vars(_Text)):
    setattr(_Text, _name, _noticing(_name))


def _text(text: str, noticed: _Noticed, cues: tuple[str, ...]) -> _Text:
    made = _Text(text)
    made.noticed, made.cues = noticed, cues
    return made


def _like(other: _Text, text: str) -> _Text:
    return _text(text, other.noticed, other.cues)


class _MadeUp:
    """Texts for all slots of a turn, in its messages."""

    def __init__(
        self, given: Sequence[Message], slots: Sequence[Slot], blanks: tuple[str, str], *, marks: bool
    ) -> None:
        """`marks`: whether a mark stands behind the last message's text."""
        self.head, self.tail = blanks
        self.cores: dict[Slot, str] = {}
        self._slots = slots
        self.plain = [_copied(message) for message in given]
        for slot in slots:
            secret = secrets.token_hex(64)
            if slot.part == ARGUMENTS:
                self.cores[slot] = json.dumps({secret[:16]: secret[16:32] + _WITHIN}, ensure_ascii=False)
                self._put(self.plain, slot, json.loads(self.cores[slot]))
            elif slot.is_text:
                self.cores[slot] = secret[:16] + _WITHIN + secret[16:32]
                end = MARK if marks and slot == Slot(len(given) - 1, "content") else ""
                self._put(self.plain, slot, self.head + self.cores[slot] + end + self.tail)
            else:
                length = len(read(given[slot.message], slot)) if slot.part != NAME else 24
                self.cores[slot] = secret[:length]
                self._put(self.plain, slot, self.cores[slot])

    def noticing(self, noticed: _Noticed, cues: tuple[str, ...]) -> list[Message]:
        """Reads. The messages, their texts as such that notice who looks; only contents have known cues."""
        messages = [_copied(message) for message in self.plain]
        for slot in self._slots:
            if slot.is_text:
                known = cues if slot.field == "content" else ()
                self._put(messages, slot, _text(read(messages[slot.message], slot), noticed, known))
        return messages

    @staticmethod
    def _put(messages: list[Message], slot: Slot, value: Any) -> None:
        message = messages[slot.message]
        if slot.field == CALLS:
            call = message[CALLS][slot.call]
            (call if slot.part == ID else call["function"])[slot.part] = value
        elif isinstance(message[slot.field], str):
            message[slot.field] = value
        else:
            message[slot.field][0]["text"] = value


def _copied(message: Message) -> Message:
    copied = dict(message)
    if copied.get(CALLS):
        copied[CALLS] = [{**call, "function": dict(call["function"])} for call in copied[CALLS]]
    if isinstance(copied["content"], list):
        copied["content"] = [dict(part) for part in copied["content"]]
    return copied


def learn(
    write: Callable[[list[Message], str], str | None],
    given: Sequence[Message],
    shapes: Sequence[Shape],
    own: Sequence[tuple[str, str]],
    cues: tuple[str, ...],
    *,
    blanks: bool,
    marks: bool,
) -> Form | None:
    """What a template writes for turns like the given one. `write`: has it write messages behind such blanks;
    None: it does not. `shapes`: theirs. `own`: as in `Form.write`. `blanks`: whether the text before ended
    with some. `marks`: whether a next turn is to begin behind the last message's text."""
    slots = slots_of(given)
    if slots is None or any(
        not slot.is_text
        and slot.part not in (NAME, ARGUMENTS)
        and len(read(given[slot.message], slot)) < _ID_CHARS_MIN
        for slot in slots
    ):
        return None
    noticed = _Noticed()
    seen: list[_MadeUp] = []
    texts: list[str] = []
    befores = [tail if blanks else "" for _, tail in _BLANKS[2:] * 2]
    for around, before in zip(_BLANKS, befores, strict=True):
        made = _MadeUp(given, slots, around, marks=marks)
        if [shape_of(message, cues) for message in made.plain] != list(shapes):
            return None  # a cue is in what is made up
        text = write(made.noticing(noticed, cues), before)
        if text is None:
            return None
        texts.append(text)
        seen.append(made)
    keeps = blanks and all(map(str.startswith, texts, befores))
    if keeps:
        texts = [text[len(before) :] for text, before in zip(texts, befores, strict=True)]
    first, second, *with_blanks = [
        list(_pieces(text, made, own)) for text, made in zip(texts, seen, strict=True)
    ]
    if noticed.looked or first != second:
        return None
    last = -1
    if marks:
        last = _take_mark(first, Slot(len(given) - 1, "content"))
        if last < 0:
            return None
    elif any(isinstance(piece, str) and MARK in piece for piece in first):
        return None
    kept = [_blanks_kept(first, made, pieces) for made, pieces in zip(seen[2:], with_blanks, strict=True)]
    known = kept[0] is not None and kept.count(kept[0]) == len(kept)
    return Form(kept[0] if known and kept[0] is not None else first, last, keeps_blanks=keeps)


def _pieces(text: str, made: _MadeUp, own: Sequence[tuple[str, str]]) -> Iterator[str | Written]:
    """A text as what stands in slots, and what stands between these. Before, between and behind all slots
    there is a text, which may be empty."""
    found: dict[str, Written] = {}
    for slot, core in made.cores.items():
        found[core] = Written(slot)
        if slot.part != ARGUMENTS:
            found.setdefault(json.dumps(core, ensure_ascii=False)[1:-1], Written(slot, as_json=True))
    for place, (letters, _) in enumerate(own):
        found[letters] = Written(Slot(-1, CALL_ID, place))
    at = 0
    for match in re.finditer("|".join(map(re.escape, sorted(found, key=len, reverse=True))), text):
        yield text[at : match.start()]
        yield found[match.group()]
        at = match.end()
    yield text[at:]


def _take_mark(pieces: list[str | Written], slot: Slot) -> int:
    """Takes the mark out, which stands right behind the slot and nowhere else; where that is, or -1."""
    marked = [place for place, piece in enumerate(pieces) if isinstance(piece, str) and MARK in piece]
    if len(marked) != 1:
        return -1
    place = marked[0]
    behind, before = pieces[place], pieces[place - 1]
    assert isinstance(behind, str)
    if not isinstance(before, Written) or before.slot != slot or place == 0:
        return -1
    if not behind.startswith(MARK) or behind.count(MARK) > 1:
        return -1
    pieces[place] = behind[len(MARK) :]
    return place - 1


def _blanks_kept(
    without: Sequence[str | Written], made: _MadeUp, pieces: Sequence[str | Written]
) -> list[str | Written] | None:
    """The pieces with what became of blanks around texts. None: that cannot be told."""
    if len(without) != len(pieces):
        return None
    kept = list(without)
    for place, (plain, got) in enumerate(zip(without, pieces, strict=True)):
        if isinstance(plain, Written):
            if plain != got:
                return None
            continue
        assert isinstance(got, str)
        got = got.replace(MARK, "")
        before = without[place - 1] if place else None
        behind = without[place + 1] if place + 1 < len(without) else None
        for tail in _ends(before, made.tail):
            for head in _ends(behind, made.head):
                if tail + plain + head == got:
                    break
            else:
                continue
            break
        else:
            return None
        one, other = kept[place - 1] if place else None, behind
        if isinstance(one, Written) and one.slot.is_text:
            kept[place - 1] = one._replace(tail=tail != "")
        if isinstance(other, Written) and other.slot.is_text:
            kept[place + 1] = other._replace(head=head != "")
    return kept


def _ends(piece: str | Written | None, blanks: str) -> tuple[str, ...]:
    """What may stand at an end of a slot's text."""
    if not isinstance(piece, Written) or not piece.slot.is_text or piece.slot.message < 0:
        return ("",)
    return json.dumps(blanks, ensure_ascii=False)[1:-1] if piece.as_json else blanks, ""
